// SPDX-License-Identifier: LGPL-2.1-or-later
// vnet/offload: checksums completed and super-frames segmented, checked by what a receiver would compute.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vnet/offload.h"
#include "vnet/packet.h"

enum { FIN = 0x01, PUSH = 0x08, ACK = 0x10, CWR = 0x80, SEQUENCE = 0xfffffe00 };

// A frame as a sender with offloads hands it to its NIC.
typedef struct {
    guint8 bytes[OFFLOAD_FRAME_MAX];
    gsize length, network, transport, payload;
    Offload offload;
} Sent;

typedef struct {
    guint version; // 4 or 6
    gboolean vlan, udp;
    gsize size, segment_size; // segment_size 0: no super-frame
} Kind;

static guint8
pattern(gsize i)
{
    return (guint8) (i * 7 + i / 256);
}

static void
append(Sent *sent, const void *bytes, gsize length)
{
    memcpy(sent->bytes + sent->length, bytes, length);
    sent->length += length;
}

static void
put16(guint8 *place, guint value)
{
    place[0] = (guint8) (value >> 8);
    place[1] = (guint8) value;
}

static guint32
pseudo_sum(const guint8 *frame, guint version, gsize network, guint protocol, gsize length)
{
    gsize at = network + (version == 4 ? 12 : 8);
    return packet_checksum_add(protocol + (guint32) length, frame + at, version == 4 ? 8 : 32);
}

static void
append_network(Sent *sent, const Kind *kind, gsize transport_length)
{
    guint8 ip4[20] = {0x45, 0, 0, 0, 0xff, 0xfe, 0x40, 0, 64, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};
    guint8 ip6[40] = {0x60, [6] = 0, [7] = 64, [8] = 0xfd, [23] = 1, [24] = 0xfd, [39] = 2};
    sent->network = sent->length;
    guint8 protocol = kind->udp ? PACKET_UDP : PACKET_TCP;
    if (kind->version == 4) {
        ip4[9] = protocol;
        put16(ip4 + 2, (guint) MIN(20 + transport_length, 65535));
        put16(ip4 + 10, packet_checksum_fold(packet_checksum_add(0, ip4, 20)));
        append(sent, ip4, 20);
    } else {
        ip6[6] = protocol;
        put16(ip6 + 4, (guint) MIN(transport_length, 65535));
        append(sent, ip6, 40);
    }
    sent->transport = sent->length;
}

static Sent *
make(const Kind *kind)
{
    static const guint8 macs[12] = {0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 9, 9, 9},
                        tag[4] = {0x81, 0, 0, 42};
    guint8 tcp[32] = {0x13, 0x88, 0,        80, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 1, 0x80, FIN | PUSH | ACK | CWR,
                      1,    0,    [20] = 1, 1,  8,    10}; // with the time stamp option
    guint8 udp[8] = {0x13, 0x88, 0, 53};
    gsize header = kind->udp ? sizeof(udp) : sizeof(tcp);
    Sent *sent = g_new0(Sent, 1);
    append(sent, macs, sizeof(macs));
    if (kind->vlan)
        append(sent, tag, sizeof(tag));
    append(sent, kind->version == 4 ? "\x08\x00" : "\x86\xdd", 2);
    append_network(sent, kind, header + kind->size);
    guint place = kind->udp ? 6 : 16;
    guint protocol = kind->udp ? PACKET_UDP : PACKET_TCP;
    guint32 sum = pseudo_sum(sent->bytes, kind->version, sent->network, protocol, header + kind->size);
    put16(udp + 4, (guint) (header + kind->size));
    put16((kind->udp ? udp : tcp) + place, (guint16) ~packet_checksum_fold(sum));
    append(sent, kind->udp ? udp : tcp, header);
    sent->payload = sent->length;
    for (gsize i = 0; i < kind->size; i++)
        sent->bytes[sent->length++] = pattern(i);
    sent->offload = (Offload){
        .flags = OFFLOAD_NEEDS_CHECKSUM,
        .kind = kind->segment_size == 0 ? OFFLOAD_NONE
                : kind->udp             ? OFFLOAD_UDP
                : kind->version == 4    ? OFFLOAD_TCP4
                                        : OFFLOAD_TCP6,
        .segment_size = (guint16) kind->segment_size,
        .header_length = (guint16) sent->payload,
        .checksum_start = (guint16) sent->transport,
        .checksum_offset = (guint16) place,
    };
    return sent;
}

