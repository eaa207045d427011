// SPDX-License-Identifier: LGPL-2.1-or-later
// Checksums and segments, made as a NIC with these offloads would make them.
#include "vnet/offload.h"

#include <string.h>

#include "vnet/packet.h"

enum {
    TCP_FIN = 0x01,
    TCP_PUSH = 0x08,
    TCP_CWR = 0x80,
    UDP_CHECKSUM = 6,
    TCP_CHECKSUM = 16,
};

static guint16
read16(const guint8 *bytes, gboolean little_endian)
{
    guint16 value;
    memcpy(&value, bytes, sizeof(value));
    return little_endian ? GUINT16_FROM_LE(value) : value;
}

static void
write16(guint8 *bytes, gboolean little_endian, guint16 value)
{
    if (little_endian)
        value = GUINT16_TO_LE(value);
    memcpy(bytes, &value, sizeof(value));
}

void
offload_decode(const guint8 bytes[OFFLOAD_HEADER], gboolean little_endian, Offload *offload)
{
    *offload = (Offload){
        .flags = bytes[0],
        .kind = bytes[1],
        .header_length = read16(bytes + 2, little_endian),
        .segment_size = read16(bytes + 4, little_endian),
        .checksum_start = read16(bytes + 6, little_endian),
        .checksum_offset = read16(bytes + 8, little_endian),
    };
}

void
offload_encode(const Offload *offload, gboolean little_endian, guint8 bytes[OFFLOAD_HEADER])
{
    bytes[0] = offload->flags;
    bytes[1] = offload->kind;
    write16(bytes + 2, little_endian, offload->header_length);
    write16(bytes + 4, little_endian, offload->segment_size);
    write16(bytes + 6, little_endian, offload->checksum_start);
    write16(bytes + 8, little_endian, offload->checksum_offset);
}

gboolean
offload_is_sane(const Offload *offload, gsize length)
{
    guint8 kind = offload->kind & ~OFFLOAD_ECN;
    if (offload->flags & OFFLOAD_NEEDS_CHECKSUM) {
        gsize place = (gsize) offload->checksum_start + offload->checksum_offset;
        if (offload->checksum_start < PACKET_HEADER || place + 2 > length)
            return FALSE;
    }
    if (kind == OFFLOAD_NONE)
        return offload->kind == OFFLOAD_NONE;
    return (kind == OFFLOAD_TCP4 || kind == OFFLOAD_TCP6 || kind == OFFLOAD_UDP) &&
           offload->segment_size > 0 && (offload->flags & OFFLOAD_NEEDS_CHECKSUM);
}

void
offload_shift(Offload *offload, guint bytes)
{
    if (offload->flags & OFFLOAD_NEEDS_CHECKSUM)
        offload->checksum_start = (guint16) (offload->checksum_start + bytes);
    if (offload->kind != OFFLOAD_NONE)
        offload->header_length = (guint16) (offload->header_length + bytes);
}

static void
put16(guint8 *place, guint value)
{
    place[0] = (guint8) (value >> 8);
    place[1] = (guint8) value;
}

void
offload_complete_checksum(guint8 *frame, gsize length, const Offload *offload)
{
    guint8 *place = frame + offload->checksum_start + offload->checksum_offset;
    guint16 sum = packet_checksum_fold(
        packet_checksum_add(0, frame + offload->checksum_start, length - offload->checksum_start));
    // Zero would say that there is no checksum.
    if (sum == 0 && offload->checksum_offset == UDP_CHECKSUM)
        sum = 0xffff;
    put16(place, sum);
}

// A super-frame taken apart, and how far its segments have come.
typedef struct {
    guint8 header[OFFLOAD_HEADER_MAX];
    PacketLayout layout;
    gsize payload; // where it begins
    guint32 sequence;
    guint16 identification;
    gboolean tcp;
} Super;

