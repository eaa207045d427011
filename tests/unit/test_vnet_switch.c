// SPDX-License-Identifier: LGPL-2.1-or-later
// The switch-over's states: two vnets in one process, their tunnel a socket pair, wire and guests played by
// the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "vnet/switch.h"

enum { LENGTH = 60 };

// One host: a guest's end that takes frames when `ready`, and what reached it as a text of their letters.
typedef struct {
    Port port;
    gboolean ready;
    guint room; // frames that it still takes
    GString *got;
    GString *sent; // to the wire: M is a marker or a probe, a letter a frame of the guest's
    guint8 last_sent[LENGTH];
    gboolean probed; // last_sent has not been taken from the wire yet
    Switch *move;
} Host;

static Host *sending; // whose wire capture_mark() is
static gint64 later;  // than it is, us: what is tried here does not wait

// Instead of GLib's.
gint64
g_get_monotonic_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * G_USEC_PER_SEC + now.tv_nsec / 1000 + later;
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

static const PortOps exact_ops = {
    .tells_exactly = TRUE, .is_ready = is_ready, .has_room = has_room, .drain = nothing, .flush = nothing};
static const PortOps vague_ops = {
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

static Host *
new_host(const PortOps *ops)
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

static void
free_host(Host *host)
{
    switch_free(host->move);
    g_string_free(host->got, TRUE);
    g_string_free(host->sent, TRUE);
    g_free(host);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, free_host)

// A frame off the wire: a small letter is for the guest alone, a capital one for all.
static SwitchVerdict
capture(Host *host, char letter)
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

static void
capture_all(Host *host, const char *letters)
{
    for (; *letters; letters++)
        capture(host, *letters);
}

static void
serve(Host *host)
{
    struct pollfd fds[SWITCH_FDS];
    guint n = switch_poll(host->move, fds);
    if (n > 0 && poll(fds, n, 0) < 0)
        fail();
    sending = host;
    switch_serve(host->move, fds, n);
    switch_end_turn(host->move, TRUE);
}

static SwitchTunnel
plain(int fd)
{
    return (SwitchTunnel){.fd = fd};
}

// The hosts find out where they are to each other, by way of `middle` unless that is NULL.
static void
find_place(Host *source, Host *middle, Host *target, gboolean one_segment)
{
    const Offload none = {0};
    for (guint turns = 0; switch_place(target->move) == PLACE_UNKNOWN && turns < 1000; turns++) {
        serve(target);
        if (target->probed && one_segment)
            switch_captured(source->move, target->last_sent, LENGTH, &none);
        target->probed = FALSE;
        if (middle)
            serve(middle);
        serve(source);
        if (middle)
            serve(middle);
        g_usleep(500);
    }
    assert_int_equal(switch_place(target->move), one_segment ? PLACE_HERE : PLACE_AWAY);
    g_string_truncate(target->sent, 0);
}

static void
pair_hosts(Host *source, Host *target)
{
    int ends[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const SwitchTunnel near = plain(ends[0]), far = plain(ends[1]);
    assert_true(switch_receive(target->move, &near, NULL));
    switch_pair(source->move, &far);
}

static void
connect_hosts(Host *source, Host *target)
{
    pair_hosts(source, target);
    find_place(source, NULL, target, TRUE);
    assert_int_equal(switch_place(source->move), PLACE_HERE);
    assert_true(switch_hand_over(source->move, NULL));
}

static void
activate(Host *host, gboolean arrived)
{
    sending = host;
    switch_activate(host->move, arrived);
    switch_mark(host->move);
    switch_end_turn(host->move, TRUE);
}

static void
frames_follow_the_guest_until_its_stop(void **state)
{
    g_autoptr(Host) host = new_host(&exact_ops);
    capture_all(host, "xy"); // standby
    activate(host, FALSE);
    capture_all(host, "ab");
    switch_hold(host->move);
    assert_int_equal(capture(host, 'c'), SWITCH_DELIVER); // it still runs
    host->ready = FALSE;                                  // GET_VRING_BASE
    assert_int_equal(capture(host, 'd'), SWITCH_TAKEN);
    assert_int_equal(capture(host, 'E'), SWITCH_TAKEN);
    assert_true(switch_injects(host->move));
    assert_string_equal(host->got->str, "abc");
    // The move fails: what waits comes when the guest runs again, before what comes later.
    activate(host, FALSE);
    capture_all(host, "f");
    assert_string_equal(host->got->str, "abc");
    host->ready = TRUE;
    serve(host);
    capture_all(host, "g");
    assert_string_equal(host->got->str, "abcdEfg");
    assert_int_equal(switch_waiting(host->move), 0);
    assert_string_equal(host->sent->str, ""); // no marker without a move
}

// Its NIC is reset and comes back while it is held.
static void
a_held_guest_that_runs_gets_its_frames(void **state)
{
    g_autoptr(Host) host = new_host(&exact_ops);
    activate(host, FALSE);
    switch_hold(host->move);
    host->ready = FALSE;
    capture_all(host, "abc");
    host->ready = TRUE;
    host->room = 1;
    assert_int_equal(capture(host, 'd'), SWITCH_TAKEN); // after those that wait
    serve(host);
    assert_string_equal(host->got->str, "a");
    assert_int_equal(switch_wait_ms(host->move), -1); // until there is room
    host->room = G_MAXUINT;
    assert_int_equal(switch_wait_ms(host->move), 0);
    serve(host);
    assert_int_equal(capture(host, 'e'), SWITCH_DELIVER);
    assert_string_equal(host->got->str, "abcde");
}

// More waits than the guest has buffers for: all of it comes, and in order.
static void
frames_wait_for_room(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(source, FALSE);
    switch_hold(source->move);
    source->ready = FALSE;
    capture_all(source, "abc");
    connect_hosts(source, target);
    serve(target);
    target->room = 2;
    activate(target, TRUE);
    capture_all(target, "x");
    assert_string_equal(target->got->str, "ab");
    capture_all(source, "d");
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_SETTLING);
    target->room = 2;
    serve(target);
    assert_string_equal(target->got->str, "abcd");
    assert_int_equal(switch_wait_ms(target->move), -1);
    target->room = 1;
    assert_int_equal(switch_wait_ms(target->move), 0);
    serve(target);
    assert_string_equal(target->got->str, "abcdx");
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
}

static void
ports_that_do_not_tell_hold_at_once(void **state)
{
    g_autoptr(Host) host = new_host(&vague_ops);
    activate(host, FALSE);
    switch_hold(host->move);
    assert_int_equal(capture(host, 'a'), SWITCH_TAKEN);
    assert_int_equal(switch_waiting(host->move), 1);
}

static void
frames_arrive_in_order_and_once(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(source, FALSE);
    switch_hold(source->move);
    source->ready = target->ready = FALSE;
    capture_all(source, "ab");
    connect_hosts(source, target);
    assert_false(switch_injects(source->move));
    capture_all(source, "c");
    capture_all(target, "x"); // not yet the destination's business
    serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ARRIVING);
    assert_false(switch_injects(target->move));
    activate(target, TRUE);
    assert_string_equal(target->sent->str, "M");
    assert_true(switch_is_moving(source->move) && switch_is_moving(target->move));
    // The guest is not there yet; D crosses the marker and is seen by both, E is seen by the destination
    // alone.
    capture_all(target, "Dd");
    capture_all(source, "De");
    serve(target);
    assert_string_equal(target->got->str, "");
    target->ready = TRUE;
    serve(target);
    assert_string_equal(target->got->str, "abce");
    // The source sees the marker: from now on groups are the destination's.
    const Offload none = {0};
    assert_int_equal(switch_captured(source->move, target->last_sent, LENGTH, &none), SWITCH_TAKEN);
    switch_end_turn(source->move, TRUE);
    assert_int_equal(capture(source, 'E'), SWITCH_DROP);
    capture_all(target, "E");
    assert_string_equal(target->got->str, "abce");
    serve(target); // drained
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    assert_string_equal(target->got->str, "abceDdE");
    assert_int_equal(switch_duplicates(target->move), 1);
    // What still strays to the source comes too.
    capture_all(source, "s");
    serve(target);
    assert_string_equal(target->got->str, "abceDdEs");
    assert_int_equal(switch_waiting(target->move) + switch_waiting(source->move), 0);
}

