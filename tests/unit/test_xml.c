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
#include "tests/unit/files.h"
#include "xml/capabilities.h"
#include "xml/domain.h"
#include "xml/metadata.h"
#include "xml/network.h"

static char *
canonical_machine(const char *arch, const char *machine, gpointer opaque)
{
    if (g_str_has_prefix(arch, "ppc64"))
        return g_str_has_prefix(machine, "pseries") ? g_strdup("pseries-7.2") : NULL;
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

static gboolean plain_emulator; // one that cannot serve vhost-user

static DomainDef *
define(const char *xml, GError **error)
{
    static const char *const archs[] = {"x86_64", "i686", "ppc64", "ppc64le", NULL};
    guint8 next = 1;
    DomainDefaults defaults = {
        .arch = "x86_64",
        .archs = archs,
        .emulator = "/usr/bin/qemu-system-x86_64",
        .canonical_machine = canonical_machine,
        .random_bytes = counted_bytes,
        .opaque = &next,
        .vhost = !plain_emulator,
    };
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    if (def && def->arch && g_str_has_prefix(def->arch, "ppc64"))
        defaults.default_machine = "pseries";
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
        test_compare_document(out, text);
        assert_string_equal(again, text);
        return;
    }
    g_autofree char *err = g_strconcat(stem, ".err", NULL);
    g_autofree char *message = g_strdup_printf("%d %s\n", quasar_error_code(error), error->message);
    test_compare_document(err, message);
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

static DomainDef *
define_with(const char *parts, const char *devices, GError **error)
{
    g_autofree char *xml = g_strdup_printf("<domain type='qemu' xmlns:up='urn:up'><name>web</name>"
                                           "<memory>65536</memory><os><type>hvm</type></os>%s"
                                           "<devices>%s</devices></domain>",
                                           parts, devices);
    return define(xml, error);
}

// What is accepted can be read back; the copy is a round trip.
static void
test_large_documents(void **state)
{
    g_autoptr(GError) too_long = NULL, too_deep = NULL;
    g_autofree char *text = g_strnfill(512 * 1024, '>'); // four times as long when it is written
    g_autofree char *small = g_strnfill(200 * 1024, '>');
    g_autofree char *long_text = g_strconcat("<description>", text, "</description>", NULL);
    g_autofree char *small_text = g_strconcat("<description>", small, "</description>", NULL);
    assert_null(define_with(long_text, "", &too_long));
    assert_non_null(strstr(too_long->message, "description"));
    g_autoptr(DomainDef) def = define_with(small_text, "", NULL);
    assert_non_null(def);
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    assert_string_equal(copy->description, small);

    g_autoptr(GString) deep = g_string_new("<metadata>");
    for (guint i = 0; i < 200; i++)
        g_string_append(deep, "<a>");
    for (guint i = 0; i < 200; i++)
        g_string_append(deep, "</a>");
    g_string_append(deep, "</metadata>");
    assert_null(define_with(deep->str, "", &too_deep));
    assert_non_null(strstr(too_deep->message, "<metadata>"));
}

static void
test_metadata_is_replaced(void **state)
{
    static const struct {
        const char *before, *key, *element, *after; // `after` "": an error
    } cases[] = {
        {NULL, "a", "<app kind='x'><b/></app>",
         "<metadata><a:app xmlns:a=\"urn:app\" kind=\"x\"><a:b/></a:app></metadata>"},
        {"<metadata><o:x xmlns:o='urn:o'/><a:app xmlns:a='urn:app'/></metadata>", NULL, NULL,
         "<metadata><o:x xmlns:o=\"urn:o\"/></metadata>"},
        {"<metadata><a:app xmlns:a='urn:app'/></metadata>", NULL, NULL, NULL},
        {"<metadata><a:app xmlns:a='urn:app'/></metadata>", "z", "<new/>",
         "<metadata><z:new xmlns:z=\"urn:app\"/></metadata>"},
        {NULL, "a", "", ""},
        {NULL, "a", "words", ""},
        {NULL, "a", "<a/><b/>", ""},
        {NULL, "a", "</metadata><metadata>", ""},
        {NULL, "a", "<a>", ""},
        {NULL, "a", "<b xmlns:a='urn:other'/>", ""},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *after = NULL;
        gboolean ok =
            metadata_replace(cases[i].before, "urn:app", cases[i].key, cases[i].element, &after, &error);
        assert_int_equal(ok, !cases[i].after || *cases[i].after);
        if (!ok)
            assert_int_equal(quasar_error_code(error), VIR_ERR_XML_ERROR);
        else if (g_strcmp0(after, cases[i].after) != 0)
            fail_msg("%s", after);
    }
}

// Not all comes from a document: terminals, for one, are named by the emulator.
static void
test_text_that_xml_cannot_carry(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"a\x01"
         "b",
         "a?b"},
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"}, // not UTF-8
        {"a\xef\xbf\xbe\xef\xbf\xbf"
         "b",
         "a??b"},
        {"a\x7f"
         "b",
         "a\x7f"
         "b"},
        {"a\n\t'\"<&>\r b", "a\n\t'\"<&>\r b"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(DomainDef) def = define(document, NULL);
        DomainChardev *console = def->consoles->pdata[0];
        def->description = g_strdup(cases[i].text);
        console->source_path = g_strdup(cases[i].text);
        g_autoptr(DomainDef) copy = domain_def_copy(def);
        console = copy->consoles->pdata[0];
        assert_string_equal(copy->description, cases[i].expected);
        assert_string_equal(console->source_path, cases[i].expected);
    }
}

