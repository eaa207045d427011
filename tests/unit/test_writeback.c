// SPDX-License-Identifier: LGPL-2.1-or-later
// Images of a guest that moves are flushed in pieces, over and over, and nobody waits for the end of that.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/migration/writeback.h"
#include "tests/unit/files.h"

#define WAIT_US (10 * G_TIME_SPAN_SECOND)

static Driver driver;

// The images of the guest, and how often each was flushed.
enum { PLAIN, READ_ONLY, UNSAFE, NO_CACHE, N_IMAGES };
static const char *const names[N_IMAGES] = {"plain", "read-only", "unsafe", "no-cache"};
static char *directory;
static struct stat images[N_IMAGES];
static GMutex lock;
static GCond changed;
static int flushes[N_IMAGES];
static int pieces[N_IMAGES];
static int *disk_stands;      // at which of these counts
static int broken = N_IMAGES; // which image cannot be written

static int
count(int fd, int *counts)
{
    struct stat facts;
    int found = N_IMAGES;
    g_assert_cmpint(fstat(fd, &facts), ==, 0);
    g_mutex_lock(&lock);
    for (int i = 0; i < N_IMAGES; i++)
        if (facts.st_ino == images[i].st_ino)
            counts[found = i]++;
    g_cond_broadcast(&changed);
    while (disk_stands == counts)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
    if (found != broken)
        return 0;
    errno = EIO;
    return -1;
}

// In the place of the C library's, and in a thread to which cmocka's assertions must not jump.
int
fdatasync(int fd)
{
    return count(fd, flushes);
}

int
sync_file_range(int fd, off64_t offset, off64_t n, unsigned int flags)
{
    g_assert_true(offset >= 0 && n > 0);
    g_assert_cmpuint(flags, ==,
                     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    count(fd, pieces);
    return 0;
}

static void
wait_count(const int *counted, int n)
{
    const gint64 until = g_get_monotonic_time() + WAIT_US;
    g_mutex_lock(&lock);
    while (*counted < n)
        assert_true(g_cond_wait_until(&changed, &lock, until));
    g_mutex_unlock(&lock);
}

static void
set_disk_stands(int *counts)
{
    g_mutex_lock(&lock);
    disk_stands = counts;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

static guint
count_open(void)
{
    guint n = 0;
    const char *name;
    g_autoptr(GDir) fds = g_dir_open("/proc/self/fd", 0, NULL);
    while ((name = g_dir_read_name(fds))) {
        char target[PATH_MAX] = "";
        g_autofree char *path = g_build_filename("/proc/self/fd", name, NULL);
        n += readlink(path, target, sizeof target - 1) > 0 && g_str_has_prefix(target, directory);
    }
    return n;
}

// It holds them until its last flush is over.
static void
wait_closed(void)
{
    const gint64 until = g_get_monotonic_time() + WAIT_US;
    while (count_open() > 0) {
        assert_true(g_get_monotonic_time() < until);
        g_usleep(1000);
    }
}

static char *
disk(int image, const char *cache, const char *end)
{
    return g_strdup_printf("<disk type='file' device='disk'><driver name='qemu' type='raw'%s/>"
                           "<source file='%s/%s'/><target dev='vd%c' bus='virtio'/>%s</disk>",
                           cache, directory, image < N_IMAGES ? names[image] : "missing", 'a' + image, end);
}

static Domain *
make_guest(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = disk(PLAIN, "", ""), *read_only = disk(READ_ONLY, "", "<readonly/>"),
                    *unsafe = disk(UNSAFE, " cache='unsafe'", ""),
                    *no_cache = disk(NO_CACHE, " cache='none'", ""), *missing = disk(N_IMAGES, "", "");
    g_autofree char *xml =
        g_strconcat("<domain type='qemu'><name>web</name><memory>65536</memory><os><type arch='x86_64'>hvm"
                    "</type></os><devices>",
                    plain, read_only, unsafe, no_cache, missing,
                    "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>"
                    "</devices></domain>",
                    NULL);
    g_autoptr(DomainDef) def = domain_def_parse(xml, &error);
    assert_null(error);
    Domain *domain = domain_new(&driver, def);
    domain->live = domain_def_copy(def);
    return domain;
}

static void
test_flushes_what_qemu_flushes(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_guest();
    Writeback *writeback = writeback_begin(domain);
    wait_count(&flushes[PLAIN], 3);
    wait_count(&flushes[NO_CACHE], 2);
    writeback_end(writeback);
    wait_closed();
    assert_int_equal(flushes[READ_ONLY], 0);
    assert_int_equal(flushes[UNSAFE], 0);
}

static void
test_end_does_not_wait(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_guest();
    set_disk_stands(flushes);
    Writeback *writeback = writeback_begin(domain);
    wait_count(&flushes[NO_CACHE], 1); // the last one is the first to be flushed
    writeback_end(writeback);
    assert_true(count_open() > 0);
    set_disk_stands(NULL);
    wait_closed();
    assert_int_equal(flushes[NO_CACHE], 1);
    assert_int_equal(flushes[PLAIN], 0);
}

static void
test_end_comes_between_pieces(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_guest();
    g_autofree char *path = g_build_filename(directory, names[NO_CACHE], NULL);
    assert_int_equal(truncate(path, 1 << 30), 0);
    set_disk_stands(pieces);
    Writeback *writeback = writeback_begin(domain);
    wait_count(&pieces[NO_CACHE], 1);
    writeback_end(writeback);
    set_disk_stands(NULL);
    wait_closed();
    assert_int_equal(pieces[NO_CACHE], 1);
    assert_int_equal(flushes[NO_CACHE], 0);
}

static void
test_image_that_cannot_be_written(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_guest();
    broken = NO_CACHE;
    Writeback *writeback = writeback_begin(domain);
    wait_count(&flushes[PLAIN], 2);
    writeback_end(writeback);
    wait_closed();
    broken = N_IMAGES;
    assert_int_equal(flushes[NO_CACHE], 1);
}

static void
test_guest_that_has_ended(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_guest();
    g_clear_pointer(&domain->live, domain_def_free);
    assert_null(writeback_begin(domain));
    writeback_end(NULL);
}

static int
set_up(void **state)
{
    (void) state;
    directory = test_directory_new();
    memset(flushes, 0, sizeof flushes);
    memset(pieces, 0, sizeof pieces);
    for (int i = 0; i < N_IMAGES; i++) {
        g_autofree char *path = g_build_filename(directory, names[i], NULL);
        if (!g_file_set_contents(path, names[i], -1, NULL) || stat(path, &images[i]) < 0)
            return -1;
    }
    return 0;
}

static int
tear_down(void **state)
{
    (void) state;
    g_clear_pointer(&directory, test_directory_free);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flushes_what_qemu_flushes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_does_not_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_end_comes_between_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_image_that_cannot_be_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_guest_that_has_ended, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
