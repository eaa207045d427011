// SPDX-License-Identifier: LGPL-2.1-or-later
// Ethernet frames read with bounds; packet.c is the only file that computes with pointers into frames.
#pragma once

#include <glib.h>

#define PACKET_MAC     6u
#define PACKET_HEADER  14u
#define PACKET_VLAN    4u
#define PACKET_ADDRESS 46u // the longest address text with its NUL

typedef struct {
    guint8 bytes[PACKET_MAC];
} MacAddress;

// An IPv4 (4 bytes) or IPv6 (16 bytes) address.
typedef struct {
    guint8 length;
    guint8 bytes[16];
} NetAddress;

// Six hex pairs with colons. Multicast and all-zero addresses are refused: a NIC cannot own them.
gboolean mac_parse(const char *text, MacAddress *mac);
gboolean mac_equal(const MacAddress *a, const MacAddress *b);

gboolean net_address_parse(const char *text, NetAddress *address);
void net_address_text(const NetAddress *address, char text[PACKET_ADDRESS]);
gboolean net_address_equal(const NetAddress *a, const NetAddress *b);

// FALSE when the frame is too short to have the field.
gboolean packet_source(const guint8 *frame, gsize length, MacAddress *mac);
gboolean packet_destination(const guint8 *frame, gsize length, MacAddress *mac);

// Whether the frame is for `mac` alone or for a group.
gboolean packet_is_for(const guint8 *frame, gsize length, const MacAddress *mac);

// The longest frame on a link of this MTU: header, one VLAN tag, payload.
gsize packet_limit(guint mtu);

// The address that a frame sent by `mac` shows to be its own: the sender of ARP (RFC 826), the target of a
// neighbour advertisement or the source of a solicitation (RFC 4861). Plain IP frames show nothing: a guest
// that routes sends with the addresses of others, and those must not be announced as its own.
gboolean packet_owned_address(const guint8 *frame, gsize length, const MacAddress *mac, NetAddress *address);

enum {
    PACKET_TCP = 6,
    PACKET_UDP = 17,
};

// Where the parts of an IP packet lie in its frame, behind up to two VLAN tags and IPv6's extension headers.
typedef struct {
    guint8 version;  // 4 or 6
    guint8 protocol; // PACKET_TCP or PACKET_UDP
    gsize network, transport;
    gsize addresses; // source and destination, one after the other
} PacketLayout;

// FALSE for anything but TCP or UDP in an unfragmented packet, and when the frame ends inside TCP's 20 or
// UDP's 8 bytes. The lengths that the packet itself gives are not looked at.
gboolean packet_layout(const guint8 *frame, gsize length, PacketLayout *layout);

// Puts a VLAN tag behind the MACs; there must be PACKET_VLAN bytes of room before `frame`, which moves there.
guint8 *packet_insert_vlan(guint8 *frame, guint16 type, guint16 tag);

// The Internet checksum (RFC 1071) over `length` bytes, added to `sum`; packet_checksum_fold() ends it.
guint32 packet_checksum_add(guint32 sum, const guint8 *data, gsize length);
guint16 packet_checksum_fold(guint32 sum);

// A local sender (veth, bridge) leaves TCP and UDP checksums to the NIC, so that a capture sees just the
// pseudo-header's sum. Completes such a checksum in place; any other frame, a corrupt one too, is left as it
// is. TRUE when the frame was changed.
gboolean packet_complete_checksum(guint8 *frame, gsize length);