// The same frame sent twice is two frames.
static void
repeated_frames_are_no_duplicates(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(source, FALSE);
    connect_hosts(source, target);
    activate(target, TRUE);
    capture_all(target, "A");
    capture_all(source, "AA");
    serve(target);
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    serve(target);
    assert_string_equal(target->got->str, "AA");
}

// What a host has sent to the guest last reaches another host: the segment's doing. FALSE: there was nothing.
static gboolean
carry(Host *from, Host *to)
{
    const Offload none = {0};
    const gboolean sent = from->probed;
    from->probed = FALSE;
    if (sent)
        assert_int_equal(switch_captured(to->move, from->last_sent, LENGTH, &none), SWITCH_TAKEN);
    switch_end_turn(to->move, TRUE);
    return sent;
}

// To where the guest runs, and the source has seen the marker.
static void
move_here(Host *source, Host *target)
{
    activate(source, FALSE);
    connect_hosts(source, target);
    activate(target, TRUE);
    assert_true(carry(target, source));
    serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
}

// What the source asks from now on reaches the destination, until it asks no more. Returns how often it did.
static guint
learn(Host *source, Host *target)
{
    guint asked = 0;
    for (guint turns = 0; turns < 10; turns++) {
        serve(source);
        asked += carry(source, target);
        serve(target);
        later += G_USEC_PER_SEC; // a source that stays asks once in a while
    }
    return asked;
}

