// SPDX-License-Identifier: LGPL-2.1-or-later
// vnet's vhost-user: negotiation, rings, the dirty log, and what hostile front-ends and guests may try.
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/vhost_front_end.h"
#include "vnet/vhost_frames.h"

#define BIT(n) (G_GUINT64_CONSTANT(1) << (n))

enum { HEADER = 12, FRAME = 64 };

static const guint64 basic = BIT(FEATURE_VERSION_1) | BIT(FEATURE_PROTOCOL) | BIT(FEATURE_MERGEABLE);

// What the guest's frames arrive as.
typedef struct {
    Port port;
    guint n;
    gsize length, head;
    guint8 bytes[OFFLOAD_FRAME_MAX];
    Offload offload;
} Received;

static void
take(const struct iovec *parts, guint n, gsize length, const Offload *offload, void *data)
{
    Received *received = data;
    gsize at = 0;
    for (guint i = 0; i < n; i++) {
        memcpy(received->bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    assert_int_equal(at, length);
    received->n++;
    received->length = length;
    received->head = parts[0].iov_len;
    received->offload = *offload;
}

static int
setup(void **state)
{
    FrontEnd *front = g_new0(FrontEnd, 1);
    front_open(front, FALSE);
    *state = front;
    return 0;
}

static int
teardown(void **state)
{
    front_close(*state);
    g_free(*state);
    return 0;
}

static Received *
new_received(void)
{
    Received *received = g_new0(Received, 1);
    received->port = (Port){.frame = take, .data = received};
    return received;
}

static guint
get(FrontEnd *front, Received *received, guint64 *malformed)
{
    return vhost_frames_get(front->device, 64, &received->port, malformed);
}

static void
fill(FrontEnd *front, gsize at, gsize length)
{
    for (gsize i = 0; i < length; i++)
        front->memory[at + i] = (guint8) (i * 3 + 1);
}

static void
features_follow_the_set(void **state)
{
    for (gboolean offload = FALSE; offload <= TRUE; offload++) {
        FrontEnd front;
        VhostMessage reply;
        guint64 features;
        front_open(&front, offload);
        assert_true(front_send(&front, 1, "", 0, -1, &reply, NULL));
        assert_int_equal(reply.request, 1);
        assert_int_equal(reply.flags, 5);
        assert_int_equal(reply.size, 8);
        memcpy(&features, reply.payload, 8);
        assert_int_equal((features & BIT(FEATURE_GUEST_TSO4)) != 0, offload);
        assert_int_equal((features & BIT(FEATURE_CHECKSUM)) != 0, offload);
        assert_true(features & BIT(FEATURE_LOG_ALL));
        assert_true(front_send64(&front, 2, features, -1));
        assert_false(front_send64(&front, 2, features | BIT(10), -1)); // UFO is never offered
        front_close(&front);
    }
}

static guint
open_fds(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;
    while (g_dir_read_name(dir))
        n++;
    return n;
}

// Each is refused, and its descriptors do not stay.
static void
impossible_messages_are_refused(void **state)
{
    FrontEnd *front = *state;
    assert_true(front_start(front, basic));
    static const guint8 zeros[64];
    const struct {
        guint32 request, size;
        gboolean fd;
        guint8 payload[16];
    } bad[] = {
        {0, 0, FALSE, {0}},             // no such message
        {22, 8, FALSE, {0}},            // one that was not offered
        {G_MAXUINT32, 0, FALSE, {0}},   // none at all
        {1, 8, FALSE, {0}},             // a query with a payload
        {2, 4, FALSE, {0}},             // half the features
        {2, 8, TRUE, {0}},              // features with a descriptor
        {5, 8, FALSE, {9}},             // more regions than there can be
        {5, 8, TRUE, {1}},              // a region without its description
        {5, 40, FALSE, {1}},            // a region without its file
        {6, 16, FALSE, {1}},            // a log without its file
        {6, 16, TRUE, {0, 0, 0, 1}},    // a log longer than its file
        {6, 16, TRUE, {0}},             // an empty log
        {8, 8, FALSE, {0, 0, 0, 0, 3}}, // sizes that are no powers of two
        {8, 8, FALSE, {0}},
        {8, 8, FALSE, {0, 0, 0, 0, 0, 0, 1}},
        {8, 8, FALSE, {2, 0, 0, 0, 8}}, // a ring that is not there
        {9, 40, FALSE, {7}},
        {10, 8, FALSE, {2}},
        {11, 8, FALSE, {0xff, 0xff, 0xff, 0xff}},
        {12, 8, FALSE, {0}},   // a kick without descriptor
        {12, 8, TRUE, {0, 1}}, // one with, that says it is without
        {13, 8, TRUE, {5}},
        {18, 8, FALSE, {2}},
    };
    guint before = open_fds();
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        guint8 payload[64];
        memcpy(payload, zeros, sizeof(payload));
        memcpy(payload, bad[i].payload, sizeof(bad[i].payload));
        if (front_send(front, bad[i].request, payload, bad[i].size, bad[i].fd ? front->memory_fd : -1, NULL,
                       &error))
            fail_msg("message %u of case %zu was taken", bad[i].request, i);
        assert_non_null(error);
        assert_int_equal(open_fds(), before);
    }
    VhostMessage message = {.request = 1, .flags = 2}, reply; // another version
    assert_false(vhost_device_handle(front->device, &message, &reply, NULL));
    message = (VhostMessage){.request = 1, .flags = 1, .size = VHOST_PAYLOAD + 1};
    assert_false(vhost_device_handle(front->device, &message, &reply, NULL));
}

static void
memory_must_fit_its_file(void **state)
{
    FrontEnd *front = *state;
    const guint64 tables[][5] = {
        {1, FRONT_GUEST, FRONT_MEMORY + 1, FRONT_USER, 0},     {1, FRONT_GUEST, FRONT_MEMORY, FRONT_USER, 1},
        {1, FRONT_GUEST, 4096, FRONT_USER, G_MAXUINT64 - 100}, {1, G_MAXUINT64 - 10, 4096, FRONT_USER, 0},
        {1, FRONT_GUEST, 4096, G_MAXUINT64 - 10, 0},           {1, FRONT_GUEST, 0, FRONT_USER, 0},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tables); i++)
        assert_false(front_send(front, 5, tables[i], sizeof(tables[i]), front->memory_fd, NULL, NULL));
    assert_true(front_set_memory(front));
}

