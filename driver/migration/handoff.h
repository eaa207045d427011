// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff's durable state: who owns a guest that moves, whatever crashes.
#pragma once

#include <glib.h>
#include <libvirt/virterror.h>

// Theory of operation (tests/model/handoff.pml has the same state names): each side of a
// move keeps one record, DIRECTORY/UUID.source or DIRECTORY/UUID.destination, and acts only on what is on
// disk there:
//
//   source       idle -> intent -> aborted             the guest runs on here
//                          \-----> released -> done    the guest has gone
//                                      \-> aborted     only on the peer's "refused", which it has on its disk
//                aborted -> released                   only on the peer's "running": promote.h
//   destination  none -> prepared -> refused           the guest will never run here
//                            \-----> owned -> starting -> running
//                                        \-> refused
//
// A transition is one fdatasync and returns when it is on disk; act after it returns, never before. If it
// fails, the disk may hold either state: do neither side's work until the record has been opened anew. One
// thread at a time uses a Handoff; callers lock.

typedef enum {
    HANDOFF_SOURCE,
    HANDOFF_DESTINATION,
    HANDOFF_ROLES,
} HandoffRole;

typedef enum {
    // No move. Stands on disk only when the daemon died while it created the record: close it, nothing was
    // said to the peer. Illegal: everything but writing intent.
    HANDOFF_SOURCE_IDLE,
    // A move is under way; entered before the peer hears of its token. The guest is ours, it runs or stands
    // stopped. Illegal: COMMIT. A daemon that restarts in it aborts.
    HANDOFF_SOURCE_INTENT,
    // The move failed or was given up; the guest is ours and may be resumed. Entered from intent at will,
    // from
    // released only with peer_refused. Illegal: released. Close when the peer says that it has closed its own
    // record.
    HANDOFF_SOURCE_ABORTED,
    // The guest is no more ours to run; entered when READY has come and the emulator stands in postmigrate.
    // COMMIT is sent, again on each new connection. Entered from aborted only with peer_promoted. Illegal:
    // resume, abort, opening the disk.
    HANDOFF_SOURCE_RELEASED,
    // RUNNING has come: the guest is the peer's. Free the emulator, then tell the peer, then close.
    HANDOFF_SOURCE_DONE,

    // As source idle. Illegal: everything but writing prepared.
    HANDOFF_DESTINATION_NONE,
    // The guest is being received or stands loaded; it is the source's. Entered before anything is received.
    // Illegal: cont, writing to its disks for the guest. After READY it is left by COMMIT, by the source's
    // abort or by a vote, never by a timer.
    HANDOFF_DESTINATION_PREPARED,
    // The guest will not run here; entered before that is said, and it beats a later COMMIT. Kill the
    // emulator, then close when the source says that it has aborted. Illegal: owned.
    HANDOFF_DESTINATION_REFUSED,
    // COMMIT has come: the guest and its disks are ours. Illegal: cont (starting comes first). May still be
    // refused.
    HANDOFF_DESTINATION_OWNED,
    // The guest may have run: from here on "refused" is illegal. Entered before cont. A daemon that restarts
    // in it starts the guest if the emulator holds it, else the guest has crashed here.
    HANDOFF_DESTINATION_STARTING,
    // The guest has arrived (it runs, or is in the final run state, or has crashed here). Close when the
    // source says done.
    HANDOFF_DESTINATION_RUNNING,
    HANDOFF_STATES,
} HandoffState;

// Bytes of the random part of a token; a token in text is UUID "-" EPOCH "-" 32 hex digits.
#define HANDOFF_TOKEN_RANDOM 16u

