// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames that tell a segment where a guest is now.
#pragma once

#include <glib.h>

#include "vnet/packet.h"

#define ANNOUNCE_MAX    86u // the longest frame made here
#define ANNOUNCE_ROUNDS 5u

// Each builds one frame and returns its length, padded to Ethernet's 60 bytes without checksum.
gsize announce_rarp(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac);

// IPv4: an ARP announcement (RFC 5227). IPv6: an unsolicited neighbour advertisement with the override flag
// (RFC 4861, 4.4).
gsize announce_address(guint8 frame[ANNOUNCE_MAX], const MacAddress *mac, const NetAddress *address);

// Milliseconds from activation to round `round` (0: at once).
guint announce_delay_ms(guint round);
