// SPDX-License-Identifier: LGPL-2.1-or-later
// main() of a fuzzer without libFuzzer: runs files, and deterministic mutations of them.
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static gint mutations;

// Each input is copied to an allocation of its exact size, so that sanitizers see a read past its end.
static void
run_bytes(const GByteArray *bytes)
{
    g_autofree guint8 *copy = bytes->len ? g_memdup2(bytes->data, bytes->len) : g_malloc(1);
    LLVMFuzzerTestOneInput(copy, bytes->len);
}

// One to four edits: a flipped bit, another byte, a removed tail or piece, a piece repeated.
static void
mutate(GByteArray *bytes, GRand *rand)
{
    for (gint edits = g_rand_int_range(rand, 1, 5); edits > 0 && bytes->len > 0; edits--) {
        guint at = (guint) g_rand_int_range(rand, 0, (gint32) bytes->len);
        guint length = (guint) g_rand_int_range(rand, 1, 17);
        length = MIN(length, bytes->len - at);
        switch (g_rand_int_range(rand, 0, 5)) {
        case 0:
            bytes->data[at] ^= (guint8) (1u << g_rand_int_range(rand, 0, 8));
            break;
        case 1:
            bytes->data[at] = (guint8) g_rand_int_range(rand, 0, 256);
            break;
        case 2:
            g_byte_array_set_size(bytes, at);
            break;
        case 3:
            g_byte_array_remove_range(bytes, at, length);
            break;
        default: {
            g_autofree guint8 *piece = g_memdup2(bytes->data + at, length);
            g_byte_array_append(bytes, piece, length);
        }
        }
    }
}

static gboolean
run_file(const char *path)
{
    g_autofree char *contents = NULL;
    g_autoptr(GError) error = NULL;
    gsize length = 0;
    if (!g_file_get_contents(path, &contents, &length, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return FALSE;
    }
    // The same file gives the same mutations wherever it lies.
    g_autofree char *name = g_path_get_basename(path);
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_str_hash(name));
    for (gint i = 0; i <= mutations; i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_byte_array_append(bytes, (const guint8 *) contents, (guint) length);
        if (i > 0)
            mutate(bytes, rand);
        run_bytes(bytes);
    }
    return TRUE;
}

// How many files were run, or -1.
static int
run_path(const char *path)
{
    if (!g_file_test(path, G_FILE_TEST_IS_DIR))
        return run_file(path) ? 1 : -1;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(path, 0, &error);
    if (!dir) {
        fprintf(stderr, "%s\n", error->message);
        return -1;
    }
    int n = 0;
    for (const char *name; (name = g_dir_read_name(dir)); n++) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        if (!run_file(file))
            return -1;
    }
    return n;
}

int
main(int argc, char **argv)
{
    g_auto(GStrv) paths = NULL;
    const GOptionEntry entries[] = {
        {"mutations", 0, 0, G_OPTION_ARG_INT, &mutations, "Mutations of each file", "N"},
        {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &paths, NULL, "PATH..."},
        {NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return EXIT_FAILURE;
    }
    int total = 0;
    for (guint i = 0; paths && paths[i]; i++) {
        int n = run_path(paths[i]);
        if (n < 0)
            return EXIT_FAILURE;
        total += n;
    }
    // A run over nothing must not look like a success.
    if (total == 0) {
        fprintf(stderr, "no input was found\n");
        return EXIT_FAILURE;
    }
    printf("%d files, %d mutations of each\n", total, mutations);
    return EXIT_SUCCESS;
}
