// SPDX-License-Identifier: LGPL-2.1-or-later
// What the phases of both sides have in common: between migration.c and arrival.c.
#pragma once

#include "driver/domain.h"
#include "driver/migration/peer.h"

// Where peers reach this host; the caller frees it. VIR_ERR_OPERATION_FAILED without certificates.
PeerAddress *migration_own_address(Driver *driver, GError **error);
