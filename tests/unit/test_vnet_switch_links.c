// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests away from their segment, and the links to their homes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <cmocka.h>

#include "tests/unit/switch_hosts.h"

// A frame that the guest sends, as the forwarder does it for one that is away.
static gboolean
send_home(Host *host, char letter)
{
    guint8 frame[LENGTH] = {0x52, 9, [6] = 0x52, [14] = (guint8) letter};
    const Offload offload = {.segment_size = (guint16) letter};
    const struct iovec parts[] = {{frame, 20}, {frame + 20, LENGTH - 20}};
    gboolean sent = switch_send_home(host->move, parts, G_N_ELEMENTS(parts), &offload);
    switch_end_turn(host->move, TRUE);
    return sent;
}

// From one host to a host on another segment.
static void
move_away(Host *source, Host *middle, Host *target)
{
    hosts_pair(middle ? middle : source, target);
    hosts_find_place(source, middle, target, FALSE);
    assert_true(switch_hand_over(middle ? middle->move : source->move, NULL));
    host_activate(target, TRUE);
    assert_string_equal(target->sent->str, ""); // no marker on a segment that is not the guest's
    if (middle)
        host_serve(middle);
    host_serve(source);
}

static void
a_guest_away_has_its_segment_at_home(void **state)
{
    g_autoptr(Host) home = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(home, FALSE);
    switch_hold(home->move);
    home->ready = FALSE;
    host_capture_all(home, "ab");
    move_away(home, NULL, target);
    assert_true(switch_is_away(target->move));
    assert_string_equal(switch_mode_name(home->move), "anchor");
    host_capture_all(home, "Cd");
    assert_int_equal(host_capture(target, 'X'), SWITCH_TAKEN); // another segment's
    host_serve(target);
    assert_string_equal(target->got->str, "abCd");
    assert_string_equal(switch_mode_name(target->move), "away");
    assert_true(send_home(target, 'q') && send_home(target, 'r'));
    host_serve(home);
    assert_string_equal(home->sent->str, "qr");
    // What the guest has no room for stays where it is.
    target->room = 0;
    host_capture_all(home, "e");
    host_serve(target);
    assert_string_equal(target->got->str, "abCd");
    target->room = 1;
    host_serve(target);
    assert_string_equal(target->got->str, "abCde");
    assert_false(send_home(home, 'z')); // it is at home
}

static void
a_move_ends_with_its_settlement_or_its_tunnel(void **state)
{
    g_autoptr(Host) home = host_new(&host_exact_ops);
    g_autoptr(Host) failed = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    assert_false(switch_is_moving(home->move));
    host_activate(home, FALSE);
    assert_false(switch_is_moving(home->move));
    hosts_pair(home, failed);
    hosts_find_place(home, NULL, failed, FALSE);
    assert_true(switch_is_moving(home->move) && switch_is_moving(failed->move));
    g_clear_pointer(&failed->move, switch_free);
    host_serve(home);
    assert_false(switch_is_moving(home->move));
    switch_hold(home->move);
    assert_true(switch_is_moving(home->move));
    home->ready = FALSE;
    move_away(home, NULL, target);
    host_serve(target);
    // From now on for as long as the guest is away.
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    assert_false(switch_is_moving(home->move) || switch_is_moving(target->move));
}

