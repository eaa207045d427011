// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff (DESIGN section 4): one guest, one move, faults at every point. See README.md.
//
// Each d_step is what happens between two points at which something may fail: a durable write and the message
// that tells of it are always two steps. Without faults no step can be undone, so every run ends, and a run
// that ends before the last line of World is one that stays undecided: spin's "invalid end state".

#ifndef FAULTS
#define FAULTS 5 // faults in one run, of any kinds
#endif

mtype = {idle, intent, aborted, released, done};
mtype = {none, prepared, refused, owned, starting, running};
// em_incoming waits for the guest, em_loaded holds it, em_postmigrate has sent it all.
mtype = {em_none, em_running, em_stopped, em_postmigrate, em_incoming, em_loaded, em_dead};
// COMMIT_NO_RAM is a COMMIT whose sender says that its emulator has gone; ASK is the question of a source that has
// come back without its guest, and had decided nothing.
mtype = {PREPARE, COMMIT, COMMIT_NO_RAM, ASK, ABORT, DONE, READY, REFUSED, RUNNING, CLOSED, UNKNOWN, nothing};

// Durable. A closed record is off the disk; its last state is kept for the properties.
mtype s_rec = idle, d_rec = none;
bool s_closed, d_closed;

// Emulators survive their daemons.
mtype s_emu = em_running, d_emu = em_none;
bool s_killed, d_killed; // by a fault, not by the protocol
bool s_completed;         // the source's has sent all
bool ram_up;             // the channel between them

// Volatile: the daemons.
bool s_up = true, d_up = true;
bool s_live = true;       // the thread that began the move is still at it
bool s_ready, s_sent;     // READY has come; what the record calls for has been said on this connection
bool d_scanned = true;    // its records have been read since it started
bool d_bluffed;           // "unknown" has been said since it started
bool d_said_ready;
bool d_claimed;           // the source has connected to what it prepared; durable
mtype d_heard = nothing;  // the COMMIT of this connection
mtype d_answer = nothing; // to be sent

// TCP: in order and whole until it is cut; then all that is in flight is lost.
bool link_up = true;
chan to_d = [2] of {mtype};
chan to_s = [2] of {mtype};

// An administrator's word: the source's host was fenced, and the destination goes on as if it had heard COMMIT.
bool fenced;
// The source may not touch the disk before it has asked: it has come back without its guest, or is switched off.
bool s_gate;

byte faults = FAULTS;
mtype m;

#define S_HAS_DISK  (s_rec == idle || s_rec == intent || s_rec == aborted)
#define S_OWNS_DISK (S_HAS_DISK && !s_gate)
#define D_OWNS_DISK (d_rec == owned || d_rec == starting || d_rec == running)
#define DECIDED     (s_closed && (d_closed || d_rec == none))
#define S_SAYS(state) (s_up && link_up && !s_closed && !s_sent && s_rec == state && nfull(to_d))
#define D_WORKS     (d_up && d_scanned && !d_closed && d_answer == nothing)
#define SAY_RUNNING d_answer = (link_up -> RUNNING : nothing)

// Not while READY's source is still to be heard of: whoever promotes has seen that it is dead, and has made sure of it.
#define FENCE                                                                                                          \
    fenced = true; s_up = false; s_live = false; s_ready = false; s_gate = true;                                       \
    s_emu = em_dead; s_killed = true

#define CUT                                                                                                            \
    link_up = false; ram_up = false; s_sent = false; d_answer = nothing; d_heard = nothing;                            \
    s_live = s_live && s_rec == idle;                                                                                  \
    do                                                                                                                 \
    :: nempty(to_d) -> to_d ? m                                                                                        \
    :: empty(to_d) && nempty(to_s) -> to_s ? m                                                                         \
    :: empty(to_d) && empty(to_s) -> break                                                                             \
    od;                                                                                                                \
    m = nothing

