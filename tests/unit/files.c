// SPDX-License-Identifier: LGPL-2.1-or-later
// Directories that go with their test; expected documents.
#include "tests/unit/files.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define OPEN_MAX_DEPTH 16

char *
test_directory_new(void)
{
    g_autoptr(GError) error = NULL;
    char *directory = g_dir_make_tmp("quasar-test-XXXXXX", &error);
    g_assert_no_error(error);
    return directory;
}

static int
remove_entry(const char *path, const struct stat *st G_GNUC_UNUSED, int type G_GNUC_UNUSED,
             struct FTW *ftw G_GNUC_UNUSED)
{
    return remove(path);
}

void
test_directory_free(char *directory)
{
    nftw(directory, remove_entry, OPEN_MAX_DEPTH, FTW_DEPTH | FTW_PHYS);
    g_free(directory);
}

void
test_compare_document(const char *path, const char *text)
{
    g_autofree char *expected = NULL;
    if (g_getenv("QUASAR_REGENERATE")) {
        assert_true(g_file_set_contents(path, text, -1, NULL));
        return;
    }
    if (!g_file_get_contents(path, &expected, NULL, NULL))
        fail_msg("%s is missing", path);
    if (strcmp(expected, text) != 0)
        print_error("%s\n", path);
    assert_string_equal(text, expected);
}
