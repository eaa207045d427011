// SPDX-License-Identifier: LGPL-2.1-or-later
// Relays: the poll loop between an emulator's socket and a TLS connection.
#include "driver/migration/relay.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

// One TLS record is 16 KiB at most; a few of them keep both sides busy without hiding data from QEMU.
#define BUFFER_SIZE (64u << 10)

// One direction: what was read and not yet written.
typedef struct {
    guint8 data[BUFFER_SIZE];
    gsize start, end;
    gboolean eof;     // the reading side has closed
    gboolean flushed; // the close was passed on
    guint64 bytes;    // written so far; read by other threads
} Flow;

struct Relay {
    char *name;
    GThread *thread;
    Channel *peer;
    int local;
    int listener; // -1: local is connected from the start
    int wake;     // eventfd: cut
    gint cut;
    TlsStatus peer_read, peer_write; // what TLS waits for
    Flow out, in;
};

static gboolean
flow_wants_data(const Flow *flow)
{
    return !flow->eof && flow->start == flow->end;
}

static gboolean
flow_has_data(const Flow *flow)
{
    return flow->start < flow->end;
}

static void
flow_wrote(Flow *flow, gsize n)
{
    flow->start += n;
    __atomic_add_fetch(&flow->bytes, n, __ATOMIC_RELAXED);
    if (flow->start == flow->end)
        flow->start = flow->end = 0;
}

