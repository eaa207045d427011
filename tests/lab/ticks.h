// SPDX-License-Identifier: LGPL-2.1-or-later
// A clock that ticks each millisecond, at the same moments in all programs: an emulated guest wakes once for
// all of them.
#pragma once

#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TICK_US = 1000 };

// A descriptor that can be read after each tick, or after each so many, of a second at most; -1 with errno.
static inline int
ticks_open(int each)
{
    struct itimerspec every = {{0, each * TICK_US * 1000}, {0, 0}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

    clock_gettime(CLOCK_MONOTONIC, &every.it_value);
    every.it_value.tv_nsec -= every.it_value.tv_nsec % (TICK_US * 1000); // the last one: the next is at once
    if (timer >= 0 && timerfd_settime(timer, TFD_TIMER_ABSTIME, &every, NULL) == 0)
        return timer;
    if (timer >= 0)
        close(timer);
    return -1;
}

// Waits for a tick unless there was one since the last call. Returns how many there were; 0: a signal came.
static inline uint64_t
ticks_wait(int timer)
{
    uint64_t ticks = 0;

    return read(timer, &ticks, sizeof(ticks)) == sizeof(ticks) ? ticks : 0;
}
