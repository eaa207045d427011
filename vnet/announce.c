// SPDX-License-Identifier: LGPL-2.1-or-later
// RARP, gratuitous ARP and unsolicited neighbour advertisements, byte by byte.
#include "vnet/announce.h"

#include <string.h>

#define FRAME_MIN 60u

// Appends to a frame being built; the frames made here all fit ANNOUNCE_MAX.
typedef struct {
    guint8 *frame;
    gsize length;
} Builder;

static void
put(Builder *builder, const void *bytes, gsize length)
{
    g_assert(builder->length + length <= ANNOUNCE_MAX);
    memcpy(&builder->frame[builder->length], bytes, length);
    builder->length += length;
}

#define PUT_BYTES(builder, ...)                                                                              \
    put(builder, (const guint8[]){__VA_ARGS__}, sizeof((const guint8[]){__VA_ARGS__}))

static gsize
pad(Builder *builder)
{
    if (builder->length < FRAME_MIN) {
        memset(&builder->frame[builder->length], 0, FRAME_MIN - builder->length);
        builder->length = FRAME_MIN;
    }
    return builder->length;
}

gsize
announce_rarp(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac)
{
    Builder builder = {frame, 0};
    PUT_BYTES(&builder, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    put(&builder, mac->bytes, PACKET_MAC);
    PUT_BYTES(&builder, 0x80, 0x35);             // RARP, RFC 903
    PUT_BYTES(&builder, 0, 1, 8, 0, 6, 4, 0, 3); // Ethernet, IPv4, request reverse
    put(&builder, mac->bytes, PACKET_MAC);
    PUT_BYTES(&builder, 0, 0, 0, 0);
    put(&builder, mac->bytes, PACKET_MAC);
    PUT_BYTES(&builder, 0, 0, 0, 0);
    return pad(&builder);
}

static gsize
announce_ipv4(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac, const NetAddress *address)
{
    Builder builder = {frame, 0};
    PUT_BYTES(&builder, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    put(&builder, mac->bytes, PACKET_MAC);
    PUT_BYTES(&builder, 0x08, 0x06);
    PUT_BYTES(&builder, 0, 1, 8, 0, 6, 4, 0, 1); // Ethernet, IPv4, request
    put(&builder, mac->bytes, PACKET_MAC);
    put(&builder, address->bytes, 4);
    PUT_BYTES(&builder, 0, 0, 0, 0, 0, 0);
    put(&builder, address->bytes, 4);
    return pad(&builder);
}

static gsize
announce_ipv6(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac, const NetAddress *address)
{
    static const guint8 all_nodes[16] = {0xff, 0x02, [15] = 1};
    guint8 advertisement[32] = {136, 0, 0, 0, 0x20}; // override; neither router nor solicited
    memcpy(&advertisement[8], address->bytes, 16);
    advertisement[24] = 2; // target link-layer address, one unit of 8 bytes
    advertisement[25] = 1;
    memcpy(&advertisement[26], mac->bytes, PACKET_MAC);
    guint32 sum = packet_checksum_add(58 + sizeof(advertisement), address->bytes, 16);
    sum = packet_checksum_add(sum, all_nodes, sizeof(all_nodes));
    guint16 checksum = packet_checksum_fold(packet_checksum_add(sum, advertisement, sizeof(advertisement)));
    advertisement[2] = (guint8) (checksum >> 8);
    advertisement[3] = (guint8) checksum;

    Builder builder = {frame, 0};
    PUT_BYTES(&builder, 0x33, 0x33, 0, 0, 0, 1);
    put(&builder, mac->bytes, PACKET_MAC);
    PUT_BYTES(&builder, 0x86, 0xdd);
    PUT_BYTES(&builder, 0x60, 0, 0, 0, 0, sizeof(advertisement), 58, 255);
    put(&builder, address->bytes, 16);
    put(&builder, all_nodes, sizeof(all_nodes));
    put(&builder, advertisement, sizeof(advertisement));
    return pad(&builder);
}

gsize
announce_address(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac, const NetAddress *address)
{
    return address->length == 4 ? announce_ipv4(frame, mac, address) : announce_ipv6(frame, mac, address);
}

guint
announce_delay_ms(guint round)
{
    static const guint delays[ANNOUNCE_ROUNDS] = {0, 50, 150, 300, 550};
    return delays[MIN(round, ANNOUNCE_ROUNDS - 1)];
}
