// SPDX-License-Identifier: LGPL-2.1-or-later
// The rate of this host's time stamp counter.
#include "emulator/ticks.h"

#include <string.h>
#include <time.h>

// Theory of operation. What processors say of their rate is often missing and sometimes only nominal, so it
// is measured, against the clock that nobody slews. Two moments are taken, each as a counter value between
// two readings of that clock; how far these are apart is what is not known of the moment.

#define TRIES        32 // at a moment, of which the closest pair of readings counts
#define FIRST_US     20000
#define ROUNDS       4     // each twice as long
#define UNKNOWN_PART 20000 // a part of the time measured: 50 ppm

#ifdef __x86_64__

#include <x86intrin.h>

typedef struct {
    gint64 before_ns, after_ns;
    guint64 ticks;
} Moment;

static gint64
clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return now.tv_sec * G_GINT64_CONSTANT(1000000000) + now.tv_nsec;
}

static Moment
take_moment(void)
{
    Moment best = {.after_ns = G_MAXINT64};
    for (int i = 0; i < TRIES; i++) {
        Moment moment = {.before_ns = clock_ns()};
        moment.ticks = __rdtsc();
        moment.after_ns = clock_ns();
        if (moment.after_ns - moment.before_ns < best.after_ns - best.before_ns)
            best = moment;
    }
    return best;
}

static gboolean
is_constant(void)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return FALSE;
    const char *flags = strstr(text, "\nflags");
    g_autofree char *line = flags ? g_strndup(flags + 1, strcspn(flags + 1, "\n")) : NULL;
    g_auto(GStrv) words = g_strsplit(line ? line : "", " ", -1);
    return g_strv_contains((const char *const *) words, "constant_tsc");
}

static guint64
measure(void)
{
    if (!is_constant())
        return 0;
    const Moment first = take_moment();
    for (int round = 0; round < ROUNDS; round++) {
        g_usleep(FIRST_US << round);
        const Moment last = take_moment();
        gint64 unknown_ns = last.after_ns - last.before_ns + first.after_ns - first.before_ns;
        gint64 passed_ns = last.before_ns - first.before_ns;
        if (passed_ns > 0 && unknown_ns < passed_ns / UNKNOWN_PART)
            return (guint64) ((double) (last.ticks - first.ticks) * 1e9 / (double) passed_ns);
    }
    return 0;
}

#else

static guint64
measure(void)
{
    return 0;
}

#endif

guint64
emulator_ticks_hz(void)
{
    static gsize hz_plus_one;
    if (g_once_init_enter(&hz_plus_one))
        g_once_init_leave(&hz_plus_one, (gsize) measure() + 1);
    return hz_plus_one - 1;
}
