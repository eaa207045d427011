// SPDX-License-Identifier: LGPL-2.1-or-later
// How soon this process runs when a frame wakes it on a host whose processors are busy.
//
// A guest hears nothing while this process waits for its turn behind others, and it needs little of a
// processor for little at a time. So it precedes them (nice, as Open vSwitch's daemon does).
//
// That is a share of a processor, not a time: while a guest moves and its memory is copied, this process was
// seen to wait for 100 ms all the same. So in a move it has the lowest real-time priority (sched(7),
// SCHED_RR), as long as it does need little: flooded by a guest or a segment it is an ordinary process again,
// and the host's other work goes on. One that hangs is ended by the kernel (RLIMIT_RTTIME). At other times
// the scheduler does better without: it wakes a real-time process where it ran last, and to wake another
// processor can take longer than all that is to be done.
#pragma once

#include <glib.h>

typedef struct {
    gboolean may;   // have that priority
    gboolean has;   // it
    gint64 until;   // us of the monotonic clock, until when it is wanted
    gint64 since;   // ... when it was last looked at whether it is deserved
    gint64 used_us; // of a processor, until then
} Latency;

// Asks the kernel, once and before privileges are given up. Needs CAP_SYS_NICE, then and, when it `may` have
// that priority, for good (confine.h): RLIMIT_RTPRIO would do instead, but not where containers run without
// CAP_SYS_RESOURCE. Without it nothing changes, which is logged.
void latency_ask(Latency *latency);

// At the end of each turn of the loop. `moves`: now, and for a while when it no longer does, the priority is
// wanted.
void latency_turn(Latency *latency, gboolean moves);
