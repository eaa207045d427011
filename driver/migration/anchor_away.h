// SPDX-License-Identifier: LGPL-2.1-or-later
// Guests that run here and have their segment elsewhere: the links of their NICs to their home anchors.
#pragma once

#include "driver/domain.h"
#include "driver/migration/anchor_record.h"

// Theory of operation. A guest that may arrive away comes with a record of each such NIC (offered). Once it
// is here, what its vnet has found out decides: away, and a thread of ours keeps the link (a tunnel that
// breaks is replaced; one that leads through the host it came from is, too), or at home, and its former
// anchor is told that it is not needed. The same is told when the guest ends. It is told until it is heard,
// whatever restarts. A guest that is saved keeps its records (saved), without threads, and its anchors wait
// for it as for a guest whose host they do not hear.
//
// All are safe from any thread. Those that block say so, as do anchor_away_offer(), anchor_away_arrived() and
// anchor_away_start().

// A record has come with the guest; `relayed`: the tunnel of the move leads through a host that is not its
// home. The record is copied.
gboolean anchor_away_offer(Driver *driver, const AnchorRecord *record, gboolean relayed, GError **error);

// The guest has arrived and runs.
void anchor_away_arrived(Domain *domain);

// It has moved on, or has not arrived: its links are nothing to this host any more.
void anchor_away_forget(Driver *driver, const char *uuid);

// It has ended.
void anchor_away_end(Driver *driver, const char *uuid);

// It is saved: its links stay on disk, and their homes are told nothing. May be called before
// anchor_away_start(). Blocks.
void anchor_away_rest(Driver *driver, const char *uuid);

// It is restored, here or where it was not saved, from a file that holds this record: its links are kept from
// now on; on disk it counts as saved until anchor_away_restored(), or anchor_away_rest() if that fails. Both
// block.
gboolean anchor_away_rearm(Driver *driver, const AnchorRecord *saved, GError **error);
void anchor_away_restored(Driver *driver, const char *uuid);

// Nobody will restore what was saved here: the homes are told. Blocks.
void anchor_away_end_saved(Driver *driver, const char *uuid);

// What a guest that leaves takes along; NULL: this NIC has its segment here. Caller frees.
AnchorRecord *anchor_away_find(Driver *driver, const char *uuid, guint nic);

// At start-up, when the guests that run have been found.
void anchor_away_start(Driver *driver);
