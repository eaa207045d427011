// SPDX-License-Identifier: LGPL-2.1-or-later
// Pumps bytes between a descriptor and a client's stream, on the I/O thread.
//
// Theory of operation: towards the client we stop reading the descriptor while the connection has much
// queued. Towards the descriptor, what it does not take at once is kept, and beyond a limit the client is not
// read. Either end finishes: end of file is an empty frame, which the client answers with OK; the client's OK
// (after all bytes are written) or ERROR is confirmed with OK.
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <unistd.h>

#include "driver/rpc/internal.h"

#define HELD_MAX   (1024u * 1024u)
#define QUEUED_MAX (1024u * 1024u)

struct RpcStream {
    RpcSession *session; // outlives the stream, which is in its table
    RpcHeader header;
    int fd;
    GSource *source;
    gpointer tag;
    GByteArray *held; // from the client, for the descriptor
    gboolean ended;   // no more comes from the descriptor
    gboolean finishing, throttles;
};

typedef struct StreamSource {
    GSource source;
    RpcStream *stream;
} StreamSource;

static void
set_throttle(RpcStream *stream, gboolean on)
{
    if (stream->throttles == on)
        return;
    stream->throttles = on;
    stream->session->throttled += on ? 1 : -1;
    if (!on)
        rpc_session_resume(stream->session);
}

void
rpc_stream_free(RpcStream *stream)
{
    set_throttle(stream, FALSE);
    if (stream->source) {
        g_source_destroy(stream->source);
        g_source_unref(stream->source);
    }
    close(stream->fd);
    g_byte_array_unref(stream->held);
    g_free(stream);
}

static void
send_frame(RpcSession *session, const RpcHeader *header, RpcStatus status, const void *data, gsize length)
{
    RpcMessage *message = rpc_message_new(header);
    message->header.status = status;
    if (length)
        rpc_message_append(message, data, length);
    rpc_message_finish(message);
    rpc_session_queue(session, message);
}

// Frees the stream and tells the client so.
static void
confirm(RpcStream *stream)
{
    RpcSession *session = stream->session;
    RpcHeader header = stream->header;
    g_hash_table_remove(session->streams, GUINT_TO_POINTER(header.serial));
    send_frame(session, &header, RPC_OK, NULL, 0);
}

static void
update_poll(RpcStream *stream)
{
    GIOCondition condition = 0;
    gboolean room =
        stream->session->connection && rpc_connection_queued(stream->session->connection) < QUEUED_MAX;
    if (stream->ended && !stream->held->len) {
        // A descriptor that hung up would wake us for ever.
        if (stream->source) {
            g_source_destroy(stream->source);
            g_clear_pointer(&stream->source, g_source_unref);
        }
        return;
    }
    if (!stream->ended && room)
        condition |= G_IO_IN;
    if (stream->held->len)
        condition |= G_IO_OUT;
    if (stream->source)
        g_source_modify_unix_fd(stream->source, stream->tag, condition);
}

static void
write_held(RpcStream *stream)
{
    while (stream->held->len) {
        ssize_t n = write(stream->fd, stream->held->data, stream->held->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        // The other side is gone: what is left has nowhere to go, and the read side reports the end.
        g_byte_array_remove_range(stream->held, 0, n < 0 ? stream->held->len : (guint) n);
    }
    set_throttle(stream, stream->held->len > HELD_MAX);
}

static void
read_descriptor(RpcStream *stream)
{
    g_autofree char *buffer = g_malloc(RPC_CHUNK_SIZE);
    ssize_t n = read(stream->fd, buffer, RPC_CHUNK_SIZE);
    if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    // A terminal whose other side is closed says EIO; to the client that is the end too.
    stream->ended = n <= 0;
    send_frame(stream->session, &stream->header, RPC_CONTINUE, buffer, n > 0 ? (gsize) n : 0);
}

static gboolean
stream_ready(GSource *source, GSourceFunc callback, gpointer data)
{
    RpcStream *stream = ((StreamSource *) source)->stream;
    g_autoptr(RpcSession) session = rpc_session_ref(stream->session);
    GIOCondition seen = g_source_query_unix_fd(source, stream->tag);
    if (seen & (G_IO_OUT | G_IO_HUP | G_IO_ERR))
        write_held(stream);
    if (stream->finishing && !stream->held->len) {
        confirm(stream);
        return G_SOURCE_REMOVE;
    }
    if (!stream->ended && (seen & (G_IO_IN | G_IO_HUP | G_IO_ERR)))
        read_descriptor(stream);
    // Sending may have closed the session, and with it the stream.
    if (session->connection)
        update_poll(stream);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs stream_source_funcs = {.dispatch = stream_ready};

void
rpc_stream_open(RpcSession *session, const RpcHeader *header, int fd)
{
    RpcStream *stream = g_new0(RpcStream, 1);
    stream->session = session;
    stream->header = *header;
    stream->header.type = RPC_STREAM;
    stream->fd = fd;
    stream->held = g_byte_array_new();
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    stream->source = g_source_new(&stream_source_funcs, sizeof(StreamSource));
    ((StreamSource *) stream->source)->stream = stream;
    stream->tag = g_source_add_unix_fd(stream->source, fd, G_IO_IN);
    g_hash_table_replace(session->streams, GUINT_TO_POINTER(header->serial), stream);
    g_source_attach(stream->source, session->context);
}

void
rpc_stream_receive(RpcSession *session, RpcMessage *message)
{
    gsize length;
    const guint8 *data = rpc_message_payload(message, &length);
    RpcStream *stream = g_hash_table_lookup(session->streams, GUINT_TO_POINTER(message->header.serial));
    if (!stream || stream->header.procedure != message->header.procedure ||
        stream->header.program != message->header.program || message->header.type != RPC_STREAM)
        return;
    if (message->header.status == RPC_ERROR) {
        confirm(stream);
        return;
    }
    if (message->header.status == RPC_CONTINUE && !stream->finishing)
        g_byte_array_append(stream->held, data, (guint) length);
    if (message->header.status == RPC_OK)
        stream->finishing = TRUE;
    write_held(stream);
    if (stream->finishing && !stream->held->len)
        confirm(stream);
    else
        update_poll(stream);
}

void
rpc_stream_resume_all(RpcSession *session)
{
    GHashTableIter iter;
    gpointer stream;
    g_hash_table_iter_init(&iter, session->streams);
    while (g_hash_table_iter_next(&iter, NULL, &stream))
        update_poll(stream);
}
