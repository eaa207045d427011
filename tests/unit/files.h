// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: directories of their own, and documents that must read as expected.
#pragma once

#include <glib.h>

// A new directory, which only its owner may enter. The caller frees by test_directory_free(), which removes
// it with all that is in it.
char *test_directory_new(void);
void test_directory_free(char *directory);

// Fails the test unless the file at `path` holds `text`; with QUASAR_REGENERATE set, writes it there.
void test_compare_document(const char *path, const char *text);
