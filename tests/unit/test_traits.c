// SPDX-License-Identifier: LGPL-2.1-or-later
// Which pairs of emulators a guest may move between.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above.
#include <cmocka.h>

#include <glib/gstdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/firmware.h"
#include "emulator/portable.h"
#include "emulator/ticks.h"
#include "emulator/timebase.h"
#include "emulator/traits.h"
#include "tests/unit/files.h"

#define PLAIN  "pc-q35-7.2"
#define QUASAR "pc-q35-quasar-7.2"
#define POWER  "pseries-7.2"

static EmulatorTraits *
make(guint major, guint64 ram_kib, const char *host, ...)
{
    g_autoptr(json_t) types = json_array();
    va_list ap;
    va_start(ap, host);
    for (const char *name = host; name; name = va_arg(ap, const char *))
        json_array_append_new(types, json_pack("{s:s, s:s}", "name", name, "parent", "quasar-trait"));
    va_end(ap);
    EmulatorTraits *traits = emulator_traits_new(major, types);
    traits->ram_kib = ram_kib;
    return traits;
}

#define X86    "quasar-host-x86_64-little-4096"
#define S390X  "quasar-host-s390x-big-4096"
#define PPC64K "quasar-host-ppc64le-little-65536"
#define ARM64  "quasar-host-aarch64-little-4096"
#define TIMELESS                                                                                             \
    "quasar-patch-true-dirty-tracking", "quasar-patch-host-byte-order", "quasar-patch-host-page-size", NULL
#define ALL                                                                                                  \
    "quasar-patch-true-dirty-tracking", "quasar-patch-host-byte-order", "quasar-patch-host-page-size",       \
        "quasar-patch-guest-time", NULL

static void
check(EmulatorTraits *source, EmulatorTraits *destination, gboolean tcg, gboolean paused, const char *reason)
{
    g_autoptr(EmulatorTraits) own_source = source;
    g_autoptr(EmulatorTraits) own_destination = destination;
    g_autoptr(GError) error = NULL;
    gboolean may = emulator_traits_may_move(source, destination, tcg, paused, &error);
    assert_int_equal(may, reason == NULL);
    if (!reason)
        return;
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, reason));
}

static void
test_names(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) traits = make(7, 0, S390X, "quasar-patch-one", "quasar-trait", NULL);
    assert_string_equal(traits->arch, "s390x");
    assert_true(traits->big_endian);
    assert_int_equal(traits->page_size, 4096);
    assert_true(emulator_traits_has_patch(traits, "one"));
    assert_false(emulator_traits_has_patch(traits, "two"));
    assert_int_equal(traits->patches->len, 1);
}

static void
test_plain_emulator_is_on_this_host(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) traits = make(7, 0, NULL, NULL);
    assert_int_equal(traits->page_size, sysconf(_SC_PAGESIZE));
    assert_int_equal(traits->big_endian, G_BYTE_ORDER == G_BIG_ENDIAN);
    g_autoptr(EmulatorTraits) odd = make(7, 0, "quasar-host-odd", "quasar-host-a-big-0", NULL);
    assert_string_equal(odd->arch, traits->arch);
    assert_int_equal(odd->page_size, traits->page_size);
}

static void
test_json(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) traits = make(7, 131080, S390X, ALL);
    traits->ticks_hz = 2596120000;
    g_autoptr(json_t) object = emulator_traits_to_json(traits);
    g_autoptr(EmulatorTraits) back = emulator_traits_from_json(object);
    assert_string_equal(back->arch, "s390x");
    assert_true(back->big_endian);
    assert_int_equal(back->page_size, 4096);
    assert_int_equal(back->major, 7);
    assert_int_equal(back->ram_kib, 131080);
    assert_int_equal(back->patches->len, 4);
    assert_int_equal(back->ticks_hz, 2596120000);
    assert_null(back->firmware);
    // A host that does not tell it.
    json_object_del(object, "ticks-hz");
    g_autoptr(EmulatorTraits) older = emulator_traits_from_json(object);
    assert_int_equal(older->ticks_hz, 0);
    json_object_set_new(object, "page-size", json_integer(0));
    assert_null(emulator_traits_from_json(object));
    json_object_del(object, "page-size");
    assert_null(emulator_traits_from_json(object));
    assert_null(emulator_traits_from_json(NULL));
}

