// SPDX-License-Identifier: LGPL-2.1-or-later
// What the parts of a switch-over share: its state, and what each part does for the others.
#pragma once

#include "vnet/frame_queue.h"
#include "vnet/switch.h"
#include "vnet/twins.h"

#define SWITCH_LINK_MAX (512u * 1024) // bytes that wait for a link before its sources have to

struct Switch {
    Port *port;
    Capture *capture;
    const SwitchEnds *ends;
    void *data;
    MacAddress mac;

    SwitchMode mode;
    FrameQueue *queue; // holding: for the guest or the tunnel; arriving and settling: from the tunnel
    FrameQueue *own;   // settling: captured here
    Link *home;        // the guest's segment is behind it; NULL: it is this one
    Link *peer;        // the other host of the move, then where the guest is
    Link *former;      // where the guest came from, on this segment, as long as frames may come from there
    gboolean anchor;   // leaving: the guest is away
    gint64 arrived; // leaving: when the destination said that the guest is there, on this segment; 0: not yet
    gint64 ask_at;  // ... when it is asked next whether the segment has learned that, monotonic us
    guint seen;     // ... and how often it has said so running
    gboolean stays; // ... it had not when it should

    Place place;
    Place learning;   // `former`'s questions whether it has
    gboolean strays;  // ... which stays, since it has not
    gboolean asked;   // arriving, leaving: a probe is out
    gboolean shared;  // source and destination have the same NIC
    gboolean marked;  // leaving, or settling with a shared NIC: the marker was seen
    gboolean drained; // settling: the source said so
    gint64 activated; // settling: since when, monotonic us
    gint64 settled;   // when `former` went away, monotonic us
    gint64 ready;     // settling: since when the guest's end takes frames; 0: not yet
    Twins *twins;     // arriving to active: group frames that come both ways
    guint64 duplicates;
    SwitchLosses losses;
};

// Modes (switch.c).

// Says so when that has another name.
void switch_enter(Switch *move, SwitchMode mode);

// Nothing comes from where the guest was any more.
void switch_end_former(Switch *move);

// Frames (switch_frames.c).

// Whether a group frame from a link need not be given: it was captured here.
gboolean switch_was_captured(Switch *move, const guint8 *frame, gsize length);

// For frames of which no SwitchVerdict tells: into a queue, or on by a link. Where there is no room they are
// lost, and counted.
void switch_enqueue(Switch *move, FrameQueue *queue, const guint8 *frame, gsize length,
                    const Offload *offload);
void switch_pass(Switch *move, Link *link, const guint8 *frame, gsize length, const Offload *offload);

// Whether what came by a link is long enough for a frame; others are counted.
gboolean switch_is_frame(Switch *move, gsize length);

// A frame of the guest's segment that came by a link.
void switch_take_frame(Switch *move, guint8 *frame, gsize length, const Offload *offload);

// Gives the guest what has waited, as long as there is room for it. TRUE: nothing is left.
gboolean switch_deliver_waiting(Switch *move, FrameQueue *queue);

// Settling: gives the guest what is due, the frames of the source first; when nothing is left, it is active.
void switch_settle(Switch *move);

// Settling: whether what was captured here is no longer younger than what may still come from the source;
// and until when, monotonic us, it waits for that.
gboolean switch_own_are_due(const Switch *move);
gint64 switch_settle_until(const Switch *move);

// A guest that is held and still runs takes frames, unless it resets its NIC meanwhile: then they wait.
gboolean switch_follows(const Switch *move);

// Links (switch_links.c).

// What arrives by each of them; `data` is the Switch.
extern const TunnelEvents switch_peer_events;
extern const TunnelEvents switch_former_events;
extern const TunnelEvents switch_home_events;

// Where the guest arrives, a probe goes out as soon as the tunnel is up, and after each answer that settles
// nothing.
void switch_probe(Switch *move);

// Whether a frame is a marker; acts on those of this move and this segment.
gboolean switch_take_marker(Switch *move, const guint8 *frame, gsize length);

// On this segment, for all who capture there.
void switch_send_marker(Switch *move, const guint8 nonce[MARKER_NONCE], MarkerKind kind);

// To who has asked, whether what it sent on its wire was seen; NULL: it is gone.
void switch_say_answer(Link *asker, PlaceAnswer answer);

// Whether the segment has learned (switch_learn.c).

// The source: the guest is at the destination; a question, if one is due; the answer; and whether nothing
// more is to be done for the guest here: if not in time, the source stays.
void switch_arrived(Switch *move);
gboolean switch_has_learned(const Switch *move);
void switch_ask(Switch *move);
void switch_take_answer(Switch *move, gboolean seen);
gboolean switch_is_left(Switch *move);
int switch_learn_wait_ms(const Switch *move);

// The destination: what the source makes of its answers.
void switch_take_learned(Switch *move, gboolean learned);
