// SPDX-License-Identifier: LGPL-2.1-or-later
// The architectures that guests can have.
#pragma once

#include <glib.h>

typedef struct EmulatorArch EmulatorArch;
struct EmulatorArch {
    const char *name;    // <arch>, libvirt's
    const char *target;  // the emulator's, which may serve several
    const char *build;   // of `make emulator-BUILD`; NULL: `make emulator`
    const char *machine; // of a definition that names none
    guint wordsize;      // bits
    gboolean pc;         // its machines are PCs; the others are PowerPC's, and only emulated
};

// The first is that of a definition that names none.
extern const EmulatorArch emulator_archs[];
extern const gsize emulator_n_archs;

// NULL: not one of these. Of a target's several it is the first.
const EmulatorArch *emulator_arch_find(const char *name);
const EmulatorArch *emulator_arch_of_target(const char *target);

// Whether an emulator whose guests are of `arch` has guests of `wanted` too; both by name.
gboolean emulator_arch_serves(const char *arch, const char *wanted);
