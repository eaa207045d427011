// SPDX-License-Identifier: LGPL-2.1-or-later
// What becomes of a guest's half on this host once its move is decided: it leaves, or it runs on here.
#pragma once

#include "driver/domain.h"
#include "driver/migration/handoff.h"

// One thread at a time works on the source record of a guest: Perform for as long as it runs, a resolver for
// one round, the short phases for their own time. Claim before the record is opened. FALSE: another thread
// was still at work after timeout_ms (0: do not wait, -1: no bound).
gboolean departure_claim(const char *uuid, int timeout_ms);
void departure_unclaim(const char *uuid);

// The domain of a record; a reference, or NULL when it is not known here.
Domain *departure_domain(Driver *driver, const Handoff *handoff);

// Ends the domain's emulator for good: SHUTOFF with `reason` and, unless `detail` is -1, a STOPPED event.
// Does nothing to a domain that is not running. Unlocked; waits for its JOB_DESTROY.
void departure_end_emulator(Domain *domain, int reason, int detail);

// The guest has gone (record: done): ends its emulator, sets its images aside, drops its definition if it was
// asked, and notes in the record that all this was done. Unlocked, without an async job. May be repeated.
gboolean departure_leave(Driver *driver, Handoff *handoff, GError **error);

// The guest stays (record: aborted, or intent with nothing released): waits until QEMU's migration has ended
// and lets the guest run if the move had stopped it. The relays must be closed. Unlocked.
void departure_stay(Domain *domain);