// The same without a pause: the three questions of a segment that has learned.
static void
learn_at_once(Host *source, Host *target)
{
    for (guint i = 0; i < 3; i++) {
        serve(source);
        assert_true(carry(source, target));
        serve(target);
    }
    serve(source);
}

static void
a_segment_that_has_learned_needs_no_source(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    move_here(source, target);
    learn_at_once(source, target);
    assert_false(source->probed); // three are enough
    // The destination sends one to the guest itself, which no switch brings to the source.
    serve(target);
    assert_true(target->probed);
    assert_int_equal(capture(source, 's'), SWITCH_TAKEN);
    serve(target);
    assert_string_equal(target->got->str, "s");
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_false(switch_has_strays(target->move));
    serve(target);
    assert_int_equal(switch_wait_ms(target->move), -1);
    assert_int_equal(switch_wait_ms(source->move), -1);
}

static void
a_segment_that_has_not_learned_keeps_its_source(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    move_here(source, target);
    // One that comes now and then is not enough.
    for (guint i = 0; i < 8; i++) {
        serve(source);
        assert_true(source->probed);
        if (i % 3 == 0)
            source->probed = FALSE;
        else
            carry(source, target);
        serve(target);
        later += (PLACE_WAIT_MS + 1) * 1000;
        serve(target); // it has waited for one that does not come
    }
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
    assert_false(switch_is_moving(source->move));
    serve(target);
    assert_true(switch_has_strays(target->move));
    assert_false(switch_is_away(target->move)); // what it sends goes out there
    later += 60 * G_USEC_PER_SEC;
    assert_int_equal(capture(source, 's'), SWITCH_TAKEN);
    assert_int_equal(capture(source, 'A'), SWITCH_DROP);
    serve(target);
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
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    move_here(source, target);
    serve(source);
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
    g_clear_pointer(&target->move, switch_free);
    serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
}