// The same frame in one piece, in three with the header split, and behind an indirect descriptor.
static void
frames_of_the_guest_come_whole(void **state)
{
    FrontEnd *front = *state;
    g_autofree Received *received = new_received();
    guint64 malformed = 0;
    const gsize table = FRONT_DESCRIPTORS(VHOST_FROM_GUEST), at = FRONT_BUFFERS, indirect = 0x8000;
    assert_true(front_start(front, basic | BIT(FEATURE_INDIRECT)));
    fill(front, at, HEADER + 1000);
    memset(front->memory + at, 0, HEADER);
    front_describe(front, table, 0, at, HEADER + 1000, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
    front_describe(front, table, 1, at, 5, FRONT_NEXT, 3);
    front_describe(front, table, 3, at + 5, 300, FRONT_NEXT, 2);
    front_describe(front, table, 2, at + 305, HEADER + 1000 - 305, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 1);
    front_describe(front, indirect, 0, at, 100, FRONT_NEXT, 1);
    front_describe(front, indirect, 1, at + 100, HEADER + 1000 - 100, 0, 0);
    front_describe(front, table, 4, indirect, 32, FRONT_INDIRECT, 0);
    front_offer(front, VHOST_FROM_GUEST, 4);
    for (guint i = 0; i < 3; i++) {
        memset(received->bytes, 0, 1000);
        assert_int_equal(vhost_frames_get(front->device, 1, &received->port, &malformed), 1);
        assert_int_equal(received->length, 1000);
        assert_int_equal(received->head, PORT_HEAD);
        assert_memory_equal(received->bytes, front->memory + at + HEADER, 1000);
        assert_true(front_told(front->call[VHOST_FROM_GUEST]));
        assert_int_equal(front_used(front, VHOST_FROM_GUEST), i + 1);
    }
    assert_int_equal(front_get(front, FRONT_USED(VHOST_FROM_GUEST) + 4 + 8, 4), 1); // the second one's head
    assert_int_equal(get(front, received, &malformed), 0);
    assert_int_equal(malformed, 0);
}

static void
frames_without_their_header_are_counted(void **state)
{
    FrontEnd *front = *state;
    g_autofree Received *received = new_received();
    guint64 malformed = 0;
    const gsize table = FRONT_DESCRIPTORS(VHOST_FROM_GUEST);
    assert_true(front_start(front, basic));
    front_describe(front, table, 0, FRONT_BUFFERS, HEADER, 0, 0);
    front_describe(front, table, 1, FRONT_BUFFERS, OFFLOAD_FRAME_MAX + HEADER + 1, 0, 0);
    front_describe(front, table, 2, FRONT_BUFFERS, 100, 0, 0);
    front->memory[FRONT_BUFFERS] = OFFLOAD_NEEDS_CHECKSUM; // which was not negotiated
    for (guint16 i = 0; i < 3; i++)
        front_offer(front, VHOST_FROM_GUEST, i);
    assert_int_equal(get(front, received, &malformed), 3);
    assert_int_equal(malformed, 3);
    assert_int_equal(received->n, 0);
    // The ring goes on.
    assert_int_equal(front_used(front, VHOST_FROM_GUEST), 3);
    assert_int_equal(front->device->broken, 0);
}

static FramePut
put(FrontEnd *front, gsize length)
{
    static guint8 frame[OFFLOAD_FRAME_MAX];
    const Offload none = {0};
    gboolean interrupt = FALSE;
    for (gsize i = 0; i < length; i++)
        frame[i] = (guint8) (i * 3 + 1);
    FramePut result = vhost_frames_put(front->device, frame, length, &none, &interrupt);
    if (interrupt)
        vhost_ring_call(front->device, VHOST_TO_GUEST);
    return result;
}

static void
offer_buffers(FrontEnd *front, guint first, guint n, guint32 length)
{
    for (guint i = first; i < first + n; i++) {
        front_describe(front, FRONT_DESCRIPTORS(VHOST_TO_GUEST), i, FRONT_BUFFERS + i * 0x1000u, length,
                       FRONT_WRITE, 0);
        front_offer(front, VHOST_TO_GUEST, (guint16) i);
    }
}

static void
long_frames_are_spread_over_buffers(void **state)
{
    FrontEnd *front = *state;
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, 2, 512);
    assert_int_equal(put(front, 1200), FRAME_NO_ROOM);
    assert_int_equal(front_used(front, VHOST_TO_GUEST), 0);
    offer_buffers(front, 2, 2, 512);
    assert_int_equal(put(front, 1200), FRAME_PUT);
    assert_int_equal(front_used(front, VHOST_TO_GUEST), 3);
    assert_int_equal(front_get(front, FRONT_BUFFERS + 10, 2), 3); // num_buffers
    guint8 whole[HEADER + 1200];
    for (guint i = 0; i < 3; i++) {
        gsize size = MIN(512u, sizeof(whole) - i * 512u);
        memcpy(whole + i * 512u, front->memory + FRONT_BUFFERS + i * 0x1000u, size);
        assert_int_equal(front_get(front, FRONT_USED(VHOST_TO_GUEST) + 4 + i * 8u, 4), i);
        assert_int_equal(front_get(front, FRONT_USED(VHOST_TO_GUEST) + 8 + i * 8u, 4), size);
    }
    for (gsize i = 0; i < 1200; i++)
        assert_int_equal(whole[HEADER + i], (guint8) (i * 3 + 1));
    assert_int_equal(put(front, 100), FRAME_PUT); // the fourth is still there
    assert_int_equal(put(front, 100), FRAME_NO_ROOM);
}

