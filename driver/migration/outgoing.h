// SPDX-License-Identifier: LGPL-2.1-or-later
// The source half of a move: disks, memory, the switch, and the way back from a failure.
#pragma once

#include "driver/domain.h"
#include "driver/migration/cookie.h"
#include "driver/migration/handoff.h"

typedef struct {
    Cookie *destination;   // what Prepare answered: token, peer, disks
    Handoff *handoff;      // state intent; stays the caller's
    gboolean live;         // else the guest is stopped first
    gboolean paused;       // the guest shall not run at the destination
    gboolean persist_dest; // travels in COMMIT
    guint64 bandwidth;     // MiB/s, 0: no limit
} OutgoingOptions;

// Moves the guest. TRUE: it runs at the destination, and the emulator here stands stopped for ever. FALSE:
// look at the handoff's state: intent or aborted, the guest runs on here; released, it is undecided and must
// not run here. Called by the thread that runs the async job, without the domain's lock.
gboolean outgoing_run(Driver *driver, Domain *domain, const OutgoingOptions *options, GError **error);

// Asks a running move to end; VIR_ERR_OPERATION_INVALID once the guest is released. `outgoing` is job abort
// data.
gboolean outgoing_abort(gpointer outgoing, GError **error);