static void
test_lost_stores(void **state)
{
    (void) state;
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), TRUE, FALSE, "loses stores");
    check(make(7, 131072, X86, NULL), make(7, 0, X86, ALL), TRUE, FALSE, "loses stores");
    // Its vCPUs stand, another size, KVM, the patch at the source, a version that has it right.
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), TRUE, TRUE, NULL);
    check(make(7, 131080, X86, NULL), make(7, 0, X86, NULL), TRUE, FALSE, NULL);
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), FALSE, FALSE, NULL);
    check(make(7, 131072, X86, ALL), make(7, 0, X86, NULL), TRUE, FALSE, NULL);
    check(make(9, 131072, X86, NULL), make(9, 0, X86, NULL), TRUE, FALSE, NULL);
}

static void
test_unlike_hosts(void **state)
{
    (void) state;
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, ALL), TRUE, FALSE, NULL);
    check(make(7, 131072, PPC64K, ALL), make(7, 0, X86, ALL), TRUE, FALSE, NULL);
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, NULL), TRUE, FALSE, "byte orders differ");
    check(make(7, 131080, PPC64K, NULL), make(7, 0, X86, ALL), TRUE, FALSE, "page sizes differ");
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, ALL), FALSE, FALSE, "not emulated");
}

static void
check_time(EmulatorTraits *source, EmulatorTraits *destination, const char *machine, gboolean unsafe,
           const char *reason)
{
    g_autoptr(EmulatorTraits) own_source = source;
    g_autoptr(EmulatorTraits) own_destination = destination;
    g_autoptr(DomainDef) def = domain_def_new();
    g_autoptr(GError) error = NULL;
    def->virt_type = DOMAIN_VIRT_QEMU;
    def->machine = g_strdup(machine);
    gboolean agrees = emulator_time_agrees(source, destination, def, unsafe, &error);
    assert_int_equal(agrees, reason == NULL);
    if (!reason)
        return;
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, reason));
    // It is the emulator that lets its host's counter through; hardware is another matter.
    def->virt_type = DOMAIN_VIRT_KVM;
    assert_true(emulator_time_agrees(source, destination, def, unsafe, NULL));
}

static EmulatorTraits *
ticking(EmulatorTraits *traits, guint64 hz)
{
    traits->ticks_hz = hz;
    return traits;
}

static void
test_time_between_architectures(void **state)
{
    (void) state;
    check_time(make(7, 0, X86, ALL), make(7, 0, S390X, ALL), QUASAR, FALSE, NULL);
    check_time(make(7, 0, X86, ALL), make(7, 0, S390X, ALL), PLAIN, FALSE, "another rate");
    check_time(make(7, 0, X86, ALL), make(7, 0, S390X, ALL), PLAIN, TRUE, "another rate");
    check_time(make(7, 0, X86, ALL), make(7, 0, ARM64, TIMELESS), QUASAR, FALSE, "another rate");
}

static void
test_time_between_rates(void **state)
{
    (void) state;
    const guint64 slow = 2596120000, near = 2597000000, fast = 2598000000;
#define HOST(hz) ticking(make(7, 0, X86, ALL), hz)
    check_time(HOST(slow), HOST(fast), PLAIN, FALSE, "2596.1 and 2598.0 MHz");
    check_time(HOST(fast), HOST(slow), PLAIN, FALSE, "--unsafe");
    check_time(HOST(slow), HOST(fast), PLAIN, TRUE, NULL);
    // What NTP in the guest makes good, another time base, a rate that nobody knows.
    check_time(HOST(slow), HOST(near), PLAIN, FALSE, NULL);
    check_time(HOST(slow), HOST(fast), QUASAR, FALSE, NULL);
    check_time(HOST(0), HOST(fast), PLAIN, FALSE, NULL);
    check_time(HOST(slow), HOST(0), PLAIN, FALSE, NULL);
#undef HOST
}