static gboolean
take_apart(const guint8 *frame, gsize length, const Offload *offload, Super *super)
{
    guint8 kind = offload->kind & ~OFFLOAD_ECN;
    PacketLayout *layout = &super->layout;
    super->tcp = kind != OFFLOAD_UDP;
    if (!offload_is_sane(offload, length) || !packet_layout(frame, length, layout) ||
        layout->transport != offload->checksum_start ||
        offload->checksum_offset != (super->tcp ? TCP_CHECKSUM : UDP_CHECKSUM))
        return FALSE;
    if ((kind == OFFLOAD_TCP4 && layout->version != 4) || (kind == OFFLOAD_TCP6 && layout->version != 6) ||
        layout->protocol != (super->tcp ? PACKET_TCP : PACKET_UDP))
        return FALSE;
    gsize size = super->tcp ? (gsize) (frame[layout->transport + 12] >> 4) * 4 : 8;
    super->payload = layout->transport + size;
    if (size < (super->tcp ? 20u : 8u) || super->payload >= length || super->payload > sizeof(super->header))
        return FALSE;
    memcpy(super->header, frame, super->payload);
    const guint8 *sequence = super->header + layout->transport + 4;
    super->sequence =
        (guint32) sequence[0] << 24 | (guint32) sequence[1] << 16 | (guint32) sequence[2] << 8 | sequence[3];
    super->identification =
        (guint16) (super->header[layout->network + 4] << 8 | super->header[layout->network + 5]);
    return TRUE;
}

static void
write_network(const Super *super, guint8 *frame, gsize length, guint index)
{
    guint8 *ip = frame + super->layout.network;
    gsize size = length - super->layout.network;
    if (super->layout.version == 6) {
        put16(ip + 4, (guint) (size - 40));
        return;
    }
    put16(ip + 2, (guint) size);
    put16(ip + 4, (guint16) (super->identification + index));
    put16(ip + 10, 0);
    put16(ip + 10,
          packet_checksum_fold(packet_checksum_add(0, ip, super->layout.transport - super->layout.network)));
}

static void
write_tcp(const Super *super, guint8 *tcp, gsize offset, gboolean last)
{
    guint32 sequence = super->sequence + (guint32) offset;
    put16(tcp + 4, sequence >> 16);
    put16(tcp + 6, sequence & 0xffff);
    if (!last)
        tcp[13] &= (guint8) ~(TCP_FIN | TCP_PUSH);
    if (offset > 0)
        tcp[13] &= (guint8) ~TCP_CWR; // RFC 3168: said once
}

static void
write_transport(const Super *super, guint8 *frame, gsize length, gsize offset, gboolean last)
{
    const PacketLayout *layout = &super->layout;
    gsize size = length - layout->transport;
    guint8 *transport = frame + layout->transport;
    if (super->tcp)
        write_tcp(super, transport, offset, last);
    else
        put16(transport + 4, (guint) size);
    guint place = super->tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    guint32 sum = packet_checksum_add(layout->protocol + (guint32) size, frame + layout->addresses,
                                      layout->version == 4 ? 8 : 32);
    put16(transport + place, 0);
    guint16 checksum = packet_checksum_fold(packet_checksum_add(sum, transport, size));
    put16(transport + place, checksum == 0 && !super->tcp ? 0xffff : checksum);
}

gboolean
offload_segment(guint8 *frame, gsize length, const Offload *offload, OffloadSegment segment, void *data)
{
    Super super;
    if (!take_apart(frame, length, offload, &super))
        return FALSE;
    gsize total = length - super.payload;
    guint index = 0;
    for (gsize offset = 0; offset < total; offset += offload->segment_size, index++) {
        gsize size = MIN(offload->segment_size, total - offset);
        // The header goes right before its payload, over the one handed over before.
        guint8 *start = frame + offset;
        memcpy(start, super.header, super.payload);
        write_network(&super, start, super.payload + size, index);
        write_transport(&super, start, super.payload + size, offset, offset + size == total);
        segment(start, super.payload + size, data);
    }
    return TRUE;
}

gboolean
offload_guess(const guint8 *frame, gsize length, guint mtu, Offload *offload)
{
    PacketLayout layout;
    if (!packet_layout(frame, length, &layout) || layout.protocol != PACKET_TCP)
        return FALSE;
    gsize header = layout.transport - layout.network + (gsize) (frame[layout.transport + 12] >> 4) * 4;
    if (header >= mtu || length <= layout.network + mtu)
        return FALSE;
    *offload = (Offload){
        .flags = OFFLOAD_NEEDS_CHECKSUM,
        .kind = layout.version == 4 ? OFFLOAD_TCP4 : OFFLOAD_TCP6,
        .segment_size = (guint16) (mtu - header),
        .header_length = (guint16) (layout.network + header),
        .checksum_start = (guint16) layout.transport,
        .checksum_offset = TCP_CHECKSUM,
    };
    return TRUE;
}
