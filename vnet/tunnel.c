// SPDX-License-Identifier: LGPL-2.1-or-later
// The tunnel's messages: a 32-bit big-endian length, a kind, and what belongs to it.
#include "vnet/tunnel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/stream.h"

// A frame is preceded by virtio's header, little-endian. The other kinds are words.
enum { KIND_FRAME = 1 };

#define MESSAGE_MAX (1 + OFFLOAD_HEADER + OFFLOAD_FRAME_MAX)
#define FRAME_PARTS 65u

// How much is read before others have their turn.
#define READ_TURNS 32u

struct Tunnel {
    int fd;
    TlsSession *tls; // NULL: none
    gboolean up;     // its handshake is done
    TlsStatus wants; // what the handshake, or the last write, waits for
    const TunnelEvents *events;
    void *data;
    StreamReader *reader;
    StreamQueue *queue;
};

Tunnel *
tunnel_new(int fd, const guint8 key[TLS_KEY], gboolean server, const TunnelEvents *events, void *data)
{
    Tunnel *tunnel = g_new0(Tunnel, 1);
    tunnel->fd = fd;
    tunnel->events = events;
    tunnel->data = data;
    tunnel->reader = stream_reader_new(MESSAGE_MAX);
    tunnel->queue = stream_queue_new(STREAM_QUEUE_MAX);
    tunnel->up = key == NULL;
    tunnel->wants = key && !server ? TLS_WANT_WRITE : TLS_WANT_READ;
    if (key) {
        g_autoptr(TlsCredentials) credentials = tls_credentials_new_key(key);
        tunnel->tls = tls_session_new(credentials, server, fd, NULL);
    }
    return tunnel;
}

void
tunnel_free(Tunnel *tunnel)
{
    if (!tunnel)
        return;
    if (tunnel->tls && tunnel->up)
        tls_session_bye(tunnel->tls);
    tls_session_free(tunnel->tls);
    close(tunnel->fd);
    stream_reader_free(tunnel->reader);
    stream_queue_free(tunnel->queue);
    g_free(tunnel);
}

gboolean
tunnel_is_up(const Tunnel *tunnel)
{
    return tunnel->up;
}

void
tunnel_poll(const Tunnel *tunnel, struct pollfd *fd)
{
    gboolean writes = tunnel->up ? stream_queue_length(tunnel->queue) > 0 : tunnel->wants == TLS_WANT_WRITE;
    *fd = (struct pollfd){tunnel->fd, POLLIN | (writes ? POLLOUT : 0), 0};
}

static TlsStatus
read_some(Tunnel *tunnel, void *space, gsize room, gsize *done, GError **error)
{
    if (tunnel->tls)
        return tls_session_read(tunnel->tls, space, room, done, error);
    ssize_t n = recv(tunnel->fd, space, room, MSG_DONTWAIT);
    *done = n > 0 ? (gsize) n : 0;
    if (n >= 0)
        return TLS_DONE;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TLS_WANT_READ;
    quasar_set_system_error(error, errno, "cannot read");
    return TLS_FAILED;
}

