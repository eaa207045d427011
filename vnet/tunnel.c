// SPDX-License-Identifier: LGPL-2.1-or-later
// The tunnel's messages: a 32-bit big-endian length, a kind, and what belongs to it.
#include "vnet/tunnel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/stream.h"

// A frame is preceded by virtio's header, little-endian. Of another kind than these: broken.
enum {
    KIND_FRAME = 1,
    KIND_NONCE = 2,
    KIND_DRAINED = 3,
};

#define MESSAGE_MAX (1 + OFFLOAD_HEADER + OFFLOAD_FRAME_MAX)

struct Tunnel {
    int fd;
    const TunnelEvents *events;
    void *data;
    StreamReader *reader;
    StreamQueue *queue;
};

Tunnel *
tunnel_new(int fd, const TunnelEvents *events, void *data)
{
    Tunnel *tunnel = g_new0(Tunnel, 1);
    tunnel->fd = fd;
    tunnel->events = events;
    tunnel->data = data;
    tunnel->reader = stream_reader_new(MESSAGE_MAX);
    tunnel->queue = stream_queue_new(STREAM_QUEUE_MAX);
    return tunnel;
}

void
tunnel_free(Tunnel *tunnel)
{
    if (!tunnel)
        return;
    close(tunnel->fd);
    stream_reader_free(tunnel->reader);
    stream_queue_free(tunnel->queue);
    g_free(tunnel);
}

void
tunnel_poll(const Tunnel *tunnel, struct pollfd *fd)
{
    *fd = (struct pollfd){tunnel->fd, POLLIN | (stream_queue_length(tunnel->queue) ? POLLOUT : 0), 0};
}

static gboolean
take_message(Tunnel *tunnel, guint8 *message, gsize length, GError **error)
{
    Offload offload;
    if (message[0] == KIND_FRAME && length > 1 + OFFLOAD_HEADER) {
        offload_decode(message + 1, TRUE, &offload);
        tunnel->events->frame(message + 1 + OFFLOAD_HEADER, length - 1 - OFFLOAD_HEADER, &offload,
                              tunnel->data);
    } else if (message[0] == KIND_NONCE && length == 1 + MARKER_NONCE) {
        tunnel->events->nonce(message + 1, tunnel->data);
    } else if (message[0] == KIND_DRAINED && length == 1) {
        tunnel->events->drained(tunnel->data);
    } else {
        quasar_set_error(error, VIR_ERR_RPC, "message of kind %u with %zu bytes in the tunnel", message[0],
                         length);
        return FALSE;
    }
    return TRUE;
}

gboolean
tunnel_serve(Tunnel *tunnel, const struct pollfd *fd, GError **error)
{
    gsize room, length;
    guint8 *message;
    if (!stream_queue_flush(tunnel->queue, tunnel->fd, error))
        return FALSE;
    if (!(fd->revents & ~POLLOUT))
        return TRUE;
    guint8 *space = stream_reader_space(tunnel->reader, &room);
    ssize_t n = recv(tunnel->fd, space, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return TRUE;
    if (n <= 0)
        return FALSE;
    stream_reader_commit(tunnel->reader, (gsize) n);
    int state;
    while ((state = stream_reader_next(tunnel->reader, &message, &length, error)) == 1)
        if (!take_message(tunnel, message, length, error))
            return FALSE;
    return state == 0;
}

static gboolean
queue(Tunnel *tunnel, guint8 kind, const void *header, gsize header_length, const void *body, gsize length)
{
    guint8 message[MESSAGE_MAX];
    if (header_length + length > sizeof(message) - 1)
        return FALSE;
    message[0] = kind;
    memcpy(message + 1, header, header_length);
    memcpy(message + 1 + header_length, body, length);
    return stream_queue_push(tunnel->queue, message, 1 + header_length + length);
}

gboolean
tunnel_send_frame(Tunnel *tunnel, const guint8 *frame, gsize length, const Offload *offload)
{
    guint8 header[OFFLOAD_HEADER];
    offload_encode(offload, TRUE, header);
    return queue(tunnel, KIND_FRAME, header, sizeof(header), frame, length);
}

gboolean
tunnel_send_nonce(Tunnel *tunnel, const guint8 nonce[MARKER_NONCE])
{
    return queue(tunnel, KIND_NONCE, "", 0, nonce, MARKER_NONCE);
}

gboolean
tunnel_send_drained(Tunnel *tunnel)
{
    return queue(tunnel, KIND_DRAINED, "", 0, "", 0);
}

void
tunnel_flush(Tunnel *tunnel)
{
    // A closed end is found out by reading.
    stream_queue_flush(tunnel->queue, tunnel->fd, NULL);
}
