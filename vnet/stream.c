// SPDX-License-Identifier: LGPL-2.1-or-later
// Length-prefixed messages over a non-blocking stream socket.
#include "vnet/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"

#define STREAM_PREFIX 4u

struct StreamReader {
    gsize max;
    gsize capacity;
    gsize start, end; // received and not yet given
    guint8 *buffer;
};

StreamReader *
stream_reader_new(gsize max)
{
    StreamReader *reader = g_new0(StreamReader, 1);
    reader->max = max;
    // Room for a whole message behind an unfinished one keeps reads large.
    reader->capacity = 2 * (STREAM_PREFIX + max);
    reader->buffer = g_malloc(reader->capacity);
    return reader;
}

void
stream_reader_free(StreamReader *reader)
{
    if (!reader)
        return;
    g_free(reader->buffer);
    g_free(reader);
}

guint8 *
stream_reader_space(StreamReader *reader, gsize *room)
{
    memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
    reader->end -= reader->start;
    reader->start = 0;
    *room = reader->capacity - reader->end;
    return reader->buffer + reader->end;
}

void
stream_reader_commit(StreamReader *reader, gsize length)
{
    g_assert(length <= reader->capacity - reader->end);
    reader->end += length;
}

int
stream_reader_next(StreamReader *reader, guint8 **message, gsize *length, GError **error)
{
    gsize held = reader->end - reader->start;
    if (held < STREAM_PREFIX)
        return 0;
    guint32 prefix;
    memcpy(&prefix, reader->buffer + reader->start, STREAM_PREFIX);
    gsize announced = GUINT32_FROM_BE(prefix);
    if (announced == 0 || announced > reader->max) {
        quasar_set_error(error, VIR_ERR_RPC, "message of %zu bytes on the stream, limit is %zu", announced,
                         reader->max);
        return -1;
    }
    if (held - STREAM_PREFIX < announced)
        return 0;
    *message = reader->buffer + reader->start + STREAM_PREFIX;
    *length = announced;
    reader->start += STREAM_PREFIX + announced;
    return 1;
}

// The bytes between head and tail wait. The buffer is twice the limit, so that moving them to its front is
// paid for by as many bytes written before.
struct StreamQueue {
    gsize limit;
    gsize head, tail;
    guint8 *buffer;
};

StreamQueue *
stream_queue_new(gsize limit)
{
    StreamQueue *queue = g_new0(StreamQueue, 1);
    queue->limit = limit;
    queue->buffer = g_malloc(2 * limit);
    return queue;
}

void
stream_queue_free(StreamQueue *queue)
{
    if (!queue)
        return;
    g_free(queue->buffer);
    g_free(queue);
}

gsize
stream_queue_length(const StreamQueue *queue)
{
    return queue->tail - queue->head;
}

static gsize
total_length(const struct iovec *parts, guint n)
{
    gsize length = 0;
    for (guint i = 0; i < n; i++)
        length += parts[i].iov_len;
    return length;
}

gboolean
stream_queue_push_parts(StreamQueue *queue, const struct iovec *parts, guint n)
{
    const gsize length = total_length(parts, n);
    if (length > queue->limit || stream_queue_length(queue) + STREAM_PREFIX + length > queue->limit)
        return FALSE;
    if (queue->tail + STREAM_PREFIX + length > 2 * queue->limit) {
        memmove(queue->buffer, queue->buffer + queue->head, stream_queue_length(queue));
        queue->tail -= queue->head;
        queue->head = 0;
    }
    guint32 prefix = GUINT32_TO_BE((guint32) length);
    memcpy(queue->buffer + queue->tail, &prefix, STREAM_PREFIX);
    queue->tail += STREAM_PREFIX;
    for (guint i = 0; i < n; i++) {
        memcpy(queue->buffer + queue->tail, parts[i].iov_base, parts[i].iov_len);
        queue->tail += parts[i].iov_len;
    }
    return TRUE;
}

gboolean
stream_queue_push(StreamQueue *queue, const void *data, gsize length)
{
    const struct iovec part = {(void *) data, length};
    return stream_queue_push_parts(queue, &part, 1);
}

const guint8 *
stream_queue_head(const StreamQueue *queue)
{
    return queue->buffer + queue->head;
}

void
stream_queue_consume(StreamQueue *queue, gsize length)
{
    g_assert(length <= stream_queue_length(queue));
    queue->head += length;
    if (queue->head == queue->tail)
        queue->head = queue->tail = 0;
}

gboolean
stream_queue_flush(StreamQueue *queue, int fd, GError **error)
{
    while (queue->head < queue->tail) {
        ssize_t n =
            send(fd, stream_queue_head(queue), stream_queue_length(queue), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return TRUE;
        if (n < 0) {
            quasar_set_system_error(error, errno, "cannot write to the stream");
            return FALSE;
        }
        stream_queue_consume(queue, (gsize) n);
    }
    return TRUE;
}