// From where frames still come to its first host.
static void
a_guest_that_moves_on_keeps_its_detour(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    g_autoptr(Host) next = new_host(&exact_ops);
    move_here(source, target);
    serve(source);
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    serve(target);
    assert_true(switch_has_strays(target->move));
    pair_hosts(target, next);
    find_place(target, NULL, next, TRUE);
    switch_hold(target->move);
    target->ready = FALSE;
    capture_all(source, "r");
    serve(target);
    assert_true(switch_hand_over(target->move, NULL));
    capture_all(source, "s");
    serve(target);
    serve(next);
    activate(next, TRUE);
    assert_true(carry(next, target));
    capture_all(source, "t");
    serve(target);
    serve(next);
    assert_string_equal(next->got->str, "rst");
    // Once frames come to where it is now, nobody else is needed.
    target->probed = FALSE;
    assert_int_equal(learn(target, next), 3);
    serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_int_equal(switch_mode(target->move), SWITCH_STANDBY);
}

// What was sent to all shows nothing of where frames for the guest go.
static void
only_frames_for_the_guest_show_where_they_go(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    move_here(source, target);
    for (guint i = 0; i < 3; i++) {
        serve(source);
        assert_true(source->probed);
        memset(source->last_sent, 0xff, PACKET_MAC);
        carry(source, target);
        serve(target);
        later += (PLACE_WAIT_MS + 1) * 1000;
        serve(target);
    }
    serve(source);
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    assert_string_equal(switch_mode_name(source->move), "anchor");
}

static void
a_hub_brings_no_frame_twice_for_long(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    move_here(source, target);
    learn_at_once(source, target);
    serve(target);
    assert_true(carry(target, source));
    assert_int_equal(capture(source, 'a'), SWITCH_DROP);
    assert_int_equal(capture(target, 'a'), SWITCH_DELIVER);
    serve(target);
    assert_string_equal(target->got->str, "a");
}

// Its nonce is another one.
static void
the_next_move_does_not_disturb_the_learning(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    g_autoptr(Host) next = new_host(&exact_ops);
    move_here(source, target);
    pair_hosts(target, next);
    find_place(target, NULL, next, TRUE);
    learn_at_once(source, target);
    later += SWITCH_STRAY_MS * 1000;
    serve(source);
    assert_int_equal(switch_mode(source->move), SWITCH_STANDBY);
    assert_int_equal(switch_place(target->move), PLACE_HERE);
}

// Its former host still passes on what strays there.
static void
a_guest_that_moves_back_at_once_is_at_home(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    g_autoptr(Host) back = new_host(&exact_ops);
    const Offload none = {0};
    activate(source, FALSE);
    connect_hosts(source, target);
    serve(target);
    activate(target, TRUE);
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    pair_hosts(target, back);
    find_place(target, NULL, back, TRUE);
    switch_hold(target->move);
    target->ready = FALSE;
    capture_all(source, "s");
    serve(target);
    assert_true(switch_hand_over(target->move, NULL));
    capture_all(source, "t"); // if it is on the same host, the next one gets it by itself
    serve(target);
    serve(back);
    activate(back, TRUE);
    assert_false(switch_is_away(back->move));
    capture_all(back, "t");
    switch_captured(target->move, back->last_sent, LENGTH, &none);
    switch_end_turn(target->move, TRUE);
    serve(back);
    assert_string_equal(back->got->str, "st");
}

static void
a_guest_that_moves_on_before_it_has_settled_gets_its_frames(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(source, FALSE);
    connect_hosts(source, target);
    capture_all(source, "ab");
    serve(target);
    target->ready = FALSE;
    activate(target, TRUE);
    capture_all(target, "cd");
    assert_int_equal(switch_mode(target->move), SWITCH_SETTLING);
    switch_hold(target->move);
    capture_all(target, "e");
    target->ready = TRUE;
    serve(target);
    assert_string_equal(target->got->str, "abcde");
    assert_int_equal(switch_waiting(target->move), 0);
}