static void
frames_that_never_fit_do_not_block(void **state)
{
    FrontEnd *front = *state;
    assert_true(front_start(front, basic & ~BIT(FEATURE_MERGEABLE)));
    offer_buffers(front, 0, 2, 512);
    assert_int_equal(put(front, 1200), FRAME_TOO_LONG);
    assert_int_equal(put(front, 500), FRAME_PUT);
    // Mergeable: not even all buffers of the ring together.
    assert_true(front_start(front, basic));
    memset(front->memory, 0, FRONT_BUFFERS);
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, FRONT_SIZE, 16);
    assert_int_equal(put(front, 1200), FRAME_TOO_LONG);
    assert_int_equal(put(front, 100), FRAME_PUT);
}

static void
guests_are_interrupted_as_they_wish(void **state)
{
    FrontEnd *front = *state;
    gsize available = FRONT_AVAILABLE(VHOST_TO_GUEST), event = available + 4 + FRONT_SIZE * 2;
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, 2, 512);
    front_put(front, available, 1, 2); // VIRTQ_AVAIL_F_NO_INTERRUPT
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_false(front_told(front->call[VHOST_TO_GUEST]));
    front_put(front, available, 0, 2);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_true(front_told(front->call[VHOST_TO_GUEST]));

    assert_true(front_send64(front, 2, basic | BIT(FEATURE_EVENT_INDEX), -1));
    offer_buffers(front, 2, 4, 512);
    assert_int_equal(put(front, FRAME), FRAME_PUT); // the first after the start tells anyway
    assert_true(front_told(front->call[VHOST_TO_GUEST]));
    front_put(front, event, 4, 2); // after the fifth
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_false(front_told(front->call[VHOST_TO_GUEST]));
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_true(front_told(front->call[VHOST_TO_GUEST]));
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_false(front_told(front->call[VHOST_TO_GUEST]));
}

