// SPDX-License-Identifier: LGPL-2.1-or-later
// Markers, byte by byte.
#include "vnet/marker.h"

#include <string.h>

static const guint8 group[PACKET_MAC] = {0x03, 0x51, 0x55, 0x41, 0x53, 0x52};
static const guint8 type[8] = {0x88, 0xb5, 'Q', 'u', 'a', 's', 'a', 'r'};

enum { NONCE = 2 * PACKET_MAC + sizeof(type), KIND = NONCE + MARKER_NONCE };

void
marker_build(guint8 frame[MARKER_LENGTH], const MacAddress *guest, const guint8 nonce[MARKER_NONCE],
             MarkerKind kind)
{
    const gboolean to_guest = kind == MARKER_GUEST || kind == MARKER_ECHO;
    memset(frame, 0, MARKER_LENGTH);
    memcpy(frame, to_guest ? guest->bytes : group, PACKET_MAC);
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
    *mine = nonce && memcmp(frame + NONCE, nonce, MARKER_NONCE) == 0;
    *kind = frame[KIND] < N_MARKERS ? (MarkerKind) frame[KIND] : MARKER_MOMENT;
    return TRUE;
}
