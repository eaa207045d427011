// SPDX-License-Identifier: LGPL-2.1-or-later
// The architectures that guests can have.
#pragma once

#include <glib.h>

typedef struct EmulatorArch EmulatorArch;
struct EmulatorArch {
    const char *name;   // <arch>, libvirt's
    const char *target; // the emulator's
    guint wordsize;     // bits
};

// The first is that of a definition that names none.
extern const EmulatorArch emulator_archs[];
extern const gsize emulator_n_archs;

// NULL: not one of these.
const EmulatorArch *emulator_arch_find(const char *name);
const EmulatorArch *emulator_arch_of_target(const char *target);
