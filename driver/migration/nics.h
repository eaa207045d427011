// SPDX-License-Identifier: LGPL-2.1-or-later
// The NICs of a guest that moves: a tunnel for each, between its quasar-vnets on both hosts.
#pragma once

#include <jansson.h>

#include "base/tls.h"
#include "driver/domain.h"
#include "driver/migration/cookie.h"
#include "driver/migration/incoming.h"

// Theory of operation: vnet/switch.h says what becomes of the frames. Here are the orders to both vnets and
// the tunnels between them, each of which begins as a connection of two virtquasards. A NIC whose segment is
// not the destination's leaves an anchor behind (anchor_home.h), of which the destination is told before the
// guest stops. Frames are worth no move: whatever fails here is logged, the NIC crosses without a tunnel, as
// if its cable were pulled and plugged in again, and the move goes on. No call is made under a domain's lock
// unless it says so, so that a vnet that hangs stops nothing else.
typedef struct MoveNics MoveNics;

// The source, before the guest stops: a tunnel for each NIC that has a vnet. Blocks PEER_TIMEOUT_MS at most
// for each step of each NIC.
MoveNics *move_nics_open(Domain *domain, const Cookie *destination, TlsCredentials *credentials);

// Whether every vnet knows what its guest has got (vhost-user): then they may be held any time before the
// stop, and nothing is to be awaited.
gboolean move_nics_are_exact(const MoveNics *nics);

// The guest runs still, and the vnets have found out whether its segments are the destination's. What the
// destination must know of those that are not: a list of records (anchor_record.h) with "relayed", which are
// on the disk here; the caller owns it. NULL with an error: that failed. Blocks 1 s at most.
json_t *move_nics_offer(MoveNics *nics, const Cookie *destination, GError **error);

// Before the guest is stopped: what comes for it from its stop on (exact), or from now on, waits.
void move_nics_hold(MoveNics *nics);

// Just before the stop, when they have been held for long: what move_nics_addresses() is to say.
void move_nics_note_addresses(MoveNics *nics);

// The NICs are held: returns when the emulator has read what came before, after 200 ms at most.
void move_nics_await_taken(MoveNics *nics);

// The guest runs on for a while: it gets what has waited.
void move_nics_resume(MoveNics *nics);

// `released` is on the disk: nothing of the guest goes out here any more, and what waits and still comes goes
// to the destination.
void move_nics_hand_over(MoveNics *nics);

// What the guest was seen to own on each NIC when they were held: a list of lists of IP addresses as text.
// Borrowed.
const json_t *move_nics_addresses(const MoveNics *nics);

// The emulator here is about to end, and the guest is released: vnets of NICs that this host is the home of
// go on without it. Those of other NICs end by themselves. Domain locked.
void move_nics_adopt(Domain *domain);

// The vnets stay as they are.
void move_nics_free(MoveNics *nics);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MoveNics, move_nics_free)

// The guest stays: what was held is given to it. Without the domain's lock; blocks.
void move_nics_stay(Domain *domain);

// The destination: gives a connection's socket to the vnet of NIC `name`. Takes the channel.
void move_nics_receive(Incoming *incoming, const char *name, Channel *channel);

// What move_nics_offer() told. It is on the disk when this returns.
gboolean move_nics_take_offer(Incoming *incoming, json_t *list, GError **error);

// The guest is about to run here: the segment is told where it is, and gets frames again. `addresses` as
// above, from the other host; may be NULL. Without the domain's lock, after it has said that the guest is no
// longer on its way (a vnet that is started anew meanwhile goes by that); blocks.
void move_nics_arrive(Domain *domain, const json_t *addresses);

// The same for a guest that is restored from a file: NICs that have their homes elsewhere
// (domain_nic_home()) are told so.
void move_nics_restore(Domain *domain);

// The guest has arrived: a NIC whose vnet was just being replaced at the source when the guest was stopped
// came with its cable out. Without the lock; blocks.
void move_nics_mend(Domain *domain);
