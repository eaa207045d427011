// SPDX-License-Identifier: LGPL-2.1-or-later
// Which pairs of emulators a guest may move between.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above.
#include <cmocka.h>

#include <unistd.h>

#include "base/error.h"
#include "emulator/traits.h"

#define PLAIN  "pc-q35-7.2"
#define QUASAR "pc-q35-quasar-7.2"

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
#define ALL                                                                                                  \
    "quasar-patch-true-dirty-tracking", "quasar-patch-host-byte-order", "quasar-patch-host-page-size", NULL

static void
check(EmulatorTraits *source, EmulatorTraits *destination, const char *machine, gboolean tcg, gboolean paused,
      const char *reason)
{
    g_autoptr(EmulatorTraits) own_source = source;
    g_autoptr(EmulatorTraits) own_destination = destination;
    g_autoptr(GError) error = NULL;
    gboolean may = emulator_traits_may_move(source, destination, machine, tcg, paused, &error);
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
    g_autoptr(json_t) object = emulator_traits_to_json(traits);
    g_autoptr(EmulatorTraits) back = emulator_traits_from_json(object);
    assert_string_equal(back->arch, "s390x");
    assert_true(back->big_endian);
    assert_int_equal(back->page_size, 4096);
    assert_int_equal(back->major, 7);
    assert_int_equal(back->ram_kib, 131080);
    assert_int_equal(back->patches->len, 3);
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
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), PLAIN, TRUE, FALSE, "loses stores");
    check(make(7, 131072, X86, NULL), make(7, 0, X86, ALL), PLAIN, TRUE, FALSE, "loses stores");
    // Its vCPUs stand, another size, KVM, the patch at the source, a version that has it right.
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), PLAIN, TRUE, TRUE, NULL);
    check(make(7, 131080, X86, NULL), make(7, 0, X86, NULL), PLAIN, TRUE, FALSE, NULL);
    check(make(7, 131072, X86, NULL), make(7, 0, X86, NULL), PLAIN, FALSE, FALSE, NULL);
    check(make(7, 131072, X86, ALL), make(7, 0, X86, NULL), PLAIN, TRUE, FALSE, NULL);
    check(make(9, 131072, X86, NULL), make(9, 0, X86, NULL), PLAIN, TRUE, FALSE, NULL);
}

static void
test_unlike_hosts(void **state)
{
    (void) state;
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, ALL), QUASAR, TRUE, FALSE, NULL);
    check(make(7, 131072, PPC64K, ALL), make(7, 0, X86, ALL), QUASAR, TRUE, FALSE, NULL);
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, NULL), QUASAR, TRUE, FALSE, "byte orders differ");
    check(make(7, 131080, PPC64K, NULL), make(7, 0, X86, ALL), QUASAR, TRUE, FALSE, "page sizes differ");
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, ALL), PLAIN, TRUE, FALSE, "another rate");
    check(make(7, 131072, X86, ALL), make(7, 0, S390X, ALL), QUASAR, FALSE, FALSE, "not emulated");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),        cmocka_unit_test(test_plain_emulator_is_on_this_host),
        cmocka_unit_test(test_json),         cmocka_unit_test(test_lost_stores),
        cmocka_unit_test(test_unlike_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
