// SPDX-License-Identifier: LGPL-2.1-or-later
// What the parts of the source half share: the state of one move, and what each part does for the others. All
// of it belongs to the thread that runs the move, except `call`.
#pragma once

#include "driver/migration/nics.h"
#include "driver/migration/outgoing.h"
#include "driver/migration/writeback.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"

// Whether a client may still call the move back.
typedef enum { CALL_OPEN, CALL_ABORTED, CALL_TOO_LATE } Call;

typedef struct {
    Driver *driver;
    Domain *domain;
    const OutgoingOptions *options;
    Qmp *qmp;
    QmpWaiter *waiter;
    EmulatorProcess process; // the emulator here
    char *run_dir;           // the guest's
    OutgoingEnd *end;
    GPtrArray *relays;    // Relay*; disks, then RAM
    GPtrArray *mirrors;   // char*: jobs
    MoveNics *nics;       // NULL: not connected yet
    Writeback *writeback; // of the disks here; NULL: not now
    gint call;            // atomic: Call
    gboolean sent;        // QEMU has said completed, and stands in postmigrate
    gboolean held;        // frames to the guest wait
    gboolean at_switch;   // QEMU has come to pre-switchover without our stopping the guest
    gboolean ready_heard;
    gboolean tells;         // the destination is told what the guest runs, and translates it
    gboolean question_open; // whether it has caught up with that
    gboolean translated;    // it has, as it said last
    gboolean broken;    // what the emulator sends over a relay does not arrive; the destination may say why
    gboolean answered;  // the destination has said why it fails
    gboolean refused;   // the destination has said so, and has it on its disk
    guint64 bandwidth;  // MiB/s that QEMU was told, 0: no limit
    double rate;        // bytes/s, the best at which the memory went so far
    gint64 memory_us;   // monotonic: the memory moves since then
    gint64 passed_us;   // monotonic: all of it has gone once; 0: not yet
    gint64 stopped_us;  // monotonic, of QEMU's STOP
    gint64 deadline_us; // monotonic: READY must have come; 0: the guest has not been stopped
    gint64 asked_us;    // monotonic: the statistics are as of then
    gint64 alive_us;    // monotonic: "alive" was said then
    gint64 resumed_wall_us; // as the destination says
} Outgoing;

// How often a wait looks whether the move was aborted.
#define SLICE_US (100 * G_TIME_SPAN_MILLISECOND)

// Waiting (outgoing_wait.c): for the destination's words and for the emulator's events. Each wait ends early
// when the move is aborted or the emulator dies.

gboolean outgoing_check_abort(Outgoing *out, GError **error);

// One word to the destination.
gboolean outgoing_say(Outgoing *out, const char *type, GError **error);

// The destination's next word must be `type`, or it is "refused", which it has on its disk.
gboolean outgoing_hear(Outgoing *out, const char *type, gint64 deadline_us, GError **error);

// Asks the destination whether it has translated what the guest runs, unless it owes an answer still;
// outgoing_tick() takes that.
gboolean outgoing_ask_translated(Outgoing *out, GError **error);

// Replaces the error by what is clearer: that the guest was destroyed, or what the destination says.
void outgoing_explain_end(Outgoing *out, GError **error);

// What is due between two waits for an event.
gboolean outgoing_tick(Outgoing *out, GError **error);

// The emulator's next event (owned by the caller), but no later than `deadline`; all events are taken by
// these. take: nothing else happens meanwhile, and the error is the waiter's own. next: ticks, and explains.
json_t *outgoing_take_event(Outgoing *out, gint64 deadline, GError **error);
json_t *outgoing_next_event(Outgoing *out, gint64 deadline, GError **error);

// "" if the event's data has no such text.
const char *outgoing_event_field(json_t *event, const char *field);

// Waits for the event `name` of this block job; other ends of it, and its failures, are errors.
gboolean outgoing_wait_job(Outgoing *out, const char *name, const char *job, gint64 deadline, GError **error);

// Waits until QEMU's migration reaches `status` (qapi/migration.json, MigrationStatus).
gboolean outgoing_wait_migration(Outgoing *out, const char *status, gint64 deadline, GError **error);

// Of a migration of QEMU's that ended as `status`.
void outgoing_set_stream_error(Outgoing *out, const char *status, GError **error);

// Stopping (outgoing_stop.c).

// What can be held for long is held before the guest can stop: QEMU may stop it by itself.
void outgoing_hold_early(Outgoing *out);

// Waits until the guest can be stopped for a short pause, holds its frames and stops it. Sets
// out->deadline_us.
gboolean outgoing_stop_guest(Outgoing *out, gint64 deadline, GError **error);

// Figures (outgoing_follow.c).

// What went through the relays from number `first` on, in bytes.
guint64 outgoing_relay_bytes(Outgoing *out, guint first);

// Tells QEMU how fast memory may be sent; 0: no limit.
gboolean outgoing_set_bandwidth(Outgoing *out, guint64 mib_per_second, GError **error);

// Brings the job's statistics up to date, and takes over a speed limit that a client has set meanwhile.
void outgoing_follow(Outgoing *out);

// The figures of a finished move: into our own job, and (returned) for the destination.
json_t *outgoing_figures(Outgoing *out);
