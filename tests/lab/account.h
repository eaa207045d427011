// SPDX-License-Identifier: LGPL-2.1-or-later
// What became of numbered frames: lost, doubled, out of order, and the longest silence between two.
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ACCOUNT_GAPS = 8,           // missing numbers, how many runs of them are told
    ACCOUNT_SILENCES = 65536,   // that are told
    ACCOUNT_SILENCE_US = 10000, // from how long on
};

typedef struct {
    int64_t begin, length; // us, of account_now()
} Silence;

typedef struct {
    int64_t last;    // when something was heard last; us, of account_now()
    int64_t longest; // us
    Silence found[ACCOUNT_SILENCES];
    int n_found;
} Silences;

typedef struct {
    unsigned char *seen; // how often each number came, 255 at most
    uint64_t room;
    uint64_t highest; // the highest number that came, and one more
    uint64_t distinct, doubled, reordered;
    Silences silences;
} Account;

static inline int64_t
account_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline void
silences_begin(Silences *silences)
{
    memset(silences, 0, sizeof(*silences));
    silences->last = account_now();
}

// Something was heard; the silence before it counts when `live`.
static inline void
silences_end(Silences *silences, int live)
{
    int64_t now = account_now();
    Silence silence = {silences->last, now - silences->last};

    silences->last = now;
    if (!live)
        return;
    if (silence.length > silences->longest)
        silences->longest = silence.length;
    if (silence.length >= ACCOUNT_SILENCE_US && silences->n_found < ACCOUNT_SILENCES)
        silences->found[silences->n_found++] = silence;
}

// As a word: BEGIN+LENGTH,...
static inline void
silences_tell(const Silences *silences, FILE *out)
{
    fprintf(out, "silences ");
    for (int i = 0; i < silences->n_found; i++)
        fprintf(out, "%s%" PRId64 "+%" PRId64, i ? "," : "", silences->found[i].begin,
                silences->found[i].length);
    fprintf(out, "%s\n", silences->n_found ? "" : "-");
}

static inline void
account_begin(Account *account)
{
    memset(account, 0, sizeof(*account));
    silences_begin(&account->silences);
}

// The silence before this frame counts when `live`.
static inline void
account_add(Account *account, uint64_t number, int live)
{
    silences_end(&account->silences, live);
    if (number >= UINT32_MAX)
        return; // nobody sent so many
    if (number >= account->room) {
        uint64_t room = (number + 65536) * 2;

        account->seen = realloc(account->seen, room);
        if (!account->seen)
            abort();
        memset(account->seen + account->room, 0, room - account->room);
        account->room = room;
    }
    if (account->seen[number])
        account->doubled++;
    else if (number + 1 < account->highest)
        account->reordered++;
    account->distinct += !account->seen[number];
    account->seen[number] += account->seen[number] < 255;
    if (number + 1 > account->highest)
        account->highest = number + 1;
}

// In pairs of a word and what it says: of `sent` numbers from 0 on, and the silences.
static inline void
account_tell(const Account *account, uint64_t sent, FILE *out)
{
    int gaps = 0;

    fprintf(out,
            "sent %" PRIu64 " lost %" PRIu64 " longest %" PRId64 " doubled %" PRIu64 " reordered %" PRIu64
            " missing ",
            sent, sent > account->distinct ? sent - account->distinct : 0, account->silences.longest,
            account->doubled, account->reordered);
    for (uint64_t i = 0; i < sent && gaps < ACCOUNT_GAPS; i++) {
        uint64_t first = i;

        while (i < sent && (i >= account->room || !account->seen[i]))
            i++;
        if (i > first)
            fprintf(out, "%s%" PRIu64 "-%" PRIu64, gaps++ ? "," : "", first, i - 1);
    }
    fprintf(out, "%s ", gaps ? "" : "-");
    silences_tell(&account->silences, out);
}
