// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of a guest's emulator while the guest moves (sched(7)).
//
// Who talks to a guest notices two things of a move besides the pause. While its memory and disks are copied,
// the threads that copy take processors from the guest: on a host that has no others it was seen to get
// 15 % of one. And when it has arrived, what has waited for it has to be worked through at once, and a share
// of a processor is too little for that.
//
// Threads that somebody else has given a priority keep it: a policy, or another nice value than the main
// thread's. All needs CAP_SYS_NICE; without it priorities stay as they are, which is logged.
#pragma once

#include "emulator/launch.h"

// How long a guest that has arrived precedes all that has no real-time priority, ms.
#define PRIORITY_ARRIVING_MS 100

// The guest is being copied: until priority_end() its vCPUs are nice -5, and so is the group of its session
// where the kernel makes such groups.
void priority_copy(const EmulatorProcess *process);

// The guest is about to run here. Its vCPUs, and the main thread, by which an emulated device interrupts
// them, have real-time priorities when this returns (base/scheduling.h), and what they had before when the
// time is over.
void priority_arrive(const EmulatorProcess *process);

// Ends both, whoever began it: a daemon that is no more, too. May wait for some tenths of a second.
void priority_end(const EmulatorProcess *process);

// This process ends: waits for all arrivals' end; guests that arrive from now on get no priority.
void priority_drain(void);
