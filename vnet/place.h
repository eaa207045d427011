// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether two vnets are on one segment: one sends probes over its wire, the other says whether it sees them.
#pragma once

#include <glib.h>

#include "vnet/marker.h"

// Theory of operation. The vnet that a guest is to move to makes a nonce and tells it through the tunnel.
// Then it sends a probe over its wire and says so (TUNNEL_PROBED); the vnet where the guest is answers
// TUNNEL_SEEN as soon as it has captured the probe, or TUNNEL_UNSEEN after PLACE_WAIT_MS. One probe seen:
// one segment. PLACE_PROBES unseen: two.
typedef enum {
    PLACE_UNKNOWN,
    PLACE_HERE, // one segment
    PLACE_AWAY,
} PlaceVerdict;

#define PLACE_PROBES  3u
#define PLACE_WAIT_MS 20

// All zero: nothing is known and nothing awaited.
typedef struct {
    guint8 nonce[MARKER_NONCE];
    gboolean has_nonce;
    PlaceVerdict verdict;
    guint unseen;
    gboolean captured; // the one that watches: a probe that nobody has asked about yet
    gint64 due;        // ... until when the answer may wait, monotonic us; 0: none is owed
} Place;

// What the watching side is to say.
typedef enum {
    PLACE_SAYS_NOTHING,
    PLACE_SAYS_SEEN,
    PLACE_SAYS_UNSEEN,
} PlaceAnswer;

// The side that probes: makes the nonce. FALSE when the kernel has no randomness.
gboolean place_begin(Place *place, GError **error);

// An answer has come, or passes by.
void place_answered(Place *place, gboolean seen);

// The side that watches.
void place_watch(Place *place, const guint8 nonce[MARKER_NONCE]);
PlaceAnswer place_probed(Place *place);
PlaceAnswer place_captured(Place *place);
PlaceAnswer place_answer_due(Place *place);
int place_wait_ms(const Place *place); // -1: no answer is owed

const char *place_name(PlaceVerdict verdict);
