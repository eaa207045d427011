// SPDX-License-Identifier: LGPL-2.1-or-later
// Markers, byte by byte.
#include "vnet/marker.h"

#include <string.h>

static const guint8 group[PACKET_MAC] = {0x03, 0x51, 0x55, 0x41, 0x53, 0x52};
static const guint8 type[8] = {0x88, 0xb5, 'Q', 'u', 'a', 's', 'a', 'r'};

static gboolean
is_for_guest(MarkerKind kind)
{
    return kind == MARKER_GUEST || kind == MARKER_ECHO;
}

enum { NONCE = 2 * PACKET_MAC + sizeof(type), KIND = NONCE + MARKER_NONCE };

void
marker_build(guint8 frame[MARKER_LENGTH], const MacAddress *guest, const guint8 nonce[MARKER_NONCE],
             MarkerKind kind)
{
    memset(frame, 0, MARKER_LENGTH);
    memcpy(frame, is_for_guest(kind) ? guest->bytes : group, PACKET_MAC);
    memcpy(frame + PACKET_MAC, nonce, PACKET_MAC);
    frame[PACKET_MAC] = 0x02;
    memcpy(frame + 2 * PACKET_MAC, type, sizeof(type));
    memcpy(frame + NONCE, nonce, MARKER_NONCE);
    frame[KIND] = (guint8) kind;
}

gboolean
marker_parse(const guint8 *frame, gsize length, const guint8 *nonce, gboolean *mine, MarkerKind *kind)
{
    *mine = FALSE;
    *kind = MARKER_MOMENT;
    if (length <= KIND || memcmp(frame + 2 * PACKET_MAC, type, sizeof(type)) != 0)
        return FALSE;
    *kind = frame[KIND] < N_MARKERS ? (MarkerKind) frame[KIND] : MARKER_MOMENT;
    // What is to show where frames for the guest go has to be one: the captures have no others to one
    // station.
    *mine = nonce && memcmp(frame + NONCE, nonce, MARKER_NONCE) == 0 &&
            (is_for_guest(*kind) ? (frame[0] & 1) == 0 : memcmp(frame, group, PACKET_MAC) == 0);
    return TRUE;
}
