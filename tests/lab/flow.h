// SPDX-License-Identifier: LGPL-2.1-or-later
// What is due at each tick, of all such flows of a process by one thread: an emulated guest then wakes once
// for all.
#pragma once

#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "ticks.h"

enum { FLOW_CATCH_UP = 20 };

typedef struct Flow Flow;

struct Flow {
    // On the ticking thread, which it must not keep waiting. Of `ticks` that were missed only some are told:
    // who has slept long is not to send it all at once.
    void (*step)(Flow *self, uint64_t ticks);
    Flow *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t some;
    Flow *first; // of those that run
    int ticks;   // there is a thread for them
} flows = {.lock = PTHREAD_MUTEX_INITIALIZER, .some = PTHREAD_COND_INITIALIZER};

// With the lock. Ticks while there were no flows are nobody's.
static inline void
flow_await_some(int timer)
{
    while (!flows.first) {
        pthread_cond_wait(&flows.some, &flows.lock);
        ticks_wait(timer);
    }
}

static inline void *
flow_tick(void *timer)
{
    for (;;) {
        uint64_t ticks = ticks_wait(*(int *) timer);

        pthread_mutex_lock(&flows.lock);
        if (!flows.first) {
            flow_await_some(*(int *) timer);
            ticks = 1;
        }
        for (Flow *each = flows.first; each; each = each->next)
            each->step(each, ticks < FLOW_CATCH_UP ? ticks : FLOW_CATCH_UP);
        pthread_mutex_unlock(&flows.lock);
    }
    return NULL;
}

// -1: there can be no thread, with errno.
static inline int
flow_begin(Flow *begun)
{
    static int timer;
    pthread_t thread;
    int error = 0;

    pthread_mutex_lock(&flows.lock);
    if (!flows.ticks)
        error = (timer = ticks_open(1)) < 0 ? errno : pthread_create(&thread, NULL, flow_tick, &timer);
    if (error && timer >= 0)
        close(timer);
    if (!error) {
        flows.ticks = 1;
        begun->next = flows.first;
        flows.first = begun;
        pthread_cond_signal(&flows.some);
    }
    pthread_mutex_unlock(&flows.lock);
    errno = error;
    return error ? -1 : 0;
}

static inline void
flow_end(Flow *ended)
{
    pthread_mutex_lock(&flows.lock);
    for (Flow **each = &flows.first; *each; each = &(*each)->next) {
        if (*each == ended) {
            *each = ended->next;
            break;
        }
    }
    pthread_mutex_unlock(&flows.lock);
}

// Until something can be read from `stop`; -1 with errno.
static inline int
flow_run(Flow *run, int stop)
{
    struct pollfd polled = {stop, POLLIN, 0};

    if (flow_begin(run) < 0)
        return -1;
    while (poll(&polled, 1, -1) < 0 && errno == EINTR)
        ;
    flow_end(run);
    return 0;
}
