// SPDX-License-Identifier: LGPL-2.1-or-later
// The destination half of a move, from Prepare until the guest is here or refused.
#pragma once

#include "base/channel.h"
#include "driver/domain.h"
#include "driver/migration/cookie.h"
#include "driver/migration/handoff.h"
#include "driver/migration/relay.h"

// How long a prepared destination waits for the source's control connection.
#define INCOMING_UNCLAIMED_S 60

// What a move has come to at the destination, as its client may ask.
typedef enum {
    INCOMING_WAITING, // prepared, nothing has connected
    INCOMING_RUNNING, // the control conversation goes on
    INCOMING_ARRIVED, // the guest is ours
    INCOMING_REFUSED, // it will not run here; everything is removed
} IncomingState;

// Ref-counted. Below `lock`: with the lock held; it is never held across a wait. The domain's lock may be
// taken inside it, not the other way round.
typedef struct Incoming {
    gint references;
    Driver *driver;
    Domain *domain;
    char *token;
    char *source_uuid;  // the guest's UUID as text
    Cookie *source;     // what Begin said
    guint flags;        // virDomainMigrateFlags of Prepare
    GPtrArray *created; // char*: disk files that this move created

    GMutex lock;
    GCond changed;
    IncomingState state;
    Handoff *handoff;
    Channel *control;  // borrowed from the conversation's thread; NULL when none is connected
    GPtrArray *relays; // Relay*
    gboolean ready_sent;
    gint64 resumed_wall_us; // when it was let run here
    char *failure;          // why it was refused
    guint timer;            // source id in driver->main: unclaimed
} Incoming;

// Makes and registers it; `domain` holds a stopped emulator that listens. Takes the handoff (state prepared),
// `source` and `created`.
Incoming *incoming_new(Driver *driver, Domain *domain, Handoff *handoff, Cookie *source, GPtrArray *created,
                       guint flags);
void incoming_unref(Incoming *incoming);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Incoming, incoming_unref)

// The session of a token, or of a guest's UUID text; a reference, or NULL.
Incoming *incoming_by_token(const char *token);
Incoming *incoming_by_uuid(const char *uuid);

// The conversation on the control connection, until it ends. Takes the channel. Blocks: a worker's.
void incoming_converse(Incoming *incoming, Channel *control);

// Joins a RAM or disk connection to the emulator's socket at `path`. Takes the channel.
void incoming_relay(Incoming *incoming, const char *name, const char *path, Channel *channel);

// A vote against the move: persists "refused", kills the emulator, removes what was created. FALSE, with
// VIR_ERR_OPERATION_INVALID, when the guest is already ours.
gboolean incoming_refuse(Incoming *incoming, const char *why, GError **error);

// Takes ownership and lets the guest run: owned, starting, CONT, running.
gboolean incoming_commit(Incoming *incoming, int run_state, GError **error);

// Whether the guest has arrived; waits for the conversation with the source to end, so that the job's figures
// are complete.
gboolean incoming_wait_arrived(Incoming *incoming, int timeout_ms);
