// SPDX-License-Identifier: LGPL-2.1-or-later
// Documents: each NAME.xml in tests/data has a NAME.out.xml or a NAME.err; QUASAR_REGENERATE=1 writes them
// anew.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/error.h"
#include "xml/capabilities.h"
#include "xml/domain.h"
#include "xml/network.h"

static char *
canonical_machine(const char *arch, const char *machine, gpointer opaque)
{
    if (strcmp(machine, "q35") == 0)
        return g_strdup("pc-q35-7.2");
    return g_str_has_prefix(machine, "pc-") ? g_strdup(machine) : NULL;
}

static void
counted_bytes(guint8 *bytes, gsize size, gpointer opaque)
{
    guint8 *next = opaque;
    for (gsize i = 0; i < size; i++)
        bytes[i] = (*next)++;
}

static DomainDef *
define(const char *xml, GError **error)
{
    guint8 next = 1;
    DomainDefaults defaults = {
        .arch = "x86_64",
        .emulator = "/usr/bin/qemu-system-x86_64",
        .canonical_machine = canonical_machine,
        .random_bytes = counted_bytes,
        .opaque = &next,
    };
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    if (def == NULL || !domain_def_assign(def, &defaults, error))
        return NULL;
    return g_steal_pointer(&def);
}

static char *
define_and_format(const char *xml, GError **error)
{
    g_autoptr(DomainDef) def = define(xml, error);
    return def ? domain_def_format(def, DOMAIN_FORMAT_INACTIVE, -1) : NULL;
}

static char *
network_format(const char *xml, GError **error)
{
    g_autoptr(NetworkDef) def = network_def_parse(xml, error);
    return def ? network_def_format(def, 0) : NULL;
}

typedef char *(*Convert)(const char *xml, GError **error);

static void
compare_or_write(const char *path, const char *text)
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

static void
check_pair(const char *path, Convert convert)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = NULL;
    assert_true(g_file_get_contents(path, &xml, NULL, NULL));
    g_autofree char *stem = g_strndup(path, strlen(path) - strlen(".xml"));
    g_autofree char *text = convert(xml, &error);
    g_autofree char *base = g_path_get_basename(path);
    assert_int_equal(text == NULL, g_str_has_prefix(base, "bad-"));
    if (text) {
        g_autofree char *again = convert(text, &error);
        g_autofree char *out = g_strconcat(stem, ".out.xml", NULL);
        compare_or_write(out, text);
        assert_string_equal(again, text);
        return;
    }
    g_autofree char *err = g_strconcat(stem, ".err", NULL);
    g_autofree char *message = g_strdup_printf("%d %s\n", quasar_error_code(error), error->message);
    compare_or_write(err, message);
}

static void
check_directory(const char *name, Convert convert)
{
    const char *top = g_getenv("srcdir");
    g_autofree char *path = g_build_filename(top ? top : ".", "tests", "data", name, NULL);
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    assert_non_null(directory);
    guint count = 0;
    for (const char *file; (file = g_dir_read_name(directory));) {
        if (!g_str_has_suffix(file, ".xml") || g_str_has_suffix(file, ".out.xml"))
            continue;
        g_autofree char *full = g_build_filename(path, file, NULL);
        check_pair(full, convert);
        count++;
    }
    assert_true(count > 0);
}

static void
test_domain_pairs(void **state)
{
    check_directory("domain", define_and_format);
}

static void
test_network_pairs(void **state)
{
    check_directory("network", network_format);
}

static const char document[] =
    "<domain type='qemu'><name>web</name><memory>65536</memory><os><type>hvm</type></os><devices>"
    "<interface type='network'><target dev='vnet0'/></interface><serial type='pty'/></devices></domain>";

static void
test_live_and_inactive(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = define(document, &error);
    assert_non_null(def);
    ((DomainChardev *) def->consoles->pdata[0])->source_path = g_strdup("/dev/pts/9");
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    g_autofree char *live = domain_def_format(copy, 0, 3);
    g_autofree char *inactive = domain_def_format(copy, DOMAIN_FORMAT_INACTIVE, 3);
    g_autofree char *migratable = domain_def_format(copy, DOMAIN_FORMAT_MIGRATABLE, -1);
    const char *live_only[] = {"id='3'", "/dev/pts/9", "<alias name='net0'/>", "vnet0"};
    for (gsize i = 0; i < G_N_ELEMENTS(live_only); i++) {
        assert_non_null(strstr(live, live_only[i]));
        assert_null(strstr(inactive, live_only[i]));
    }
    assert_non_null(strstr(migratable, "<alias name='net0'/>"));
    assert_null(strstr(migratable, "/dev/pts/9"));
}

static void
test_status(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = define(document, &error);
    const char *pairs[] = {"state", "running", "reason", "a 'b'\n<c>", NULL};
    g_autofree char *xml = domain_def_format_status(def, 5, pairs);
    g_autoptr(GHashTable) read = NULL;
    int id = 0;
    g_autoptr(DomainDef) back = domain_def_parse_status(xml, &id, &read, &error);
    assert_non_null(back);
    assert_int_equal(id, 5);
    assert_string_equal(g_hash_table_lookup(read, "state"), "running");
    assert_string_equal(g_hash_table_lookup(read, "reason"), "a 'b'\n<c>");
    assert_null(domain_def_parse_status("<domstatus/>", NULL, NULL, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_XML_ERROR);
}

static void
test_too_long(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = g_strnfill(5 * 1024 * 1024, ' ');
    assert_null(domain_def_parse(xml, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_XML_ERROR);
}

static void
test_capabilities(void **state)
{
    CapabilitiesMachine machines[] = {{"q35", "pc-q35-7.2", 255}, {"pc-q35-7.2", NULL, 255}};
    CapabilitiesGuest guest = {"x86_64", 64, "/usr/bin/qemu-system-x86_64", FALSE, machines, 2};
    CapabilitiesCpu cpu = {0, 0, 0, 0, NULL};
    Capabilities capabilities = {.host_uuid = "11111111-2222-3333-4444-555555555555",
                                 .arch = "x86_64",
                                 .memory_kib = 1024,
                                 .cpus = &cpu,
                                 .n_cpus = 1,
                                 .guests = &guest,
                                 .n_guests = 1};
    g_autofree char *xml = capabilities_format(&capabilities);
    assert_non_null(strstr(xml, "<machine canonical='pc-q35-7.2' maxCpus='255'>q35</machine>"));
    assert_non_null(strstr(xml, "<domain type='qemu'/>"));
    assert_null(strstr(xml, "kvm"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_domain_pairs),      cmocka_unit_test(test_network_pairs),
        cmocka_unit_test(test_live_and_inactive), cmocka_unit_test(test_status),
        cmocka_unit_test(test_too_long),          cmocka_unit_test(test_capabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
