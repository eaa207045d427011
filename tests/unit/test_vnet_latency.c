// SPDX-License-Identifier: LGPL-2.1-or-later
// Precedence is given up by who works too much, and comes back.
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "vnet/latency.h"

#define LOOK_US 20000 // latency.c

// Turns in which this process does nothing else, until the next look is due.
static void
work(Latency *latency)
{
    const gint64 since = latency->since;
    while (latency->since == since)
        latency_turn(latency, TRUE);
}

static void
rest(Latency *latency)
{
    const gint64 since = latency->since;
    while (latency->since == since) {
        g_usleep(LOOK_US + 1);
        latency_turn(latency, TRUE);
    }
}

static void
who_works_too_much_has_none_until_it_rests(void **state)
{
    Latency latency = {0};
    latency_ask(&latency);
    if (!latency.may)
        skip(); // without CAP_SYS_NICE
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    latency_turn(&latency, FALSE);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    rest(&latency);
    assert_int_equal(sched_getscheduler(0), SCHED_RR);
    work(&latency);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    assert_true(getpriority(PRIO_PROCESS, 0) < 0);
    rest(&latency);
    assert_int_equal(sched_getscheduler(0), SCHED_RR);
    latency.until = 0; // the move was long ago
    latency_turn(&latency, FALSE);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

static void
a_turn_costs_no_look(void **state)
{
    const gint64 soon = g_get_monotonic_time() + G_USEC_PER_SEC;
    Latency latency = {.may = TRUE, .has = TRUE, .since = soon, .until = soon};
    const Latency before = latency;
    latency_turn(&latency, FALSE);
    assert_memory_equal(&latency, &before, sizeof(latency));
}

static void
without_the_capability_nothing_changes(void **state)
{
    Latency latency = {0};
    const int policy = sched_getscheduler(0);
    latency_turn(&latency, TRUE);
    assert_int_equal(sched_getscheduler(0), policy);
    assert_false(latency.has);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_the_capability_nothing_changes),
        cmocka_unit_test(a_turn_costs_no_look),
        cmocka_unit_test(who_works_too_much_has_none_until_it_rests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
