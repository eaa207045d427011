// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff (DESIGN section 4) in Promela: one guest, one move, crashes everywhere. See README.md.
//
// One process of guarded steps: each d_step is what happens between two points at which a daemon, an emulator, a host or
// the link may fail. A durable write and the message that tells of it are always two steps.

#ifndef FAULTS
#define FAULTS 3 // faults in one run, of any kinds
#endif

mtype:source = {idle, intent, aborted, released, done}
mtype:destination = {none, prepared, refused, owned, starting, running}
// Emulators: em_incoming waits for the guest's state, em_loaded holds it, em_postmigrate has sent it all.
mtype:emulator = {em_none, em_running, em_stopped, em_postmigrate, em_incoming, em_loaded, em_dead}
mtype:message = {PREPARE, COMMIT, ABORT, DONE, PREPARED, READY, REFUSED, RUNNING, CLOSED, UNKNOWN, nothing}

// Durable: survives crashes and reboots. A closed record is off the disk; its last state is kept for the properties.
mtype:source s_rec = idle;
mtype:destination d_rec = none;
bool s_closed, d_closed;

// Emulators survive their daemon, not their host.
mtype:emulator s_emu = em_running;
mtype:emulator d_emu = em_none;

// Volatile: the daemons.
bool s_up = true, d_up = true;
bool d_scanned = true;   // d has read its records since it started
bool d_bluffed;          // d has answered "unknown" in this start-up already
bool s_live = true;      // s is the process that began the move
bool s_prepared, s_ready; // the answers that have come to s
bool s_sent;             // s has said on this connection what its record makes it say
bool d_said_ready;       // READY has left, or may have
bool d_ram;              // the last COMMIT said that the source's emulator still holds the guest
mtype:message d_answer = nothing;

// The link: TCP, so in order and whole, until it is cut; then all that is in flight is lost.
bool link_up = true, ram_up;
chan to_d = [2] of {mtype:message, bool};
chan to_s = [2] of {mtype:message};

byte faults = FAULTS;
bool quiet;              // no more faults will come
bool ended;

// What the properties ask about.
bool s_killed, d_killed; // by a fault, not by the protocol
bool voted;              // somebody destroyed the destination's half
bool was_released;
bool held_at_release = true; // the destination held the guest, whole, when the source let go
bool s_killed_early;     // the source's emulator died before it let go

#define S_OWNS_DISK (s_rec == idle || s_rec == intent || s_rec == aborted)
#define D_OWNS_DISK (d_rec == owned || d_rec == starting || d_rec == running)
#define S_HOLDS     (s_emu == em_stopped || s_emu == em_postmigrate || s_emu == em_running)
#define FAULT       (!quiet && faults > 0)

#define CUT                                                                                                            \
    link_up = false;                                                                                                   \
    ram_up = false;                                                                                                    \
    d_answer = nothing;                                                                                                \
    do                                                                                                                 \
    :: nempty(to_d) -> to_d ? _, _                                                                                     \
    :: empty(to_d) && nempty(to_s) -> to_s ? _                                                                         \
    :: empty(to_d) && empty(to_s) -> break                                                                             \
    od

#define SOURCE_CRASH                                                                                                   \
    s_up = false;                                                                                                      \
    s_live = false;                                                                                                    \
    s_prepared = false;                                                                                                \
    s_ready = false;                                                                                                   \
    s_sent = false

#define DESTINATION_CRASH                                                                                              \
    d_up = false;                                                                                                      \
    d_scanned = false;                                                                                                 \
    d_bluffed = false;                                                                                                 \
    d_ram = false;                                                                                                     \
    d_said_ready = true

#define KILL_SOURCE_EMULATOR                                                                                           \
    if                                                                                                                 \
    :: s_emu != em_dead -> s_emu = em_dead; s_killed = true; s_killed_early = !was_released                            \
    :: else                                                                                                            \
    fi