// The time base is the same everywhere, but the timer has to be started again where the guest comes to.
static void
test_time_of_power(void **state)
{
    (void) state;
#define TIMER "quasar-patch-decrementer", NULL
    const guint64 slow = 2596120000, fast = 2598000000;
    check_time(make(7, 0, X86, TIMER), make(7, 0, S390X, TIMER), POWER, FALSE, NULL);
    check_time(ticking(make(7, 0, X86, TIMER), slow), ticking(make(7, 0, X86, TIMER), fast), POWER, FALSE,
               NULL);
    check_time(make(7, 0, X86, NULL), make(7, 0, X86, TIMER), POWER, FALSE, NULL);
    check_time(make(7, 0, X86, TIMER), make(9, 0, X86, NULL), POWER, FALSE, NULL);
    check_time(make(7, 0, X86, TIMER), make(7, 0, X86, ALL), POWER, FALSE, "make emulator-ppc");
    check_time(make(7, 0, X86, TIMER), make(8, 0, X86, NULL), POWER, TRUE, "(QEMU 8) does not start");
#undef TIMER
}

static void
test_rate_of_this_host(void **state)
{
    (void) state;
    const guint64 hz = emulator_ticks_hz();
    g_autoptr(EmulatorTraits) here = make(7, 0, NULL, NULL);
    g_autoptr(EmulatorTraits) foreign = make(7, 0, "quasar-host-none-big-4096", NULL);
    assert_true(hz == 0 || (hz > 100000000 && hz < G_GUINT64_CONSTANT(100000000000)));
    assert_int_equal(emulator_ticks_hz(), hz);
    assert_int_equal(here->ticks_hz, hz);
    assert_int_equal(foreign->ticks_hz, 0);
}

static DomainDef *
with_nic(const char *features)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain "
        "type='qemu'><name>web</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>"
        "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/>"
        "<model type='virtio'/><driver>%s</driver></interface></devices></domain>",
        features);
    DomainDef *def = domain_def_parse(xml, NULL);
    assert_non_null(def);
    return def;
}

static void
test_nics(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) here = make(7, 0, X86, ALL);
    g_autoptr(EmulatorTraits) big = make(7, 0, S390X, ALL);
    g_autoptr(EmulatorTraits) little = make(7, 0, ARM64, ALL);
    g_autoptr(DomainDef) portable = with_nic("<host csum='off'/><guest csum='off'/>");
    g_autoptr(DomainDef) offloading = with_nic("<host csum='off'/><guest tso4='on'/>");
    g_autoptr(GError) error = NULL;
    assert_true(emulator_nics_may_move(here, big, portable, NULL));
    assert_true(emulator_nics_may_move(here, little, offloading, NULL));
    assert_false(emulator_nics_may_move(here, big, offloading, &error));
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, "NIC 52:54:00:00:00:01 has feature 'guest tso4'"));
    assert_false(emulator_nics_may_move(big, here, offloading, NULL));
}

static void
test_boards(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) here = make(7, 0, X86, ALL);
    g_autoptr(EmulatorTraits) big = make(7, 0, S390X, ALL);
    g_autoptr(EmulatorTraits) little = make(7, 0, ARM64, ALL);
    g_autoptr(DomainDef) def = with_nic("");
    g_autoptr(GError) error = NULL;
    def->machine = g_strdup(QUASAR);
    assert_true(emulator_board_may_move(here, big, def, NULL));
    g_free(def->machine);
    def->machine = g_strdup(POWER);
    assert_true(emulator_board_may_move(here, little, def, NULL));
    assert_false(emulator_board_may_move(big, here, def, NULL));
    assert_false(emulator_board_may_move(here, big, def, &error));
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, "byte orders differ (x86_64, s390x)"));
}

static void
test_cures(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) plain = make(7, 0, X86, NULL);
    g_autoptr(EmulatorTraits) later = make(9, 0, X86, NULL);
    g_autoptr(EmulatorTraits) ours = make(7, 0, X86, ALL);
    guint missing = 0, missing_later = 0, missing_ours = 0;
    for (gsize i = 0; i < emulator_n_cures; i++) {
        missing += !emulator_traits_is_cured(plain, &emulator_cures[i]);
        missing_later += !emulator_traits_is_cured(later, &emulator_cures[i]);
        missing_ours += !emulator_traits_is_cured(ours, &emulator_cures[i]);
    }
    assert_int_equal(missing, emulator_n_cures);
    assert_int_equal(missing_later, emulator_n_cures - 3);
    assert_int_equal(missing_ours, emulator_n_cures - 5);
    // Each concerns guests of some kind.
    for (gsize i = 0; i < emulator_n_cures; i++)
        assert_false(emulator_cures[i].only_pc && emulator_cures[i].not_pc);
}

