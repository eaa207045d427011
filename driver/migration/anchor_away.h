// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests that run here and have their segment elsewhere: the links of their NICs to their home anchors.
#pragma once

#include "driver/domain.h"
#include "driver/migration/anchor_record.h"

// Theory of operation. A guest that may arrive away comes with a record of each such NIC (offered). Once it
// is here, what its vnet has found out decides: away, and a thread of ours keeps the link (a tunnel that
// breaks is replaced; one that leads through the host it came from is, too), or at home, and its former
// anchor is told that it is not needed. The same is told when the guest ends. It is told until it is heard,
// whatever restarts.
//
// All are safe from any thread. None but anchor_away_offer(), anchor_away_arrived() and anchor_away_start()
// blocks.

// A record has come with the guest; `relayed`: the tunnel of the move leads through a host that is not its
// home. The record is copied.
gboolean anchor_away_offer(Driver *driver, const AnchorRecord *record, gboolean relayed, GError **error);

// The guest has arrived and runs.
void anchor_away_arrived(Domain *domain);

// It has moved on, or has not arrived: its links are nothing to this host any more.
void anchor_away_forget(Driver *driver, const char *uuid);

// It has ended.
void anchor_away_end(Driver *driver, const char *uuid);

// What a guest that leaves takes along; NULL: this NIC has its segment here. Caller frees.
AnchorRecord *anchor_away_find(Driver *driver, const char *uuid, guint nic);

// At start-up, when the guests that run have been found.
void anchor_away_start(Driver *driver);
