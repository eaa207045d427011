// SPDX-License-Identifier: LGPL-2.1-or-later
// The precedence of a process: real-time while it needs little, otherwise among the processes of its group,
// and that of its group.
#include "vnet/latency.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define NICE      (-10)
#define PRIORITY  1       // the lowest
#define LINGER_US 2000000 // after a move: the guest catches up
#define LOOK_US   20000   // from one look to the next, at least
#define PART      2       // the process may need one such part of a processor
#define LONGEST_S 1       // without a rest; a turn of the loop takes some ms at most

static gint64
used_us(void)
{
    struct timespec used = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (gint64) used.tv_sec * G_USEC_PER_SEC + used.tv_nsec / 1000;
}

static gboolean
set_priority(gboolean real_time)
{
    const struct sched_param param = {.sched_priority = real_time ? PRIORITY : 0};
    return sched_setscheduler(0, real_time ? SCHED_RR : SCHED_OTHER, &param) == 0;
}

// What hangs does not keep it.
static gboolean
set_limit(void)
{
    const struct rlimit longest = {LONGEST_S * G_USEC_PER_SEC, LONGEST_S * G_USEC_PER_SEC};
    return setrlimit(RLIMIT_RTTIME, &longest) == 0;
}

// Where the kernel makes a group of each session (sched(7), "The autogroup feature"), a process's own value
// only counts within it. TRUE where it does not.
static gboolean
ask_for_group(void)
{
    g_autofree char *text = g_strdup_printf("%d", NICE);
    int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    const gboolean ok = write(fd, text, strlen(text)) >= 0;
    close(fd);
    return ok;
}

void
latency_ask(Latency *latency)
{
    const gboolean nice = setpriority(PRIO_PROCESS, 0, NICE) == 0 && ask_for_group();
    latency->may = nice && set_limit() && set_priority(TRUE) && set_priority(FALSE);
    if (!latency->may)
        g_message("cannot have %s precedence on a busy host: %s", nice ? "all" : "any", g_strerror(errno));
}

static void
change(Latency *latency, gboolean real_time)
{
    if (real_time != latency->has && set_priority(real_time))
        latency->has = real_time;
}

// Whether it has needed little since the last look.
static gboolean
is_deserved(Latency *latency, gint64 now)
{
    const gint64 used = used_us();
    const gboolean deserved = (used - latency->used_us) * PART < now - latency->since;
    latency->since = now;
    latency->used_us = used;
    return deserved;
}

void
latency_turn(Latency *latency, gboolean moves)
{
    const gint64 now = g_get_monotonic_time();
    if (!latency->may)
        return;
    if (moves)
        latency->until = now + LINGER_US;
    if (now >= latency->until)
        change(latency, FALSE);
    else if (now - latency->since >= LOOK_US)
        change(latency, is_deserved(latency, now));
}
