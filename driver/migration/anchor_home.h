// SPDX-License-Identifier: LGPL-2.1-or-later
// Home anchors: the quasar-vnets that hold the place of guests which run on hosts of other segments.
#pragma once

#include "driver/driver.h"
#include "driver/migration/anchor_record.h"
#include "driver/nic_report.h"
#include "vnet/client.h"

// Theory of operation. Before a guest leaves for another segment its host writes a record (offered). When it
// has left, its vnet becomes the anchor, which a thread of ours watches: one that ends is started anew. The
// guest's host comes with the link's token: for a tunnel (first when the one of the move has broken, or when
// the guest has moved on), or to say that it is not needed any more, which ends it. The record brings it back
// after a restart or a reboot. Its guest's way home is the same: it arrives, and its host says so.
//
// All may block and are safe from any thread.

// The guest is about to leave; `record` is offered to its destination too.
gboolean anchor_home_offer(Driver *driver, const AnchorRecord *record, GError **error);

// It stays, or has not gone for good: what was offered is withdrawn.
void anchor_home_withdraw(Driver *driver, const char *uuid);

// It comes home, with this link: its anchor is told that it shares its NIC. FALSE: there is none.
gboolean anchor_home_share(Driver *driver, const char *link);

// It has left. Its vnet, whose control socket is at `control`, becomes the anchor of the record of this NIC.
// FALSE: there is no such record.
gboolean anchor_home_adopt(Driver *driver, const char *uuid, guint nic, const char *control);

// It has left: every record of it gets its anchor, unless it has it.
void anchor_home_ensure(Driver *driver, const char *uuid);

// It is here again: its anchors end, and nobody needs to be told. What is offered for its next move stays.
void anchor_home_end(Driver *driver, const char *uuid);

// At start-up, before peers can connect: anchors of guests whose moves are decided.
void anchor_home_start(Driver *driver);

// Answers a peer that has come for this link. Takes the channel.
void anchor_home_answer(Driver *driver, const char *link, Channel *channel);

// Those of this host, for the list of all NICs.
void anchor_home_report(Driver *driver, NicVisit visit, gpointer data);
