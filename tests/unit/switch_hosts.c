// SPDX-License-Identifier: LGPL-2.1-or-later
// Hosts of a switch-over, for its tests.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "tests/unit/switch_hosts.h"

gint64 host_later;
static Host *sending; // whose wire capture_mark() is

// Instead of GLib's.
gint64
g_get_monotonic_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 + host_later;
}

void
capture_mark(Capture *capture, const guint8 *frame, gsize length)
{
    assert_int_equal(length, LENGTH);
    memcpy(sending->last_sent, frame, LENGTH);
    sending->probed = TRUE;
    g_string_append_c(sending->sent, 'M');
}

static gboolean
is_ready(const Port *port)
{
    return ((const Host *) port)->ready;
}

static gboolean
has_room(const Port *port)
{
    return ((const Host *) port)->room > 0;
}

static void
nothing(Port *port)
{
}

const PortOps host_exact_ops = {
    .tells_exactly = TRUE, .is_ready = is_ready, .has_room = has_room, .drain = nothing, .flush = nothing};
const PortOps host_vague_ops = {
    .tells_exactly = FALSE, .is_ready = is_ready, .has_room = has_room, .drain = nothing, .flush = nothing};

static void
deliver(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Host *host = data;
    assert_int_equal(length, LENGTH);
    assert_int_equal(offload->segment_size, frame[14]); // each frame keeps its own header
    assert_true(host->ready && host->room > 0);
    host->room--;
    g_string_append_c(host->got, (char) frame[14]);
}

// A frame of the guest's that has come from where it is.
static void
inject(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Host *host = data;
    assert_int_equal(length, LENGTH);
    assert_int_equal(offload->segment_size, frame[14]);
    g_string_append_c(host->sent, (char) frame[14]);
}

static const SwitchEnds ends_of_host = {.deliver = deliver, .inject = inject};

Host *
host_new(const PortOps *ops)
{
    Host *host = g_new0(Host, 1);
    host->port = (Port){.ops = ops};
    host->ready = TRUE;
    host->room = G_MAXUINT;
    host->got = g_string_new(NULL);
    host->sent = g_string_new(NULL);
    const MacAddress mac = {{0x52, 0x54, 0, 1, 2, 3}};
    host->move = switch_new(&mac, &host->port, NULL, &ends_of_host, host);
    return host;
}

void
host_free(Host *host)
{
    switch_free(host->move);
    g_string_free(host->got, TRUE);
    g_string_free(host->sent, TRUE);
    g_free(host);
}

SwitchVerdict
host_capture(Host *host, char letter)
{
    guint8 frame[LENGTH] = {
        g_ascii_isupper(letter) ? 0xff : 0x52, [6] = 0x52, [7] = 9, [14] = (guint8) letter};
    const Offload offload = {.segment_size = (guint16) letter};
    SwitchVerdict verdict = switch_captured(host->move, frame, sizeof(frame), &offload);
    if (verdict == SWITCH_DELIVER)
        deliver(frame, sizeof(frame), &offload, host);
    switch_end_turn(host->move, TRUE);
    return verdict;
}

void
host_capture_all(Host *host, const char *letters)
{
    for (; *letters; letters++)
        host_capture(host, *letters);
}

void
host_serve(Host *host)
{
    struct pollfd fds[SWITCH_FDS];
    guint n = switch_poll(host->move, fds);
    if (n > 0 && poll(fds, n, 0) < 0)
        fail();
    sending = host;
    switch_serve(host->move, fds, n);
    switch_end_turn(host->move, TRUE);
}

SwitchTunnel
plain_tunnel(int fd)
{
    return (SwitchTunnel){.fd = fd};
}

void
hosts_find_place(Host *source, Host *middle, Host *target, gboolean one_segment)
{
    const Offload none = {0};
    for (guint turns = 0; switch_place(target->move) == PLACE_UNKNOWN && turns < 1000; turns++) {
        host_serve(target);
        if (target->probed && one_segment)
            switch_captured(source->move, target->last_sent, LENGTH, &none);
        target->probed = FALSE;
        if (middle)
            host_serve(middle);
        host_serve(source);
        if (middle)
            host_serve(middle);
        g_usleep(500);
    }
    assert_int_equal(switch_place(target->move), one_segment ? PLACE_HERE : PLACE_AWAY);
    g_string_truncate(target->sent, 0);
}

void
hosts_pair(Host *source, Host *target)
{
    int ends[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const SwitchTunnel near = plain_tunnel(ends[0]), far = plain_tunnel(ends[1]);
    assert_true(switch_receive(target->move, &near, NULL));
    switch_pair(source->move, &far);
}

void
hosts_connect(Host *source, Host *target)
{
    hosts_pair(source, target);
    hosts_find_place(source, NULL, target, TRUE);
    assert_int_equal(switch_place(source->move), PLACE_HERE);
    assert_true(switch_hand_over(source->move, NULL));
}

void
host_activate(Host *host, gboolean arrived)
{
    sending = host;
    switch_activate(host->move, arrived);
    switch_mark(host->move);
    switch_end_turn(host->move, TRUE);
}

gboolean
hosts_carry(Host *from, Host *to)
{
    const Offload none = {0};
    const gboolean sent = from->probed;
    from->probed = FALSE;
    if (sent)
        assert_int_equal(switch_captured(to->move, from->last_sent, LENGTH, &none), SWITCH_TAKEN);
    switch_end_turn(to->move, TRUE);
    return sent;
}
