// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames that wait in memory, in order, up to a number of bytes.
#pragma once

#include <glib.h>

#include "vnet/offload.h"

typedef struct FrameQueue FrameQueue;

typedef struct {
    Offload offload;
    gsize length;
    guint8 bytes[];
} QueuedFrame;

FrameQueue *frame_queue_new(gsize limit);
void frame_queue_free(FrameQueue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FrameQueue, frame_queue_free)

// FALSE when the queue has no room for it (the caller counts).
gboolean frame_queue_push(FrameQueue *queue, const guint8 *frame, gsize length, const Offload *offload);

// The oldest, borrowed until the next frame_queue_pop(); NULL: none.
QueuedFrame *frame_queue_peek(FrameQueue *queue);
void frame_queue_pop(FrameQueue *queue);
gsize frame_queue_length(const FrameQueue *queue); // frames
void frame_queue_clear(FrameQueue *queue);
