// SPDX-License-Identifier: LGPL-2.1-or-later
// What the forwarder makes of frames that a guest, its wire or another host's vnet should not have sent: the
// guest's port and its NIC are played by the test.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vnet/forward.h"

enum { MTU = 1500, LENGTH = 60, GIANT = 4000 };

static const MacAddress guest = {{0x52, 0x54, 0, 0x77, 0, 0x50}}, other = {{0x52, 0x54, 0, 0x77, 0, 9}};
static const Offload none;
// A checksum that is to be kept far behind the frame's end.
static const Offload absurd = {
    .flags = OFFLOAD_NEEDS_CHECKSUM, .checksum_start = 60000, .checksum_offset = 6};

static guint delivered, injected;

CaptureSend
capture_send(Capture *capture, const Offload *offload, const struct iovec *parts, guint n)
{
    injected++;
    return CAPTURE_SENT;
}

guint
capture_mtu(const Capture *capture)
{
    return MTU;
}

gboolean
capture_takes_offload(const Capture *capture)
{
    return TRUE;
}

void
capture_mark(Capture *capture, const guint8 *frame, gsize length)
{
    fail();
}

static gboolean
takes(const Port *port, const Offload *offload)
{
    return TRUE;
}

static PortDelivery
deliver(Port *port, guint8 *frame, gsize length, const Offload *offload)
{
    delivered++;
    return PORT_DELIVERED;
}

static gboolean
always(const Port *port)
{
    return TRUE;
}

static void
nothing(Port *port)
{
}

static const PortOps ops = {.takes = takes,
                            .deliver = deliver,
                            .has_room = always,
                            .is_ready = always,
                            .flush = nothing,
                            .drain = nothing};
static const SwitchEnds ends = {forward_deliver, forward_inject};

typedef struct {
    Port port;
    Forward forward;
} Stage;

static int
set_up(void **state)
{
    Stage *stage = g_new0(Stage, 1);
    stage->port.ops = &ops;
    stage->forward = (Forward){.mac = guest, .port = &stage->port};
    stage->forward.move = switch_new(&guest, &stage->port, NULL, &ends, &stage->forward);
    switch_activate(stage->forward.move, FALSE);
    delivered = injected = 0;
    *state = stage;
    return 0;
}

static int
tear_down(void **state)
{
    Stage *stage = *state;
    switch_free(stage->forward.move);
    g_free(stage);
    return 0;
}

static void
frame_between(guint8 *frame, const MacAddress *from, const MacAddress *to)
{
    memset(frame, 0, GIANT);
    memcpy(frame, to->bytes, PACKET_MAC);
    memcpy(frame + PACKET_MAC, from->bytes, PACKET_MAC);
}

// Whether all but `reason` (N_DROPS: all) is as it was, and this is one more than before.
static void
assert_only(Forward *forward, guint reason)
{
    for (guint i = 0; i < N_DROPS; i++)
        assert_int_equal(forward->drops[i], i == reason);
    memset(forward->drops, 0, sizeof(forward->drops));
}

// What comes by the link from the host where the guest is, or says so.
static void
test_frames_of_the_guest_from_another_host(void **state)
{
    Forward *forward = &((Stage *) *state)->forward;
    guint8 frame[GIANT];
    frame_between(frame, &other, &guest);
    forward_inject(frame, LENGTH, &none, forward);
    assert_only(forward, DROP_SPOOFED);
    frame_between(frame, &guest, &other);
    forward_inject(frame, PACKET_HEADER - 1, &none, forward);
    assert_only(forward, DROP_RUNT);
    forward_inject(frame, GIANT, &none, forward);
    assert_only(forward, DROP_GIANT);
    forward_inject(frame, LENGTH, &absurd, forward);
    assert_only(forward, DROP_OFFLOAD);
    assert_int_equal(injected, 0);
    forward_inject(frame, LENGTH, &none, forward);
    assert_only(forward, N_DROPS);
    assert_int_equal(injected, 1);
    assert_int_equal(forward->from_guest.frames, 1);
    assert_int_equal(delivered, 0);
}

// What comes by the link from the guest's home, or says so.
static void
test_frames_for_the_guest_from_another_host(void **state)
{
    Forward *forward = &((Stage *) *state)->forward;
    guint8 frame[GIANT];
    frame_between(frame, &guest, &other);
    forward_deliver(frame, LENGTH, &none, forward);
    assert_only(forward, DROP_FOREIGN);
    frame_between(frame, &other, &guest);
    forward_deliver(frame, LENGTH, &absurd, forward);
    assert_only(forward, DROP_OFFLOAD);
    forward_deliver(frame, GIANT, &none, forward);
    assert_only(forward, DROP_GIANT);
    assert_int_equal(delivered, 0);
    forward_deliver(frame, LENGTH, &none, forward);
    assert_only(forward, N_DROPS);
    assert_int_equal(delivered, 1);
    assert_int_equal(injected, 0);
}

static void
test_frames_off_the_wire(void **state)
{
    Forward *forward = &((Stage *) *state)->forward;
    guint8 frame[GIANT];
    frame_between(frame, &other, &guest);
    forward_to_guest(frame, LENGTH, &none, TRUE, forward);
    assert_only(forward, DROP_TRUNCATED);
    forward_to_guest(frame, PACKET_HEADER - 1, &none, FALSE, forward);
    assert_only(forward, DROP_RUNT);
    frame_between(frame, &guest, &guest);
    forward_to_guest(frame, LENGTH, &none, FALSE, forward);
    assert_only(forward, DROP_FOREIGN);
    assert_int_equal(delivered, 0);
    frame_between(frame, &other, &guest);
    forward_to_guest(frame, LENGTH, &none, FALSE, forward);
    assert_only(forward, N_DROPS);
    assert_int_equal(delivered, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_frames_of_the_guest_from_another_host, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_frames_for_the_guest_from_another_host, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_frames_off_the_wire, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
