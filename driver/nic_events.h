// SPDX-License-Identifier: LGPL-2.1-or-later
// What happens to guests' NICs, told to whoever listens.
#pragma once

#include "driver/nic_status.h"

// libvirt has no event for a NIC whose place on the network is lost, so it is told as a monitor's event,
// which stock clients show (virsh qemu-monitor-event): its name is NIC_EVENT_NAME, its details are a JSON
// object
// {"nic": alias, "index": number, "event": what, "problem": text or null}. What: "lost" and "back",
// "link-down" and "link-up", "tunnel-down" and "tunnel-up", "detour" and "direct".
#define NIC_EVENT_NAME "QUASAR_NETWORK"

// With the domain locked: something is wrong with the NIC number `index` from now on, and `problem` says
// what, in words that stand behind the domain's and the NIC's name; NULL: that trouble is over. Logs it,
// tells it as an event, and keeps it for virDomainGetMessages until it is over or the run is. Nothing happens
// when it is so already.
void domain_network_event(Domain *domain, guint index, NicTrouble trouble, const char *problem);

// The same of a NIC whose home this host is: its guest runs on another one, and may be unknown here but for
// this name and UUID. The caller logs it and knows what is news.
void nic_events_tell_home(Driver *driver, const char *uuid, const char *name, guint index, NicTrouble trouble,
                          const char *problem);

// With the domain locked: what is wrong with its NICs, to be shown with its messages; adds texts (char*).
void domain_network_problems(Domain *domain, GPtrArray *texts);

// Unlocked: whether the host's NIC of this NIC is up, and tells it. Blocks for what nic_status_read() may
// take.
void nic_events_look(Domain *domain, guint index);

// Locked: a guest has arrived, or is found again. Whether its segment has learned where it is is looked at
// when it should have, and from then on until it has.
void nic_events_await_segment(Domain *domain);

// From now on the guests hear of the host's NICs as the kernel tells of them: down, without a cable, up
// again. Failure is logged: all else works without it. Once, after the domains were loaded.
void nic_events_start(Driver *driver);
