// SPDX-License-Identifier: LGPL-2.1-or-later
// What two emulators must agree on before a guest moves from one to the other.
#include "emulator/traits.h"

#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/monitor.h"
#include "emulator/ticks.h"

// The bundled emulator has an object type for each of its patches, quasar-patch-NAME, and one that tells
// where it runs, quasar-host-ARCH-ORDER-PAGESIZE (emulator/patches/room/host.c).
#define PATCH               "quasar-patch-"
#define HOST                "quasar-host-"
#define WORD_KIB            256 // of pages, of which a dirty bitmap's word tells
#define FIRST_TRUE_MAJOR    9
#define FIRST_KEEPING_MAJOR 9 // 8.1, in whole numbers

void
emulator_traits_free(EmulatorTraits *traits)
{
    if (!traits)
        return;
    g_free(traits->arch);
    g_ptr_array_unref(traits->patches);
    json_decref(traits->firmware);
    g_free(traits);
}

static EmulatorTraits *
traits_of_this_host(guint major)
{
    struct utsname names;
    EmulatorTraits *traits = g_new0(EmulatorTraits, 1);
    traits->major = major;
    traits->arch = g_strdup(uname(&names) == 0 ? names.machine : "unknown");
    traits->big_endian = G_BYTE_ORDER == G_BIG_ENDIAN;
    traits->page_size = (guint) sysconf(_SC_PAGESIZE);
    traits->ticks_hz = emulator_ticks_hz();
    traits->patches = g_ptr_array_new_with_free_func(g_free);
    return traits;
}

static void
take_host(EmulatorTraits *traits, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "-", -1);
    guint64 page_size;
    if (g_strv_length(parts) != 3 ||
        !g_ascii_string_to_unsigned(parts[2], 10, 512, 1 << 24, &page_size, NULL))
        return;
    // Nothing is known of the counter that an emulated host has.
    if (!g_str_equal(traits->arch, parts[0]))
        traits->ticks_hz = 0;
    g_free(traits->arch);
    traits->arch = g_strdup(parts[0]);
    traits->big_endian = g_str_equal(parts[1], "big");
    traits->page_size = (guint) page_size;
}

json_t *
emulator_traits_question(void)
{
    return json_pack("{s:s, s:b}", "implements", "quasar-trait", "abstract", 1);
}

EmulatorTraits *
emulator_traits_new(guint major, json_t *types)
{
    EmulatorTraits *traits = traits_of_this_host(major);
    size_t i;
    json_t *item;
    json_array_foreach(types, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name && g_str_has_prefix(name, PATCH))
            g_ptr_array_add(traits->patches, g_strdup(name + strlen(PATCH)));
        else if (name && g_str_has_prefix(name, HOST))
            take_host(traits, name + strlen(HOST));
    }
    return traits;
}

EmulatorTraits *
emulator_traits_query(Qmp *qmp, GError **error)
{
    g_autoptr(json_t) version = qmp_execute(qmp, "query-version", NULL, MONITOR_TIMEOUT_MS, error);
    g_autoptr(json_t) types =
        version ? qmp_execute(qmp, "qom-list-types", emulator_traits_question(), MONITOR_TIMEOUT_MS, error)
                : NULL;
    g_autoptr(json_t) memory =
        types ? qmp_execute(qmp, "query-memory-size-summary", NULL, MONITOR_TIMEOUT_MS, error) : NULL;
    if (!memory)
        return NULL;
    int major = 0;
    json_int_t bytes = 0;
    if (json_unpack(version, "{s:{s:i}}", "qemu", "major", &major) < 0 || major < 0 ||
        json_unpack(memory, "{s:I}", "base-memory", &bytes) < 0 || bytes < 0) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR,
                         "the emulator does not tell its version and its guest's RAM");
        return NULL;
    }
    EmulatorTraits *traits = emulator_traits_new((guint) major, types);
    traits->ram_kib = (guint64) bytes / 1024;
    return traits;
}

json_t *
emulator_traits_to_json(const EmulatorTraits *traits)
{
    json_t *patches = json_array();
    for (guint i = 0; i < traits->patches->len; i++)
        json_array_append_new(patches, json_string(g_ptr_array_index(traits->patches, i)));
    return json_pack("{s:s, s:b, s:i, s:i, s:o, s:I, s:I, s:O*}", "arch", traits->arch, "big-endian",
                     traits->big_endian, "page-size", (int) traits->page_size, "major", (int) traits->major,
                     "patches", patches, "ram-kib", (json_int_t) traits->ram_kib, "ticks-hz",
                     (json_int_t) traits->ticks_hz, "firmware", traits->firmware);
}

