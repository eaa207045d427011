// SPDX-License-Identifier: LGPL-2.1-or-later
// Open handoffs: what they forbid, and how they are settled after a crash or a lost link.
#pragma once

#include "base/channel.h"
#include "driver/driver.h"
#include "driver/migration/handoff.h"

// At start-up, after the running guests were found again and before anything is served: sets the ownership
// gate, settles what can be settled at once, and starts a thread for each source record that needs its peer's
// word.
void resolve_start(Driver *driver);

// Settles one source record with its peer, trying again until it is answered. Any thread; does not block.
void resolve_source(Driver *driver, const char *uuid);

// One round of that on this thread, which has claimed the guest (departure.h). TRUE: nothing is left to
// settle. Blocks for PEER_TIMEOUT_MS at most for each step.
gboolean resolve_now(Driver *driver, const char *uuid);

// The peer of this guest's source record was asked, or an administrator has answered for it: the record alone
// says what may be done.
void resolve_asked(const char *uuid);

// Shows the user that the guest stands still here until the peer has answered. Unlocked.
void resolve_show_undecided(Domain *domain, const Handoff *handoff);

// The peer's question on a connection of kind PEER_RESOLVE: one message, one answer. Takes the channel.
// Blocks.
void resolve_answer(Driver *driver, const char *token, Channel *channel);