#define KILL_DESTINATION_EMULATOR                                                                                      \
    if                                                                                                                 \
    :: d_emu != em_dead && d_emu != em_none -> d_emu = em_dead; d_killed = true                                        \
    :: else                                                                                                            \
    fi

active proctype World()
{
    mtype:message m;
    bool ram;

    do
    // ---- Source: forward.
    :: d_step { s_up && s_live && s_rec == idle && !s_closed -> s_rec = intent }
    :: d_step { s_up && s_live && link_up && s_rec == intent && !s_prepared && !s_sent ->
                to_d ! PREPARE, 0; s_sent = true }
    // Pre-copy is not modelled: the guest stops and its state begins to flow.
    :: d_step { s_up && s_live && link_up && s_rec == intent && s_prepared && s_emu == em_running && !s_ready && !ram_up
                && d_emu == em_incoming -> s_emu = em_stopped; ram_up = true }
    :: d_step { s_up && s_live && s_rec == intent
#ifdef MUTANT_RELEASE_BEFORE_READY
                && (s_emu == em_stopped || s_emu == em_postmigrate)
#else
                && s_ready && s_emu == em_postmigrate
#endif
                -> s_rec = released; s_sent = false; was_released = true;
                held_at_release = (s_emu == em_postmigrate && (d_emu == em_loaded || d_killed || voted)) }
    :: d_step { s_up && link_up && s_rec == released && !s_sent && nfull(to_d) ->
                to_d ! COMMIT, (s_emu == em_postmigrate); s_sent = true }
    // An impatient source says it twice on one connection.
    :: d_step { FAULT && s_up && link_up && s_rec == released && s_sent && nfull(to_d) ->
                faults--; to_d ! COMMIT, (s_emu == em_postmigrate) }
    // ---- Source: back. Any failure, bound or wish; a restarted daemon has no other way out of intent.
    :: d_step { s_up && s_rec == intent -> s_rec = aborted; s_sent = false }
    :: d_step { s_up && s_rec == aborted && (s_emu == em_stopped || s_emu == em_postmigrate) ->
                ram_up = false; s_emu = em_running }
#ifdef MUTANT_RESUME_AFTER_RELEASED
    :: d_step { s_up && !link_up && s_rec == released && s_emu == em_postmigrate -> s_emu = em_running }
#endif
    // ---- Source: the end.
    :: d_step { s_up && s_rec == done && s_emu != em_dead -> s_emu = em_dead }
    :: d_step { s_up && link_up && !s_closed && !s_sent && nfull(to_d) && s_rec == aborted
                && (s_emu == em_running || s_emu == em_dead) -> to_d ! ABORT, 0; s_sent = true }
    :: d_step { s_up && link_up && !s_closed && !s_sent && nfull(to_d) && s_rec == done && s_emu == em_dead ->
                to_d ! DONE, 0; s_sent = true }
    :: d_step { s_up && link_up && nempty(to_s) -> to_s ? m;
        if
        :: m == PREPARED && s_rec == intent && s_live -> s_prepared = true
        :: m == READY && s_rec == intent && s_live -> s_ready = true
        :: m == REFUSED && (s_rec == released || s_rec == intent) -> s_rec = aborted; s_sent = false
        :: m == RUNNING && s_rec == released -> s_rec = done; s_sent = false
        :: m == CLOSED && (s_rec == aborted || s_rec == done) -> s_closed = true
        :: m == UNKNOWN ->
#ifdef MUTANT_UNKNOWN_MEANS_NO
            if
            :: s_rec == released -> s_rec = aborted
            :: else
            fi;
#endif
            s_sent = (s_rec == intent) // ask again; PREPARE is said once
        :: else // an answer to what was said before: superseded
        fi }

    // ---- Destination: what it is told.
    :: d_step { d_up && link_up && nempty(to_d) && d_answer == nothing && (d_scanned || !d_bluffed) -> to_d ? m, ram;
        if
        // Before it has read its records it knows nothing, which is not "no".
        :: !d_scanned -> d_answer = UNKNOWN; d_bluffed = true
        :: d_scanned && m == PREPARE ->
            assert(d_rec == none);
            d_rec = prepared; d_emu = em_incoming; d_answer = PREPARED
        :: d_scanned && m == COMMIT ->
            d_ram = ram;
            if
            :: d_closed || d_rec == none -> d_answer = UNKNOWN
            // Both emulators gone: the disk is the destination's, unless it has refused. The source's alone left: back.
            :: !d_closed && d_rec == prepared && (d_emu == em_loaded || !ram) -> d_rec = owned
            :: !d_closed && d_rec == prepared && !(d_emu == em_loaded || !ram) -> d_rec = refused; d_answer = REFUSED
            :: !d_closed && d_rec == refused ->
#ifdef MUTANT_COMMIT_BEATS_REFUSED
                d_rec = owned
#else
                d_answer = REFUSED
#endif
            :: !d_closed && d_rec == running -> d_answer = RUNNING
            :: else // owned, starting: RUNNING or REFUSED will be said
            fi
        // The source's end is durable: so is ours before we say so.
        :: d_scanned && m == ABORT ->
            assert(d_rec == none || d_rec == prepared || d_rec == refused);
            if
            :: d_rec == prepared -> d_rec = refused
            :: else
            fi;
            if
            :: d_emu != em_none -> d_emu = em_dead
            :: else
            fi;
            d_closed = true; d_answer = CLOSED
        :: d_scanned && m == DONE ->
            assert(d_rec == running);
            d_closed = true; d_answer = CLOSED
        fi }
    :: d_step { d_up && link_up && d_answer != nothing && nfull(to_s) -> to_s ! d_answer; d_answer = nothing }
    :: d_step { d_up && !d_scanned -> d_scanned = true }
    // ---- Destination: forward.
    :: d_step { d_up && d_scanned && link_up && d_rec == prepared && d_emu == em_loaded && !d_said_ready && nfull(to_s) ->
                to_s ! READY; d_said_ready = true }
    :: d_step { d_up && d_scanned && d_rec == owned && (d_emu == em_loaded || (link_up && s_rec == released && !d_ram && d_answer == nothing
                && d_emu == em_dead && d_told_gone)) -> d_rec = starting }
    :: d_step { d_up && d_scanned && d_rec == starting && d_emu == em_loaded -> d_emu = em_running }
    // A guest whose emulator has died in starting has arrived, and crashed here.
    :: d_step { d_up && d_scanned && d_rec == starting && (d_emu == em_running || d_emu == em_dead) ->
                d_rec = running; d_answer = (link_up -> RUNNING : nothing) }
    // ---- Destination: back. By itself only until READY has left: then the source may have released on it.
    :: d_step { d_up && d_scanned && !d_closed && d_rec == prepared && (!d_said_ready || d_emu == em_dead) -> REFUSE }
    :: d_step { d_up && d_scanned && d_rec == refused && d_emu != em_dead && d_emu != em_none -> d_emu = em_dead }

    // ---- Emulators.
    :: d_step { s_emu == em_stopped && ram_up -> s_emu = em_postmigrate }
    :: d_step { d_emu == em_incoming && ram_up -> d_emu = em_loaded }
    // QEMU restarts the guest by itself when its channel breaks before it has completed.
    :: d_step { s_emu == em_stopped && !ram_up -> s_emu = em_running }
    // ---- The link and the daemons come back.
    :: d_step { s_up && d_up && !link_up -> link_up = true; s_sent = (s_rec == intent) }
    :: d_step { !s_up -> s_up = true }
    :: d_step { !d_up -> d_up = true }
    // ---- Faults.
    :: d_step { !quiet -> quiet = true }
    :: d_step { FAULT && link_up -> faults--; CUT }
    :: d_step { FAULT && s_up -> faults--; SOURCE_CRASH; CUT }
    :: d_step { FAULT && d_up -> faults--; DESTINATION_CRASH; CUT }
    od
}
