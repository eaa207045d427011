// SPDX-License-Identifier: LGPL-2.1-or-later
// Segments that learn at once where a guest has gone to, late, or never.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/switch_hosts.h"

// To where the guest runs, and the source has seen the marker.
static void
move_here(Host *source, Host *target)
{
    host_activate(source, FALSE);
    hosts_connect(source, target);
    host_activate(target, TRUE);
    assert_true(hosts_carry(target, source));
    host_serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
}

// What the source asks from now on reaches the destination, until it asks no more. Returns how often it did.
static guint
learn(Host *source, Host *target)
{
    guint asked = 0;
    for (guint turns = 0; turns < 10; turns++) {
        host_serve(source);
        asked += hosts_carry(source, target);
        host_serve(target);
        host_later += G_USEC_PER_SEC; // a source that stays asks once in a while
    }
    return asked;
}

// The same without a pause: the three questions of a segment that has learned.
static void
learn_at_once(Host *source, Host *target)
{
    for (guint i = 0; i < 3; i++) {
        host_serve(source);
        assert_true(hosts_carry(source, target));
        host_serve(target);
    }
    host_serve(source);
}

static void
a_segment_that_has_learned_needs_no_source(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    move_here(source, target);
    learn_at_once(source, target);
    assert_false(source->probed); // three are enough
    // The destination sends one to the guest itself, which no switch brings to the source.
    host_serve(target);
    assert_true(target->probed);
    assert_int_equal(host_capture(source, 's'), SWITCH_TAKEN);
    host_serve(target);
    assert_string_equal(target->got->str, "s");
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_false(switch_has_strays(target->move));
    host_serve(target);
    assert_int_equal(switch_wait_ms(target->move), -1);
    assert_int_equal(switch_wait_ms(source->move), -1);
}

static void
a_segment_that_has_not_learned_keeps_its_source(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    move_here(source, target);
    // One that comes now and then is not enough.
    for (guint i = 0; i < 8; i++) {
        host_serve(source);
        assert_true(source->probed);
        if (i % 3 == 0)
            source->probed = FALSE;
        else
            hosts_carry(source, target);
        host_serve(target);
        host_later += (PLACE_WAIT_MS + 1) * 1000;
        host_serve(target); // it has waited for one that does not come
    }
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
    assert_false(switch_is_moving(source->move));
    host_serve(target);
    assert_true(switch_has_strays(target->move));
    assert_false(switch_is_away(target->move)); // what it sends goes out there
    host_later += 60 * G_USEC_PER_SEC;
    assert_int_equal(host_capture(source, 's'), SWITCH_TAKEN);
    assert_int_equal(host_capture(source, 'A'), SWITCH_DROP);
    host_serve(target);
    assert_string_equal(target->got->str, "s");
    // It learns in the end.
    source->probed = FALSE;
    assert_int_equal(learn(source, target), 3);
    assert_false(switch_has_strays(target->move));
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
}

// A source that stays ends with the guest's vnet.
static void
a_source_that_stays_goes_with_the_guest(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    move_here(source, target);
    host_serve(source);
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
    g_clear_pointer(&target->move, switch_free);
    host_serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
}

// From where frames still come to its first host.
static void
a_guest_that_moves_on_keeps_its_detour(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    g_autoptr(Host) next = host_new(&host_exact_ops);
    move_here(source, target);
    host_serve(source);
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    host_serve(target);
    assert_true(switch_has_strays(target->move));
    hosts_pair(target, next);
    hosts_find_place(target, NULL, next, TRUE);
    switch_hold(target->move);
    target->ready = FALSE;
    host_capture_all(source, "r");
    host_serve(target);
    assert_true(switch_hand_over(target->move, NULL));
    host_capture_all(source, "s");
    host_serve(target);
    host_serve(next);
    host_activate(next, TRUE);
    assert_true(hosts_carry(next, target));
    host_capture_all(source, "t");
    host_serve(target);
    host_serve(next);
    assert_string_equal(next->got->str, "rst");
    // Once frames come to where it is now, nobody else is needed.
    target->probed = FALSE;
    assert_int_equal(learn(target, next), 3);
    host_serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_int_equal(switch_mode(target->move), SWITCH_STANDBY);
}