static void
kicks_are_asked_for_beyond_what_is_there(void **state)
{
    FrontEnd *front = *state;
    Ring *ring = &front->device->rings[VHOST_TO_GUEST].ring;
    assert_true(front_start(front, basic | BIT(FEATURE_EVENT_INDEX)));
    offer_buffers(front, 0, 2, 512);
    ring_ask_for_kicks(ring, front->device->memory, TRUE);
    assert_int_equal(front_get(front, FRONT_USED(VHOST_TO_GUEST) + 4 + FRONT_SIZE * 8, 2), 2);
    assert_true(front_send64(front, 2, basic, -1));
    ring_ask_for_kicks(ring, front->device->memory, FALSE);
    assert_int_equal(front_get(front, FRONT_USED(VHOST_TO_GUEST), 2), 1); // VIRTQ_USED_F_NO_NOTIFY
    ring_ask_for_kicks(ring, front->device->memory, TRUE);
    assert_int_equal(front_get(front, FRONT_USED(VHOST_TO_GUEST), 2), 0);
}

static gboolean
logged(const FrontEnd *front, guint64 guest)
{
    return (front->log[guest / 4096 / 8] >> (guest / 4096 % 8)) & 1;
}

static guint
count_logged(const FrontEnd *front)
{
    guint n = 0;
    for (gsize i = 0; i < FRONT_LOG; i++)
        n += (guint) __builtin_popcount(front->log[i]);
    return n;
}

