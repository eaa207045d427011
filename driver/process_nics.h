// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's quasar-vnet processes: one for each NIC, started, found again, and started anew when one dies.
#pragma once

#include "driver/domain.h"

// Starts them for a guest whose emulator listens; the result (VnetClient*, NULL for NICs that need none) is
// what domain->vnets holds. `armed`: they stay in standby. NULL on error, when none is left. Without the
// lock; blocks.
GPtrArray *nics_spawn(Domain *domain, const DomainDef *def, gboolean armed, GError **error);

// With the lock held: from now on one that ends is started again, for as long as this run of the guest lasts.
void nics_watch(Domain *domain);

// After a restart: connects to those that run and starts the others. Locked.
void nics_attach(Domain *domain);

// Closes the connections; with `quit` the processes end too (otherwise they do so when the emulator is gone).
void nics_release(GPtrArray *vnets, gboolean quit);
