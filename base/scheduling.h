// SPDX-License-Identifier: LGPL-2.1-or-later
// How a guest's processes and ours stand to each other before the host's scheduler (sched(7)).
#pragma once

#include <glib.h>
#include <sys/types.h>

// Real-time priorities (SCHED_RR), from the lowest: vCPUs of a guest that arrives, which may work on and on;
// what interrupts them; what passes the guest's frames on; what sees to it that all this ends.
enum { REAL_TIME_VCPU = 1, REAL_TIME_INTERRUPTS, REAL_TIME_VNET, REAL_TIME_WATCH };

// Where the kernel makes a group of each session ("The autogroup feature"), the nice value of a thread counts
// only within its group, and that of the group against others. For processes in a control group of their own
// for CPUs it has no effect.

// The nice value of a process's group (0: of the caller's); FALSE: the kernel makes none.
gboolean scheduling_get_group_nice(pid_t pid, int *nice);

// Gives the group of a process (0: the caller's) a nice value; TRUE as well where the kernel makes none.
// Otherwise errno says why not: a lower one needs CAP_SYS_NICE; and any, if it is not to fail with EAGAIN
// within 0.1 s after another anywhere, CAP_SYS_ADMIN.
gboolean scheduling_set_group_nice(pid_t pid, int nice);
