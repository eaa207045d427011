// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of this process: how soon it runs when a frame wakes it on a busy host.
//
// A guest hears nothing while this process waits for its turn behind others, and it needs little of a
// processor for little at a time. So it precedes them (nice).
//
// That is a share of a processor, not a time: while a guest moves and its memory is copied, this process was
// seen to wait for 100 ms all the same. So in a move it has a real-time priority (sched(7), SCHED_RR), as
// long as it does need little: flooded by a guest or a segment it is an ordinary process again
// for a while, and so it is if it works on and on without coming to the end of a turn; the host's other work
// goes on. At other times it is not known to need it: the scheduler wakes a real-time process where it ran
// last, even if that processor sleeps and another one is awake.
#pragma once

#include <glib.h>

#define LATENCY_LOOK_US    20000  // from one look at how much it works to the next, at least
#define LATENCY_LONGEST_US 200000 // without a rest

// Times in us, of the monotonic clock.
typedef struct {
    gboolean allowed;    // to have the real-time priority
    gboolean real_time;  // it has it
    gint64 wanted_until; // a move is expected or under way, or was a short time ago
    gint64 barred_until; // it has needed too much
    gint64 looked;       // when that was looked at last
    gint64 used_us;      // of a processor, until then
} Latency;

// Asks the kernel, once and before privileges are given up. Needs CAP_SYS_NICE, then and, when the real-time
// priority is `allowed`, for good (confine.h): RLIMIT_RTPRIO would do instead, but cannot be raised in
// containers without CAP_SYS_RESOURCE. Without it nothing changes, which is logged.
void latency_ask(Latency *latency);

// A move has been announced and may come within this time, for all that the loop knows.
void latency_expect_move(Latency *latency, guint seconds);

// At the end of each turn of the loop. `moves`: the priority is wanted, and for a short time when that is
// over; an idle process gives it up with its next turn.
void latency_turn(Latency *latency, gboolean moves);
