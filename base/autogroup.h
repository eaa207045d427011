// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduler's groups of sessions (sched(7), "The autogroup feature").
#pragma once

#include <glib.h>
#include <sys/types.h>

// Where the kernel makes a group of each session, the nice value of a process or a thread counts only within
// its group, and that of the group against others.

// The nice value of a process's group (0: of the caller's); FALSE: the kernel makes none.
gboolean autogroup_get_nice(pid_t pid, int *nice);

// Gives the group of a process (0: the caller's) a nice value; TRUE as well where the kernel makes none.
// Otherwise errno says why not: a lower one needs CAP_SYS_NICE, and two changes within 0.1 s CAP_SYS_ADMIN
// (EAGAIN).
gboolean autogroup_set_nice(pid_t pid, int nice);
