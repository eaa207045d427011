// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of this process: real-time in a move while it needs little, otherwise nice.
#include "vnet/latency.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "base/scheduling.h"

#define NICE      (-10)
#define LINGER_US G_USEC_PER_SEC       // after a move, when the guest catches up
#define SHARE     2                    // it may need one of so many parts of a processor
#define BARRED_US (G_USEC_PER_SEC / 2) // if it needs more

static volatile sig_atomic_t worked_on;

static gint64
used_us(void)
{
    struct timespec used = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (gint64) used.tv_sec * G_USEC_PER_SEC + used.tv_nsec / 1000;
}

static gboolean
set_real_time(gboolean real_time)
{
    const struct sched_param param = {.sched_priority = real_time ? REAL_TIME_VNET : 0};
    return sched_setscheduler(0, real_time ? SCHED_RR : SCHED_OTHER, &param) == 0;
}

// In a signal handler.
static void
work_on(int number G_GNUC_UNUSED)
{
    const int before = errno;
    worked_on = set_real_time(FALSE);
    errno = before;
}

// The kernel counts from one rest to the next. It never ends the process but sends a signal, and allows
// another second each time it has.
static gboolean
limit_work(void)
{
    const struct rlimit longest = {LATENCY_LONGEST_US, RLIM_INFINITY};
    return setrlimit(RLIMIT_RTTIME, &longest) == 0;
}

static gboolean
handle_limit(void)
{
    const struct sigaction action = {.sa_handler = work_on, .sa_flags = SA_RESTART};
    return sigaction(SIGXCPU, &action, NULL) == 0 && limit_work();
}

void
latency_ask(Latency *latency)
{
    const gboolean nice = setpriority(PRIO_PROCESS, 0, NICE) == 0 && scheduling_set_group_nice(0, NICE);
    latency->allowed = nice && handle_limit() && set_real_time(TRUE) && set_real_time(FALSE);
    if (!latency->allowed)
        g_message("cannot have %s scheduling priority: %s", nice ? "a real-time" : "any", g_strerror(errno));
}

void
latency_expect_move(Latency *latency, guint seconds)
{
    latency->wanted_until = g_get_monotonic_time() + (gint64) seconds * G_USEC_PER_SEC;
}

static void
change(Latency *latency, gboolean real_time)
{
    if (real_time != latency->real_time && set_real_time(real_time))
        latency->real_time = real_time;
}

static void
look(Latency *latency, gint64 now)
{
    const gint64 used = used_us();
    if (worked_on || (used - latency->used_us) * SHARE >= now - latency->looked)
        latency->barred_until = now + BARRED_US;
    if (worked_on) {
        latency->real_time = worked_on = FALSE;
        limit_work();
    }
    latency->looked = now;
    latency->used_us = used;
}

void
latency_turn(Latency *latency, gboolean moves)
{
    const gint64 now = g_get_monotonic_time();
    if (!latency->allowed)
        return;
    if (moves)
        latency->wanted_until = MAX(latency->wanted_until, now + LINGER_US);
    if (worked_on || now - latency->looked >= LATENCY_LOOK_US)
        look(latency, now);
    change(latency, now < latency->wanted_until && now >= latency->barred_until);
}