// A frame waits in the capture's socket while its twin comes by the tunnel.
static void
frames_captured_after_their_twins_are_left_out(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(source, FALSE);
    connect_hosts(source, target);
    capture_all(source, "AB");
    capture_all(target, "A");
    serve(target);
    activate(target, TRUE);
    capture_all(target, "BA"); // B's twin has come; this A is another, like the first
    capture_all(source, "AC");
    serve(target);
    const Offload none = {0};
    switch_captured(source->move, target->last_sent, LENGTH, &none);
    switch_end_turn(source->move, TRUE);
    serve(target);
    assert_int_equal(switch_mode(target->move), SWITCH_ACTIVE);
    capture_all(target, "CD");
    assert_string_equal(target->got->str, "ABCAD");
    assert_int_equal(switch_duplicates(target->move), 3);
}

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
    pair_hosts(middle ? middle : source, target);
    find_place(source, middle, target, FALSE);
    assert_true(switch_hand_over(middle ? middle->move : source->move, NULL));
    activate(target, TRUE);
    assert_string_equal(target->sent->str, ""); // no marker on a segment that is not the guest's
    if (middle)
        serve(middle);
    serve(source);
}

static void
a_guest_away_has_its_segment_at_home(void **state)
{
    g_autoptr(Host) home = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(home, FALSE);
    switch_hold(home->move);
    home->ready = FALSE;
    capture_all(home, "ab");
    move_away(home, NULL, target);
    assert_true(switch_is_away(target->move));
    assert_string_equal(switch_mode_name(home->move), "anchor");
    capture_all(home, "Cd");
    assert_int_equal(capture(target, 'X'), SWITCH_TAKEN); // another segment's
    serve(target);
    assert_string_equal(target->got->str, "abCd");
    assert_string_equal(switch_mode_name(target->move), "away");
    assert_true(send_home(target, 'q') && send_home(target, 'r'));
    serve(home);
    assert_string_equal(home->sent->str, "qr");
    // What the guest has no room for stays where it is.
    target->room = 0;
    capture_all(home, "e");
    serve(target);
    assert_string_equal(target->got->str, "abCd");
    target->room = 1;
    serve(target);
    assert_string_equal(target->got->str, "abCde");
    assert_false(send_home(home, 'z')); // it is at home
}

static void
a_move_ends_with_its_settlement_or_its_tunnel(void **state)
{
    g_autoptr(Host) home = new_host(&exact_ops);
    g_autoptr(Host) failed = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    assert_false(switch_is_moving(home->move));
    activate(home, FALSE);
    assert_false(switch_is_moving(home->move));
    pair_hosts(home, failed);
    find_place(home, NULL, failed, FALSE);
    assert_true(switch_is_moving(home->move) && switch_is_moving(failed->move));
    g_clear_pointer(&failed->move, switch_free);
    serve(home);
    assert_false(switch_is_moving(home->move));
    switch_hold(home->move);
    assert_true(switch_is_moving(home->move));
    home->ready = FALSE;
    move_away(home, NULL, target);
    serve(target);
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
    const SwitchTunnel near = plain(ends[0]), far = plain(ends[1]);
    assert_true(switch_relink(home->move, &near, NULL));
    assert_true(switch_relink(guest->move, &far, NULL));
}