static void
test_too_many_devices(void **state)
{
    static const struct {
        const char *device;
        guint count;
        const char *reason;
    } cases[] = {
        {"<controller type='pci' model='pcie-root-port'/>", 300, "too many of type 'pci'"},
        {"<controller type='virtio-serial'/>", 257, "too many of type 'virtio-serial'"},
        {"<interface/>", 1025, "more than 1024 devices"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GString) devices = g_string_new(NULL);
        g_autoptr(GError) error = NULL;
        for (guint n = 0; n < cases[i].count; n++)
            g_string_append(devices, cases[i].device);
        assert_null(define_with("", devices->str, &error));
        assert_non_null(strstr(error->message, cases[i].reason));
    }
}

// 536838145 * 536903681 * 64 is 2^64 + 64: a product that wraps would pass for the 64 that there are.
static void
test_topology_does_not_overflow(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_null(define_with("<vcpu>64</vcpu><cpu><topology sockets='536838145' dies='536903681' cores='64' "
                            "threads='1'/></cpu>",
                            "", &error));
    assert_non_null(strstr(error->message, "<topology>"));
    g_autoptr(DomainDef) def = define_with(
        "<vcpu>64</vcpu><cpu><topology sockets='2' dies='1' cores='16' threads='2'/></cpu>", "", NULL);
    assert_non_null(def);
}

