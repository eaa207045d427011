// SPDX-License-Identifier: LGPL-2.1-or-later
// Consoles: which terminals are opened at an emulator's word, and who holds one. We are the emulator here.
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/console.h"
#include "emulator/launch.h"

#define XML                                                                                                  \
    "<domain type='qemu'><name>web</name><uuid>6ba7b810-9dad-11d1-80b4-00c04fd430c8</uuid>"                  \
    "<memory>65536</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"                     \
    "<devices><console type='pty'><target type='virtio'/></console></devices></domain>"
#define NOBODY 65534

typedef struct {
    Domain *domain;
    int master;
    char *pty;
} Fixture;

static int
set_up(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    g_autoptr(DomainDef) def = domain_def_parse(XML, NULL);
    assert_non_null(def);
    fixture->domain = domain_new(NULL, def);
    fixture->domain->live = g_steal_pointer(&def);
    fixture->domain->id = 1;
    fixture->domain->pid = getpid();
    fixture->domain->pid_start = emulator_start_time(getpid());
    fixture->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_return_code(fixture->master, 0);
    assert_return_code(grantpt(fixture->master), 0);
    assert_return_code(unlockpt(fixture->master), 0);
    fixture->pty = g_strdup(ptsname(fixture->master));
    *state = fixture;
    return 0;
}

static int
tear_down(void **state)
{
    Fixture *fixture = *state;
    close(fixture->master);
    domain_unref(fixture->domain);
    g_free(fixture->pty);
    g_free(fixture);
    return 0;
}

static void
name_console(Domain *domain, const char *path)
{
    DomainChardev *console = domain->live->consoles->pdata[0];
    g_free(console->source_path);
    console->source_path = g_strdup(path);
}

static int
open_console(Domain *domain, const char *path, guint flags, guint64 *token, GError **error)
{
    name_console(domain, path);
    return console_open(domain, NULL, flags, NULL, NULL, NULL, token, error);
}

static void
assert_refused(Domain *domain, const char *path)
{
    g_autoptr(GError) error = NULL;
    guint64 token;
    int fd = open_console(domain, path, 0, &token, &error);
    if (fd >= 0)
        fail_msg("%s was opened", path);
    assert_true(quasar_error_code(error) == VIR_ERR_SYSTEM_ERROR ||
                quasar_error_code(error) == VIR_ERR_OPERATION_DENIED);
    assert_non_null(strstr(error->message, path));
}

static void
the_emulators_own_terminal_is_opened(void **state)
{
    const Fixture *fixture = *state;
    g_autoptr(GError) error = NULL;
    guint64 token, other;
    char byte = 0;
    int fd = open_console(fixture->domain, fixture->pty, 0, &token, &error);
    assert_null(error);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(read(fixture->master, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(open_console(fixture->domain, fixture->pty, 0, &other, &error), -1);
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
    g_clear_error(&error);
    close(fd);
    console_close(fixture->domain, token);
    fd = open_console(fixture->domain, fixture->pty, 0, &token, &error);
    assert_null(error);
    close(fd);
    console_close(fixture->domain, token);
}

static void
what_is_no_terminal_of_the_emulator_is_refused(void **state)
{
    const Fixture *fixture = *state;
    g_autofree char *directory = g_dir_make_tmp("quasar-console-XXXXXX", NULL);
    g_autofree char *link = g_build_filename(directory, "link", NULL);
    g_autofree char *file = g_build_filename(directory, "file", NULL);
    assert_return_code(symlink(fixture->pty, link), 0);
    assert_true(g_file_set_contents(file, "text", -1, NULL));
    assert_refused(fixture->domain, link);
    assert_refused(fixture->domain, file);
    assert_refused(fixture->domain, directory);
    assert_refused(fixture->domain, "/dev/null");
    assert_refused(fixture->domain, "/dev/pts/missing");
    unlink(link);
    unlink(file);
    rmdir(directory);
    // Nobody's place was taken by that.
    guint64 token;
    int fd = open_console(fixture->domain, fixture->pty, 0, &token, NULL);
    assert_return_code(fd, 0);
    close(fd);
    console_close(fixture->domain, token);
}

static void
somebody_elses_terminal_is_refused(void **state)
{
    const Fixture *fixture = *state;
    if (geteuid() != 0)
        skip();
    assert_return_code(chown(fixture->pty, NOBODY, (gid_t) -1), 0);
    assert_refused(fixture->domain, fixture->pty);
}

// Its number may be another's by now, whose terminals are not the guest's.
static void
an_emulator_that_is_gone_has_no_terminal(void **state)
{
    const Fixture *fixture = *state;
    fixture->domain->pid_start++;
    assert_refused(fixture->domain, fixture->pty);
    fixture->domain->pid = 0x7ffffff0; // above pid_max: no such process
    assert_refused(fixture->domain, fixture->pty);
}

#define CONSOLE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CONSOLE_TEST(the_emulators_own_terminal_is_opened),
        CONSOLE_TEST(what_is_no_terminal_of_the_emulator_is_refused),
        CONSOLE_TEST(somebody_elses_terminal_is_refused),
        CONSOLE_TEST(an_emulator_that_is_gone_has_no_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
