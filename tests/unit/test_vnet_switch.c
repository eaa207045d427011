// SPDX-License-Identifier: LGPL-2.1-or-later
// The switch-over's states, of hosts whose wire and guests are played by the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/switch_hosts.h"

static void
frames_follow_the_guest_until_its_stop(void **state)
{
    g_autoptr(Host) host = host_new(&host_exact_ops);
    host_capture_all(host, "xy"); // standby
    host_activate(host, FALSE);
    host_capture_all(host, "ab");
    switch_hold(host->move);
    assert_int_equal(host_capture(host, 'c'), SWITCH_DELIVER); // it still runs
    host->ready = FALSE;                                       // GET_VRING_BASE
    assert_int_equal(host_capture(host, 'd'), SWITCH_TAKEN);
    assert_int_equal(host_capture(host, 'E'), SWITCH_TAKEN);
    assert_true(switch_injects(host->move));
    assert_string_equal(host->got->str, "abc");
    // The move fails: what waits comes when the guest runs again, before what comes later.
    host_activate(host, FALSE);
    host_capture_all(host, "f");
    assert_string_equal(host->got->str, "abc");
    host->ready = TRUE;
    host_serve(host);
    host_capture_all(host, "g");
    assert_string_equal(host->got->str, "abcdEfg");
    assert_int_equal(switch_waiting(host->move), 0);
    assert_string_equal(host->sent->str, ""); // no marker without a move
}

// Its NIC is reset and comes back while it is held.
static void
a_held_guest_that_runs_gets_its_frames(void **state)
{
    g_autoptr(Host) host = host_new(&host_exact_ops);
    host_activate(host, FALSE);
    switch_hold(host->move);
    host->ready = FALSE;
    host_capture_all(host, "abc");
    host->ready = TRUE;
    host->room = 1;
    assert_int_equal(host_capture(host, 'd'), SWITCH_TAKEN); // after those that wait
    host_serve(host);
    assert_string_equal(host->got->str, "a");
    assert_int_equal(switch_wait_ms(host->move), -1); // until there is room
    host->room = G_MAXUINT;
    assert_int_equal(switch_wait_ms(host->move), 0);
    host_serve(host);
    assert_int_equal(host_capture(host, 'e'), SWITCH_DELIVER);
    assert_string_equal(host->got->str, "abcde");
}

// More waits than the guest has buffers for: all of it comes, and in order.
static void
frames_wait_for_room(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(source, FALSE);
    switch_hold(source->move);
    source->ready = FALSE;
    host_capture_all(source, "abc");
    hosts_connect(source, target);
    host_serve(target);
    target->room = 2;
    host_activate(target, TRUE);
    host_capture_all(target, "x");
    assert_string_equal(target->got->str, "ab");
    host_capture_all(source, "d");
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    host_serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_SETTLING);
    target->room = 2;
    host_serve(target);
    assert_string_equal(target->got->str, "abcd");
    assert_int_equal(switch_wait_ms(target->move), -1);
    target->room = 1;
    assert_int_equal(switch_wait_ms(target->move), 0);
    host_serve(target);
    assert_string_equal(target->got->str, "abcdx");
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
}

static void
ports_that_do_not_tell_hold_at_once(void **state)
{
    g_autoptr(Host) host = host_new(&host_vague_ops);
    host_activate(host, FALSE);
    switch_hold(host->move);
    assert_int_equal(host_capture(host, 'a'), SWITCH_TAKEN);
    assert_int_equal(switch_waiting(host->move), 1);
}

static void
frames_arrive_in_order_and_once(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(source, FALSE);
    switch_hold(source->move);
    source->ready = target->ready = FALSE;
    host_capture_all(source, "ab");
    hosts_connect(source, target);
    assert_false(switch_injects(source->move));
    host_capture_all(source, "c");
    host_capture_all(target, "x"); // not yet the destination's business
    host_serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ARRIVING);
    assert_false(switch_injects(target->move));
    host_activate(target, TRUE);
    assert_string_equal(target->sent->str, "M");
    assert_true(switch_is_moving(source->move) && switch_is_moving(target->move));
    // The guest is not there yet; D crosses the marker and is seen by both, E is seen by the destination
    // alone.
    host_capture_all(target, "Dd");
    host_capture_all(source, "De");
    host_serve(target);
    assert_string_equal(target->got->str, "");
    target->ready = TRUE;
    host_serve(target);
    assert_string_equal(target->got->str, "abce");
    // The source sees the marker: from now on groups are the destination's.
    const Offload none = {0};
    assert_int_equal(switch_captured(source->move, target->last_sent, LENGTH, &none), SWITCH_TAKEN);
    switch_end_turn(source->move, TRUE);
    assert_int_equal(host_capture(source, 'E'), SWITCH_DROP);
    host_capture_all(target, "E");
    assert_string_equal(target->got->str, "abce");
    host_serve(target); // drained
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    assert_string_equal(target->got->str, "abceDdE");
    assert_int_equal(switch_duplicates(target->move), 1);
    // What still strays to the source comes too.
    host_capture_all(source, "s");
    host_serve(target);
    assert_string_equal(target->got->str, "abceDdEs");
    assert_int_equal(switch_waiting(target->move) + switch_waiting(source->move), 0);
}

