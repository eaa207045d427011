// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices on the emulator's command line.
#pragma once

#include <glib.h>

#include "xml/domain.h"

// Appends the options of all devices and their back ends to argv (of char *, owned by it). `directory` holds
// the guest's sockets. VIR_ERR_CONFIG_UNSUPPORTED names what cannot be expressed; argv is then of no use.
gboolean emulator_devices(GPtrArray *argv, const DomainDef *def, const char *directory, GError **error);

// A device's place among what the guest is started from, from 1; 0: it is not started from. `kind` is a name
// of <os><boot dev=>, `first` says that this is the first device of that kind.
guint emulator_boot_index(const DomainDef *def, const DomainDeviceInfo *info, const char *kind,
                          gboolean first);
