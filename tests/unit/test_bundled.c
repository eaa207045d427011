// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulator guests of an architecture get.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above.
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "emulator/arch.h"
#include "emulator/bundled.h"

static void
test_names(void **state)
{
    (void) state;
    assert_string_equal(emulator_archs[0].name, "x86_64");
    assert_string_equal(emulator_arch_find("i686")->target, "i386");
    assert_int_equal(emulator_arch_find("i686")->wordsize, 32);
    assert_ptr_equal(emulator_arch_of_target("i386"), emulator_arch_find("i686"));
    // Each of them knows one name only.
    assert_null(emulator_arch_find("i386"));
    assert_null(emulator_arch_of_target("i686"));
}

static void
test_named_ones(void **state)
{
    (void) state;
    g_setenv("QUASAR_EMULATOR", "/nowhere/wide", TRUE);
    g_setenv("QUASAR_EMULATOR_I386", "/nowhere/narrow", TRUE);
    assert_string_equal(emulator_default(NULL, NULL), "/nowhere/wide");
    assert_string_equal(emulator_default("x86_64", NULL), "/nowhere/wide");
    assert_string_equal(emulator_default("i686", NULL), "/nowhere/narrow");
}

static void
test_found_ones(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    g_unsetenv("QUASAR_EMULATOR");
    g_unsetenv("QUASAR_EMULATOR_I386");
    // Its path is told even where nothing is.
    assert_true(g_str_has_suffix(emulator_default(NULL, &error), "x86_64"));
    const char *narrow = emulator_default("i686", &error);
    if (narrow) {
        assert_true(g_str_has_suffix(narrow, "/qemu-system-i386"));
        assert_true(g_file_test(narrow, G_FILE_TEST_IS_EXECUTABLE));
        return;
    }
    assert_int_equal(error->code, VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, "make emulator-i386"));
}

static void
test_unknown_one(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    assert_null(emulator_default("ppc64", &error));
    assert_int_equal(error->code, VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, "'ppc64' are not supported"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_named_ones),
        cmocka_unit_test(test_found_ones),
        cmocka_unit_test(test_unknown_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
