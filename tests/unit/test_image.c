// SPDX-License-Identifier: LGPL-2.1-or-later
// Disk images: qemu-img's answers and checksums.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/image.h"
#include "tests/unit/files.h"

// SHA-256 of "abc" (FIPS 180-4's example).
#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static EmulatorUser user;
static char *directory;

// A file with this content that the emulator's user may write; caller frees.
static char *
make_file(const char *name, const char *content)
{
    char *path = g_build_filename(directory, name, NULL);
    assert_true(g_file_set_contents(path, content, -1, NULL));
    assert_int_equal(chown(path, user.uid, user.gid), 0);
    return path;
}

static void
test_create_and_probe(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    g_autofree char *base = make_file("base.qcow2", "");
    g_autofree char *top = make_file("top.qcow2", "");
    g_auto(ImageInfo) base_info = {0};
    g_auto(ImageInfo) info = {0};
    g_auto(ImageInfo) as_raw = {0};
    assert_true(image_create(base, "qcow2", 8 << 20, NULL, "raw", &user, &error));
    assert_true(image_create(top, "qcow2", 0, base, "qcow2", &user, &error));
    assert_true(image_probe(base, NULL, &user, &base_info, &error));
    assert_string_equal(base_info.format, "qcow2");
    assert_int_equal(base_info.virtual_size, 8 << 20);
    assert_null(base_info.backing_path);
    assert_null(base_info.backing_format);
    assert_true(image_probe(top, "qcow2", &user, &info, &error));
    assert_int_equal(info.virtual_size, 8 << 20);
    assert_true(info.actual_size > 0);
    assert_string_equal(info.backing_path, base);
    assert_string_equal(info.backing_format, "qcow2");
    // A header in an image that is said to be raw is content.
    assert_true(image_probe(top, "raw", &user, &as_raw, &error));
    assert_string_equal(as_raw.format, "raw");
    assert_null(as_raw.backing_path);
    struct stat facts;
    assert_int_equal(stat(top, &facts), 0);
    assert_int_equal(facts.st_uid, user.uid);
}

static void
test_larger_than_backing(void **state)
{
    (void) state;
    g_autofree char *base = make_file("small.raw", "content");
    g_autofree char *top = make_file("large.qcow2", "");
    g_autoptr(GError) error = NULL;
    g_auto(ImageInfo) info = {0};
    assert_true(image_create(top, "qcow2", 1 << 20, base, "raw", &user, &error));
    if (!image_probe(top, "qcow2", &user, &info, &error))
        fail_msg("%s", error->message);
    assert_int_equal(info.virtual_size, 1 << 20);
    assert_string_equal(info.backing_format, "raw");
}

static void
assert_not_created(const char *path, guint64 size, const char *backing, const char *backing_format,
                   virErrorNumber code)
{
    g_autoptr(GError) error = NULL;
    assert_false(image_create(path, "qcow2", size, backing, backing_format, &user, &error));
    assert_int_equal(quasar_error_code(error), code);
}

static void
test_create_failures(void **state)
{
    (void) state;
    g_autofree char *path = make_file("failing.qcow2", "");
    g_autofree char *missing = g_build_filename(directory, "missing", NULL);
    assert_not_created(missing, 1 << 20, NULL, NULL, VIR_ERR_INVALID_ARG);
    assert_false(g_file_test(missing, G_FILE_TEST_EXISTS));
    assert_not_created("nbd://host/export", 1 << 20, NULL, NULL, VIR_ERR_INVALID_ARG);
    assert_not_created(path, 1 << 20, "json:{}", "raw", VIR_ERR_INVALID_ARG);
    assert_not_created(path, 0, NULL, NULL, VIR_ERR_INVALID_ARG);
    assert_not_created(path, 0, path, NULL, VIR_ERR_INVALID_ARG);
    assert_not_created(path, 0, missing, "raw", VIR_ERR_INTERNAL_ERROR);
}

