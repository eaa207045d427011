// SPDX-License-Identifier: LGPL-2.1-or-later
// Preloaded into an emulator: its host's clock is QUASAR_TEST_SHIFT seconds ahead of the machine's.
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t
shift(void)
{
    const char *text = getenv("QUASAR_TEST_SHIFT");
    return text ? atol(text) : 0;
}

int
clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME)
        now->tv_sec += shift();
    return result;
}

// Not the header's prototype of this name, which says that its arguments are never NULL.
int shifted_gettimeofday(struct timeval *now, void *zone) __asm__("gettimeofday");

int
shifted_gettimeofday(struct timeval *now, void *zone)
{
    (void) zone;
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}
