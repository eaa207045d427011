// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known of guests' NICs: counters that never run backwards, and what administrators are shown.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "driver/domain.h"

// How long a quasar-vnet is waited for that only figures are asked of: a table with one row less is better
// than none.
#define NIC_ANSWER_MS 500

// Theory of operation: a NIC's quasar-vnet is asked over a connection of the asker's own, for a short time,
// and no lock is held meanwhile, so that one which hangs stops nobody else; it is then left alone for a
// while, and the answer is what it said last. What was counted is kept for one run of the guest on this host:
// a quasar-vnet that takes another's place begins at zero, and what the other counted is added.

// What may be wrong with a NIC, each by itself.
typedef enum {
    NIC_LOST,   // its quasar-vnet is gone
    NIC_LINK,   // the host's NIC is down, or its cable is out
    NIC_TUNNEL, // the other host, where its frames come from or go to, does not answer
    NIC_DETOUR, // its segment does not bring its frames here, but to the host that it was on before
    NIC_TROUBLES,
} NicTrouble;

// As the guest sees them: rx is what it receives. `dropped` has those frames of which the direction is known.
typedef struct {
    guint64 rx_bytes, rx_packets, rx_dropped;
    guint64 tx_bytes, tx_packets, tx_dropped;
} NicCounters;

// The counters of the domain's NIC number `index`, and what its quasar-vnet said last (vnet_client_status();
// owned by the caller; NULL when *status is not wanted or nothing was ever said). FALSE when there is nothing
// to tell: there is no such NIC, it has no quasar-vnet, or that never answered. Unlocked; blocks.
gboolean nic_status_read(Domain *domain, guint index, NicCounters *counters, json_t **status);

// With the domain locked: takes what the quasar-vnet of this process said. Returns TRUE if it was taken; what
// one says whose place another has taken meanwhile is not.
gboolean nic_status_note(Domain *domain, guint index, pid_t pid, guint64 start_time, json_t *status);

// With the domain locked: the counters as noted. FALSE when nothing was.
gboolean nic_status_counters(Domain *domain, guint index, NicCounters *counters);

// Reads the counters of one answer; what is missing or no number is 0.
void nic_counters_decode(const json_t *status, NicCounters *counters);

// What users are told of vnet's mode: "local" where frames pass between the guest here and its NIC, else
// vnet's own word. Either the argument or static.
const char *nic_mode_name(const char *mode);

// Frames that wait for the guest or for their way to another host.
guint64 nic_queue_frames(const json_t *status);

// To the other host, and back, in us; -1: there is none, or it is not known.
gint64 nic_round_trip_us(const json_t *status);

// With the domain locked: what is wrong with the NIC now, as driver/nic_events.h tells it; NULL: nothing.
// Forgotten with the run.
void nic_status_set_trouble(Domain *domain, guint index, NicTrouble trouble, const char *problem);
const char *nic_status_trouble(Domain *domain, guint index, NicTrouble trouble);

// For domain_unref().
void nic_status_forget(Domain *domain);
