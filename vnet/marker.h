// SPDX-License-Identifier: LGPL-2.1-or-later
// The frame by which two vnets on one segment agree on a moment: all that was on the wire before it, and
// after.
#pragma once

#include <glib.h>

#include "vnet/packet.h"

#define MARKER_NONCE  16u
#define MARKER_LENGTH 60u

// Ethertype 0x88b5 (IEEE 802, for local experiments) to a group address of our own, from a locally
// administered address made of the nonce: never the guest's, which the captures' filters keep out.
void marker_build(guint8 frame[MARKER_LENGTH], const guint8 nonce[MARKER_NONCE]);

// Whether a frame is a marker of any vnet's: no guest is to see it. *mine: with this nonce (NULL: none is
// known).
gboolean marker_parse(const guint8 *frame, gsize length, const guint8 *nonce, gboolean *mine);
