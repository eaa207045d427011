// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of a guest's emulator while the guest moves (sched(7)).
//
// Who talks to a guest notices two things of a move besides the pause. While its memory and disks are copied,
// the threads that copy take processors from the guest: on a host that has no others it was seen to get
// 15 % of one. And when it has arrived, what has waited for it has to be worked through at once, and a share
// of a processor is too little for that.
#pragma once

#include <sys/types.h>

// How long a guest that has arrived precedes all that has no real-time priority, ms.
#define PRIORITY_ARRIVING_MS 100

typedef enum {
    PRIORITY_USUAL,
    PRIORITY_COPIED,   // its vCPUs and, where the kernel makes groups of sessions, the emulator: nice -10
    PRIORITY_ARRIVING, // its vCPUs and the main thread, by which an emulated device interrupts them: SCHED_RR
                       // 1
} Priority;

// Whoever asks for another than the usual one sees to it that it ends. Threads to which somebody else gave a
// priority keep it. Needs CAP_SYS_NICE; without it nothing changes, which is logged once.
void priority_set(pid_t pid, Priority priority);
