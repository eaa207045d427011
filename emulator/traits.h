// SPDX-License-Identifier: LGPL-2.1-or-later
// What two emulators must agree on before a guest moves from one to the other.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "emulator/qmp.h"

typedef struct EmulatorTraits EmulatorTraits;
struct EmulatorTraits {
    char *arch; // of the host that the emulator runs on, as uname() names it
    gboolean big_endian;
    guint page_size;    // of that host, bytes
    guint major;        // the emulator's version
    guint64 ticks_hz;   // of that host's time stamp counter (emulator/ticks.h); 0: not known
    GPtrArray *patches; // char *, names of ours that it carries (emulator/patches/series); empty: not ours
    guint64 ram_kib;    // that its guest was given; 0: it runs none
    json_t *firmware;   // that its guest was given (emulator/firmware.h); NULL: not told
};

void emulator_traits_free(EmulatorTraits *traits);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EmulatorTraits, emulator_traits_free)

// QOM types whose names tell the traits: the answer to qom-list-types with these arguments (the caller owns).
json_t *emulator_traits_question(void);
// From that answer. A plain emulator tells nothing: then the host is the one that this process is on.
EmulatorTraits *emulator_traits_new(guint major, json_t *types);
// Of a running emulator, asked of the process itself: its file may have been replaced since it was started.
EmulatorTraits *emulator_traits_query(Qmp *qmp, GError **error);

// For the other host. from_json: NULL when it is not what to_json makes.
json_t *emulator_traits_to_json(const EmulatorTraits *traits);
EmulatorTraits *emulator_traits_from_json(json_t *object);

gboolean emulator_traits_has_patch(const EmulatorTraits *traits, const char *name);

// What an emulator of ours cures, by the patch's name, and what follows for guests where it is missing.
typedef struct EmulatorCure EmulatorCure;
struct EmulatorCure {
    const char *patch;
    const char *without;
    gboolean not_pc;  // it does not concern guests that are PCs,
    gboolean only_pc; // or others
};
extern const EmulatorCure emulator_cures[];
extern const gsize emulator_n_cures;
// Whether this emulator has what the patch cures, by the patch or by its version.
gboolean emulator_traits_is_cured(const EmulatorTraits *traits, const EmulatorCure *cure);

// Whether TCG's dirty tracking loses guest stores on the RAM sizes that are multiples of 256 KiB: version
// below 9.0 without our patch (19 of 64 moves broke the guest).
gboolean emulator_traits_loses_stores(const EmulatorTraits *traits);

// Whether an emulated PowerPC guest that arrives finds its timer running: from version 8.1, of which only 9
// can be told here, or with our patch.
gboolean emulator_traits_keeps_decrementer(const EmulatorTraits *traits);

// Whether an emulated guest's network interface may be vhost-user's: before 8.0 it ends the emulator without
// our patch, and of later ones none has been tried.
gboolean emulator_traits_serves_vhost(const EmulatorTraits *traits);

// Whether a guest may move, live unless `paused`, as far as the hosts themselves go.
// VIR_ERR_OPERATION_UNSUPPORTED says why not and what to do. `tcg`: the guest is emulated. Firmware is
// emulator_firmware_agrees()'s, time is emulator_time_agrees()'s.
gboolean emulator_traits_may_move(const EmulatorTraits *source, const EmulatorTraits *destination,
                                  gboolean tcg, gboolean paused, GError **error);