static void
a_guest_that_moves_on_leaves_nothing_between(void **state)
{
    g_autoptr(Host) home = new_host(&exact_ops);
    g_autoptr(Host) middle = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    activate(home, FALSE);
    move_away(home, NULL, middle);
    serve(middle);
    switch_hold(middle->move);
    middle->ready = FALSE;
    capture_all(home, "ab"); // one of them is in the middle when the guest leaves
    serve(middle);
    move_away(home, middle, target);
    assert_string_equal(switch_mode_name(middle->move), "passing");
    serve(target);
    assert_string_equal(target->got->str, "ab");
    capture_all(home, "c");
    assert_true(send_home(target, 'q'));
    relink(home, target);
    // These overtake those that are still in the middle.
    capture_all(home, "d");
    assert_true(send_home(target, 'r'));
    serve(target);
    serve(home);
    assert_string_equal(target->got->str, "ab");
    assert_string_equal(home->sent->str, "");
    serve(middle);
    serve(target);
    serve(home);
    assert_string_equal(target->got->str, "abcd");
    assert_string_equal(home->sent->str, "qr");
    g_clear_pointer(&middle->move, switch_free);
    capture_all(home, "e");
    assert_true(send_home(target, 's'));
    serve(target);
    serve(home);
    assert_string_equal(target->got->str, "abcde");
    assert_string_equal(home->sent->str, "qrs");
}

static void
a_guest_that_comes_home_is_at_home(void **state)
{
    g_autoptr(Host) home = new_host(&exact_ops);
    g_autoptr(Host) away = new_host(&exact_ops);
    g_autoptr(Host) back = new_host(&exact_ops);
    const Offload none = {0};
    activate(home, FALSE);
    move_away(home, NULL, away);
    serve(away);
    switch_hold(away->move);
    away->ready = FALSE;
    capture_all(home, "a");
    serve(away);
    pair_hosts(away, back);
    find_place(home, away, back, TRUE);
    switch_share(home->move);
    switch_share(back->move);
    assert_true(switch_hand_over(away->move, NULL));
    serve(back);
    activate(back, TRUE);
    assert_false(switch_is_away(back->move));
    assert_string_equal(back->sent->str, "M");
    // They have the same NIC, whose frames before the marker come by the tunnel, and those after it do not.
    capture_all(home, "Bc");
    capture_all(back, "Bc");
    switch_captured(back->move, back->last_sent, LENGTH, &none);
    switch_captured(home->move, back->last_sent, LENGTH, &none);
    capture_all(home, "dE");
    capture_all(back, "dE");
    switch_end_turn(home->move, TRUE);
    serve(away);
    serve(back);
    assert_int_equal(switch_mode(back->move), SWITCH_ACTIVE);
    assert_string_equal(back->got->str, "aBcdE");
    assert_int_equal(switch_duplicates(back->move), 0);
    // The anchor ends, and with it what stood between.
    g_clear_pointer(&home->move, switch_free);
    serve(away);
    assert_int_equal(switch_mode(away->move), SWITCH_STANDBY);
}

// The link is down, and comes back by other tunnels, at both of its ends.
static void
a_link_outlives_its_tunnels(void **state)
{
    g_autoptr(Host) home = new_host(&exact_ops);
    g_autoptr(Host) guest = new_host(&exact_ops);
    switch_be_anchor(home->move);
    switch_be_away(guest->move);
    activate(guest, FALSE);
    assert_string_equal(switch_mode_name(guest->move), "away");
    assert_false(send_home(guest, 'p'));
    assert_int_equal(capture(home, 'z'), SWITCH_OVERFLOW);
    for (guint i = 0; i < 2; i++) {
        relink(home, guest);
        capture_all(home, "a");
        assert_true(send_home(guest, 'q'));
        serve(home);
        serve(guest);
    }
    assert_string_equal(guest->got->str, "aa");
    assert_string_equal(home->sent->str, "qq");
    // The vnet at home is replaced.
    g_clear_pointer(&home->move, switch_free);
    serve(guest);
    assert_false(link_is_up(switch_link(guest->move)));
    assert_string_equal(switch_mode_name(guest->move), "away");
}

static void
only_those_at_a_links_end_take_a_tunnel(void **state)
{
    g_autoptr(Host) host = new_host(&exact_ops);
    g_autoptr(GError) error = NULL;
    const SwitchTunnel none = {.fd = -1};
    activate(host, FALSE);
    assert_false(switch_relink(host->move, &none, &error));
    assert_non_null(error);
    assert_false(switch_hand_over(host->move, NULL));
    assert_int_equal(switch_mode(host->move), SWITCH_ACTIVE);
}