// A receiver's check: the sum over everything, checksum included, is zero.
static void
assert_checksum(const Sent *sent, const Kind *kind, const guint8 *frame, gsize length)
{
    guint protocol = kind->udp ? PACKET_UDP : PACKET_TCP;
    gsize size = length - sent->transport;
    guint32 sum = pseudo_sum(frame, kind->version, sent->network, protocol, size);
    assert_int_equal(packet_checksum_fold(packet_checksum_add(sum, frame + sent->transport, size)), 0);
    if (kind->version == 4)
        assert_int_equal(packet_checksum_fold(packet_checksum_add(0, frame + sent->network, 20)), 0);
}

static const Kind kinds[] = {
    {4, FALSE, FALSE, 1000, 0},     {4, TRUE, FALSE, 999, 0},     {6, FALSE, FALSE, 1, 0},
    {6, TRUE, TRUE, 512, 0},        {4, FALSE, TRUE, 33, 0},      {4, FALSE, FALSE, 65000, 1448},
    {6, FALSE, FALSE, 64000, 1428}, {4, TRUE, FALSE, 2896, 1448}, {6, TRUE, FALSE, 1449, 1448},
    {4, FALSE, TRUE, 10000, 1200},  {6, FALSE, TRUE, 1201, 1200}, {4, FALSE, FALSE, 100, 1448},
};

static void
partial_checksums_are_completed(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (kinds[i].segment_size)
            continue;
        g_autofree Sent *sent = make(&kinds[i]);
        assert_true(offload_is_sane(&sent->offload, sent->length));
        offload_complete_checksum(sent->bytes, sent->length, &sent->offload);
        assert_checksum(sent, &kinds[i], sent->bytes, sent->length);
    }
}

// RFC 768: a UDP checksum that comes out as zero is sent as all ones.
static void
zero_udp_checksum_is_sent_as_ones(void **state)
{
    const Kind kind = {4, FALSE, TRUE, 2, 0};
    gboolean seen = FALSE;
    for (guint value = 0; value < 65536 && !seen; value++) {
        g_autofree Sent *sent = make(&kind);
        put16(sent->bytes + sent->payload, value);
        offload_complete_checksum(sent->bytes, sent->length, &sent->offload);
        const guint8 *checksum = sent->bytes + sent->transport + 6;
        assert_false(checksum[0] == 0 && checksum[1] == 0);
        seen = checksum[0] == 0xff && checksum[1] == 0xff;
    }
    assert_true(seen);
}

typedef struct {
    const Sent *sent;
    const Kind *kind;
    gsize offset; // of the payload
    guint n;
} Received;

static void
check_tcp(const Received *received, const guint8 *tcp, gsize size)
{
    gboolean last = received->offset + size == received->kind->size;
    guint32 sequence = (guint32) tcp[4] << 24 | (guint32) tcp[5] << 16 | (guint32) tcp[6] << 8 | tcp[7];
    assert_int_equal(sequence, (guint32) (SEQUENCE + received->offset));
    assert_int_equal(tcp[13] & ACK, ACK);
    assert_int_equal(tcp[13] & (FIN | PUSH), last ? FIN | PUSH : 0);
    assert_int_equal(tcp[13] & CWR, received->offset == 0 ? CWR : 0);
}

static void
check_segment(guint8 *frame, gsize length, void *data)
{
    Received *received = data;
    const Sent *sent = received->sent;
    const Kind *kind = received->kind;
    gsize size = length - sent->payload;
    assert_int_equal(size, MIN(kind->segment_size, kind->size - received->offset));
    assert_checksum(sent, kind, frame, length);
    const guint8 *ip = frame + sent->network;
    gsize told = kind->version == 4 ? (gsize) (ip[2] << 8 | ip[3]) : (gsize) (ip[4] << 8 | ip[5]) + 40;
    assert_int_equal(told, length - sent->network);
    if (kind->version == 4)
        assert_int_equal(ip[4] << 8 | ip[5], (guint16) (0xfffe + received->n));
    if (!kind->udp)
        check_tcp(received, frame + sent->transport, size);
    for (gsize i = 0; i < size; i++)
        assert_int_equal(frame[sent->payload + i], pattern(received->offset + i));
    received->offset += size;
    received->n++;
}