// What a side knows of its move. Strings are owned by the record; NULL means not known yet (save uuid and
// token). Fields may be changed freely up to the first handoff_transition that must save them; every
// transition saves all.
typedef struct {
    HandoffRole role;         // immutable
    HandoffState state;       // read only; moved by handoff_transition
    char *uuid;               // immutable; lower-case text of the guest's UUID
    guint64 epoch;            // immutable; counts the guest's moves, rises by one with each
    char *token;              // immutable; handoff_token_new at the source, sent to the destination
    char *name;               // the guest's name
    char *peer_host;          // as the peer calls itself
    char **peer_addresses;    // numeric addresses of the peer, in the order of preference
    guint16 peer_port;        // TCP port of the peer, 0 = not known
    char *peer_sha256;        // SHA-256 of the peer's certificate (DER), 64 lower-case hex digits
    gboolean persist_dest;    // VIR_MIGRATE_PERSIST_DEST: the destination keeps a definition
    gboolean undefine_source; // VIR_MIGRATE_UNDEFINE_SOURCE: the source drops its definition once done
    gboolean peer_refused;    // source: the peer has answered "refused" to this token; lets released go back
    gboolean peer_promoted;   // source: the peer was promoted while this host was dead (promote.h)
    char *promoted_by;        // destination: on whose word it took the guest without the source's
    gint64 since;             // read only: when the state was entered, wall clock, s; 0: not known
    int run_state;            // virDomainState that the guest is to have at the destination
    char *xml_path;   // file with the guest's XML of this move, too large for a slot; goes with the record
    char **images;    // source: disk files that travel; destination: those that the move created
    gboolean left;    // source, done: the emulator is gone and the images are set aside
    gboolean claimed; // destination: the source has connected, so it has a record that knows us
} Handoff;

// Where a daemon's records are, below its state directory: what the functions here take as `directory`.
// Caller frees.
char *handoff_directory(const char *state_dir);

const char *handoff_role_name(HandoffRole role);

// The state as the model, messages and records spell it ("intent", "owned").
const char *handoff_state_name(HandoffState state);

// Whether the table has the move. A released source goes back to aborted in the table; handoff_transition
// asks for peer_refused as well.
gboolean handoff_legal(HandoffState from, HandoffState to);

// Whether a host whose record stands in `state` may open the guest's disks for writing (any path: start,
// attach, restore, upload). Never true on both sides of a move. A source that has rebooted in intent aborts
// before it uses this.
gboolean handoff_owns_disk(HandoffState state);

// Nothing is to be done any more but closing: aborted (save with peer_promoted), done, refused, running.
gboolean handoff_is_end(HandoffState state);

// A fresh token for the move number `epoch` of a guest. Caller frees.
char *handoff_token_new(const char *uuid, guint64 epoch);

// Creates and preallocates DIRECTORY/UUID.source with a fresh token, state idle; several ms, never inside the
// pause. VIR_ERR_OPERATION_INVALID if a record of this guest and role is there already: one move at a time.
Handoff *handoff_create_source(const char *directory, const char *uuid, guint64 epoch, GError **error);

// Creates DIRECTORY/UUID.destination in state none with the source's token, from which uuid and epoch are
// taken; VIR_ERR_INVALID_ARG if the token is not well-formed.
Handoff *handoff_create_destination(const char *directory, const char *token, GError **error);

// Opens the record of one guest and role. VIR_ERR_NO_DOMAIN if there is none; VIR_ERR_INTERNAL_ERROR, naming
// the file, if its content is not a record of this guest: such a record must be treated as undecided, never
// as absent. Unknown members of the payload are ignored and lost at the next transition.
Handoff *handoff_open(const char *directory, const char *uuid, HandoffRole role, GError **error);

// Opens all records of the directory (at start-up, before the peer port opens: a token that is not in the
// list is answered "unknown"). A directory that is not there holds none. Unreadable records do not hide the
// others: their messages are appended to *damaged (NULL-terminated, caller frees; NULL if there are none).
// Returns an array that frees its elements, or NULL with an error if the directory cannot be read.
GPtrArray *handoff_scan(const char *directory, char ***damaged, GError **error);

// Moves to `state`, saving all fields: one fdatasync. VIR_ERR_OPERATION_INVALID (55), naming both states and
// changing nothing, if the table does not have it, a released source has no peer_refused or an aborted one no
// peer_promoted. Any other error: see the top.
gboolean handoff_transition(Handoff *handoff, HandoffState state, GError **error);

// Saves all fields in the state that stands: one fdatasync. Errors as handoff_transition().
gboolean handoff_store(Handoff *handoff, GError **error);

// Removes the record (and the file at xml_path) and frees the handoff on success. Refused (55) outside the
// end states, idle and none: call it only when the peer's end is durable.
gboolean handoff_close(Handoff *handoff, GError **error);

// Frees the memory; the record stays on disk.
void handoff_free(Handoff *handoff);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handoff, handoff_free)