static void
test_metadata(void **state)
{
    static const struct {
        const char *metadata, *expected;
    } cases[] = {
        {"<a:app xmlns:a='urn:app'><a:kind>x</a:kind></a:app>", "<app><kind>x</kind></app>"},
        // The declaration stays for the attribute that needs it.
        {"<a:app xmlns:a='urn:app' a:id='1'><a:kind a:id='2'/></a:app>",
         "<app xmlns:a=\"urn:app\" a:id=\"1\"><kind a:id=\"2\"/></app>"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *metadata = g_strconcat("<metadata>", cases[i].metadata, "</metadata>", NULL);
        g_autofree char *text = metadata_element(metadata, "urn:app");
        assert_string_equal(text, cases[i].expected);
    }
    assert_null(metadata_element("<metadata/>", "urn:app"));
    assert_null(metadata_element(NULL, "urn:app"));

    // A prefix that the domain element declares survives being written and read.
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = define_with("<metadata><up:app up:id='1'/></metadata>", "", &error);
    assert_non_null(def);
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    g_autofree char *text = metadata_element(copy->metadata, "urn:up");
    assert_non_null(text);
    assert_true(g_str_has_prefix(text, "<app"));
}

static void
test_capabilities(void **state)
{
    CapabilitiesMachine machines[] = {{"q35", "pc-q35-7.2", 255}, {"pc-q35-7.2", NULL, 255}};
    CapabilitiesGuest guest = {"x86_64", 64, "/usr/bin/qemu-system-x86_64", FALSE, TRUE, machines, 2};
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
    assert_non_null(strstr(xml, "<acpi default='on' toggle='yes'/>"));
    assert_non_null(strstr(xml, "<domain type='qemu'/>"));
    assert_null(strstr(xml, "kvm"));
    guest.has_acpi = FALSE;
    g_autofree char *without = capabilities_format(&capabilities);
    assert_null(strstr(without, "acpi"));
    assert_non_null(strstr(without, "<cpuselection/>"));
}

// Who serves a virtio interface, and with what, is decided once.
static void
test_nic_drivers(void **state G_GNUC_UNUSED)
{
#define ALL_OFF                                                                                              \
    "<host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off'/>"                                 \
    "<guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/>"
    static const struct {
        const char *driver;
        gboolean plain;
        const char *name; // NULL: refused
        gboolean offloads;
    } rows[] = {
        {"", FALSE, "vhost", TRUE},
        {"", TRUE, "qemu", FALSE},
        {"<driver name='vhost'/>", FALSE, "vhost", TRUE},
        {"<driver name='vhost'/>", TRUE, NULL, FALSE},
        {"<driver name='qemu'/>", FALSE, "qemu", FALSE},
        {"<driver name='qemu'/>", TRUE, "qemu", FALSE},
        {"<driver name='vfio'/>", FALSE, NULL, FALSE},
        // As definitions of before vhost-user have it.
        {"<driver>" ALL_OFF "</driver>", FALSE, "qemu", FALSE},
        {"<driver name='vhost'>" ALL_OFF "</driver>", FALSE, "vhost", FALSE},
        {"<driver><host ufo='off'/></driver>", FALSE, "vhost", TRUE},
        {"<driver><guest tso4='on'/></driver>", TRUE, NULL, FALSE},
        {"<driver name='qemu'><host csum='on'/></driver>", FALSE, NULL, FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *xml = g_strdup_printf(
            "<domain type='qemu'><name>a</name><memory>65536</memory><os><type>hvm</type></os>"
            "<devices><interface type='network'>%s</interface></devices></domain>",
            rows[i].driver);
        plain_emulator = rows[i].plain;
        g_autoptr(DomainDef) def = define(xml, &error);
        plain_emulator = FALSE;
        assert_int_equal(def != NULL, rows[i].name != NULL);
        if (!def) {
            assert_int_equal(quasar_error_code(error), VIR_ERR_CONFIG_UNSUPPORTED);
            assert_non_null(strstr(error->message, "<driver>"));
            continue;
        }
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, 0);
        assert_string_equal(interface->driver_name, rows[i].name);
        assert_int_equal(domain_interface_is_vhost(interface), g_str_equal(rows[i].name, "vhost"));
        assert_int_equal(domain_interface_offload(interface) != NULL, rows[i].offloads);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nic_drivers),
        cmocka_unit_test(test_domain_pairs),
        cmocka_unit_test(test_network_pairs),
        cmocka_unit_test(test_live_and_inactive),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_large_documents),
        cmocka_unit_test(test_metadata_is_replaced),
        cmocka_unit_test(test_text_that_xml_cannot_carry),
        cmocka_unit_test(test_too_many_devices),
        cmocka_unit_test(test_topology_does_not_overflow),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_capabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