// Pages with frames and with the used ring are marked, and no others; reading marks nothing.
static void
what_is_written_is_logged(void **state)
{
    FrontEnd *front = *state;
    g_autofree Received *received = new_received();
    guint64 malformed = 0;
    const guint64 log[2] = {FRONT_LOG, 0};
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, 2, 512);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_true(front_send(front, 6, log, sizeof(log), front->log_fd, NULL, NULL));
    assert_int_equal(count_logged(front), 0); // what was before is not the log's
    assert_true(front_set_address(front, VHOST_TO_GUEST, TRUE));
    assert_true(front_send64(front, 2, basic | BIT(FEATURE_LOG_ALL), -1));
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_true(logged(front, FRONT_GUEST + FRONT_BUFFERS + 0x1000));
    assert_true(logged(front, FRONT_GUEST + FRONT_USED(VHOST_TO_GUEST)));
    assert_int_equal(count_logged(front), 2);
    // A buffer over a page's end marks both.
    front_describe(front, FRONT_DESCRIPTORS(VHOST_TO_GUEST), 2, FRONT_BUFFERS + 0x8fff, 512, FRONT_WRITE, 0);
    front_offer(front, VHOST_TO_GUEST, 2);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_int_equal(count_logged(front), 4);
    front_describe(front, FRONT_DESCRIPTORS(VHOST_FROM_GUEST), 0, FRONT_BUFFERS + 0x20000, 100, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
    assert_int_equal(get(front, received, &malformed), 1);
    assert_int_equal(count_logged(front), 4); // this ring's used part is not to be logged
    // Past the log's end nothing is written.
    guest_memory_mark(front->device->memory, (guint64) FRONT_LOG * 8 * 4096 - 1, 2);
    guest_memory_mark(front->device->memory, G_MAXUINT64 - 1, 100);
    assert_int_equal(count_logged(front), 5);
}

static void
rings_stop_and_go_on_where_they_were(void **state)
{
    FrontEnd *front = *state;
    VhostMessage reply;
    const guint32 which[2] = {VHOST_TO_GUEST, 0};
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, 3, 512);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_true(front_send(front, 11, which, sizeof(which), -1, &reply, NULL));
    const guint32 expected[2] = {VHOST_TO_GUEST, 2};
    assert_memory_equal(reply.payload, expected, sizeof(expected));
    assert_int_equal(put(front, FRAME), FRAME_NO_RING);
    assert_true(front_start_ring(front, VHOST_TO_GUEST, 2));
    front->available[VHOST_TO_GUEST] = 3;
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_int_equal(front_used(front, VHOST_TO_GUEST), 3);
    assert_int_equal(put(front, FRAME), FRAME_NO_ROOM);
}

// Rings work before the front-end has said whom to call.
static void
calls_are_made_up_for(void **state)
{
    FrontEnd *front = *state;
    const guint32 which[2] = {VHOST_TO_GUEST, 0};
    assert_true(front_start(front, basic));
    assert_true(front_send(front, 11, which, sizeof(which), -1, NULL, NULL));
    front_told(front->call[VHOST_TO_GUEST]);
    assert_true(front_send64(front, 12, VHOST_TO_GUEST, front->kick[VHOST_TO_GUEST]));
    offer_buffers(front, 0, 1, 512);
    assert_int_equal(put(front, FRAME), FRAME_PUT);
    assert_false(front_told(front->call[VHOST_TO_GUEST]));
    assert_true(front_send64(front, 13, VHOST_TO_GUEST, front->call[VHOST_TO_GUEST]));
    assert_true(front_told(front->call[VHOST_TO_GUEST]));
    assert_true(front_send64(front, 13, VHOST_TO_GUEST | 0x100, -1)); // nobody
}

static void
disabled_rings_stand_still(void **state)
{
    FrontEnd *front = *state;
    assert_true(front_start(front, basic));
    offer_buffers(front, 0, 1, 512);
    assert_true(front_send_state(front, 18, VHOST_TO_GUEST, 0));
    assert_int_equal(put(front, FRAME), FRAME_NO_RING);
    assert_true(front_send_state(front, 18, VHOST_TO_GUEST, 1));
    assert_int_equal(put(front, FRAME), FRAME_PUT);
}

typedef void (*Trick)(FrontEnd *front, gsize table);

static void
index_jumps(FrontEnd *front, gsize table)
{
    front_put(front, FRONT_AVAILABLE(VHOST_FROM_GUEST) + 2, FRONT_SIZE + 1, 2);
}

static void
head_out_of_range(FrontEnd *front, gsize table)
{
    front_offer(front, VHOST_FROM_GUEST, FRONT_SIZE);
}

