// SPDX-License-Identifier: LGPL-2.1-or-later
// Configuration files: what is read, and what is refused with file and line.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "driver/config.h"

static void
test_reads_all_types(void **state)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    const char *text = NULL;
    const char *const *list = NULL;
    gint64 number = 7;

    assert_true(config_parse(config, "f",
                             "# comment\n"
                             "user = \"root\" # trailing\n"
                             "tls_port=16514\n"
                             "names = [ \"a\",\n  # inside\n  'b', ]\n",
                             &error));
    assert_null(error);
    assert_true(config_string(config, "user", &text, &error));
    assert_string_equal(text, "root");
    assert_true(config_number(config, "tls_port", &number, &error));
    assert_int_equal(number, 16514);
    assert_true(config_list(config, "names", &list, &error));
    assert_string_equal(list[0], "a");
    assert_string_equal(list[1], "b");
    assert_null(list[2]);
}

static void
test_absent_keeps_default(void **state)
{
    g_autoptr(Config) config = config_new();
    const char *text = "kept";
    gint64 number = 5;

    assert_true(config_string(config, "x", &text, NULL));
    assert_true(config_number(config, "x", &number, NULL));
    assert_string_equal(text, "kept");
    assert_int_equal(number, 5);
}

static void
test_later_value_wins(void **state)
{
    g_autoptr(Config) config = config_new();
    gint64 number = 0;

    assert_true(config_parse(config, "f", "a = 1\na = 2\n", NULL));
    assert_true(config_parse(config, "g", "a = -3", NULL));
    assert_true(config_number(config, "a", &number, NULL));
    assert_int_equal(number, -3);
}

static void
test_bad_syntax_names_line_and_adds_nothing(void **state)
{
    static const char *const bad[] = {
        "a = 1\nb 2\n",
        "a = 1\nb = \"open\n",
        "a = 1\nb = \n",
        "a = 1\n= 2\n",
        "a = 1\nb = 3 c\n",
        "a = 1\nb = [ 1 ]\n",
        "a = 1\nb = [ \"x\" \"y\" ]\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(Config) config = config_new();
        g_autoptr(GError) error = NULL;
        gint64 number = 0;

        assert_false(config_parse(config, "file.conf", bad[i], &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_CONF_SYNTAX);
        assert_true(g_str_has_prefix(error->message, "file.conf:2: "));
        assert_true(config_number(config, "a", &number, NULL));
        assert_int_equal(number, 0);
    }
}

static void
test_wrong_type_is_refused(void **state)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    gint64 number = 0;

    assert_true(config_parse(config, "f", "\nport = \"x\"", NULL));
    assert_false(config_number(config, "port", &number, &error));
    assert_string_equal(error->message, "f:2: 'port' must be a number");
}

static void
test_missing_file(void **state)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;

    assert_true(config_load(config, "/nonexistent/x.conf", TRUE, &error));
    assert_false(config_load(config, "/nonexistent/x.conf", FALSE, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
}

// Lines "#key = value" of a file that we install, as an administrator would uncomment them.
static void
check_installed_file(const char *name, guint keys)
{
    const char *srcdir = g_getenv("srcdir");
    g_autofree char *path = g_build_filename(srcdir ? srcdir : ".", "driver", name, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GString) uncommented = g_string_new(NULL);
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    guint found = 0;

    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_regex_match_simple("^#[a-z_]+ = ", *line, 0, 0))
            continue;
        g_string_append_printf(uncommented, "%s\n", *line + 1);
        found++;
    }
    assert_int_equal(found, keys);
    assert_true(config_parse(config, name, text, &error));
    assert_true(config_parse(config, name, uncommented->str, &error));
}

static void
test_installed_files(void **state)
{
    check_installed_file("virtquasard.conf", 18);
    check_installed_file("quasar.conf", 4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all_types),
        cmocka_unit_test(test_absent_keeps_default),
        cmocka_unit_test(test_later_value_wins),
        cmocka_unit_test(test_bad_syntax_names_line_and_adds_nothing),
        cmocka_unit_test(test_wrong_type_is_refused),
        cmocka_unit_test(test_missing_file),
        cmocka_unit_test(test_installed_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
