// SPDX-License-Identifier: LGPL-2.1-or-later
// The list of all NICs that this host serves, for administrators.
#pragma once

#include "driver/driver.h"
#include "driver/nic_status.h"

// One NIC. All of it is borrowed for the time of the call; NULL texts are not known.
typedef struct {
    const char *uuid, *name; // the guest's
    guint index;             // the NIC's place in its definition
    const char *alias;       // NULL: net and its index
    const char *mac;
    const char *host_nic;
    const char *mode;            // "local", "holding", "away", "anchor" ...
    const char *peer;            // the other host's name or address; NULL: none
    gint64 round_trip_us;        // to that host and back; -1: not known
    guint64 queue;               // frames that wait
    const NicCounters *counters; // NULL: nothing was ever told
    const json_t *status; // what quasar-vnet said last, of which drops are told by reason; NULL: nothing
    const char *problem;  // what is wrong with it now; NULL: nothing
} NicEntry;

typedef void (*NicVisit)(const NicEntry *entry, gpointer data);

// Whoever has NICs that are no running guest's (home anchors): calls `visit` for each, on a thread that may
// block.
typedef void (*NicSource)(Driver *driver, NicVisit visit, gpointer data);

// Once for each source, before anything is served.
void nic_report_add_source(NicSource source);

// The running guests' first, by name, then those of the sources. Unlocked; blocks for what a quasar-vnet may
// take (nic_status.h).
void nic_report_each(Driver *driver, NicVisit visit, gpointer data);

// An entry as the wire has it (driver/rpc/quasar.x, QUASAR_NET_LIST); the caller owns it.
json_t *nic_entry_encode(const NicEntry *entry);