EmulatorTraits *
emulator_traits_from_json(json_t *object)
{
    const char *arch = NULL;
    int big_endian = 0, page_size = 0, major = 0;
    json_t *patches = NULL, *firmware = NULL, *patch;
    json_int_t ram_kib = 0, ticks_hz = 0;
    size_t i;
    if (!object ||
        json_unpack(object, "{s:s, s:b, s:i, s:i, s:o, s:I, s?I, s?O}", "arch", &arch, "big-endian",
                    &big_endian, "page-size", &page_size, "major", &major, "patches", &patches, "ram-kib",
                    &ram_kib, "ticks-hz", &ticks_hz, "firmware", &firmware) < 0 ||
        page_size <= 0 || major < 0 || ram_kib < 0 || ticks_hz < 0) {
        json_decref(firmware);
        return NULL;
    }
    EmulatorTraits *traits = g_new0(EmulatorTraits, 1);
    traits->firmware = firmware;
    traits->arch = g_strdup(arch);
    traits->big_endian = big_endian;
    traits->page_size = (guint) page_size;
    traits->major = (guint) major;
    traits->ram_kib = (guint64) ram_kib;
    traits->ticks_hz = (guint64) ticks_hz;
    traits->patches = g_ptr_array_new_with_free_func(g_free);
    json_array_foreach(patches, i, patch) if (json_is_string(patch))
        g_ptr_array_add(traits->patches, g_strdup(json_string_value(patch)));
    return traits;
}

gboolean
emulator_traits_has_patch(const EmulatorTraits *traits, const char *name)
{
    return g_ptr_array_find_with_equal_func(traits->patches, name, g_str_equal, NULL);
}

const EmulatorCure emulator_cures[] = {
    {"true-dirty-tracking", "emulated guests get 8 KiB more memory, as others lose stores in a live move",
     .only_pc = TRUE},
    {"true-dirty-tracking", "no emulated guest moves live, as it would lose stores", .not_pc = TRUE},
    {"host-byte-order", "no guest moves to or from a host of the other byte order", .only_pc = TRUE},
    {"host-page-size", "no guest moves to or from a host of another page size"},
    {"guest-time", "an emulated guest moves between hosts of one architecture and clock rate only",
     .only_pc = TRUE},
    {"rtc-timers", "alarms of a guest's RTC stay in the time of the host that it came from", .only_pc = TRUE},
    {"decrementer", "no emulated guest can move here, as its timer would not go on", .not_pc = TRUE},
    {"vhost-interrupts", "virtio NICs have no offloads, and a move may lose frames of a flood"},
    {"vhost-features", "virtio NICs have no offloads, or one might stay silent after a move"},
    {"translate-ahead", "an emulated guest is slow for a moment after a move", .only_pc = TRUE},
};
const gsize emulator_n_cures = G_N_ELEMENTS(emulator_cures);

gboolean
emulator_traits_is_cured(const EmulatorTraits *traits, const EmulatorCure *cure)
{
    if (g_str_equal(cure->patch, "true-dirty-tracking"))
        return !emulator_traits_loses_stores(traits);
    if (g_str_equal(cure->patch, "decrementer"))
        return emulator_traits_keeps_decrementer(traits);
    return emulator_traits_has_patch(traits, cure->patch);
}

gboolean
emulator_traits_loses_stores(const EmulatorTraits *traits)
{
    return traits->major < FIRST_TRUE_MAJOR && !emulator_traits_has_patch(traits, "true-dirty-tracking");
}

gboolean
emulator_traits_keeps_decrementer(const EmulatorTraits *traits)
{
    return traits->major >= FIRST_KEEPING_MAJOR || emulator_traits_has_patch(traits, "decrementer");
}

gboolean
emulator_traits_serves_vhost(const EmulatorTraits *traits)
{
    struct utsname names;
    // Of another architecture's host it speaks, to a quasar-vnet of this one, in that host's byte order.
    return uname(&names) == 0 && g_str_equal(names.machine, traits->arch) &&
           emulator_traits_has_patch(traits, "vhost-interrupts") &&
           emulator_traits_has_patch(traits, "vhost-features");
}

static gboolean G_GNUC_PRINTF(2, 3) refuse(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *reason = g_strdup_vprintf(format, ap);
    va_end(ap);
    quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "%s", reason);
    return FALSE;
}

static gboolean
both_have(const EmulatorTraits *source, const EmulatorTraits *destination, const char *patch)
{
    return emulator_traits_has_patch(source, patch) && emulator_traits_has_patch(destination, patch);
}

gboolean
emulator_traits_may_move(const EmulatorTraits *source, const EmulatorTraits *destination, gboolean tcg,
                         gboolean paused, GError **error)
{
    if (tcg && !paused && emulator_traits_loses_stores(source) && source->ram_kib % WORD_KIB == 0)
        return refuse(
            error,
            "the guest's emulator (QEMU %u) loses stores of an emulated guest that moves live; pause "
            "the guest for the move, or restart it under Quasar's emulator (make emulator)",
            source->major);
    if (source->big_endian != destination->big_endian && !both_have(source, destination, "host-byte-order"))
        return refuse(error,
                      "the hosts' byte orders differ (%s, %s), which only Quasar's emulator on both supports",
                      source->arch, destination->arch);
    if (source->page_size != destination->page_size && !both_have(source, destination, "host-page-size"))
        return refuse(
            error,
            "the hosts' page sizes differ (%u, %u bytes), which only Quasar's emulator on both supports",
            source->page_size, destination->page_size);
    if (!tcg && !g_str_equal(source->arch, destination->arch))
        return refuse(error, "the hosts' CPUs differ (%s, %s) and the guest is not emulated", source->arch,
                      destination->arch);
    return TRUE;
}
