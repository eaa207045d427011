// SPDX-License-Identifier: LGPL-2.1-or-later
// What an emulator binary can do, asked by QMP once per (path, mtime, size).
#pragma once

#include <glib.h>

#include "emulator/launch.h"
#include "emulator/traits.h"

typedef struct EmulatorMachine EmulatorMachine;
struct EmulatorMachine {
    char *name;
    char *alias; // NULL: none
    guint max_cpus;
    gboolean is_default;
    gboolean deprecated;
};

// Immutable once returned; shared by threads.
typedef struct EmulatorProbe EmulatorProbe;
struct EmulatorProbe {
    char *path;
    gint64 mtime_ns;
    gint64 size;
    char *arch; // of its guests: x86_64, i686, ppc64 (emulator/arch.h); another's by the emulator's own name
    guint major, minor, micro;
    char *package;         // the distribution's own version, "" when none
    GPtrArray *machines;   // EmulatorMachine
    GPtrArray *cpu_models; // char *, as -cpu takes them, without "-x86_64-cpu"; libvirt's POWER9
    char **directories;    // where it looks for firmware, in this order; empty: not told
    EmulatorTraits *traits;
    gboolean loses_tcg_stores; // emulator_traits_loses_stores(traits)
    gint refs;                 // private
};

// The cached answer, or a run of the binary as `user` (20 s at most). Blocks. VIR_ERR_SYSTEM_ERROR when there
// is no such file, VIR_ERR_INTERNAL_ERROR when it does not answer. cache_directory NULL: memory only.
EmulatorProbe *emulator_probe(const char *path, const EmulatorUser *user, const char *cache_directory,
                              GError **error);
EmulatorProbe *emulator_probe_ref(EmulatorProbe *probe);
void emulator_probe_unref(EmulatorProbe *probe);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EmulatorProbe, emulator_probe_unref)

// The versioned name of a machine or alias ("q35" -> "pc-q35-7.2"); NULL when there is none. Borrowed.
const char *emulator_probe_machine(const EmulatorProbe *probe, const char *name);

gboolean emulator_probe_has_cpu_model(const EmulatorProbe *probe, const char *name);

// The machine that is the same as this versioned one ("pc-q35-7.2") but counts time alike on every host
// ("pc-q35-quasar-7.2"); `name` when there is none. Borrowed.
const char *emulator_probe_steady_machine(const EmulatorProbe *probe, const char *name);

// Version as libvirt counts: major * 1000000 + minor * 1000 + micro.
gulong emulator_probe_version(const EmulatorProbe *probe);
