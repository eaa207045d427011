// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a guest's time goes on at the same rate on another host.
#pragma once

#include <glib.h>

#include "emulator/traits.h"
#include "xml/domain.h"

// The time stamp counter of an emulated PC of a plain machine type ticks as its host's does, and the guest,
// which took its rate when it booted, does not notice. Between hosts of unlike architecture, or of rates that
// are known and farther apart than a guest's NTP can make good, such a guest does not move: the latter only
// with `unsafe`. A PowerPC guest's time base is the emulator's virtual clock at 512 MHz, on any host; but
// what its timer waits for comes along only where the destination's emulator starts the timer again.
// VIR_ERR_OPERATION_UNSUPPORTED says what to do.
gboolean emulator_time_agrees(const EmulatorTraits *source, const EmulatorTraits *destination,
                              const DomainDef *def, gboolean unsafe, GError **error);