static void
put(const char *directory, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(directory, name, NULL);
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static json_int_t
size_in(const json_t *files, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(files, name), "size"));
}

static void
refused(const json_t *source, const json_t *destination, gboolean unsafe, const char *reason)
{
    g_autoptr(GError) error = NULL;
    assert_false(emulator_firmware_agrees(source, destination, unsafe, &error));
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, reason));
}

static void
test_firmware(void **state)
{
    (void) state;
    char *directory = test_directory_new();
    g_autofree char *first = g_build_filename(directory, "first", NULL);
    g_autofree char *second = g_build_filename(directory, "second", NULL);
    g_autofree char *cache = g_build_filename(directory, "cache", NULL);
    const char *const both[] = {first, second, NULL}, *const one[] = {second, NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = domain_def_parse(
        "<domain type='qemu'><name>web</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os>"
        "<devices><interface type='network'><source network='default'/><model type='e1000'/>"
        "<boot order='1'/></interface><interface type='network'><source network='default'/>"
        "<model type='vmxnet3'/></interface></devices></domain>",
        &error);
    assert_non_null(def);
    g_mkdir(first, 0700);
    g_mkdir(second, 0700);
    put(first, "bios-256k.bin", "bios");
    put(second, "bios-256k.bin", "BIOS");
    put(second, "efi-e1000.rom", "nic");
    put(second, "efi-virtio.rom", "of a NIC that the guest has not");
    put(second, "efi-vmxnet3.rom", "of a NIC that the guest is not started from");
    put(second, "linuxboot_dma.bin", "of a kernel that the guest has not");
    g_autoptr(json_t) here = emulator_firmware_describe(both, def, cache);
    g_autoptr(json_t) there = emulator_firmware_describe(one, def, cache);
    assert_int_equal(json_object_size(here), 2);
    assert_int_equal(size_in(here, "efi-e1000.rom"), 3);
    assert_true(emulator_firmware_agrees(here, here, FALSE, &error));
    assert_true(emulator_firmware_agrees(NULL, there, FALSE, &error));
    // Another content is for the user to accept, another size is not.
    refused(here, there, FALSE, "bios-256k.bin");
    assert_true(emulator_firmware_agrees(here, there, TRUE, &error));
    put(second, "bios-256k.bin", "longer");
    g_autoptr(json_t) longer = emulator_firmware_describe(one, def, cache);
    refused(here, longer, TRUE, "has 4 bytes");
    json_object_del(longer, "efi-e1000.rom");
    json_object_set(longer, "bios-256k.bin", json_object_get(here, "bios-256k.bin"));
    refused(here, longer, TRUE, "efi-e1000.rom");
    test_directory_free(directory);
}

// Its NICs start without a file, and so does its kernel.
static void
test_firmware_of_power(void **state)
{
    (void) state;
    char *directory = test_directory_new();
    const char *const directories[] = {directory, NULL};
    g_autoptr(DomainDef) def = with_nic("");
    def->machine = g_strdup(POWER);
    def->kernel = g_strdup("/boot/vmlinux");
    g_ptr_array_add(def->boot_devices, g_strdup("network"));
    for (const char *const *name =
             (const char *const[]){"slof.bin", "bios-256k.bin", "linuxboot_dma.bin", "efi-virtio.rom", NULL};
         *name; name++)
        put(directory, *name, *name);
    g_autoptr(json_t) files = emulator_firmware_describe(directories, def, NULL);
    assert_int_equal(json_object_size(files), 1);
    assert_int_equal(size_in(files, "slof.bin"), strlen("slof.bin"));
    test_directory_free(directory);
}

static const char *
digest_in(const json_t *files, const char *name)
{
    return json_string_value(json_object_get(json_object_get(files, name), "sha256"));
}

// The cache's only file, once a file that has just been written counts as settled; caller frees.
static char *
wait_cached(const char *const *directories, const DomainDef *def, const char *cache)
{
    for (int i = 0; i < 200; i++, g_usleep(20000)) {
        g_autoptr(json_t) files = emulator_firmware_describe(directories, def, cache);
        g_autoptr(GDir) cached = g_dir_open(cache, 0, NULL);
        const char *name = cached ? g_dir_read_name(cached) : NULL;
        if (files && name)
            return g_build_filename(cache, name, NULL);
    }
    fail_msg("no checksum is ever cached");
    return NULL;
}

// A start must not wait for what an earlier one has read.
static void
test_firmware_is_read_once(void **state)
{
    (void) state;
    char *directory = test_directory_new();
    g_autofree char *cache = g_build_filename(directory, "cache", NULL);
    g_autofree char *content = NULL;
    g_autofree char *lie = g_strnfill(64, '0');
    const char *const directories[] = {directory, NULL};
    g_autoptr(DomainDef) def = with_nic("");
    put(directory, "bios-256k.bin", "bios");
    g_autoptr(json_t) before = emulator_firmware_describe(directories, def, cache);
    g_autofree char *file = wait_cached(directories, def, cache);
    assert_true(g_file_get_contents(file, &content, NULL, NULL));
    char *at = strstr(content, digest_in(before, "bios-256k.bin"));
    assert_non_null(at);
    memcpy(at, lie, strlen(lie));
    assert_true(g_file_set_contents(file, content, -1, NULL));
    g_autoptr(json_t) after = emulator_firmware_describe(directories, def, cache);
    assert_string_equal(digest_in(after, "bios-256k.bin"), lie);
    test_directory_free(directory);
}

// What travels with the traits is what was told.
static void
test_firmware_in_json(void **state)
{
    (void) state;
    g_autoptr(EmulatorTraits) traits = make(7, 131080, X86, ALL);
    traits->firmware = json_pack("{s:{s:i, s:s}}", "bios-256k.bin", "size", 4, "sha256", "00");
    g_autoptr(json_t) object = emulator_traits_to_json(traits);
    g_autoptr(EmulatorTraits) back = emulator_traits_from_json(object);
    assert_true(json_equal(back->firmware, traits->firmware));
    json_object_set_new(object, "page-size", json_integer(0));
    assert_null(emulator_traits_from_json(object));
}

static void
test_vhost(void **state)
{
    (void) state;
    struct utsname names;
    assert_return_code(uname(&names), 0);
    g_autofree char *here = g_strdup_printf("quasar-host-%s-little-4096", names.machine);
    g_autoptr(EmulatorTraits) plain = make(7, 0, NULL);
    g_autoptr(EmulatorTraits) half = make(7, 0, here, "quasar-patch-vhost-interrupts", NULL);
    g_autoptr(EmulatorTraits) ours =
        make(7, 0, here, "quasar-patch-vhost-interrupts", "quasar-patch-vhost-features", NULL);
    g_autoptr(EmulatorTraits) foreign =
        make(7, 0, "quasar-host-none-big-4096", "quasar-patch-vhost-interrupts",
             "quasar-patch-vhost-features", NULL);
    assert_false(emulator_traits_serves_vhost(plain));
    assert_false(emulator_traits_serves_vhost(half));
    assert_true(emulator_traits_serves_vhost(ours));
    assert_false(emulator_traits_serves_vhost(foreign));
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = with_nic("");
    assert_true(emulator_nics_may_move(ours, plain, def, NULL));
    ((DomainInterface *) g_ptr_array_index(def->interfaces, 0))->driver_name = g_strdup("vhost");
    assert_true(emulator_nics_may_move(ours, ours, def, NULL));
    assert_false(emulator_nics_may_move(ours, plain, def, &error));
    assert_int_equal(error->code, VIR_ERR_OPERATION_UNSUPPORTED);
    assert_non_null(strstr(error->message, "make emulator"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vhost),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_plain_emulator_is_on_this_host),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_lost_stores),
        cmocka_unit_test(test_unlike_hosts),
        cmocka_unit_test(test_time_between_architectures),
        cmocka_unit_test(test_time_between_rates),
        cmocka_unit_test(test_time_of_power),
        cmocka_unit_test(test_rate_of_this_host),
        cmocka_unit_test(test_firmware),
        cmocka_unit_test(test_firmware_of_power),
        cmocka_unit_test(test_firmware_is_read_once),
        cmocka_unit_test(test_firmware_in_json),
        cmocka_unit_test(test_boards),
        cmocka_unit_test(test_cures),
        cmocka_unit_test(test_nics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