static void
super_frames_become_whole_segments(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!kinds[i].segment_size)
            continue;
        g_autofree Sent *sent = make(&kinds[i]);
        Received received = {sent, &kinds[i], 0, 0};
        const Offload offload = sent->offload;
        assert_true(offload_segment(sent->bytes, sent->length, &offload, check_segment, &received));
        assert_int_equal(received.offset, kinds[i].size);
    }
}

static void
count_segment(guint8 *frame, gsize length, void *data)
{
    ++*(guint *) data;
}

// Each lie about a frame is found before anything is handed over.
static void
impossible_work_is_refused(void **state)
{
    const Kind kind = {4, FALSE, FALSE, 5000, 1448};
    g_autofree Sent *sent = make(&kind);
    const Offload good = sent->offload;
    Offload bad[] = {good, good, good, good, good, good, good, good};
    bad[0].segment_size = 0;
    bad[1].kind = OFFLOAD_TCP6;
    bad[2].kind = OFFLOAD_UDP;
    bad[3].kind = 3; // UDP fragments: nobody's any more
    bad[4].flags = 0;
    bad[5].checksum_start += 4;
    bad[6].checksum_offset = 6;
    bad[7].checksum_start = 65535;
    guint n = 0;
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(offload_segment(sent->bytes, sent->length, &bad[i], count_segment, &n));
    for (gsize cut = 0; cut <= sent->payload; cut++)
        assert_false(offload_segment(sent->bytes, cut, &good, count_segment, &n));
    sent->bytes[sent->network + 6] = 0x20; // a fragment
    assert_false(offload_segment(sent->bytes, sent->length, &good, count_segment, &n));
    assert_int_equal(n, 0);
    const Offload outside = {.flags = OFFLOAD_NEEDS_CHECKSUM, .checksum_start = 50, .checksum_offset = 9};
    assert_false(offload_is_sane(&outside, 60));
    assert_true(offload_is_sane(&outside, 61));
}

static void
headers_survive_their_encoding(void **state)
{
    const Offload offload = {1, 4, 66, 1448, 34, 16};
    for (gboolean little = FALSE; little <= TRUE; little++) {
        guint8 bytes[OFFLOAD_HEADER];
        Offload back;
        offload_encode(&offload, little, bytes);
        offload_decode(bytes, little, &back);
        assert_memory_equal(&back, &offload, sizeof(back));
        if (little)
            assert_memory_equal(bytes, "\x01\x04\x42\x00\xa8\x05\x22\x00\x10\x00", sizeof(bytes));
    }
}

// libpcap tells nothing: the MTU says how long the segments were to be.
static void
super_frames_are_recognised_by_length(void **state)
{
    const Kind kind = {4, TRUE, FALSE, 10000, 1448};
    g_autofree Sent *sent = make(&kind);
    Offload offload;
    assert_true(offload_guess(sent->bytes, sent->length, 1500, &offload));
    assert_memory_equal(&offload, &sent->offload, sizeof(offload));
    assert_false(offload_guess(sent->bytes, 1518, 1500, &offload));
    assert_false(offload_guess(sent->bytes, sent->length, 40, &offload));
}

static void
tags_are_put_back(void **state)
{
    guint8 room[4 + 16] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0, 0x45, 0};
    guint8 *frame = packet_insert_vlan(room + 4, 0x8100, 0x602a);
    static const guint8 expected[] = {1,  2,  3,    4, 5,    6,    7,    8, 9,    10,
                                      11, 12, 0x81, 0, 0x60, 0x2a, 0x08, 0, 0x45, 0};
    assert_memory_equal(frame, expected, sizeof(expected));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partial_checksums_are_completed),
        cmocka_unit_test(zero_udp_checksum_is_sent_as_ones),
        cmocka_unit_test(super_frames_become_whole_segments),
        cmocka_unit_test(impossible_work_is_refused),
        cmocka_unit_test(headers_survive_their_encoding),
        cmocka_unit_test(super_frames_are_recognised_by_length),
        cmocka_unit_test(tags_are_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