// What was sent to all shows nothing of where frames for the guest go.
static void
only_frames_for_the_guest_show_where_they_go(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    move_here(source, target);
    for (guint i = 0; i < 3; i++) {
        host_serve(source);
        assert_true(source->probed);
        memset(source->last_sent, 0xff, PACKET_MAC);
        hosts_carry(source, target);
        host_serve(target);
        host_later += (PLACE_WAIT_MS + 1) * 1000;
        host_serve(target);
    }
    host_serve(source);
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
}

static void
a_hub_brings_no_frame_twice_for_long(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    move_here(source, target);
    learn_at_once(source, target);
    host_serve(target);
    assert_true(hosts_carry(target, source));
    assert_int_equal(host_capture(source, 'a'), SWITCH_DROP);
    assert_int_equal(host_capture(target, 'a'), SWITCH_DELIVER);
    host_serve(target);
    assert_string_equal(target->got->str, "a");
}

// Its nonce is another one.
static void
the_next_move_does_not_disturb_the_learning(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    g_autoptr(Host) next = host_new(&host_exact_ops);
    move_here(source, target);
    hosts_pair(target, next);
    hosts_find_place(target, NULL, next, TRUE);
    learn_at_once(source, target);
    host_later += SWITCH_STRAY_MS * 1000;
    host_serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_int_equal(switch_place(target->move), PLACE_HERE);
}

// Its former host still passes on what strays there.
static void
a_guest_that_moves_back_at_once_is_at_home(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    g_autoptr(Host) back = host_new(&host_exact_ops);
    const Offload none = {0};
    host_activate(source, FALSE);
    hosts_connect(source, target);
    host_serve(target);
    host_activate(target, TRUE);
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    host_serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    hosts_pair(target, back);
    hosts_find_place(target, NULL, back, TRUE);
    switch_hold(target->move);
    target->ready = FALSE;
    host_capture_all(source, "s");
    host_serve(target);
    assert_true(switch_hand_over(target->move, NULL));
    host_capture_all(source, "t"); // if it is on the same host, the next one gets it by itself
    host_serve(target);
    host_serve(back);
    host_activate(back, TRUE);
    assert_false(switch_is_away(back->move));
    host_capture_all(back, "t");
    switch_captured(target->move, back->last_sent, LENGTH, &none);
    switch_end_turn(target->move, TRUE);
    host_serve(back);
    assert_string_equal(back->got->str, "st");
}

static void
a_guest_that_moves_on_before_it_has_settled_gets_its_frames(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(source, FALSE);
    hosts_connect(source, target);
    host_capture_all(source, "ab");
    host_serve(target);
    target->ready = FALSE;
    host_activate(target, TRUE);
    host_capture_all(target, "cd");
    assert_int_equal(switch_mode(target->move), SWITCH_SETTLING);
    switch_hold(target->move);
    host_capture_all(target, "e");
    target->ready = TRUE;
    host_serve(target);
    assert_string_equal(target->got->str, "abcde");
    assert_int_equal(switch_waiting(target->move), 0);
}

// A frame waits in the capture's socket while its twin comes by the tunnel.
static void
frames_captured_after_their_twins_are_left_out(void **state)
{
    g_autoptr(Host) source = host_new(&host_exact_ops);
    g_autoptr(Host) target = host_new(&host_exact_ops);
    host_activate(source, FALSE);
    hosts_connect(source, target);
    host_capture_all(source, "AB");
    host_capture_all(target, "A");
    host_serve(target);
    host_activate(target, TRUE);
    host_capture_all(target, "BA"); // B's twin has come; this A is another, like the first
    host_capture_all(source, "AC");
    host_serve(target);
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    host_serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    host_capture_all(target, "CD");
    assert_string_equal(target->got->str, "ABCAD");
    assert_int_equal(switch_duplicates(target->move), 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_that_has_learned_needs_no_source),
        cmocka_unit_test(a_segment_that_has_not_learned_keeps_its_source),
        cmocka_unit_test(a_source_that_stays_goes_with_the_guest),
        cmocka_unit_test(a_guest_that_moves_on_keeps_its_detour),
        cmocka_unit_test(only_frames_for_the_guest_show_where_they_go),
        cmocka_unit_test(a_hub_brings_no_frame_twice_for_long),
        cmocka_unit_test(the_next_move_does_not_disturb_the_learning),
        cmocka_unit_test(a_guest_that_moves_back_at_once_is_at_home),
        cmocka_unit_test(a_guest_that_moves_on_before_it_has_settled_gets_its_frames),
        cmocka_unit_test(frames_captured_after_their_twins_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
