// SPDX-License-Identifier: LGPL-2.1-or-later
// The NIC models that a guest can have, and what the emulator gives each.
#pragma once

#include <glib.h>

#include "xml/domain.h"

typedef struct EmulatorNic EmulatorNic;
struct EmulatorNic {
    const char *model;  // <model type=>
    const char *device; // the emulator's name
    const char *rom;    // the file of its boot code
    gboolean pc;        // only PCs have it
};

// NULL: the model is not supported.
const EmulatorNic *emulator_nic_find(const char *model);

// The place of an interface among what the guest is started from, from 1; 0: it is not started from, and its
// NIC has no option ROM. A pseries' NICs never have one: its firmware starts from them without.
guint emulator_nic_boot_index(const DomainDef *def, guint index);
