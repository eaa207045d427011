// SPDX-License-Identifier: LGPL-2.1-or-later
// Group frames that come both ways, in each order, and those that have no twin.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vnet/twins.h"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Twins, twins_free)

static gint64 now;

// Whether it is to be given.
static gboolean
capture(Twins *twins, const char *text, gboolean given)
{
    return !twins_captured(twins, (const guint8 *) text, strlen(text), given, now) && given;
}

static gboolean
receive(Twins *twins, const char *text)
{
    return !twins_received(twins, (const guint8 *) text, strlen(text), now);
}

static void
the_second_copy_is_left_out(void **state)
{
    g_autoptr(Twins) twins = twins_new();
    assert_true(capture(twins, "a", TRUE));
    assert_true(receive(twins, "b"));
    assert_false(capture(twins, "b", TRUE));
    assert_false(receive(twins, "a"));
    // Both pairs are complete: these are new.
    assert_true(receive(twins, "a"));
    assert_true(capture(twins, "b", TRUE));
}

static void
a_copy_that_was_not_given_does_not_count(void **state)
{
    g_autoptr(Twins) twins = twins_new();
    assert_false(capture(twins, "a", FALSE));
    assert_true(receive(twins, "a"));
    // The pair is complete.
    assert_true(capture(twins, "a", TRUE));
    assert_false(receive(twins, "a"));
}

static void
repetitions_are_paired_in_order(void **state)
{
    g_autoptr(Twins) twins = twins_new();
    assert_false(capture(twins, "a", FALSE));
    assert_true(capture(twins, "a", TRUE));
    assert_true(receive(twins, "a"));
    assert_false(receive(twins, "a"));
    assert_true(receive(twins, "a"));
    assert_true(receive(twins, "a"));
    assert_false(capture(twins, "a", TRUE));
    assert_false(capture(twins, "a", TRUE));
    assert_true(capture(twins, "a", TRUE));
}

static void
what_has_no_twin_is_forgotten(void **state)
{
    g_autoptr(Twins) twins = twins_new();
    assert_true(receive(twins, "a"));
    assert_true(capture(twins, "b", TRUE));
    now += TWINS_US;
    assert_true(capture(twins, "a", TRUE));
    assert_true(receive(twins, "b"));
}

static void
the_oldest_give_way(void **state)
{
    g_autoptr(Twins) twins = twins_new();
    char text[16];
    for (guint i = 0; i < TWINS_MAX + 10; i++) {
        g_snprintf(text, sizeof(text), "%u", i);
        assert_true(capture(twins, text, TRUE));
    }
    assert_true(receive(twins, "0"));
    assert_false(receive(twins, "20"));
    assert_false(receive(twins, text));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_copy_is_left_out),
        cmocka_unit_test(a_copy_that_was_not_given_does_not_count),
        cmocka_unit_test(repetitions_are_paired_in_order),
        cmocka_unit_test(what_has_no_twin_is_forgotten),
        cmocka_unit_test(the_oldest_give_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
