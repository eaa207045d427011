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
    // One emulator has guests of two names.
    assert_ptr_equal(emulator_arch_of_target("ppc64"), emulator_arch_find("ppc64"));
    assert_true(emulator_arch_serves("ppc64", "ppc64le") && emulator_arch_serves("ppc64le", "ppc64"));
    assert_true(emulator_arch_serves("ppc64", "ppc64") && emulator_arch_serves("sparc", "sparc"));
    assert_false(emulator_arch_serves("x86_64", "i686") || emulator_arch_serves("ppc64", "ppc"));
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
    g_setenv("QUASAR_EMULATOR_PPC64", "/nowhere/power", TRUE);
    assert_string_equal(emulator_default(NULL, NULL), "/nowhere/wide");
    assert_string_equal(emulator_default("x86_64", NULL), "/nowhere/wide");
    assert_string_equal(emulator_default("i686", NULL), "/nowhere/narrow");
    assert_string_equal(emulator_default("ppc64", NULL), "/nowhere/power");
    assert_string_equal(emulator_default("ppc64le", NULL), "/nowhere/power");
}

// Found, or said how to get it.
static void
check_found(const char *arch, const char *program, const char *make)
{
    g_autoptr(GError) error = NULL;
    const char *found = emulator_default(arch, &error);
    if (found) {
        assert_true(g_str_has_suffix(found, program));
        assert_true(g_file_test(found, G_FILE_TEST_IS_EXECUTABLE));
        return;
    }
    assert_int_equal(error->code, VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, make));
}

static void
test_found_ones(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    g_unsetenv("QUASAR_EMULATOR");
    g_unsetenv("QUASAR_EMULATOR_I386");
    g_unsetenv("QUASAR_EMULATOR_PPC64");
    // Its path is told even where nothing is.
    assert_true(g_str_has_suffix(emulator_default(NULL, &error), "x86_64"));
    check_found("i686", "/qemu-system-i386", "make emulator-i386)");
    check_found("ppc64le", "/qemu-system-ppc64", "make emulator-ppc)");
}

static void
test_unknown_one(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    assert_null(emulator_default("ppc", &error));
    assert_int_equal(error->code, VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, "'ppc' are not supported: x86_64, i686, ppc64 and ppc64le are"));
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