static void
test_probe_failures(void **state)
{
    (void) state;
    g_auto(ImageInfo) info = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *missing = g_build_filename(directory, "missing", NULL);
    g_autofree char *text = make_file("text", "no header of anything");
    assert_false(image_probe(missing, NULL, &user, &info, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    assert_non_null(strstr(error->message, "No such file"));
    g_clear_error(&error);
    assert_false(image_probe(text, "qcow2", &user, &info, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    g_clear_error(&error);
    assert_false(image_probe("relative", NULL, &user, &info, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    assert_null(info.format);
}

// What the daemon may read and the emulator may not stays closed to qemu-img.
static void
test_runs_as_user(void **state)
{
    (void) state;
    if (geteuid() != 0)
        skip();
    g_auto(ImageInfo) info = {0};
    g_autofree char *path = make_file("secret", "content");
    assert_int_equal(chown(path, 0, 0), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_false(image_probe(path, "raw", &user, &info, NULL));
}

static char *
only_file(const char *path)
{
    g_autoptr(GDir) files = g_dir_open(path, 0, NULL);
    const char *name = files ? g_dir_read_name(files) : NULL;
    return name ? g_build_filename(path, name, NULL) : NULL;
}

// A file just written is not cached yet; asks until it is. Returns the cache's only file; caller frees.
static char *
wait_cached(const char *path, const char *cache, const char *expected)
{
    for (int i = 0; i < 200; i++) {
        g_autofree char *digest = image_sha256(path, cache, NULL);
        g_autofree char *file = only_file(cache);
        g_autofree char *content = NULL;
        assert_string_equal(digest, expected);
        if (file && g_file_get_contents(file, &content, NULL, NULL) && strstr(content, expected))
            return g_steal_pointer(&file);
        g_usleep(20000);
    }
    fail_msg("the checksum of %s is never cached", path);
    return NULL;
}

// Replaces the checksum in the cache by a false one, which shows whether the cache is believed.
static char *
falsify(const char *file, const char *digest)
{
    g_autofree char *content = NULL;
    assert_true(g_file_get_contents(file, &content, NULL, NULL));
    char *at = strstr(content, digest);
    assert_non_null(at);
    memset(at, '0', strlen(digest));
    assert_true(g_file_set_contents(file, content, -1, NULL));
    return g_strnfill(strlen(digest), '0');
}

static void
write_at_start(const char *path, const char *bytes)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, strlen(bytes), 0), strlen(bytes));
    close(fd);
}

static void
test_sha256_cache(void **state)
{
    (void) state;
    g_autofree char *path = make_file("hashed", "abc");
    g_autofree char *cache = g_build_filename(directory, "cache", NULL);
    g_autofree char *file = wait_cached(path, cache, ABC_SHA256);
    g_autofree char *false_digest = falsify(file, ABC_SHA256);
    g_autofree char *cached = image_sha256(path, cache, NULL);
    assert_string_equal(cached, false_digest);
    g_autofree char *uncached = image_sha256(path, NULL, NULL);
    assert_string_equal(uncached, ABC_SHA256);
    // Same size, same mtime: the ctime tells.
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    write_at_start(path, "abd");
    struct timespec times[] = {facts.st_atim, facts.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    g_autofree char *expected = g_compute_checksum_for_string(G_CHECKSUM_SHA256, "abd", 3);
    g_autofree char *changed = image_sha256(path, cache, NULL);
    assert_string_equal(changed, expected);
    // The new answer takes the place of the old one.
    g_autofree char *file_after = wait_cached(path, cache, expected);
    assert_string_equal(file_after, file);
    // Garbage is a miss.
    assert_true(g_file_set_contents(file, "{\"state\": 1", -1, NULL));
    g_autofree char *reread = image_sha256(path, cache, NULL);
    assert_string_equal(reread, expected);
}

// An image that replaces another under its name is another image.
static void
test_sha256_replaced(void **state)
{
    (void) state;
    g_autofree char *path = make_file("replaced", "abc");
    g_autofree char *cache = g_build_filename(directory, "replaced-cache", NULL);
    g_autofree char *file = wait_cached(path, cache, ABC_SHA256);
    g_free(falsify(file, ABC_SHA256));
    g_autofree char *other = make_file("other", "abc");
    assert_int_equal(rename(other, path), 0);
    g_autofree char *digest = image_sha256(path, cache, NULL);
    assert_string_equal(digest, ABC_SHA256);
}

static void
test_sha256_failures(void **state)
{
    (void) state;
    g_autoptr(GError) error = NULL;
    g_autofree char *missing = g_build_filename(directory, "missing", NULL);
    g_autofree char *fifo = g_build_filename(directory, "fifo", NULL);
    g_autofree char *text = make_file("plain", "abc");
    assert_null(image_sha256(missing, NULL, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
    g_clear_error(&error);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_null(image_sha256(fifo, NULL, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    g_clear_error(&error);
    assert_null(image_sha256(directory, NULL, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    // A cache that cannot be used costs nothing but time.
    g_autofree char *digest = image_sha256(text, text, NULL);
    assert_string_equal(digest, ABC_SHA256);
}

static int
set_up(void **state)
{
    (void) state;
    assert_true(
        emulator_user_lookup(geteuid() == 0 ? "65534" : NULL, geteuid() == 0 ? "65534" : NULL, &user, NULL));
    directory = test_directory_new();
    return chmod(directory, 0755);
}

static int
tear_down(void **state)
{
    (void) state;
    test_directory_free(directory);
    return 0;
}

int
main(void)
{
    g_autofree char *tool = g_find_program_in_path("qemu-img");
    if (!tool) {
        print_message("skipped: no qemu-img (Debian: qemu-utils)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_probe), cmocka_unit_test(test_larger_than_backing),
        cmocka_unit_test(test_create_failures),  cmocka_unit_test(test_probe_failures),
        cmocka_unit_test(test_runs_as_user),     cmocka_unit_test(test_sha256_cache),
        cmocka_unit_test(test_sha256_replaced),  cmocka_unit_test(test_sha256_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
