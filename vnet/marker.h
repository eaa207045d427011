// SPDX-License-Identifier: LGPL-2.1-or-later
// The frames by which two vnets find out whether they are on one segment, and agree there on a moment: all
// that was on the wire before it, and after.
#pragma once

#include <glib.h>

#include "vnet/packet.h"

#define MARKER_NONCE  16u
#define MARKER_LENGTH 60u

// Ethertype 0x88b5 (IEEE 802, for local experiments) to a group address of our own or to the guest's, from a
// locally administered address made of the nonce: never the guest's, which the captures' filters keep out.
typedef enum {
    MARKER_MOMENT = 0,
    MARKER_PROBE = 1, // are the two on one segment?
    MARKER_GUEST = 2, // to the guest: does the segment bring its frames to the destination?
    MARKER_ECHO = 3,  // to the guest: ... and to the source too, as a hub does?
    N_MARKERS,
} MarkerKind;

// `guest`: whose address the last two go to.
void marker_build(guint8 frame[MARKER_LENGTH], const MacAddress *guest, const guint8 nonce[MARKER_NONCE],
                  MarkerKind kind);

// Whether a frame is a marker of any vnet's: no guest is to see it. *mine: with this nonce (NULL: none is
// known), and then of this kind.
gboolean marker_parse(const guint8 *frame, gsize length, const guint8 *nonce, gboolean *mine,
                      MarkerKind *kind);
