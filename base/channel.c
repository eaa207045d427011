// SPDX-License-Identifier: LGPL-2.1-or-later
// Blocking byte channels: poll() around non-blocking sockets and TLS sessions.
#include "base/channel.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

struct Channel {
    int fd;
    TlsSession *tls;
};

Channel *
channel_new(int fd, TlsSession *tls)
{
    Channel *channel = g_new0(Channel, 1);
    channel->fd = fd;
    channel->tls = tls;
    g_unix_set_fd_nonblocking(fd, TRUE, NULL);
    return channel;
}

void
channel_free(Channel *channel)
{
    if (!channel)
        return;
    if (channel->tls)
        tls_session_bye(channel->tls);
    tls_session_free(channel->tls);
    if (channel->fd >= 0)
        close(channel->fd);
    g_free(channel);
}

int
channel_fd(const Channel *channel)
{
    return channel->fd;
}

TlsSession *
channel_tls(const Channel *channel)
{
    return channel->tls;
}

void
channel_steal(Channel *channel, int *fd, TlsSession **tls)
{
    *fd = channel->fd;
    *tls = channel->tls;
    g_free(channel);
}

void
channel_shutdown(Channel *channel)
{
    shutdown(channel->fd, SHUT_RDWR);
}

static gint64
deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
}

// 1 ready, 0 time is up, -1 error.
static int
wait_until(int fd, short events, gint64 deadline, GError **error)
{
    for (;;) {
        int timeout = -1;
        if (deadline >= 0)
            timeout = (int) MIN((MAX(deadline - g_get_monotonic_time(), 0) + 999) / 1000, G_MAXINT);
        struct pollfd pfd = {.fd = fd, .events = events};
        int n = poll(&pfd, 1, timeout);
        if (n >= 0)
            return n;
        if (errno != EINTR) {
            quasar_set_system_error(error, errno, "cannot wait for a socket");
            return -1;
        }
    }
}

static TlsStatus
plain_status(ssize_t n, short want, gsize *done, GError **error)
{
    if (n >= 0) {
        *done = (gsize) n;
        return TLS_DONE;
    }
    if (errno == EAGAIN || errno == EINTR)
        return want == POLLIN ? TLS_WANT_READ : TLS_WANT_WRITE;
    quasar_set_system_error(error, errno, "connection failed");
    return TLS_FAILED;
}

static TlsStatus
move_bytes(Channel *channel, gboolean out, void *data, gsize length, gsize *done, GError **error)
{
    if (channel->tls)
        return out ? tls_session_write(channel->tls, data, length, done, error)
                   : tls_session_read(channel->tls, data, length, done, error);
    if (out)
        return plain_status(send(channel->fd, data, length, MSG_NOSIGNAL), POLLOUT, done, error);
    return plain_status(recv(channel->fd, data, length, 0), POLLIN, done, error);
}

static gboolean
transfer(Channel *channel, gboolean out, char *data, gsize length, int timeout_ms, GError **error)
{
    gint64 deadline = deadline_after(timeout_ms);
    while (length > 0) {
        gsize done = 0;
        TlsStatus status = move_bytes(channel, out, data, length, &done, error);
        if (status == TLS_FAILED)
            return FALSE;
        if (status == TLS_DONE && done == 0) {
            quasar_set_error(error, VIR_ERR_RPC, "the other side closed the connection");
            return FALSE;
        }
        if (status == TLS_DONE) {
            data += done;
            length -= done;
            continue;
        }
        int ready = wait_until(channel->fd, status == TLS_WANT_READ ? POLLIN : POLLOUT, deadline, error);
        if (ready == 0)
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the other side did not answer in %d ms",
                             timeout_ms);
        if (ready <= 0)
            return FALSE;
    }
    return TRUE;
}

gboolean
channel_write(Channel *channel, const void *data, gsize length, int timeout_ms, GError **error)
{
    return transfer(channel, TRUE, (char *) data, length, timeout_ms, error);
}

gboolean
channel_read(Channel *channel, void *data, gsize length, int timeout_ms, GError **error)
{
    return transfer(channel, FALSE, data, length, timeout_ms, error);
}

int
channel_wait(Channel *channel, int timeout_ms, GError **error)
{
    if (channel->tls && tls_session_pending(channel->tls) > 0)
        return 1;
    return wait_until(channel->fd, POLLIN, deadline_after(timeout_ms), error);
}

// Reads the other side's close_notify; anything else that comes before it breaks the protocol.
static gboolean
read_end(Channel *channel, gint64 deadline, GError **error)
{
    for (;;) {
        char byte;
        gsize done;
        TlsStatus status = tls_session_read(channel->tls, &byte, 1, &done, error);
        if (status == TLS_FAILED)
            return FALSE;
        if (status == TLS_DONE && done == 0)
            return TRUE;
        if (status == TLS_DONE)
            return quasar_set_error(error, VIR_ERR_RPC, "the other side goes on where it was to end");
        int ready = wait_until(channel->fd, status == TLS_WANT_READ ? POLLIN : POLLOUT, deadline, error);
        if (ready == 0)
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the other side does not end its TLS session");
        if (ready <= 0)
            return FALSE;
    }
}

int
channel_end_tls(Channel *channel, int timeout_ms, GError **error)
{
    g_autoptr(Channel) own = channel;
    tls_session_bye(own->tls);
    if (!read_end(own, deadline_after(timeout_ms), error))
        return -1;
    g_clear_pointer(&own->tls, tls_session_free);
    int fd = own->fd;
    own->fd = -1;
    return fd;
}
