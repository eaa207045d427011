// SPDX-License-Identifier: LGPL-2.1-or-later
// Ethernet, ARP, IPv4, IPv6, ICMPv6, TCP and UDP fields of frames that nobody has checked before.
#include "vnet/packet.h"

#include <arpa/inet.h>
#include <string.h>

enum {
    TYPE_IPV4 = 0x0800,
    TYPE_ARP = 0x0806,
    TYPE_VLAN = 0x8100,
    TYPE_IPV6 = 0x86dd,
    TYPE_SERVICE_VLAN = 0x88a8,
    PROTOCOL_ICMPV6 = 58,
    ICMPV6_SOLICITATION = 135,
    ICMPV6_ADVERTISEMENT = 136,
    IPV6_HEADER = 40,
};

// `length` bytes at `offset`, or NULL when the frame ends before.
static const guint8 *
field(const guint8 *frame, gsize frame_length, gsize offset, gsize length)
{
    return offset <= frame_length && length <= frame_length - offset ? frame + offset : NULL;
}

// A 16-bit field, or -1.
static int
field16(const guint8 *frame, gsize frame_length, gsize offset)
{
    const guint8 *bytes = field(frame, frame_length, offset, 2);
    return bytes ? bytes[0] << 8 | bytes[1] : -1;
}

static int
field8(const guint8 *frame, gsize frame_length, gsize offset)
{
    const guint8 *byte = field(frame, frame_length, offset, 1);
    return byte ? byte[0] : -1;
}

gboolean
mac_parse(const char *text, MacAddress *mac)
{
    guint8 any = 0;
    for (guint i = 0; i < PACKET_MAC; i++, text += 3) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) ||
            text[2] != (i + 1 < PACKET_MAC ? ':' : 0))
            return FALSE;
        mac->bytes[i] = (guint8) (g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        any |= mac->bytes[i];
    }
    return any && !(mac->bytes[0] & 1);
}

gboolean
mac_equal(const MacAddress *a, const MacAddress *b)
{
    return memcmp(a->bytes, b->bytes, PACKET_MAC) == 0;
}

gboolean
net_address_parse(const char *text, NetAddress *address)
{
    memset(address, 0, sizeof(*address));
    if (inet_pton(AF_INET, text, address->bytes) == 1)
        address->length = 4;
    else if (inet_pton(AF_INET6, text, address->bytes) == 1)
        address->length = 16;
    return address->length != 0;
}

void
net_address_text(const NetAddress *address, char text[PACKET_ADDRESS])
{
    if (!inet_ntop(address->length == 4 ? AF_INET : AF_INET6, address->bytes, text, PACKET_ADDRESS))
        text[0] = 0;
}

gboolean
net_address_equal(const NetAddress *a, const NetAddress *b)
{
    return a->length == b->length && memcmp(a->bytes, b->bytes, a->length) == 0;
}

static gboolean
read_mac(const guint8 *frame, gsize length, gsize offset, MacAddress *mac)
{
    const guint8 *bytes = field(frame, length, offset, PACKET_MAC);
    if (!bytes)
        return FALSE;
    memcpy(mac->bytes, bytes, PACKET_MAC);
    return TRUE;
}

gboolean
packet_destination(const guint8 *frame, gsize length, MacAddress *mac)
{
    return read_mac(frame, length, 0, mac);
}

gboolean
packet_source(const guint8 *frame, gsize length, MacAddress *mac)
{
    return read_mac(frame, length, PACKET_MAC, mac);
}

gboolean
packet_is_for(const guint8 *frame, gsize length, const MacAddress *mac)
{
    MacAddress destination;
    return packet_destination(frame, length, &destination) &&
           ((destination.bytes[0] & 1) || mac_equal(&destination, mac));
}

gsize
packet_limit(guint mtu)
{
    return (gsize) mtu + PACKET_HEADER + PACKET_VLAN;
}

// An address that can be owned: neither unspecified nor for a group.
static gboolean
read_address(const guint8 *frame, gsize length, gsize offset, guint8 size, NetAddress *address)
{
    static const guint8 unspecified[16];
    const guint8 *bytes = field(frame, length, offset, size);
    if (!bytes || memcmp(bytes, unspecified, size) == 0)
        return FALSE;
    if (size == 16 ? bytes[0] == 0xff : bytes[0] >= 0xe0)
        return FALSE;
    memset(address, 0, sizeof(*address));
    address->length = size;
    memcpy(address->bytes, bytes, size);
    return TRUE;
}

