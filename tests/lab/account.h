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
    ACCOUNT_SILENCES = 32768,   // that are told
    ACCOUNT_SILENCE_US = 10000, // from how long on
};

typedef struct {
    int64_t begin, length; // us, of account_now()
} Silence;

typedef struct {
    unsigned char *seen; // how often each number came, 255 at most
    uint64_t room;
    uint64_t highest; // the highest number that came, and one more
    uint64_t distinct, doubled, reordered;
    int64_t last, longest; // us; of the silence
    Silence silences[ACCOUNT_SILENCES];
    int n_silences;
} Account;

static inline int64_t
account_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static inline void
account_begin(Account *account)
{
    memset(account, 0, sizeof(*account));
    account->last = account_now();
}

static inline void
account_silence(Account *account, int64_t now)
{
    Silence silence = {account->last, now - account->last};

    if (silence.length > account->longest)
        account->longest = silence.length;
    if (silence.length >= ACCOUNT_SILENCE_US && account->n_silences < ACCOUNT_SILENCES)
        account->silences[account->n_silences++] = silence;
}

// The silence before this frame counts when `live`.
static inline void
account_add(Account *account, uint64_t number, int live)
{
    int64_t now = account_now();

    if (live)
        account_silence(account, now);
    account->last = now;
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

// In pairs of a word and what it says: of `sent` numbers from 0 on, and the silences as BEGIN+LENGTH.
static inline void
account_tell(const Account *account, uint64_t sent, FILE *out)
{
    int gaps = 0;

    fprintf(out,
            "sent %" PRIu64 " lost %" PRIu64 " longest %" PRId64 " doubled %" PRIu64 " reordered %" PRIu64
            " missing ",
            sent, sent > account->distinct ? sent - account->distinct : 0, account->longest, account->doubled,
            account->reordered);
    for (uint64_t i = 0; i < sent && gaps < ACCOUNT_GAPS; i++) {
        uint64_t first = i;

        while (i < sent && (i >= account->room || !account->seen[i]))
            i++;
        if (i > first)
            fprintf(out, "%s%" PRIu64 "-%" PRIu64, gaps++ ? "," : "", first, i - 1);
    }
    fprintf(out, "%s silences ", gaps ? "" : "-");
    for (int i = 0; i < account->n_silences; i++)
        fprintf(out, "%s%" PRId64 "+%" PRId64, i ? "," : "", account->silences[i].begin,
                account->silences[i].length);
    fprintf(out, "%s\n", account->n_silences ? "" : "-");
}
