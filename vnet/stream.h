// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU's `-netdev stream` framing: a 32-bit big-endian length, then the frame; read in pieces, written from a
// bounded queue.
#pragma once

#include <glib.h>
#include <sys/uio.h>

// QEMU's NET_BUFSIZE: no frame is longer.
#define STREAM_FRAME_MAX (4096u + 65536u)
#define STREAM_QUEUE_MAX (4u << 20)

// Takes bytes as they come and gives whole messages. Our control messages have the same framing.
typedef struct StreamReader StreamReader;

StreamReader *stream_reader_new(gsize max);
void stream_reader_free(StreamReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamReader, stream_reader_free)

// Where to put received bytes, at least one; stream_reader_commit() says how many were put. Makes messages
// given before invalid.
guint8 *stream_reader_space(StreamReader *reader, gsize *room);
void stream_reader_commit(StreamReader *reader, gsize length);

// 1: *message is a whole message, borrowed and writable until the next stream_reader_space(); 0: more bytes
// are needed; -1: a length of 0 or above max, VIR_ERR_RPC, and the stream is of no further use. Call until it
// gives 0.
int stream_reader_next(StreamReader *reader, guint8 **message, gsize *length, GError **error);

// Frames that wait for a socket.
typedef struct StreamQueue StreamQueue;

StreamQueue *stream_queue_new(gsize limit);
void stream_queue_free(StreamQueue *queue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StreamQueue, stream_queue_free)

// FALSE when the queue has no room for it (tail drop; the caller counts).
gboolean stream_queue_push(StreamQueue *queue, const void *data, gsize length);
gboolean stream_queue_push_parts(StreamQueue *queue, const struct iovec *parts, guint n);
gsize stream_queue_length(const StreamQueue *queue);

// The bytes that wait, for those who write them themselves: borrowed until the next push or consume.
const guint8 *stream_queue_head(const StreamQueue *queue);
void stream_queue_consume(StreamQueue *queue, gsize length);

// Writes what the socket takes without waiting. FALSE with an error when the socket is dead.
gboolean stream_queue_flush(StreamQueue *queue, int fd, GError **error);
