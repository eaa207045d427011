// SPDX-License-Identifier: LGPL-2.1-or-later
// Asking emulator binaries: the real one, and scripts that pretend to be one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/access.h"
#include "emulator/probe.h"
#include "tests/unit/files.h"

static EmulatorUser user;
static char *directory;

static char *
find_emulator(void)
{
    return g_find_program_in_path("qemu-system-x86_64");
}

// Counts its runs, but for those that only ask for its directories, in a file that the user may write, then
// becomes `program`.
static char *
make_script(const char *name, const char *program)
{
    char *path = g_build_filename(directory, name, NULL);
    g_autofree char *text =
        g_strdup_printf("#!/bin/sh\n[ \"$1\" = -L ] || echo run >> '%s/runs'\nexec %s\n", directory, program);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static guint
count_runs(void)
{
    g_autofree char *path = g_build_filename(directory, "runs", NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    guint count = 0;
    for (const char *at = text; *at; at++)
        count += *at == '\n';
    return count;
}

static void
change_mtime(const char *path, time_t when)
{
    struct timespec times[] = {{.tv_sec = when}, {.tv_sec = when}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void
test_real(void **state)
{
    (void) state;
    g_autofree char *path = find_emulator();
    g_autoptr(GError) error = NULL;
    g_autoptr(EmulatorProbe) probe = emulator_probe(path, &user, NULL, &error);
    assert_null(error);
    assert_string_equal(probe->path, path);
    assert_string_equal(probe->arch, "x86_64");
    assert_true(probe->major >= 5);
    gboolean cured = emulator_traits_has_patch(probe->traits, "true-dirty-tracking");
    assert_int_equal(probe->loses_tcg_stores, probe->major < 9 && !cured);
    assert_int_equal(emulator_probe_version(probe),
                     probe->major * 1000000 + probe->minor * 1000 + probe->micro);
    const char *machine = emulator_probe_machine(probe, "q35");
    assert_true(g_str_has_prefix(machine, "pc-q35-"));
    assert_ptr_equal(emulator_probe_machine(probe, machine), machine);
    assert_null(emulator_probe_machine(probe, "no-such-machine"));
    gboolean has_qemu64 = FALSE;
    for (guint i = 0; i < probe->cpu_models->len; i++) {
        const char *model = g_ptr_array_index(probe->cpu_models, i);
        has_qemu64 |= g_str_equal(model, "qemu64");
        assert_false(g_str_has_suffix(model, "-cpu"));
    }
    assert_true(has_qemu64 && emulator_probe_has_cpu_model(probe, "qemu64"));
    assert_false(emulator_probe_has_cpu_model(probe, "qemu6"));
    gboolean has_firmware = FALSE;
    for (char **place = probe->directories; *place; place++) {
        g_autofree char *file = g_build_filename(*place, "bios-256k.bin", NULL);
        has_firmware |= g_file_test(file, G_FILE_TEST_EXISTS);
    }
    assert_true(has_firmware);
    g_autoptr(EmulatorProbe) again = emulator_probe(path, &user, NULL, &error);
    assert_ptr_equal(again, probe);
}

// Its guests' architecture has another name than the emulator's own.
static void
test_narrow(void **state)
{
    (void) state;
    g_autofree char *path = g_find_program_in_path("qemu-system-i386");
    if (!path)
        skip();
    g_autoptr(EmulatorProbe) probe = emulator_probe(path, &user, NULL, NULL);
    assert_string_equal(probe->arch, "i686");
    assert_true(emulator_probe_has_cpu_model(probe, "qemu32"));
}

// Its models have libvirt's names, and only those of machines that guests here can have.
static void
test_power(void **state)
{
    (void) state;
    const char *named = g_getenv("QUASAR_EMULATOR_PPC64");
    g_autofree char *path = named ? g_strdup(named) : g_find_program_in_path("qemu-system-ppc64");
    if (!path)
        skip();
    g_autoptr(EmulatorProbe) probe = emulator_probe(path, &user, NULL, NULL);
    assert_string_equal(probe->arch, "ppc64");
    assert_true(emulator_probe_has_cpu_model(probe, "POWER9"));
    assert_false(emulator_probe_has_cpu_model(probe, "power9"));
    assert_false(emulator_probe_has_cpu_model(probe, "970"));
    assert_true(g_str_has_prefix(emulator_probe_machine(probe, "pseries"), "pseries-"));
}

static void
test_memory_cache(void **state)
{
    (void) state;
    g_autofree char *emulator = find_emulator();
    g_autofree char *program = g_strdup_printf("%s \"$@\"", emulator);
    g_autofree char *path = make_script("counting", program);
    guint before = count_runs();
    g_autoptr(EmulatorProbe) first = emulator_probe(path, &user, NULL, NULL);
    g_autoptr(EmulatorProbe) second = emulator_probe(path, &user, NULL, NULL);
    assert_non_null(first);
    assert_ptr_equal(first, second);
    assert_int_equal(count_runs(), before + 1);
    change_mtime(path, 1000000000);
    g_autoptr(EmulatorProbe) third = emulator_probe(path, &user, NULL, NULL);
    assert_non_null(third);
    assert_ptr_not_equal(first, third);
    assert_int_equal(count_runs(), before + 2);
}

// The table holds one answer a path: going back to an older time stamp makes it ask the file.
static void
test_file_cache(void **state)
{
    (void) state;
    g_autofree char *emulator = find_emulator();
    g_autofree char *program = g_strdup_printf("%s \"$@\"", emulator);
    g_autofree char *path = make_script("filed", program);
    g_autofree char *cache = g_build_filename(directory, "cache", NULL);
    guint before = count_runs();
    change_mtime(path, 1000000000);
    g_autoptr(EmulatorProbe) first = emulator_probe(path, &user, cache, NULL);
    assert_non_null(first);
    assert_int_equal(count_runs(), before + 1);
    change_mtime(path, 1000000001);
    g_autoptr(EmulatorProbe) other = emulator_probe(path, &user, NULL, NULL);
    assert_non_null(other);
    assert_int_equal(count_runs(), before + 2);
    change_mtime(path, 1000000000);
    g_autoptr(EmulatorProbe) filed = emulator_probe(path, &user, cache, NULL);
    assert_non_null(filed);
    assert_int_equal(count_runs(), before + 2);
    assert_ptr_not_equal(filed, first);
    assert_int_equal(emulator_probe_version(filed), emulator_probe_version(first));
    assert_int_equal(filed->machines->len, first->machines->len);
    assert_int_equal(filed->cpu_models->len, first->cpu_models->len);
    assert_string_equal(emulator_probe_machine(filed, "q35"), emulator_probe_machine(first, "q35"));
}

static void
test_damaged_file_cache(void **state)
{
    (void) state;
    g_autofree char *emulator = find_emulator();
    g_autofree char *program = g_strdup_printf("%s \"$@\"", emulator);
    g_autofree char *path = make_script("damaged", program);
    g_autofree char *cache = g_build_filename(directory, "damaged-cache", NULL);
    g_autoptr(EmulatorProbe) first = emulator_probe(path, &user, cache, NULL);
    assert_non_null(first);
    g_autoptr(GDir) files = g_dir_open(cache, 0, NULL);
    g_autofree char *file = g_build_filename(cache, g_dir_read_name(files), NULL);
    assert_null(g_dir_read_name(files));
    guint before = count_runs();
    for (time_t when = 1000000000; when < 1000000002; when++) {
        assert_true(g_file_set_contents(file, when % 2 ? "{\"format\":" : "{\"format\": 1}", -1, NULL));
        change_mtime(path, when);
        g_autoptr(EmulatorProbe) probe = emulator_probe(path, &user, cache, NULL);
        assert_non_null(probe);
    }
    assert_int_equal(count_runs(), before + 2);
}

static void
assert_refused(const char *path, virErrorNumber code, const char *part)
{
    g_autoptr(GError) error = NULL;
    assert_null(emulator_probe(path, &user, NULL, &error));
    assert_int_equal(quasar_error_code(error), code);
    if (!strstr(error->message, part))
        fail_msg("'%s' lacks '%s'", error->message, part);
}

static void
test_failures(void **state)
{
    (void) state;
    assert_refused("/nonexistent/qemu", VIR_ERR_SYSTEM_ERROR, "/nonexistent/qemu");
    assert_refused(directory, VIR_ERR_SYSTEM_ERROR, "not a program");
    g_autofree char *text = g_build_filename(directory, "text", NULL);
    assert_true(g_file_set_contents(text, "no program", -1, NULL));
    assert_refused(text, VIR_ERR_SYSTEM_ERROR, text);
    // A failed start's own words reach the administrator, and nothing is remembered.
    g_autofree char *broken = make_script("broken", "sh -c 'echo no such library >&2; exit 1'");
    guint before = count_runs();
    assert_refused(broken, VIR_ERR_CONFIG_UNSUPPORTED, "no such library");
    assert_refused(broken, VIR_ERR_CONFIG_UNSUPPORTED, "no such library");
    assert_int_equal(count_runs(), before + 2);
    g_autofree char *liar = make_script("liar", "echo '{\"QMP\": {}} garbage' >&3");
    assert_refused(liar, VIR_ERR_CONFIG_UNSUPPORTED, liar);
}

// What counts is whether the emulator's user can open it, whoever asks.
static void
test_what_the_user_can_open(void **state)
{
    (void) state;
    g_autofree char *file = g_build_filename(directory, "a device", NULL);
    g_autofree char *missing = g_build_filename(directory, "missing", NULL);
    g_autoptr(GError) error = NULL;
    assert_true(g_file_set_contents(file, "content", -1, NULL));
    assert_int_equal(chmod(file, 0666), 0);
    assert_true(emulator_can_open(file, &user, NULL));
    g_autofree char *content = NULL;
    assert_true(g_file_get_contents(file, &content, NULL, NULL));
    assert_string_equal(content, "content");
    assert_int_equal(chmod(file, 0400), 0);
    assert_false(emulator_can_open(file, &user, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, file));
    assert_int_equal(chmod(directory, 0555), 0);
    assert_false(emulator_can_open(missing, &user, NULL));
    assert_int_equal(chmod(directory, 0755), 0);
}

static int
set_up(void **state)
{
    (void) state;
    assert_true(
        emulator_user_lookup(geteuid() == 0 ? "65534" : NULL, geteuid() == 0 ? "65534" : NULL, &user, NULL));
    directory = test_directory_new();
    assert_int_equal(chmod(directory, 0755), 0);
    g_autofree char *runs = g_build_filename(directory, "runs", NULL);
    assert_true(g_file_set_contents(runs, "", -1, NULL));
    return chmod(runs, 0666);
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
    g_autofree char *emulator = find_emulator();
    if (!emulator) {
        print_message("skipped: no qemu-system-x86_64 (Debian: qemu-system-x86)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real),       cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_power),      cmocka_unit_test(test_memory_cache),
        cmocka_unit_test(test_file_cache), cmocka_unit_test(test_damaged_file_cache),
        cmocka_unit_test(test_failures),   cmocka_unit_test(test_what_the_user_can_open),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
