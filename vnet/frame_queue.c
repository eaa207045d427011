// SPDX-License-Identifier: LGPL-2.1-or-later
// A bounded queue of frames; memory is taken as frames come and given back as they leave.
#include "vnet/frame_queue.h"

#include <string.h>

struct FrameQueue {
    gsize limit, bytes;
    GQueue frames;
};

FrameQueue *
frame_queue_new(gsize limit)
{
    FrameQueue *queue = g_new0(FrameQueue, 1);
    queue->limit = limit;
    g_queue_init(&queue->frames);
    return queue;
}

void
frame_queue_clear(FrameQueue *queue)
{
    g_queue_clear_full(&queue->frames, g_free);
    queue->bytes = 0;
}

void
frame_queue_free(FrameQueue *queue)
{
    if (!queue)
        return;
    frame_queue_clear(queue);
    g_free(queue);
}

gboolean
frame_queue_push(FrameQueue *queue, const guint8 *frame, gsize length, const Offload *offload)
{
    gsize size = sizeof(QueuedFrame) + length;
    if (size > queue->limit - queue->bytes)
        return FALSE;
    QueuedFrame *queued = g_malloc(size);
    queued->offload = *offload;
    queued->length = length;
    memcpy(queued->bytes, frame, length);
    g_queue_push_tail(&queue->frames, queued);
    queue->bytes += size;
    return TRUE;
}

QueuedFrame *
frame_queue_peek(FrameQueue *queue)
{
    return g_queue_peek_head(&queue->frames);
}

void
frame_queue_pop(FrameQueue *queue)
{
    g_autofree QueuedFrame *queued = g_queue_pop_head(&queue->frames);
    if (queued)
        queue->bytes -= sizeof(QueuedFrame) + queued->length;
}

gsize
frame_queue_length(const FrameQueue *queue)
{
    return g_queue_get_length((GQueue *) &queue->frames);
}
