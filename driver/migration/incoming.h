// SPDX-License-Identifier: LGPL-2.1-or-later
// The destination half of a move, from Prepare until the guest is here or refused, and its record closed.
#pragma once

#include "base/channel.h"
#include "base/frame.h"
#include "driver/domain.h"
#include "driver/migration/cookie.h"
#include "driver/migration/handoff.h"
#include "driver/migration/relay.h"
#include "driver/migration/writeback.h"

typedef struct RpcSession RpcSession;

// How long a prepared destination waits for the source's control connection.
#define INCOMING_UNCLAIMED_S 60

// What a move has come to at the destination.
typedef enum {
    INCOMING_WAITING, // prepared, nothing has connected
    INCOMING_RUNNING, // the source has connected; undecided
    INCOMING_ARRIVED, // the guest is ours
    INCOMING_REFUSED, // it will not run here; everything is removed
} IncomingState;

// Ref-counted; registered until its record is closed. Below `lock`: with the lock held, which is held across
// the transitions (they are the decision) but not across anything that waits for the source. The domain's
// lock may be taken inside it, not the other way round.
typedef struct Incoming {
    gint references;
    Driver *driver;
    Domain *domain; // NULL after a restart that did not find it any more
    char *token;
    char *uuid;         // the guest's, as text
    Cookie *source;     // what Begin said; no disks after a restart
    RpcSession *client; // who prepared; only compared

    GMutex lock;
    GCond changed;
    IncomingState state;
    Handoff *handoff;     // NULL: closed
    GPtrArray *relays;    // Relay*
    Writeback *writeback; // of what the mirrors write here; NULL: not now
    gboolean disks_done;  // no flushing of these begins any more
    gboolean talking;     // a conversation is under way
    gboolean ready_sent;
    gboolean discarding;    // refused, and what was made here is not removed yet: another thread is at it
    gboolean crashed;       // it arrived without an emulator that held it
    gboolean booked;        // definition, status and events of its arrival are done
    gint64 resumed_wall_us; // when it was let run here
    gint64 heard_us;        // when the source last asked about it (resolve.c), monotonic; 0: never
    char *failure;          // why it was refused
} Incoming;

// What the source says when it commits, in each of its connections.
typedef struct {
    int run_state; // virDomainState the guest is to have
    gboolean persist_dest;
    gboolean source_has_ram; // its emulator still holds the guest: it can take it back
    const json_t *addresses; // what the guest was seen to own, as move_nics_addresses() gives it; may be NULL
} IncomingCommit;

// Makes and registers it, in the place of ended sessions of the same guest. Takes the handoff and `source`.
// Returns a reference beside the registry's.
Incoming *incoming_new(Driver *driver, Domain *domain, Handoff *handoff, Cookie *source, RpcSession *client);
void incoming_unref(Incoming *incoming);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Incoming, incoming_unref)

// The session of a token, or of a guest's UUID text; a reference, or NULL.
Incoming *incoming_by_token(const char *token);
Incoming *incoming_by_uuid(const char *uuid);

// Joins a RAM or disk connection to the emulator's socket of this name. Takes the channel.
void incoming_relay(Incoming *incoming, const char *name, const char *socket, Channel *channel);

// Whether what the mirrors write here is flushed in the background: from when the memory comes until the
// source has stopped the guest and sent its last sectors.
void incoming_begin_writeback(Incoming *incoming);
void incoming_end_writeback(Incoming *incoming);

// A vote against the move: persists "refused", kills the emulator, removes what was created. With
// `if_unclaimed` only while the source has not connected. FALSE, with VIR_ERR_OPERATION_INVALID, when the
// guest is already ours (or, with `if_unclaimed`, on its way). Blocks.
gboolean incoming_refuse(Incoming *incoming, const char *why, gboolean if_unclaimed, GError **error);

// Takes ownership and lets the guest run: owned, starting, CONT, running; goes on where it was left. TRUE:
// arrived. FALSE: refused (incoming->state), or undecided still: ask again. Blocks.
gboolean incoming_commit(Incoming *incoming, const IncomingCommit *commit, GError **error);

// With the lock: whether an emulator here holds the whole guest, which was not let run yet.
gboolean incoming_holds_guest(Incoming *incoming);

// Bookkeeping once the guest is here: definition, status, events. Once, outside the pause.
void incoming_book(Incoming *incoming);

// Ends the job of a guest that has arrived. `figures` came with "done" (NULL: the source's last word is
// missing).
void incoming_finish_job(Incoming *incoming, json_t *figures);

// The source's end is durable: removes the record of a guest that has arrived or was refused, and forgets the
// session. TRUE also when that was done before. Waits until what a refused move made here is removed.
gboolean incoming_close(Incoming *incoming, GError **error);

// Whether the guest has arrived; waits for that or its refusal.
gboolean incoming_wait_arrived(Incoming *incoming, int timeout_ms);

// The client that prepared has gone: what is unclaimed is refused. Does not block.
void incoming_client_closed(Driver *driver, RpcSession *client);

// The emulator of a domain has ended: a guest that was on its way here is refused. Domain locked; does not
// block.
void incoming_emulator_ended(Domain *domain);

// After a restart of ours: takes the record up where it stands. Takes the handoff. Blocks.
void incoming_restart(Driver *driver, Handoff *handoff);
