// SPDX-License-Identifier: LGPL-2.1-or-later
// What became of numbered frames: lost, doubled, out of order, and the longest silence between two.
#pragma once

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ACCOUNT_GAPS = 8 }; // that are told by their numbers

typedef struct {
    unsigned char *seen; // how often each number came, 255 at most
    uint64_t room;
    uint64_t highest; // the highest number that came, and one more
    uint64_t distinct, doubled, reordered;
    int64_t last, longest; // us; of the silence
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

// The silence before this frame counts when `live`.
static inline void
account_add(Account *account, uint64_t number, int live)
{
    int64_t now = account_now();

    if (live && now - account->last > account->longest)
        account->longest = now - account->last;
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

// Of `sent` numbers from 0 on; in pairs of a word and a number, the numbers that are missing last.
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
    fprintf(out, "%s\n", gaps ? "" : "-");
}