active proctype World()
{
    do
    // ---- Source.
    :: d_step { s_up && s_live && s_rec == idle && !s_closed -> s_rec = intent }
    :: d_step { s_up && !s_live && s_rec == idle && !s_closed -> s_closed = true }
    :: d_step { S_SAYS(intent) && s_live -> to_d ! PREPARE; s_sent = true }
    :: d_step { s_up && s_live && s_rec == intent && d_emu == em_incoming && s_emu == em_running && link_up ->
                s_emu = em_stopped; ram_up = true; d_claimed = true }
#ifdef MUTANT_RELEASE_BEFORE_READY
    :: d_step { s_up && s_live && s_rec == intent && s_emu == em_stopped -> s_rec = released; s_sent = false }
#endif
    // An emulator that has sent all and died since cannot restart the guest either.
    :: d_step { s_up && s_live && s_rec == intent && s_ready && s_completed &&
                (s_emu == em_postmigrate || s_emu == em_dead) ->
                s_rec = released; s_sent = false }
    :: d_step { S_SAYS(released) -> s_sent = true;
        if
        :: s_emu == em_dead -> to_d ! COMMIT_NO_RAM
        :: else -> to_d ! COMMIT
        fi }
    // The move fails or is given up; a daemon that has restarted can only abort.
#ifdef MUTANT_ABORT_UNASKED
    :: d_step { s_up && s_rec == intent -> s_rec = aborted; s_sent = false; s_gate = false }
#else
    :: d_step { s_up && s_rec == intent && !s_gate -> s_rec = aborted; s_sent = false }
#endif
    // One that comes back without its guest asks first: it may have been fenced.
    :: d_step { S_SAYS(intent) && s_gate -> to_d ! ASK; s_sent = true }
    :: d_step { s_up && s_rec == aborted && (s_emu == em_stopped || s_emu == em_postmigrate) ->
                ram_up = false; s_emu = em_running }
#ifdef MUTANT_RESUME_AFTER_RELEASED
    :: d_step { s_up && !link_up && s_rec == released && s_emu == em_postmigrate -> s_emu = em_running }
#endif
    :: d_step { S_SAYS(aborted) && (s_emu == em_running || s_emu == em_dead) -> to_d ! ABORT; s_sent = true }
    :: d_step { s_up && s_rec == done && s_emu != em_dead -> s_emu = em_dead }
    :: d_step { S_SAYS(done) && s_emu == em_dead -> to_d ! DONE; s_sent = true }
    :: d_step { s_up && link_up && nempty(to_s) -> to_s ? m;
        if
        :: m == READY && s_rec == intent -> s_ready = true
        :: m == REFUSED && (s_rec == intent || s_rec == released) -> s_rec = aborted; s_sent = false; s_gate = false
        :: m == RUNNING && s_rec == released -> s_rec = done; s_sent = false
        // It was promoted meanwhile.
        :: m == RUNNING && (s_rec == intent || s_rec == aborted) ->
            assert(s_gate && s_emu == em_dead); s_rec = released; s_sent = false
        // Nothing of this move is there.
        :: m == CLOSED && s_rec == intent -> assert(s_gate); s_rec = aborted; s_sent = false; s_gate = false
        :: m == CLOSED && s_rec != intent ->
            assert(s_rec == aborted || s_rec == done); s_closed = true; s_gate = false
#ifdef MUTANT_UNKNOWN_MEANS_NO
        :: m == UNKNOWN && s_rec == released -> s_rec = aborted; s_sent = false
#else
        :: m == UNKNOWN && s_rec == released -> s_sent = false
#endif
        :: m == UNKNOWN && s_rec != released -> s_sent = (s_rec == intent && !s_gate) // PREPARE is said once
        :: else // an answer to what was said before
        fi;
        m = nothing }

    // ---- Destination: what it is told.
    :: d_step { d_up && !d_scanned -> d_scanned = true }
    :: d_step { d_up && link_up && nempty(to_d) && d_answer == nothing && (d_scanned || !d_bluffed) -> to_d ? m;
        if
        :: !d_scanned -> d_answer = UNKNOWN; d_bluffed = true
        :: d_scanned && m == PREPARE -> assert(d_rec == none); d_rec = prepared; d_emu = em_incoming
        :: d_scanned && (m == COMMIT || m == COMMIT_NO_RAM) ->
            assert(!d_closed && d_rec != none);
            d_heard = m;
            if
            // With both emulators gone the disk is the destination's; with the source's alive, back.
            :: d_rec == prepared && (d_emu == em_loaded || m == COMMIT_NO_RAM) -> d_rec = owned
            :: d_rec == prepared && d_emu != em_loaded && m == COMMIT -> d_rec = refused; d_answer = REFUSED
#ifdef MUTANT_COMMIT_BEATS_REFUSED
            :: d_rec == refused -> d_rec = owned
#else
            :: d_rec == refused -> d_answer = REFUSED
#endif
            :: d_rec == running -> d_answer = RUNNING
            :: else // owned, starting: the answer is yet to come
            fi
        :: d_scanned && m == ABORT -> // the source's end is durable
            assert(d_rec == none || d_rec == prepared || d_rec == refused || fenced);
            if
            :: d_rec == running -> d_answer = RUNNING
            :: d_rec == starting -> d_answer = UNKNOWN // not yet; it asks again
            :: else ->
                if
                :: d_rec == prepared || d_rec == owned -> d_rec = refused
                :: else
                fi;
                d_emu = (d_emu == em_none -> em_none : em_dead);
                d_closed = true; d_answer = CLOSED
            fi
        :: d_scanned && m == ASK ->
            if
            :: d_rec == none -> d_answer = CLOSED
            :: d_rec == prepared || d_rec == owned || d_rec == refused -> d_rec = refused; d_answer = REFUSED
            :: d_rec == starting -> d_answer = UNKNOWN
            :: d_rec == running -> d_answer = RUNNING
            fi
        :: d_scanned && m == DONE -> assert(d_rec == running); d_closed = true; d_answer = CLOSED
        fi;
        m = nothing }
    :: d_step { d_up && link_up && d_answer != nothing && nfull(to_s) -> to_s ! d_answer; d_answer = nothing }
    // ---- Destination: by itself.
    :: d_step { D_WORKS && link_up && d_rec == prepared && d_emu == em_loaded && !d_said_ready ->
                d_answer = READY; d_said_ready = true }
    // Nobody came: the client or its minute is over. READY was never said, so the source cannot release.
    :: d_step { D_WORKS && d_rec == prepared && !d_claimed -> d_rec = refused; d_emu = em_dead; d_closed = true }
    :: d_step { D_WORKS && d_rec == refused && d_emu != em_dead -> d_emu = em_dead }
    :: d_step { D_WORKS && d_rec == prepared && d_emu == em_dead ->
                d_rec = refused; d_answer = (link_up -> REFUSED : nothing) }
    :: d_step { D_WORKS && d_rec == owned && d_emu == em_loaded -> d_rec = starting }
    :: d_step { D_WORKS && d_rec == owned && d_emu == em_dead && d_heard == COMMIT -> d_rec = refused; d_answer = REFUSED }
    :: d_step { D_WORKS && d_rec == owned && d_emu != em_loaded && d_heard == COMMIT_NO_RAM -> d_rec = starting }
    :: d_step { D_WORKS && d_rec == starting && d_emu == em_loaded -> d_emu = em_running }
    // A guest whose emulator died here has arrived, and crashed.
    :: d_step { D_WORKS && d_rec == starting && d_emu != em_loaded -> d_rec = running; SAY_RUNNING }

    // ---- Emulators. The source's restarts the guest by itself if its channel breaks before it has completed.
    :: d_step { ram_up && s_emu == em_stopped && d_emu == em_incoming -> d_emu = em_loaded }
    :: d_step { ram_up && s_emu == em_stopped && d_emu == em_loaded -> s_emu = em_postmigrate; s_completed = true }
    :: d_step { !ram_up && s_emu == em_stopped -> s_emu = em_running }

    // ---- What failed comes back.
    :: d_step { !s_up -> s_up = true; s_sent = false; s_gate = s_gate || (s_emu == em_dead && S_HAS_DISK && s_rec != idle) }
    :: d_step { !d_up -> d_up = true }
    :: d_step { s_up && d_up && !link_up -> link_up = true }

    // ---- Faults: a cut, a daemon, an emulator, a destroy at the destination.
    :: d_step { faults > 0 && link_up -> faults--; CUT }
    :: d_step { faults > 0 && s_up -> faults--; s_up = false; s_live = false; s_ready = false; CUT }
    :: d_step { faults > 0 && d_up -> faults--; d_up = false; d_scanned = false; d_bluffed = false; CUT }
    :: d_step { faults > 0 && s_emu != em_dead -> faults--; s_emu = em_dead; s_killed = true; ram_up = false }
    :: d_step { faults > 0 && d_emu != em_dead && d_emu != em_none ->
                faults--; d_emu = em_dead; d_killed = true; ram_up = false }
    :: d_step { faults > 0 && D_WORKS && (d_rec == prepared || d_rec == owned) ->
                faults--; d_rec = refused; d_answer = (link_up -> REFUSED : nothing) }
#ifdef MUTANT_PROMOTE_UNFENCED
    :: d_step { faults > 0 && D_WORKS && d_rec == prepared && d_emu == em_loaded -> faults--; d_rec = owned }
#endif
    // ---- The word of an administrator, who has fenced the source for it.
    :: d_step { faults > 0 && !fenced && D_WORKS && d_rec == prepared && d_said_ready && d_emu == em_loaded ->
                faults--; FENCE; CUT; d_rec = owned }
    :: d_step { faults > 0 && !fenced && D_WORKS && d_rec == owned && d_emu == em_dead ->
                faults--; FENCE; CUT; d_rec = starting }

    :: DECIDED -> break
    od;
    // Decided: one owner of the disk, and the guest runs there unless a fault has killed it.
    assert(S_HAS_DISK || D_OWNS_DISK);
    assert(!S_HAS_DISK || s_emu == em_running || s_killed);
    assert(!D_OWNS_DISK || d_emu == em_running || d_killed || s_killed)
}

active proctype NeverTwoRunning()
{
end:
    d_step { s_emu == em_running && d_emu == em_running -> assert(false) }
}

active proctype NeverTwoOwners()
{
end:
    d_step { S_OWNS_DISK && D_OWNS_DISK -> assert(false) }
}

// "released" against "refused" is undecided, not given up: the source has yet to ask.
active proctype NeverBothGivenUp()
{
end:
    d_step { (s_rec == done && !D_OWNS_DISK) || (d_closed && d_rec == refused && !S_HAS_DISK) -> assert(false) }
}
