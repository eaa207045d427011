// SPDX-License-Identifier: LGPL-2.1-or-later
// A real-time priority is given up by who works too much, and comes back.
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "vnet/latency.h"

#define LAST_S 20

// Turns in a move, with or without rests, until it has the priority, or has it no more.
static void
turn_until(Latency *latency, gboolean real_time, gboolean rests)
{
    const gint64 last = g_get_monotonic_time() + LAST_S * G_USEC_PER_SEC;
    while (latency->real_time != real_time && g_get_monotonic_time() < last) {
        if (rests)
            g_usleep(LATENCY_LOOK_US + 1);
        latency_turn(latency, TRUE);
    }
    assert_int_equal(latency->real_time, real_time);
    assert_int_equal(sched_getscheduler(0), real_time ? SCHED_RR : SCHED_OTHER);
}

static void
ask(Latency *latency)
{
    latency_ask(latency);
    if (!latency->allowed)
        skip(); // without CAP_SYS_NICE
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    assert_true(getpriority(PRIO_PROCESS, 0) < 0);
}

// Long ago.
static void
end_move(Latency *latency)
{
    latency->wanted_until = 0;
    latency_turn(latency, FALSE);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

static void
it_is_had_in_a_move_only(void **state)
{
    Latency latency = {0};
    ask(&latency);
    latency_turn(&latency, FALSE);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    turn_until(&latency, TRUE, TRUE);
    end_move(&latency);
    latency_expect_move(&latency, LAST_S);
    latency_turn(&latency, FALSE);
    assert_int_equal(sched_getscheduler(0), SCHED_RR);
    end_move(&latency);
}

static void
who_works_too_much_has_it_no_more_for_a_while(void **state)
{
    Latency latency = {0};
    ask(&latency);
    turn_until(&latency, TRUE, TRUE);
    turn_until(&latency, FALSE, FALSE);
    latency.barred_until = g_get_monotonic_time() + LAST_S * G_USEC_PER_SEC;
    g_usleep(LATENCY_LOOK_US + 1);
    latency_turn(&latency, TRUE);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    latency.barred_until = 0;
    turn_until(&latency, TRUE, TRUE);
    end_move(&latency);
}

// Without a turn: the kernel's signal.
static void
who_works_on_and_on_has_it_no_more(void **state)
{
    Latency latency = {0};
    ask(&latency);
    turn_until(&latency, TRUE, TRUE);
    const gint64 last = g_get_monotonic_time() + LAST_S * G_USEC_PER_SEC;
    while (sched_getscheduler(0) == SCHED_RR && g_get_monotonic_time() < last)
        ;
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    latency_turn(&latency, TRUE);
    assert_false(latency.real_time);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    // The kernel has allowed more next time; it is not to.
    struct rlimit limit;
    assert_return_code(getrlimit(RLIMIT_RTTIME, &limit), errno);
    assert_int_equal(limit.rlim_cur, LATENCY_LONGEST_US);
    end_move(&latency);
}

static void
who_may_not_have_it_does_not_ask(void **state)
{
    Latency latency = {0};
    const int policy = sched_getscheduler(0);
    latency_turn(&latency, TRUE);
    assert_int_equal(sched_getscheduler(0), policy);
    assert_false(latency.real_time);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_not_have_it_does_not_ask),
        cmocka_unit_test(it_is_had_in_a_move_only),
        cmocka_unit_test(who_works_too_much_has_it_no_more_for_a_while),
        cmocka_unit_test(who_works_on_and_on_has_it_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
