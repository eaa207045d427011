// SPDX-License-Identifier: LGPL-2.1-or-later
// The copies whose twins have not come: a ring in the order of their coming.
#include "vnet/twins.h"

#include <string.h>

#define DIGEST 20u // SHA-1's

typedef enum {
    FOUND_TWIN, // nothing is expected any more
    CAPTURED_AND_GIVEN,
    CAPTURED_ONLY,
    RECEIVED_AND_GIVEN,
} Fate;

typedef struct {
    guint8 digest[DIGEST];
    gint64 came;
    Fate fate;
} Copy;

struct Twins {
    Copy copies[TWINS_MAX];
    guint first, n;
};

Twins *
twins_new(void)
{
    return g_new0(Twins, 1);
}

void
twins_free(Twins *twins)
{
    g_free(twins);
}

static Copy *
nth(Twins *twins, guint i)
{
    return &twins->copies[(twins->first + i) % TWINS_MAX];
}

static void
forget_first(Twins *twins)
{
    twins->first = (twins->first + 1) % TWINS_MAX;
    twins->n--;
}

static void
forget_old(Twins *twins, gint64 now)
{
    while (twins->n > 0 && (nth(twins, 0)->fate == FOUND_TWIN || nth(twins, 0)->came + TWINS_US <= now))
        forget_first(twins);
}

static void
make_digest(guint8 digest[DIGEST], const guint8 *frame, gsize length)
{
    gsize size = DIGEST;
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(checksum, frame, (gssize) length);
    g_checksum_get_digest(checksum, digest, &size);
}

// The oldest copy of these bytes that came the other way; it has found its twin. What became of it.
static Fate
take_twin(Twins *twins, const guint8 digest[DIGEST], gboolean received)
{
    for (guint i = 0; i < twins->n; i++) {
        Copy *copy = nth(twins, i);
        const Fate fate = copy->fate;
        if (fate == FOUND_TWIN || (fate == RECEIVED_AND_GIVEN) != received ||
            memcmp(copy->digest, digest, DIGEST) != 0)
            continue;
        copy->fate = FOUND_TWIN;
        return fate;
    }
    return FOUND_TWIN;
}

static void
remember(Twins *twins, const guint8 digest[DIGEST], Fate fate, gint64 now)
{
    if (twins->n == TWINS_MAX)
        forget_first(twins);
    Copy *copy = nth(twins, twins->n++);
    memcpy(copy->digest, digest, DIGEST);
    copy->came = now;
    copy->fate = fate;
}

gboolean
twins_captured(Twins *twins, const guint8 *frame, gsize length, gboolean given, gint64 now)
{
    guint8 digest[DIGEST];
    forget_old(twins, now);
    make_digest(digest, frame, length);
    if (take_twin(twins, digest, TRUE) == RECEIVED_AND_GIVEN)
        return TRUE;
    remember(twins, digest, given ? CAPTURED_AND_GIVEN : CAPTURED_ONLY, now);
    return FALSE;
}

gboolean
twins_received(Twins *twins, const guint8 *frame, gsize length, gint64 now)
{
    guint8 digest[DIGEST];
    forget_old(twins, now);
    make_digest(digest, frame, length);
    const Fate fate = take_twin(twins, digest, FALSE);
    if (fate == FOUND_TWIN)
        remember(twins, digest, RECEIVED_AND_GIVEN, now);
    return fate == CAPTURED_AND_GIVEN;
}
