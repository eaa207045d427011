// SPDX-License-Identifier: LGPL-2.1-or-later
// Command lines: each NAME.xml in tests/data/argv has a NAME.args or, when it begins with "bad-", a NAME.err;
// QUASAR_REGENERATE=1 writes them anew.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "emulator/command.h"
#include "tests/unit/files.h"

static const EmulatorRun run = {.directory = "/run/guest,1", .loses_tcg_stores = TRUE, .serves_vhost = TRUE};

static char *
canonical_machine(const char *arch G_GNUC_UNUSED, const char *machine, gpointer opaque G_GNUC_UNUSED)
{
    if (strcmp(machine, "pseries") == 0)
        return g_strdup("pseries-7.2");
    return g_strdup(strcmp(machine, "q35") == 0 ? "pc-q35-7.2" : machine);
}

static void
counted_bytes(guint8 *bytes, gsize size, gpointer opaque)
{
    guint8 *next = opaque;
    for (gsize i = 0; i < size; i++)
        bytes[i] = (*next)++;
}

static DomainDef *
define(const char *xml)
{
    guint8 next = 1;
    g_autoptr(GError) error = NULL;
    DomainDef *def = domain_def_parse(xml, &error);
    gboolean power = def && def->arch && g_str_has_prefix(def->arch, "ppc64");
    DomainDefaults defaults = {.arch = power ? def->arch : "x86_64",
                               .emulator =
                                   power ? "/usr/bin/qemu-system-ppc64" : "/usr/bin/qemu-system-x86_64",
                               .default_machine = power ? "pseries" : NULL,
                               .canonical_machine = canonical_machine,
                               .random_bytes = counted_bytes,
                               .opaque = &next,
                               .vhost = TRUE};
    if (!def || !domain_def_assign(def, &defaults, &error))
        fail_msg("%s", error->message);
    return def;
}

// An option and its value in a line; what depends on the time of day is left out.
static char *
lines(char **argv)
{
    GString *text = g_string_new(argv[0]);
    for (char **at = argv + 1; *at; at++) {
        gboolean option = **at == '-';
        g_string_append_c(text, option ? '\n' : ' ');
        g_string_append(text, g_str_has_prefix(*at, "base=2") ? "base=TIME" : *at);
    }
    g_string_append_c(text, '\n');
    return g_string_free(text, FALSE);
}

// What is written back to disk gives the same guest again, and is itself written back the same.
static void
check_fixed_point(const DomainDef *def, const char *expected)
{
    g_autofree char *xml = domain_def_format(def, DOMAIN_FORMAT_INACTIVE, -1);
    g_autoptr(DomainDef) again = define(xml);
    g_autofree char *xml_again = domain_def_format(again, DOMAIN_FORMAT_INACTIVE, -1);
    g_auto(GStrv) argv = emulator_command(again, &run, NULL);
    g_autofree char *text = lines(argv);
    assert_string_equal(xml_again, xml);
    assert_string_equal(text, expected);
}

static void
check_pair(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;
    assert_true(g_file_get_contents(path, &xml, NULL, NULL));
    g_autofree char *stem = g_strndup(path, strlen(path) - strlen(".xml"));
    g_autoptr(DomainDef) def = define(xml);
    g_auto(GStrv) argv = emulator_command(def, &run, &error);
    g_autofree char *base = g_path_get_basename(path);
    assert_int_equal(argv == NULL, g_str_has_prefix(base, "bad-"));
    g_autofree char *output = g_strconcat(stem, argv ? ".args" : ".err", NULL);
    g_autofree char *text =
        argv ? lines(argv) : g_strdup_printf("%d %s\n", quasar_error_code(error), error->message);
    test_compare_document(output, text);
    if (argv)
        check_fixed_point(def, text);
}

static void
test_pairs(void **state G_GNUC_UNUSED)
{
    const char *top = g_getenv("srcdir");
    g_autofree char *path = g_build_filename(top ? top : ".", "tests", "data", "argv", NULL);
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    assert_non_null(directory);
    guint count = 0;
    for (const char *file; (file = g_dir_read_name(directory));) {
        if (!g_str_has_suffix(file, ".xml"))
            continue;
        g_autofree char *full = g_build_filename(path, file, NULL);
        check_pair(full);
        count++;
    }
    assert_true(count > 0);
}

// The definition is older than the emulator that is there now.
static void
test_vhost_needs_our_emulator(void **state G_GNUC_UNUSED)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def =
        define("<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os>"
               "<devices><interface type='network'/></devices></domain>");
    EmulatorRun plain = run;
    plain.serves_vhost = FALSE;
    assert_null(emulator_command(def, &plain, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_CONFIG_UNSUPPORTED);
    assert_non_null(strstr(error->message, "make emulator"));
}

static void
test_incoming(void **state G_GNUC_UNUSED)
{
    g_autoptr(DomainDef) def =
        define("<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os></domain>");
    EmulatorRun incoming = run;
    incoming.incoming = TRUE;
    g_auto(GStrv) here = emulator_command(def, &run, NULL);
    g_auto(GStrv) there = emulator_command(def, &incoming, NULL);
    guint length = g_strv_length(here);
    assert_int_equal(g_strv_length(there), length + 2);
    for (guint i = 0; i < length; i++)
        assert_string_equal(here[i], there[i]);
    assert_string_equal(there[length], "-incoming");
    assert_string_equal(there[length + 1], "defer");
}

static void
test_ram(void **state G_GNUC_UNUSED)
{
    assert_int_equal(emulator_ram_kib(131072, TRUE, TRUE), 131080);
    assert_int_equal(emulator_ram_kib(131072, TRUE, FALSE), 131072);
    assert_int_equal(emulator_ram_kib(131072, FALSE, TRUE), 131072);
    assert_int_equal(emulator_ram_kib(131080, TRUE, TRUE), 131080);
    assert_int_equal(emulator_ram_kib(131065, TRUE, TRUE), 131080);
    assert_int_equal(emulator_ram_kib(131064, TRUE, TRUE), 131064);
    assert_int_equal(emulator_ram_kib(131073, FALSE, FALSE), 131080);
}

// Its other end decided what a guest that comes has, whatever this emulator would need.
static void
test_ram_of_a_guest_that_comes(void **state G_GNUC_UNUSED)
{
    g_autoptr(DomainDef) def =
        define("<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os></domain>");
    EmulatorRun coming = run;
    coming.incoming = TRUE;
    coming.ram_kib = 65536;
    g_auto(GStrv) here = emulator_command(def, &run, NULL);
    g_auto(GStrv) there = emulator_command(def, &coming, NULL);
    assert_true(g_strv_contains((const char *const *) here, "size=65544k"));
    assert_true(g_strv_contains((const char *const *) there, "size=65536k"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_vhost_needs_our_emulator),
        cmocka_unit_test(test_incoming),
        cmocka_unit_test(test_ram),
        cmocka_unit_test(test_ram_of_a_guest_that_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
