// SPDX-License-Identifier: LGPL-2.1-or-later
// Pumps bytes between a descriptor and a client's stream, on the I/O thread.
//
// Theory of operation: towards the client we stop reading the descriptor while the connection has much
// queued. Towards the descriptor, what it does not take at once is kept, and beyond a limit the client is not
// read. Either end finishes: end of file is an empty frame, which the client answers with OK; the client's OK
// (after all bytes are written) or ERROR is confirmed with OK. What we end ourselves is an ERROR frame, after
// which the client has no more to say; its frames that are under way find no stream and are dropped.
//
// A stream is made by a worker before there is anything to pump, so that another thread can abort it from the
// first moment on. Its stages belong to the I/O thread; an abort that comes there before the reply has been
// sent waits for it.
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/internal.h"

#define HELD_MAX   (1024u * 1024u)
#define QUEUED_MAX (1024u * 1024u)

struct RpcStream {
    gatomicrefcount refs;
    RpcSession *session; // referenced
    RpcHeader header;
    int fd; // -1: none yet, or not any more
    RpcStreamEnded ended_callback;
    gpointer ended_data;

    // The I/O thread's.
    enum { STREAM_NEW, STREAM_OPEN, STREAM_OVER } stage;
    GError *abort; // came before the start
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

RpcStream *
rpc_stream_new(RpcCall *call)
{
    RpcStream *stream = g_new0(RpcStream, 1);
    g_atomic_ref_count_init(&stream->refs);
    stream->session = rpc_session_ref(call->session);
    stream->fd = -1;
    stream->held = g_byte_array_new();
    return stream;
}

RpcStream *
rpc_stream_ref(RpcStream *stream)
{
    g_atomic_ref_count_inc(&stream->refs);
    return stream;
}

void
rpc_stream_unref(RpcStream *stream)
{
    if (!stream || !g_atomic_ref_count_dec(&stream->refs))
        return;
    g_clear_error(&stream->abort);
    g_byte_array_unref(stream->held);
    rpc_session_unref(stream->session);
    g_free(stream);
}

void
rpc_stream_prepare(RpcStream *stream, int fd, RpcStreamEnded ended, gpointer data)
{
    stream->fd = fd;
    stream->ended_callback = ended;
    stream->ended_data = data;
}

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

static void
drop_source(RpcStream *stream)
{
    if (stream->source) {
        g_source_destroy(stream->source);
        g_clear_pointer(&stream->source, g_source_unref);
    }
}

void
rpc_stream_end(RpcStream *stream)
{
    if (stream->stage == STREAM_OVER)
        return;
    stream->stage = STREAM_OVER;
    set_throttle(stream, FALSE);
    drop_source(stream);
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
    if (stream->ended_callback)
        stream->ended_callback(stream->ended_data);
}

// Ends an open stream with a last message (taken over) for the client. The stream may be freed.
static void
end_with(RpcStream *stream, RpcMessage *last)
{
    g_autoptr(RpcSession) session = rpc_session_ref(stream->session);
    guint32 serial = stream->header.serial;
    rpc_stream_end(stream);
    g_hash_table_remove(session->streams, GUINT_TO_POINTER(serial));
    rpc_session_queue(session, last);
}

static RpcMessage *
frame_new(const RpcStream *stream, RpcStatus status, const void *data, gsize length)
{
    RpcMessage *message = rpc_message_new(&stream->header);
    message->header.status = status;
    if (length)
        rpc_message_append(message, data, length);
    rpc_message_finish(message);
    return message;
}

static void
confirm(RpcStream *stream)
{
    end_with(stream, frame_new(stream, RPC_OK, NULL, 0));
}

static void
fail(RpcStream *stream, const GError *error)
{
    end_with(stream, rpc_error_message(&stream->header, RPC_STREAM, error));
}

static void watch(RpcStream *stream, GIOCondition condition);

static void
update_poll(RpcStream *stream)
{
    GIOCondition condition = 0;
    gboolean room =
        stream->session->connection && rpc_connection_queued(stream->session->connection) < QUEUED_MAX;
    if (stream->ended && !stream->held->len) {
        drop_source(stream); // a descriptor that hung up would wake us for ever
        return;
    }
    if (!stream->ended && room)
        condition |= G_IO_IN;
    if (stream->held->len)
        condition |= G_IO_OUT;
    watch(stream, condition);
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
    rpc_session_queue(stream->session, frame_new(stream, RPC_CONTINUE, buffer, n > 0 ? (gsize) n : 0));
}

static gboolean
stream_ready(GSource *source, GSourceFunc callback, gpointer data)
{
    g_autoptr(RpcStream) stream = rpc_stream_ref(((StreamSource *) source)->stream);
    GIOCondition seen = g_source_query_unix_fd(source, stream->tag);
    if (seen & (G_IO_OUT | G_IO_HUP | G_IO_ERR))
        write_held(stream);
    if (stream->finishing && !stream->held->len) {
        confirm(stream);
        return G_SOURCE_REMOVE;
    }
    // A hang-up is always reported, and read out even when there is little room: without, we would spin.
    if (!stream->ended && (seen & (G_IO_IN | G_IO_HUP | G_IO_ERR)))
        read_descriptor(stream);
    // Sending may have closed the session, and with it the stream.
    if (stream->stage == STREAM_OPEN)
        update_poll(stream);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs stream_source_funcs = {.dispatch = stream_ready};

static void
watch(RpcStream *stream, GIOCondition condition)
{
    if (stream->source) {
        g_source_modify_unix_fd(stream->source, stream->tag, condition);
        return;
    }
    stream->source = g_source_new(&stream_source_funcs, sizeof(StreamSource));
    ((StreamSource *) stream->source)->stream = stream;
    stream->tag = g_source_add_unix_fd(stream->source, stream->fd, condition);
    g_source_attach(stream->source, stream->session->context);
}

void
rpc_stream_start(RpcStream *stream, const RpcHeader *header)
{
    RpcSession *session = stream->session;
    gpointer serial = GUINT_TO_POINTER(header->serial);
    RpcStream *former = g_hash_table_lookup(session->streams, serial);
    if (former)
        rpc_stream_end(former);
    stream->header = *header;
    stream->header.type = RPC_STREAM;
    stream->stage = STREAM_OPEN;
    g_hash_table_replace(session->streams, serial, stream);
    if (stream->abort) {
        fail(stream, stream->abort);
        return;
    }
    g_unix_set_fd_nonblocking(stream->fd, TRUE, NULL);
    watch(stream, G_IO_IN);
}

typedef struct Abort {
    RpcStream *stream;
    GError *error;
} Abort;

static void
abort_free(gpointer data)
{
    Abort *abort = data;
    rpc_stream_unref(abort->stream);
    g_clear_error(&abort->error);
    g_free(abort);
}

static gboolean
abort_posted(gpointer data)
{
    Abort *abort = ((gpointer *) data)[1];
    if (abort->stream->stage == STREAM_OPEN)
        fail(abort->stream, abort->error);
    else if (abort->stream->stage == STREAM_NEW && !abort->stream->abort)
        abort->stream->abort = g_steal_pointer(&abort->error);
    return G_SOURCE_REMOVE;
}

void
rpc_stream_abort(RpcStream *stream, const GError *error)
{
    Abort *abort = g_new(Abort, 1);
    *abort = (Abort){rpc_stream_ref(stream), g_error_copy(error)};
    rpc_session_post(stream->session, abort_posted, abort, abort_free);
}

static void
refuse_hole(RpcStream *stream)
{
    g_autoptr(GError) error = NULL;
    quasar_set_error(&error, VIR_ERR_RPC, "a hole was sent into a stream that was not opened as sparse");
    fail(stream, error);
}

void
rpc_stream_receive(RpcSession *session, RpcMessage *message)
{
    gsize length;
    const guint8 *data = rpc_message_payload(message, &length);
    RpcStream *stream = g_hash_table_lookup(session->streams, GUINT_TO_POINTER(message->header.serial));
    if (!stream || stream->header.procedure != message->header.procedure ||
        stream->header.program != message->header.program)
        return;
    if (message->header.status == RPC_ERROR) {
        confirm(stream);
        return;
    }
    if (message->header.type == RPC_STREAM_HOLE) {
        refuse_hole(stream);
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