static gboolean
arp_sender(const guint8 *frame, gsize length, const MacAddress *mac, NetAddress *address)
{
    static const guint8 ethernet_ipv4[] = {0, 1, 0x08, 0x00, 6, 4};
    const guint8 *kind = field(frame, length, 14, sizeof(ethernet_ipv4));
    MacAddress sender;
    return kind && memcmp(kind, ethernet_ipv4, sizeof(ethernet_ipv4)) == 0 &&
           read_mac(frame, length, 22, &sender) && mac_equal(&sender, mac) &&
           read_address(frame, length, 28, 4, address);
}

static gboolean
neighbour_sender(const guint8 *frame, gsize length, NetAddress *address)
{
    if (field8(frame, length, 14) >> 4 != 6 || field8(frame, length, 20) != PROTOCOL_ICMPV6)
        return FALSE;
    switch (field8(frame, length, 54)) {
    case ICMPV6_SOLICITATION:
        return read_address(frame, length, 22, 16, address);
    case ICMPV6_ADVERTISEMENT:
        return read_address(frame, length, 62, 16, address);
    default:
        return FALSE;
    }
}

gboolean
packet_owned_address(const guint8 *frame, gsize length, const MacAddress *mac, NetAddress *address)
{
    MacAddress source;
    if (!packet_source(frame, length, &source) || !mac_equal(&source, mac))
        return FALSE;
    switch (field16(frame, length, 12)) {
    case TYPE_ARP:
        return arp_sender(frame, length, mac, address);
    case TYPE_IPV6:
        return neighbour_sender(frame, length, address);
    default:
        return FALSE;
    }
}

static gboolean
layout_ipv4(const guint8 *frame, gsize length, PacketLayout *layout)
{
    gsize ip = layout->network;
    int version = field8(frame, length, ip), fragment = field16(frame, length, ip + 6);
    int protocol = field8(frame, length, ip + 9);
    if (version >> 4 != 4 || (version & 15) < 5 || protocol < 0 || (fragment & 0x3fff) != 0)
        return FALSE;
    layout->version = 4;
    layout->protocol = (guint8) protocol;
    layout->addresses = ip + 12;
    layout->transport = ip + (gsize) (version & 15) * 4;
    return TRUE;
}

static gboolean
layout_ipv6(const guint8 *frame, gsize length, PacketLayout *layout)
{
    enum { HOP_BY_HOP = 0, ROUTING = 43, DESTINATION = 60, MOST = 8 };
    gsize ip = layout->network;
    int next = field8(frame, length, ip + 6);
    if (field8(frame, length, ip) >> 4 != 6)
        return FALSE;
    layout->version = 6;
    layout->addresses = ip + 8;
    layout->transport = ip + IPV6_HEADER;
    for (guint i = 0; i < MOST && (next == HOP_BY_HOP || next == ROUTING || next == DESTINATION); i++) {
        int units = field8(frame, length, layout->transport + 1);
        next = field8(frame, length, layout->transport);
        if (units < 0)
            return FALSE;
        layout->transport += ((gsize) units + 1) * 8;
    }
    if (next < 0)
        return FALSE;
    layout->protocol = (guint8) next;
    return TRUE;
}

gboolean
packet_layout(const guint8 *frame, gsize length, PacketLayout *layout)
{
    gsize type_offset = 12;
    int type = field16(frame, length, type_offset);
    for (guint tags = 0; tags < 2 && (type == TYPE_VLAN || type == TYPE_SERVICE_VLAN); tags++) {
        type_offset += PACKET_VLAN;
        type = field16(frame, length, type_offset);
    }
    layout->network = type_offset + 2;
    if (type == TYPE_IPV4 ? !layout_ipv4(frame, length, layout)
                          : type != TYPE_IPV6 || !layout_ipv6(frame, length, layout))
        return FALSE;
    if (layout->protocol != PACKET_TCP && layout->protocol != PACKET_UDP)
        return FALSE;
    return field(frame, length, layout->transport, layout->protocol == PACKET_TCP ? 20 : 8) != NULL;
}