static TlsStatus
write_some(Tunnel *tunnel, const void *bytes, gsize length, gsize *done, GError **error)
{
    if (tunnel->tls)
        return tls_session_write(tunnel->tls, bytes, length, done, error);
    ssize_t n = send(tunnel->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    *done = n > 0 ? (gsize) n : 0;
    if (n >= 0)
        return TLS_DONE;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return TLS_WANT_WRITE;
    quasar_set_system_error(error, errno, "cannot write");
    return TLS_FAILED;
}

static gboolean
flush(Tunnel *tunnel, GError **error)
{
    gsize length, done;
    while (tunnel->up && (length = stream_queue_length(tunnel->queue)) > 0) {
        TlsStatus status = write_some(tunnel, stream_queue_head(tunnel->queue), length, &done, error);
        if (status == TLS_DONE)
            stream_queue_consume(tunnel->queue, done);
        else
            return status != TLS_FAILED;
    }
    return TRUE;
}

static gboolean
take_message(Tunnel *tunnel, guint8 *message, gsize length, GError **error)
{
    const gsize word_length = message[0] == TUNNEL_NONCE ? 1 + MARKER_NONCE : 1;
    Offload offload;
    if (message[0] == KIND_FRAME && length > 1 + OFFLOAD_HEADER) {
        offload_decode(message + 1, TRUE, &offload);
        tunnel->events->frame(message + 1 + OFFLOAD_HEADER, length - 1 - OFFLOAD_HEADER, &offload,
                              tunnel->data);
    } else if (message[0] >= TUNNEL_NONCE && message[0] < TUNNEL_WORDS && length == word_length) {
        tunnel->events->word(message[0], length > 1 ? message + 1 : NULL, tunnel->data);
    } else {
        return quasar_set_error(error, VIR_ERR_RPC, "message of kind %u with %zu bytes in the tunnel",
                                message[0], length);
    }
    return TRUE;
}

static gboolean
take_messages(Tunnel *tunnel, GError **error)
{
    int state;
    gsize length;
    guint8 *message;
    while ((state = stream_reader_next(tunnel->reader, &message, &length, error)) == 1)
        if (!take_message(tunnel, message, length, error))
            return FALSE;
    return state == 0;
}

// poll() does not see what TLS has read from the socket already: until nothing is left of that.
static gboolean
read_all(Tunnel *tunnel, GError **error)
{
    gsize room, done;
    for (guint i = 0; i < READ_TURNS || (tunnel->tls && tls_session_pending(tunnel->tls) > 0); i++) {
        guint8 *space = stream_reader_space(tunnel->reader, &room);
        TlsStatus status = read_some(tunnel, space, room, &done, error);
        if (status == TLS_WANT_READ || status == TLS_WANT_WRITE)
            return TRUE;
        if (status == TLS_FAILED || done == 0)
            return FALSE;
        stream_reader_commit(tunnel->reader, done);
        if (!take_messages(tunnel, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
tunnel_serve(Tunnel *tunnel, const struct pollfd *fd, GError **error)
{
    if (!fd->revents)
        return TRUE;
    if (!tunnel->up) {
        tunnel->wants = tls_session_handshake(tunnel->tls, error);
        tunnel->up = tunnel->wants == TLS_DONE;
        if (!tunnel->up)
            return tunnel->wants != TLS_FAILED;
    }
    return flush(tunnel, error) && (!(fd->revents & ~POLLOUT) || read_all(tunnel, error));
}

gboolean
tunnel_send_frame(Tunnel *tunnel, const struct iovec *parts, guint n, const Offload *offload)
{
    guint8 header[1 + OFFLOAD_HEADER] = {KIND_FRAME};
    struct iovec message[1 + FRAME_PARTS] = {{header, sizeof(header)}};
    if (n > FRAME_PARTS)
        return FALSE;
    offload_encode(offload, TRUE, header + 1);
    memcpy(message + 1, parts, n * sizeof(*parts));
    return stream_queue_push_parts(tunnel->queue, message, 1 + n);
}

gboolean
tunnel_send_word(Tunnel *tunnel, TunnelWord word, const guint8 *nonce)
{
    guint8 message[1 + MARKER_NONCE] = {(guint8) word};
    if (word == TUNNEL_NONCE)
        memcpy(message + 1, nonce, MARKER_NONCE);
    return stream_queue_push(tunnel->queue, message, word == TUNNEL_NONCE ? sizeof(message) : 1);
}

void
tunnel_flush(Tunnel *tunnel)
{
    // A closed end is found out by reading.
    flush(tunnel, NULL);
}

gsize
tunnel_waiting(const Tunnel *tunnel)
{
    return stream_queue_length(tunnel->queue);
}

gint64
tunnel_round_trip(const Tunnel *tunnel)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    memset(&info, 0, sizeof(info));
    if (getsockopt(tunnel->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return -1;
    return info.tcpi_rtt;
}
