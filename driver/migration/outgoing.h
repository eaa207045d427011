// SPDX-License-Identifier: LGPL-2.1-or-later
// The source half of a move: disks, memory, the switch, and the way back from a failure.
#pragma once

#include "base/frame.h"
#include "driver/domain.h"
#include "driver/migration/cookie.h"
#include "driver/migration/handoff.h"

typedef struct {
    const Cookie *destination; // what Prepare answered: token, way, disks
    Handoff *handoff;          // state intent; stays the caller's
    gboolean live;             // else the guest is stopped first
    gboolean paused;           // the guest shall not run at the destination
    guint64 bandwidth;         // MiB/s of this move; 0: as the domain's speed limit says, also while it runs
} OutgoingOptions;

// How far the conversation with the destination went.
typedef struct {
    Channel *control; // NULL: never connected
    json_t *figures;  // of a guest that has arrived: what outgoing_farewell() says
    gboolean closed;  // the destination has said that its record is closed
} OutgoingEnd;

void outgoing_end_clear(OutgoingEnd *end);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OutgoingEnd, outgoing_end_clear)

// Moves the guest. TRUE: it runs at the destination, and the emulator here stands stopped for ever. FALSE:
// look at the handoff's state: aborted (or intent, if that could not be written), the guest is ours and runs
// on here if it ran before; released, it is undecided and must not run here. Called by the thread that runs
// the async job, without the domain's lock.
gboolean outgoing_run(Driver *driver, Domain *domain, const OutgoingOptions *options, OutgoingEnd *end,
                      GError **error);

// Says "done" (record: done, everything cleaned up) and hears that the destination has closed its record.
void outgoing_farewell(OutgoingEnd *end);
