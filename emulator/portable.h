// SPDX-License-Identifier: LGPL-2.1-or-later
// Which NICs and boards can move between two hosts.
#pragma once

#include <glib.h>

#include "emulator/traits.h"
#include "xml/domain.h"

// What a NIC leaves to its host (vhost-user) goes through structures in the host's byte order, so between
// unlike hosts all of a guest's have to be portable, without such features; and one of
// <driver name='vhost'> needs an emulator that can serve it. VIR_ERR_OPERATION_UNSUPPORTED names NIC and
// feature.
gboolean emulator_nics_may_move(const EmulatorTraits *source, const EmulatorTraits *destination,
                                const DomainDef *def, GError **error);

// A pseries' interrupt controller (XIVE) sends tables that the guest wrote big-endian as numbers of the
// host's: on a host of the other byte order the emulator ended at the guest's next interrupt.
// VIR_ERR_OPERATION_UNSUPPORTED.
gboolean emulator_board_may_move(const EmulatorTraits *source, const EmulatorTraits *destination,
                                 const DomainDef *def, GError **error);
