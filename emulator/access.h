// SPDX-License-Identifier: LGPL-2.1-or-later
// What the emulator's user may open on this host.
#pragma once

#include <glib.h>

#include "emulator/launch.h"

// Whether the emulator, as `user`, can open the file or device for reading and writing, asked by opening it
// as that user does, at most 5 s long (a device may hang). VIR_ERR_CONFIG_UNSUPPORTED says why not.
gboolean emulator_can_open(const char *path, const EmulatorUser *user, GError **error);