static void
next_out_of_range(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, FRONT_BUFFERS, 64, FRONT_NEXT, 0xffff);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
chain_loops(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, FRONT_BUFFERS, 64, FRONT_NEXT, 1);
    front_describe(front, table, 1, FRONT_BUFFERS, 64, FRONT_NEXT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
before_memory(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, (guint64) -1, 64, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
past_memory(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, FRONT_MEMORY - 63, 64, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
around_the_address_space(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, G_MAXUINT64 - FRONT_GUEST - 10, 64, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
wrong_direction(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, FRONT_BUFFERS, 64, FRONT_WRITE, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_in_indirect(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, 0x8000, 16, FRONT_INDIRECT, 0);
    front_describe(front, 0x8000, 0, 0x8000, 16, FRONT_INDIRECT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_of_odd_size(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, 0x8000, 17, FRONT_INDIRECT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_without_entries(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, 0x8000, 0, FRONT_INDIRECT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_with_a_next(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, 0x8000, 16, FRONT_INDIRECT | FRONT_NEXT, 1);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_outside(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, FRONT_MEMORY - 16, 32, FRONT_INDIRECT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

static void
indirect_loops(FrontEnd *front, gsize table)
{
    front_describe(front, table, 0, 0x8000, 32, FRONT_INDIRECT, 0);
    front_describe(front, 0x8000, 0, FRONT_BUFFERS, 64, FRONT_NEXT, 1);
    front_describe(front, 0x8000, 1, FRONT_BUFFERS, 64, FRONT_NEXT, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
}

// Each trick breaks its ring only; a reset mends it.
static void
hostile_guests_break_only_their_ring(void **state)
{
    FrontEnd *front = *state;
    g_autofree Received *received = new_received();
    static const Trick tricks[] = {index_jumps,      head_out_of_range,       next_out_of_range,
                                   chain_loops,      before_memory,           past_memory,
                                   wrong_direction,  indirect_in_indirect,    indirect_of_odd_size,
                                   indirect_outside, indirect_with_a_next,    indirect_without_entries,
                                   indirect_loops,   around_the_address_space};
    guint64 malformed = 0;
    const gsize table = FRONT_DESCRIPTORS(VHOST_FROM_GUEST);
    for (guint i = 0; i < G_N_ELEMENTS(tricks); i++) {
        memset(front->memory, 0, FRONT_MEMORY);
        assert_true(front_start(front, basic | BIT(FEATURE_INDIRECT)));
        tricks[i](front, table);
        assert_int_equal(get(front, received, &malformed), 0);
        assert_int_equal(front->device->broken, i + 1);
        assert_true(front_told(front->err[VHOST_FROM_GUEST]));
        assert_false(vhost_ring_ready(front->device, VHOST_FROM_GUEST));
        offer_buffers(front, 0, 1, 512);
        assert_int_equal(put(front, FRAME), FRAME_PUT); // the other ring
    }
    assert_int_equal(received->n, 0);
    memset(front->memory, 0, FRONT_MEMORY);
    assert_true(front_start(front, basic));
    front_describe(front, table, 0, FRONT_BUFFERS, HEADER + FRAME, 0, 0);
    front_offer(front, VHOST_FROM_GUEST, 0);
    assert_int_equal(get(front, received, &malformed), 1);
    assert_int_equal(received->n, 1);
}

static void
rings_outside_memory_do_not_start(void **state)
{
    FrontEnd *front = *state;
    assert_true(front_start(front, basic));
    const guint32 sizes[2] = {VHOST_TO_GUEST, RING_SIZE_MAX};
    assert_true(front_send(front, 8, sizes, sizeof(sizes), -1, NULL, NULL));
    struct {
        guint32 index, flags;
        guint64 descriptors, used, available, log;
    } address = {VHOST_TO_GUEST, 0, FRONT_USER + FRONT_MEMORY - 4096, FRONT_USER, FRONT_USER, 0};
    assert_true(front_send(front, 9, &address, sizeof(address), -1, NULL, NULL));
    assert_false(front_send64(front, 12, VHOST_TO_GUEST, front->kick[0]));
    // Memory that goes away under a ring breaks it.
    assert_true(front_start(front, basic));
    const guint64 table[5] = {1, FRONT_GUEST, 4096, FRONT_USER + FRONT_BUFFERS, FRONT_BUFFERS};
    assert_true(front_send(front, 5, table, sizeof(table), front->memory_fd, NULL, NULL));
    assert_int_equal(put(front, FRAME), FRAME_NO_RING);
}

// A port and an emulator's connection to it.
typedef struct {
    Port *port;
    char *directory, *path;
    int fd;
} Connection;

static void
serve(Connection *connection)
{
    struct pollfd fds[PORT_FDS];
    guint n = port_poll(connection->port, fds);
    if (poll(fds, n, 0) < 0)
        fail();
    assert_int_equal(port_serve(connection->port, fds, n, NULL), PORT_GOES_ON);
}

static void
connect_port(Connection *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, connection->path, sizeof(address.sun_path));
    connection->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_return_code(connect(connection->fd, (struct sockaddr *) &address, sizeof(address)), 0);
    serve(connection);
}

static int
open_port(void **state)
{
    Connection *connection = g_new0(Connection, 1);
    connection->directory = g_dir_make_tmp("vhost-XXXXXX", NULL);
    connection->path = g_build_filename(connection->directory, "vhost", NULL);
    connection->port = port_vhost_open(connection->path, FALSE, NULL, NULL, NULL);
    connection->fd = -1;
    *state = connection;
    return connection->port ? 0 : -1;
}

static int
close_port(void **state)
{
    Connection *connection = *state;
    close(connection->fd);
    port_close(connection->port);
    unlink(connection->path);
    rmdir(connection->directory);
    g_free(connection->path);
    g_free(connection->directory);
    g_free(connection);
    return 0;
}

static gint64
port_value(const Connection *connection, const char *name)
{
    json_t *status = port_status(connection->port);
    gint64 value = json_integer_value(json_object_get(status, name));
    json_decref(status);
    return value;
}

// GET_FEATURES byte by byte, and two of them in one piece: one answer each.
static void
messages_come_in_any_pieces(void **state)
{
    Connection *connection = *state;
    const guint32 message[6] = {1, 1, 0, 1, 1, 0};
    guint8 reply[64];
    connect_port(connection);
    for (gsize i = 0; i < 12; i++) {
        assert_int_equal(recv(connection->fd, reply, sizeof(reply), MSG_DONTWAIT), -1);
        assert_int_equal(write(connection->fd, (const guint8 *) message + i, 1), 1);
        serve(connection);
    }
    assert_int_equal(recv(connection->fd, reply, sizeof(reply), MSG_DONTWAIT), 20);
    const guint32 expected[3] = {1, 5, 8};
    assert_memory_equal(reply, expected, sizeof(expected));
    assert_int_equal(write(connection->fd, message, sizeof(message)), sizeof(message));
    serve(connection);
    assert_int_equal(recv(connection->fd, reply, sizeof(reply), MSG_DONTWAIT), 40);
    assert_int_equal(port_value(connection, "cut_off"), 0);
}

static void
front_ends_that_break_the_rules_may_come_again(void **state)
{
    Connection *connection = *state;
    const guint32 good[3] = {1, 1, 0};
    const guint32 bad[][3] = {{1, 0, 0}, {1, 1, 0xffffffff}, {99, 1, 0}, {1, 1, 4}};
    guint8 reply[64] = {0};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        connect_port(connection);
        assert_int_equal(write(connection->fd, bad[i], sizeof(bad[i])), sizeof(bad[i]));
        assert_int_equal(write(connection->fd, reply, 4), 4);
        serve(connection);
        assert_int_equal(port_value(connection, "cut_off"), i + 1);
        assert_true(recv(connection->fd, reply, sizeof(reply), MSG_DONTWAIT) <= 0);
        close(connection->fd);
    }
    connect_port(connection);
    assert_int_equal(write(connection->fd, good, sizeof(good)), sizeof(good));
    serve(connection);
    assert_int_equal(recv(connection->fd, reply, sizeof(reply), MSG_DONTWAIT), 20);
    // One that just leaves has broken no rule.
    close(connection->fd);
    serve(connection);
    assert_int_equal(port_value(connection, "cut_off"), G_N_ELEMENTS(bad));
    connect_port(connection);
}

// A process that connects, and closes its connection when it is told to.
static pid_t
start_emulator(const Connection *connection, int *control)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ends[2];
    char byte = 0;
    g_strlcpy(address.sun_path, connection->path, sizeof(address.sun_path));
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    pid_t child = fork();
    if (child == 0) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || write(ends[1], "c", 1) != 1 ||
            read(ends[1], &byte, 1) != 1 || close(fd) != 0 || write(ends[1], "d", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    *control = ends[0];
    return child;
}

// Every kernel that Debian 12 has knows this call; valgrind 3.19 does not.
static void
skip_without_pidfd(void)
{
    int fd = (int) syscall(SYS_pidfd_open, getpid(), 0);
    if (fd < 0 && errno == ENOSYS)
        skip();
    assert_true(fd >= 0);
    close(fd);
}

static void
assert_ends_with(Connection *connection, pid_t child)
{
    struct pollfd fds[PORT_FDS];
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    guint n = port_poll(connection->port, fds);
    assert_int_equal(poll(fds, n, 0), 1);
    assert_int_equal(port_serve(connection->port, fds, n, NULL), PORT_CLOSED);
}

// An emulator that has only lost its connection is waited for, one that has ended is not.
static void
the_end_of_the_emulator_is_the_end(void **state)
{
    Connection *connection = *state;
    char byte;
    int control;
    skip_without_pidfd();
    pid_t child = start_emulator(connection, &control);
    serve(connection);
    assert_int_equal(write(control, "x", 1), 1);
    assert_int_equal(read(control, &byte, 1), 1);
    serve(connection); // its connection is gone
    serve(connection);
    assert_ends_with(connection, child);
    close(control);
}

static void
one_that_ends_before_it_comes_is_not_awaited(void **state)
{
    Connection *connection = *state;
    skip_without_pidfd();
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    assert_true(port_vhost_expect(connection->port, child, NULL));
    serve(connection);
    assert_ends_with(connection, child);
    assert_false(port_vhost_expect(connection->port, child, NULL));
}

int
main(void)
{
#define WITH_FRONT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_follow_the_set),
        WITH_FRONT(impossible_messages_are_refused),
        WITH_FRONT(memory_must_fit_its_file),
        WITH_FRONT(frames_of_the_guest_come_whole),
        WITH_FRONT(frames_without_their_header_are_counted),
        WITH_FRONT(long_frames_are_spread_over_buffers),
        WITH_FRONT(frames_that_never_fit_do_not_block),
        WITH_FRONT(guests_are_interrupted_as_they_wish),
        WITH_FRONT(kicks_are_asked_for_beyond_what_is_there),
        WITH_FRONT(what_is_written_is_logged),
        WITH_FRONT(rings_stop_and_go_on_where_they_were),
        WITH_FRONT(calls_are_made_up_for),
        WITH_FRONT(disabled_rings_stand_still),
        WITH_FRONT(hostile_guests_break_only_their_ring),
        WITH_FRONT(rings_outside_memory_do_not_start),
        cmocka_unit_test_setup_teardown(messages_come_in_any_pieces, open_port, close_port),
        cmocka_unit_test_setup_teardown(front_ends_that_break_the_rules_may_come_again, open_port,
                                        close_port),
        cmocka_unit_test_setup_teardown(the_end_of_the_emulator_is_the_end, open_port, close_port),
        cmocka_unit_test_setup_teardown(one_that_ends_before_it_comes_is_not_awaited, open_port, close_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