// The same frame sent twice is two frames.
static void
repeated_frames_are_no_duplicates(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(source, FALSE);
    hosts_connect(source, target);
    host_activate(target, TRUE);
    host_capture_all(target, "A");
    host_capture_all(source, "AA");
    host_serve(target);
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    host_serve(target);
    assert_string_equal(target->got->str, "AA");
}

static void
markers_of_others_mean_nothing(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    guint8 frame[MARKER_LENGTH];
    const guint8 nonce[MARKER_NONCE] = {1, 2, 3};
    const MacAddress mac = {{0x52, 0x54, 0, 1, 2, 3}};
    const Offload none = {0};
    host_activate(source, FALSE);
    marker_build(frame, &mac, nonce, MARKER_MOMENT);
    assert_int_equal(switch_captured(source->move, frame, sizeof(frame), &none),
                     SWITCH_TAKEN); // no guest sees it
    hosts_connect(source, target);
    assert_int_equal(switch_captured(source->move, frame, sizeof(frame), &none), SWITCH_TAKEN);
    assert_int_equal(host_capture(source, 'A'), SWITCH_TAKEN); // still sent on
    gboolean mine;
    MarkerKind kind;
    for (gsize cut = 0; cut < 37; cut++)
        assert_false(marker_parse(frame, cut, nonce, &mine, &kind));
    assert_true(marker_parse(frame, sizeof(frame), nonce, &mine, &kind) && mine && kind == MARKER_MOMENT);
    assert_true(marker_parse(frame, sizeof(frame), NULL, &mine, &kind) && !mine);
    for (MarkerKind each = MARKER_PROBE; each < N_MARKERS; each++) {
        marker_build(frame, &mac, nonce, each);
        assert_true(marker_parse(frame, sizeof(frame), nonce, &mine, &kind) && mine && kind == each);
        assert_int_equal(frame[6] & 3, 2); // local, of one sender
        assert_int_equal(memcmp(frame, mac.bytes, PACKET_MAC) == 0, each != MARKER_PROBE);
    }
}

static void
bad_messages_end_the_tunnel_only(void **state)
{
    static const guint8 bad[][8] = {{0, 0, 0, 0},          {0, 0, 0, 1, 12},   {0, 0, 0, 1, 2},
                                    {0, 0, 0, 3, 1, 2, 3}, {0, 0, 0, 2, 3, 0}, {0xff, 0xff, 0xff, 0xff}};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(Host) target = host_new(&host_exact_ops);
        int ends[2];
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        const SwitchTunnel tunnel = plain_tunnel(ends[0]);
        assert_true(switch_receive(target->move, &tunnel, NULL));
        assert_int_equal(write(ends[1], bad[i], sizeof(bad[i])), sizeof(bad[i]));
        host_serve(target);
        struct pollfd fds[SWITCH_FDS];
        assert_int_equal(switch_poll(target->move, fds), 0);
        host_activate(target, TRUE);
        host_capture_all(target, "a");
        host_serve(target);
        assert_string_equal(target->got->str, "a");
        close(ends[1]);
    }
}

static void
queues_have_an_end(void **state)
{
    g_autoptr(Host) host = host_new(&host_vague_ops);
    host_activate(host, FALSE);
    switch_hold(host->move);
    guint n = 0;
    while (host_capture(host, 'a') == SWITCH_TAKEN)
        assert_true(++n < SWITCH_QUEUE);
    assert_int_equal(host_capture(host, 'a'), SWITCH_OVERFLOW);
    assert_true(n > 1000);
    switch_standby(host->move);
    assert_int_equal(switch_waiting(host->move), 0);
}

// Nobody else knows of frames that came by a link, or are handed over, and find no room.
static void
what_is_lost_is_counted(void **state)
{
    g_autoptr(Host) source = host_new(&host_vague_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    const guint8 runt[] = {0, 0, 0, 14, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
    int ends[2];
    host_activate(source, FALSE);
    hosts_pair(source, target);
    switch_hold(source->move);
    while (host_capture(source, 'a') == SWITCH_TAKEN)
        continue;
    assert_int_equal(switch_losses(source->move).overflowed, 0);
    const gsize waited = switch_waiting(source->move);
    assert_true(switch_hand_over(source->move, NULL));
    assert_in_range(switch_losses(source->move).overflowed, 1, waited);
    // Shorter than a frame's header.
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const SwitchTunnel tunnel = plain_tunnel(ends[0]);
    assert_true(switch_receive(target->move, &tunnel, NULL));
    assert_int_equal(write(ends[1], runt, sizeof(runt)), sizeof(runt));
    host_serve(target);
    assert_int_equal(switch_losses(target->move).runts, 1);
    close(ends[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_follow_the_guest_until_its_stop),
        cmocka_unit_test(a_held_guest_that_runs_gets_its_frames),
        cmocka_unit_test(frames_wait_for_room),
        cmocka_unit_test(ports_that_do_not_tell_hold_at_once),
        cmocka_unit_test(frames_arrive_in_order_and_once),
        cmocka_unit_test(repeated_frames_are_no_duplicates),
        cmocka_unit_test(markers_of_others_mean_nothing),
        cmocka_unit_test(bad_messages_end_the_tunnel_only),
        cmocka_unit_test(queues_have_an_end),
        cmocka_unit_test(what_is_lost_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