guint8 *
packet_insert_vlan(guint8 *frame, guint16 type, guint16 tag)
{
    guint8 *start = frame - PACKET_VLAN;
    memmove(start, frame, 2 * PACKET_MAC);
    start[12] = (guint8) (type >> 8);
    start[13] = (guint8) type;
    start[14] = (guint8) (tag >> 8);
    start[15] = (guint8) tag;
    return start;
}

guint32
packet_checksum_add(guint32 sum, const guint8 *data, gsize length)
{
    guint64 total = sum;
    for (gsize i = 0; i + 1 < length; i += 2)
        total += (guint32) (data[i] << 8 | data[i + 1]);
    if (length & 1)
        total += (guint32) data[length - 1] << 8;
    while (total >> 32)
        total = (total & 0xffffffff) + (total >> 32);
    return (guint32) total;
}

guint16
packet_checksum_fold(guint32 sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16) ~sum;
}

// Where TCP or UDP lies in a frame that holds all of it.
typedef struct {
    gsize offset, length; // of the segment
    gsize addresses;      // of source and destination, one after the other
    gsize addresses_length;
    guint8 protocol;
} Segment;

static gboolean
find_ipv4(const guint8 *frame, gsize length, gsize ip, Segment *segment)
{
    int version = field8(frame, length, ip), total = field16(frame, length, ip + 2);
    int fragment = field16(frame, length, ip + 6), protocol = field8(frame, length, ip + 9);
    if (version >> 4 != 4 || (fragment & 0x3fff) != 0 || protocol < 0)
        return FALSE;
    int header = (version & 15) * 4;
    if (header < 20 || total < header)
        return FALSE;
    *segment = (Segment){ip + (gsize) header, (gsize) (total - header), ip + 12, 8, (guint8) protocol};
    return TRUE;
}

static gboolean
find_ipv6(const guint8 *frame, gsize length, gsize ip, Segment *segment)
{
    int version = field8(frame, length, ip), payload = field16(frame, length, ip + 4);
    int protocol = field8(frame, length, ip + 6);
    if (version >> 4 != 6 || payload < 0 || protocol < 0)
        return FALSE;
    *segment = (Segment){ip + IPV6_HEADER, (gsize) payload, ip + 8, 32, (guint8) protocol};
    return TRUE;
}

static gboolean
find_segment(const guint8 *frame, gsize length, Segment *segment)
{
    gsize type_offset = 12;
    if (field16(frame, length, type_offset) == TYPE_VLAN)
        type_offset += PACKET_VLAN;
    int type = field16(frame, length, type_offset);
    gsize ip = type_offset + 2;
    if (type == TYPE_IPV4 ? !find_ipv4(frame, length, ip, segment)
                          : type != TYPE_IPV6 || !find_ipv6(frame, length, ip, segment))
        return FALSE;
    return field(frame, length, segment->addresses, segment->addresses_length) &&
           field(frame, length, segment->offset, segment->length);
}

gboolean
packet_complete_checksum(guint8 *frame, gsize length)
{
    Segment segment;
    if (!find_segment(frame, length, &segment))
        return FALSE;
    gsize place = segment.protocol == PACKET_TCP ? 16 : 6;
    if ((segment.protocol != PACKET_TCP && segment.protocol != PACKET_UDP) || segment.length < place + 2)
        return FALSE;
    guint32 pseudo = packet_checksum_add(segment.protocol + (guint32) segment.length,
                                         frame + segment.addresses, segment.addresses_length);
    guint8 *checksum = frame + segment.offset + place;
    guint16 partial = (guint16) ~packet_checksum_fold(pseudo);
    if ((checksum[0] << 8 | checksum[1]) != partial)
        return FALSE;
    guint16 rest = packet_checksum_fold(packet_checksum_add(pseudo, frame + segment.offset, segment.length));
    if (rest == 0)
        return FALSE; // a good checksum that happens to look like a partial one
    checksum[0] = checksum[1] = 0;
    guint16 full = packet_checksum_fold(packet_checksum_add(pseudo, frame + segment.offset, segment.length));
    if (full == 0 && segment.protocol == PACKET_UDP)
        full = 0xffff;
    checksum[0] = (guint8) (full >> 8);
    checksum[1] = (guint8) full;
    return TRUE;
}