static void
markers_of_others_mean_nothing(void **state)
{
    g_autoptr(Host) source = new_host(&exact_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    guint8 frame[MARKER_LENGTH];
    const guint8 nonce[MARKER_NONCE] = {1, 2, 3};
    const MacAddress mac = {{0x52, 0x54, 0, 1, 2, 3}};
    const Offload none = {0};
    activate(source, FALSE);
    marker_build(frame, &mac, nonce, MARKER_MOMENT);
    assert_int_equal(switch_captured(source->move, frame, sizeof(frame), &none),
                     SWITCH_TAKEN); // no guest sees it
    connect_hosts(source, target);
    assert_int_equal(switch_captured(source->move, frame, sizeof(frame), &none), SWITCH_TAKEN);
    assert_int_equal(capture(source, 'A'), SWITCH_TAKEN); // still sent on
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
        g_autoptr(Host) target = new_host(&exact_ops);
        int ends[2];
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        const SwitchTunnel tunnel = plain(ends[0]);
        assert_true(switch_receive(target->move, &tunnel, NULL));
        assert_int_equal(write(ends[1], bad[i], sizeof(bad[i])), sizeof(bad[i]));
        serve(target);
        struct pollfd fds[SWITCH_FDS];
        assert_int_equal(switch_poll(target->move, fds), 0);
        activate(target, TRUE);
        capture_all(target, "a");
        serve(target);
        assert_string_equal(target->got->str, "a");
        close(ends[1]);
    }
}

static void
queues_have_an_end(void **state)
{
    g_autoptr(Host) host = new_host(&vague_ops);
    activate(host, FALSE);
    switch_hold(host->move);
    guint n = 0;
    while (capture(host, 'a') == SWITCH_TAKEN)
        assert_true(++n < SWITCH_QUEUE);
    assert_int_equal(capture(host, 'a'), SWITCH_OVERFLOW);
    assert_true(n > 1000);
    switch_standby(host->move);
    assert_int_equal(switch_waiting(host->move), 0);
}

// Nobody else knows of frames that came by a link, or are handed over, and find no room.
static void
what_is_lost_is_counted(void **state)
{
    g_autoptr(Host) source = new_host(&vague_ops);
    g_autoptr(Host) target = new_host(&exact_ops);
    const guint8 runt[] = {0, 0, 0, 14, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'};
    int ends[2];
    activate(source, FALSE);
    pair_hosts(source, target);
    switch_hold(source->move);
    while (capture(source, 'a') == SWITCH_TAKEN)
        continue;
    assert_int_equal(switch_losses(source->move).overflowed, 0);
    const gsize waited = switch_waiting(source->move);
    assert_true(switch_hand_over(source->move, NULL));
    assert_in_range(switch_losses(source->move).overflowed, 1, waited);
    // Shorter than a frame's header.
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const SwitchTunnel tunnel = plain(ends[0]);
    assert_true(switch_receive(target->move, &tunnel, NULL));
    assert_int_equal(write(ends[1], runt, sizeof(runt)), sizeof(runt));
    serve(target);
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
        cmocka_unit_test(a_guest_away_has_its_segment_at_home),
        cmocka_unit_test(a_move_ends_with_its_settlement_or_its_tunnel),
        cmocka_unit_test(a_guest_that_moves_on_leaves_nothing_between),
        cmocka_unit_test(a_guest_that_comes_home_is_at_home),
        cmocka_unit_test(a_link_outlives_its_tunnels),
        cmocka_unit_test(only_those_at_a_links_end_take_a_tunnel),
        cmocka_unit_test(markers_of_others_mean_nothing),
        cmocka_unit_test(bad_messages_end_the_tunnel_only),
        cmocka_unit_test(queues_have_an_end),
        cmocka_unit_test(what_is_lost_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