// Two tunnels' ends between a guest's vnet and its anchor.
static void
relink(Host *home, Host *guest)
{
    int ends[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const SwitchTunnel near = plain_tunnel(ends[0]), far = plain_tunnel(ends[1]);
    assert_true(switch_relink(home->move, &near, NULL));
    assert_true(switch_relink(guest->move, &far, NULL));
}

static void
a_guest_that_moves_on_leaves_nothing_between(void **state)
{
    g_autoptr(Host) home = host_new(&host_exact_ops);
    g_autoptr(Host) middle = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(home, FALSE);
    move_away(home, NULL, middle);
    host_serve(middle);
    switch_hold(middle->move);
    middle->ready = FALSE;
    host_capture_all(home, "ab"); // one of them is in the middle when the guest leaves
    host_serve(middle);
    move_away(home, middle, target);
    assert_string_equal(switch_mode_name(middle->move), "passing");
    host_serve(target);
    assert_string_equal(target->got->str, "ab");
    host_capture_all(home, "c");
    assert_true(send_home(target, 'q'));
    relink(home, target);
    // These overtake those that are still in the middle.
    host_capture_all(home, "d");
    assert_true(send_home(target, 'r'));
    host_serve(target);
    host_serve(home);
    assert_string_equal(target->got->str, "ab");
    assert_string_equal(home->sent->str, "");
    host_serve(middle);
    host_serve(target);
    host_serve(home);
    assert_string_equal(target->got->str, "abcd");
    assert_string_equal(home->sent->str, "qr");
    g_clear_pointer(&middle->move, switch_free);
    host_capture_all(home, "e");
    assert_true(send_home(target, 's'));
    host_serve(target);
    host_serve(home);
    assert_string_equal(target->got->str, "abcde");
    assert_string_equal(home->sent->str, "qrs");
}

static void
a_guest_that_comes_home_is_at_home(void **state)
{
    g_autoptr(Host) home = host_new(&host_exact_ops);
    g_autoptr(Host) away = host_new(&host_exact_ops);
    g_autoptr(Host) back = host_new(&host_exact_ops);
    const Offload none = {0};
    host_activate(home, FALSE);
    move_away(home, NULL, away);
    host_serve(away);
    switch_hold(away->move);
    away->ready = FALSE;
    host_capture_all(home, "a");
    host_serve(away);
    hosts_pair(away, back);
    hosts_find_place(home, away, back, TRUE);
    switch_share(home->move);
    switch_share(back->move);
    assert_true(switch_hand_over(away->move, NULL));
    host_serve(back);
    host_activate(back, TRUE);
    assert_false(switch_is_away(back->move));
    assert_string_equal(back->sent->str, "M");
    // They have the same NIC, whose frames before the marker come by the tunnel, and those after it do not.
    host_capture_all(home, "Bc");
    host_capture_all(back, "Bc");
    switch_captured(back->move, back->last_sent, LENGTH, &none);
    switch_captured(home->move, back->last_sent, LENGTH, &none);
    host_capture_all(home, "dE");
    host_capture_all(back, "dE");
    switch_end_turn(home->move, TRUE);
    host_serve(away);
    host_serve(back);
    assert_int_equal(switch_mode(back->move), SWITCH_ACTIVE);
    assert_string_equal(back->got->str, "aBcdE");
    assert_int_equal(switch_duplicates(back->move), 0);
    // The anchor ends, and with it what stood between.
    g_clear_pointer(&home->move, switch_free);
    host_serve(away);
    assert_int_equal(switch_mode(away->move), SWITCH_STANDBY);
}

// The link is down, and comes back by other tunnels, at both of its ends.
static void
a_link_outlives_its_tunnels(void **state)
{
    g_autoptr(Host) home = host_new(&host_exact_ops);
    g_autoptr(Host) guest = host_new(&host_exact_ops);
    switch_be_anchor(home->move);
    switch_be_away(guest->move);
    host_activate(guest, FALSE);
    assert_string_equal(switch_mode_name(guest->move), "away");
    assert_false(send_home(guest, 'p'));
    assert_int_equal(host_capture(home, 'z'), SWITCH_OVERFLOW);
    for (guint i = 0; i < 2; i++) {
        relink(home, guest);
        host_capture_all(home, "a");
        assert_true(send_home(guest, 'q'));
        host_serve(home);
        host_serve(guest);
    }
    assert_string_equal(guest->got->str, "aa");
    assert_string_equal(home->sent->str, "qq");
    // The vnet at home is replaced.
    g_clear_pointer(&home->move, switch_free);
    host_serve(guest);
    assert_false(link_is_up(switch_link(guest->move)));
    assert_string_equal(switch_mode_name(guest->move), "away");
}

static void
only_those_at_a_links_end_take_a_tunnel(void **state)
{
    g_autoptr(Host) host = host_new(&host_exact_ops);
    g_autoptr(GError) error = NULL;
    const SwitchTunnel none = {.fd = -1};
    host_activate(host, FALSE);
    assert_false(switch_relink(host->move, &none, &error));
    assert_non_null(error);
    assert_false(switch_hand_over(host->move, NULL));
    assert_int_equal(switch_mode(host->move), SWITCH_ACTIVE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guest_away_has_its_segment_at_home),
        cmocka_unit_test(a_move_ends_with_its_settlement_or_its_tunnel),
        cmocka_unit_test(a_guest_that_moves_on_leaves_nothing_between),
        cmocka_unit_test(a_guest_that_comes_home_is_at_home),
        cmocka_unit_test(a_link_outlives_its_tunnels),
        cmocka_unit_test(only_those_at_a_links_end_take_a_tunnel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
