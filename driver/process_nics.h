// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's quasar-vnet processes: one for each NIC, started, found again, and started anew when one dies.
#pragma once

#include "driver/domain.h"

// Who of a NIC's two ends listens for the other.
typedef enum {
    NICS_BEFORE_EMULATOR, // quasar-vnet: vhost-user
    NICS_AFTER_EMULATOR,  // the emulator: its stream
} NicsMoment;

// Gives each NIC that has no name of its own on this host one for this run, after the domain's id. There is
// no device of that name: it is what domiflist shows and domifstat takes.
void nics_name(DomainDef *def, int id);

// Starts those whose moment it is. `vnets` is what domain->vnets will hold, empty at first: afterwards
// VnetClient*, NULL for NICs that need none or whose moment has not come. `armed`: they stay in standby. On
// error those that run are left to nics_release(). Without the lock; blocks.
gboolean nics_spawn(Domain *domain, const DomainDef *def, NicsMoment moment, gboolean armed, GPtrArray *vnets,
                    GError **error);

// Ends those of a start that was cut off, whose emulator may never have come. Locked.
void nics_end_unfinished(Domain *domain);

// With the lock held: from now on one that ends is started again, for as long as this run of the guest lasts.
void nics_watch(Domain *domain);

// After a restart: connects to those that run and starts the others. Locked.
void nics_attach(Domain *domain);

// Closes the connections; with `quit` the processes end too (otherwise they do so when the emulator is gone).
void nics_release(GPtrArray *vnets, gboolean quit);
