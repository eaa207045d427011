// SPDX-License-Identifier: LGPL-2.1-or-later
// Probes asked about, captured, and counted.
#include "vnet/place.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"

gboolean
place_begin(Place *place, GError **error)
{
    *place = (Place){.verdict = PLACE_UNKNOWN};
    if (getrandom(place->nonce, sizeof(place->nonce), GRND_NONBLOCK) != sizeof(place->nonce))
        return quasar_set_system_error(error, errno, "cannot make a nonce");
    place->has_nonce = TRUE;
    return TRUE;
}

void
place_answered(Place *place, gboolean seen)
{
    if (seen)
        place->verdict = PLACE_HERE;
    else if (place->verdict == PLACE_UNKNOWN && ++place->unseen >= PLACE_PROBES)
        place->verdict = PLACE_AWAY;
}

void
place_watch(Place *place, const guint8 nonce[MARKER_NONCE])
{
    *place = (Place){.has_nonce = TRUE};
    memcpy(place->nonce, nonce, MARKER_NONCE);
}

static PlaceAnswer
answer(Place *place, gboolean seen)
{
    place->captured = FALSE;
    place->due = 0;
    place_answered(place, seen);
    return seen ? PLACE_SAYS_SEEN : PLACE_SAYS_UNSEEN;
}

PlaceAnswer
place_probed(Place *place)
{
    if (place->captured)
        return answer(place, TRUE);
    place->due = g_get_monotonic_time() + PLACE_WAIT_MS * 1000;
    return PLACE_SAYS_NOTHING;
}

PlaceAnswer
place_captured(Place *place)
{
    if (place->due)
        return answer(place, TRUE);
    place->captured = TRUE;
    return PLACE_SAYS_NOTHING;
}

PlaceAnswer
place_answer_due(Place *place)
{
    return place->due && g_get_monotonic_time() >= place->due ? answer(place, FALSE) : PLACE_SAYS_NOTHING;
}

int
place_wait_ms(const Place *place)
{
    return place->due ? (int) (MAX(0, place->due - g_get_monotonic_time()) / 1000 + 1) : -1;
}

const char *
place_name(PlaceVerdict verdict)
{
    static const char *const names[] = {
        [PLACE_UNKNOWN] = "unknown", [PLACE_HERE] = "here", [PLACE_AWAY] = "away"};
    return names[verdict];
}