// Each step returns FALSE when the relay is at its end.
static gboolean
local_to_buffer(Relay *relay)
{
    if (!flow_wants_data(&relay->out))
        return TRUE;
    ssize_t n = recv(relay->local, relay->out.data, BUFFER_SIZE, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    relay->out.eof = n == 0;
    relay->out.end = (gsize) n;
    return TRUE;
}

static gboolean
buffer_to_local(Relay *relay)
{
    Flow *flow = &relay->in;
    while (flow_has_data(flow)) {
        ssize_t n = send(relay->local, flow->data + flow->start, flow->end - flow->start, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        flow_wrote(flow, (gsize) n);
    }
    if (flow->eof && !flow->flushed) {
        flow->flushed = TRUE;
        shutdown(relay->local, SHUT_WR);
    }
    return TRUE;
}

static gboolean
peer_to_buffer(Relay *relay)
{
    Flow *flow = &relay->in;
    relay->peer_read = TLS_WANT_READ;
    if (!flow_wants_data(flow))
        return TRUE;
    gsize n = 0;
    relay->peer_read = tls_session_read(channel_tls(relay->peer), flow->data, BUFFER_SIZE, &n, NULL);
    if (relay->peer_read == TLS_FAILED)
        return FALSE;
    if (relay->peer_read == TLS_DONE) {
        flow->eof = n == 0;
        flow->end = n;
        relay->peer_read = TLS_WANT_READ;
    }
    return TRUE;
}

static gboolean
buffer_to_peer(Relay *relay)
{
    Flow *flow = &relay->out;
    relay->peer_write = TLS_WANT_WRITE;
    while (flow_has_data(flow)) {
        gsize n = 0;
        relay->peer_write = tls_session_write(channel_tls(relay->peer), flow->data + flow->start,
                                              flow->end - flow->start, &n, NULL);
        if (relay->peer_write == TLS_FAILED)
            return FALSE;
        if (relay->peer_write != TLS_DONE)
            return TRUE;
        flow_wrote(flow, n);
    }
    if (flow->eof && !flow->flushed) {
        flow->flushed = TRUE;
        tls_session_bye(channel_tls(relay->peer));
    }
    return TRUE;
}

static short
peer_events(const Relay *relay)
{
    short events = 0;
    if (flow_wants_data(&relay->in))
        events |= relay->peer_read == TLS_WANT_WRITE ? POLLOUT : POLLIN;
    if (flow_has_data(&relay->out))
        events |= relay->peer_write == TLS_WANT_READ ? POLLIN : POLLOUT;
    return events;
}

static gboolean
wait_for_work(Relay *relay)
{
    short local = (flow_wants_data(&relay->out) ? POLLIN : 0) | (flow_has_data(&relay->in) ? POLLOUT : 0);
    // A side that is only waited for errors is left out: POLLHUP would make the loop spin.
    struct pollfd fds[] = {
        {.fd = relay->wake, .events = POLLIN},
        {.fd = local ? relay->local : -1, .events = local},
        {.fd = peer_events(relay) ? channel_fd(relay->peer) : -1, .events = peer_events(relay)},
    };
    // Data that TLS has already decrypted does not show in poll().
    gboolean pending = flow_wants_data(&relay->in) && tls_session_pending(channel_tls(relay->peer)) > 0;
    return poll(fds, G_N_ELEMENTS(fds), pending ? 0 : -1) >= 0 || errno == EINTR;
}

static gboolean
pump(Relay *relay)
{
    return local_to_buffer(relay) && buffer_to_peer(relay) && peer_to_buffer(relay) &&
           buffer_to_local(relay) && !(relay->in.flushed && relay->out.flushed);
}

// Takes the emulator's connection; FALSE when the relay was cut before it came.
static gboolean
accept_local(Relay *relay)
{
    struct pollfd fds[] = {{.fd = relay->wake, .events = POLLIN}, {.fd = relay->listener, .events = POLLIN}};
    while (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno == EINTR)
        continue;
    if (!fds[1].revents)
        return FALSE;
    relay->local = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return relay->local >= 0;
}

static gpointer
relay_main(gpointer data)
{
    Relay *relay = data;
    if (relay->listener >= 0 && !accept_local(relay))
        return NULL;
    while (!g_atomic_int_get(&relay->cut) && pump(relay) && wait_for_work(relay))
        continue;
    shutdown(relay->local, SHUT_RDWR);
    channel_shutdown(relay->peer);
    g_debug("relay %s ended: %" G_GUINT64_FORMAT " bytes out, %" G_GUINT64_FORMAT " in", relay->name,
            relay_bytes_out(relay), relay_bytes_in(relay));
    return NULL;
}

static Relay *
relay_new(const char *name, int local, int listener, Channel *peer)
{
    Relay *relay = g_new0(Relay, 1);
    relay->name = g_strdup(name);
    relay->local = local;
    relay->listener = listener;
    relay->peer = peer;
    relay->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    relay->peer_read = TLS_WANT_READ;
    relay->peer_write = TLS_WANT_WRITE;
    relay->thread = g_thread_new("relay", relay_main, relay);
    return relay;
}

Relay *
relay_start(const char *name, int local, Channel *peer)
{
    g_unix_set_fd_nonblocking(local, TRUE, NULL);
    return relay_new(name, local, -1, peer);
}

Relay *
relay_start_listening(const char *name, int listener, Channel *peer)
{
    return relay_new(name, -1, listener, peer);
}

void
relay_cut(Relay *relay)
{
    g_atomic_int_set(&relay->cut, 1);
    guint64 one = 1;
    if (write(relay->wake, &one, sizeof(one)) < 0)
        g_debug("relay %s is being cut already", relay->name);
}

guint64
relay_bytes_out(Relay *relay)
{
    return __atomic_load_n(&relay->out.bytes, __ATOMIC_RELAXED);
}

guint64
relay_bytes_in(Relay *relay)
{
    return __atomic_load_n(&relay->in.bytes, __ATOMIC_RELAXED);
}

void
relay_free(Relay *relay)
{
    if (!relay)
        return;
    relay_cut(relay);
    g_thread_join(relay->thread);
    channel_free(relay->peer);
    if (relay->local >= 0)
        close(relay->local);
    if (relay->listener >= 0)
        close(relay->listener);
    close(relay->wake);
    g_free(relay->name);
    g_free(relay);
}
