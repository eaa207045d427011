// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of a guest's emulator while the guest moves.
#include "driver/priority.h"

#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/autogroup.h"
#include "driver/vcpu.h"

#define NICE      (-10)
#define REAL_TIME 1 // the lowest; vnets, which pass the guest's frames on, have the next (vnet/latency.c)

// Threads that are made meanwhile do not get it, and ours can be told from an administrator's by that.
#define OURS (SCHED_RR | SCHED_RESET_ON_FORK)

static gboolean
is_ours(pid_t tid)
{
    const int policy = sched_getscheduler(tid);
    errno = 0;
    const int nice = getpriority(PRIO_PROCESS, (id_t) tid);
    return policy == OURS || (policy == SCHED_OTHER && errno == 0 && (nice == 0 || nice == NICE));
}

static gboolean
set_thread(pid_t tid, gboolean real_time, int nice)
{
    const struct sched_param param = {.sched_priority = real_time ? REAL_TIME : 0};
    return sched_setscheduler(tid, real_time ? OURS : SCHED_OTHER, &param) == 0 &&
           setpriority(PRIO_PROCESS, (id_t) tid, nice) == 0;
}

static gboolean
set_group(pid_t pid, int nice)
{
    int now = 0;
    const gboolean grouped = autogroup_get_nice(pid, &now);
    return !grouped || now == nice || (now != 0 && now != NICE) || autogroup_set_nice(pid, nice);
}

void
priority_set(pid_t pid, Priority priority)
{
    static gint told;
    const int nice = priority == PRIORITY_COPIED ? NICE : 0;
    const gboolean real_time = priority == PRIORITY_ARRIVING;
    g_autoptr(GArray) threads = vcpu_threads(pid);
    gboolean ok = set_group(pid, nice);
    for (guint i = 0; i < threads->len && ok; i++) {
        const pid_t tid = g_array_index(threads, pid_t, i);
        ok = !is_ours(tid) || set_thread(tid, real_time, nice) || errno == ESRCH;
    }
    if (ok && is_ours(pid))
        ok = set_thread(pid, real_time, 0) || errno == ESRCH;
    if (!ok && g_atomic_int_compare_and_exchange(&told, 0, 1))
        g_message("guests that move have no other scheduling priority: %s", g_strerror(errno));
}
