// SPDX-License-Identifier: LGPL-2.1-or-later
// What the phases have in common: between begin.c, migration.c and arrival.c.
#pragma once

#include "driver/domain.h"
#include "driver/migration/peer.h"

// Where peers reach this host; the caller frees it. VIR_ERR_OPERATION_FAILED without certificates.
PeerAddress *migration_own_address(Driver *driver, GError **error);

// The Begin of this guest (UUID text) has its Perform.
void begin_followed(const char *uuid);

// Undoes a Begin that has no Perform; of any other nothing is changed. FALSE: its record could not be
// written.
gboolean begin_drop(Driver *driver, const char *uuid, GError **error);
