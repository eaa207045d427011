// SPDX-License-Identifier: LGPL-2.1-or-later
// The switch-over: where a guest's frames go while it changes hosts.
#pragma once

#include <glib.h>

#include "vnet/capture.h"
#include "vnet/link.h"
#include "vnet/offload.h"
#include "vnet/place.h"
#include "vnet/port.h"

// Theory of operation. Before a move's switch both vnets get the ends of a tunnel: `pair` at the source,
// `receive` at the destination, and find out whether they are on one segment (place.h). The source is told
// `hold` before the guest stops: frames go on to the guest for as long as it takes them, and then, in order,
// into a queue (so a port that tells exactly what its guest has got may be held any time before the stop). At
// the handoff it is told `hand over`: what waits, and all that its NIC still captures, goes to the
// destination's vnet; it injects nothing of this guest any more. If the move fails instead, `activate` gives
// the queue to the guest: nothing was lost.
//
// At the destination frames that come are queued until it is told `activate` and the guest's end takes them.
//
// One segment: then it announces the guest and sends a marker over the wire. The segment's switches have
// learned the guest's new place before the marker reaches the source; so once the source has seen it, it says
// "drained" and from then on keeps frames for groups to itself, since the destination sees them too. Until
// then the destination holds back what it captures itself, which is younger than what is on its way, for
// SWITCH_DRAIN_MS at most. A frame may come both ways; it is given once (twins.h).
//
// Has the segment learned? The source sends frames to the guest itself, one after the other, until three
// running have come to the destination. What still strays to it is passed on for SWITCH_STRAY_MS. If the
// segment has not learned by then (a static entry in a switch), the source stays: it goes on passing on,
// until the segment has learned or the guest leaves or ends; but it is on no record, so a host that starts
// anew has forgotten it, and a home anchor of another segment's ends all the same when the guest has come to
// that segment. A segment that drops the guest's frames at the destination (port security, a NIC that takes
// no foreign MACs) brings nothing to the source either; all that can be done is to tell
// (driver/nic_events.h).
//
// On a hub the frames for the guest alone come both ways too, and are given twice, until a frame that the
// destination sends to the guest then has come to the source, which is told by it that all it captures is the
// destination's. All this believes what the segment says, as the segment's stations do of each other: whoever
// can forge a marker there can forge the guest.
//
// Two segments: the guest is away. The tunnel stays, as the link to its home: all that the guest sends goes
// there, and what is captured here is not for it. The source is its home anchor: it passes on what it
// captures and injects what comes.
//
// A guest that is away and moves on leaves a vnet between two links, which passes on everything, words too:
// the next destination's probes are watched for at home. When the guest's vnet and the anchor have got a
// tunnel to each other (link.h), the vnet between them sees its links close, and ends.
typedef enum {
    SWITCH_STANDBY,  // nothing passes
    SWITCH_ACTIVE,   // the guest is here
    SWITCH_HOLDING,  // the source, from before the stop
    SWITCH_LEAVING,  // the source, from the handoff; for as long as it is the anchor
    SWITCH_ARRIVING, // the destination, before the guest runs
    SWITCH_SETTLING, // the destination, until the source is drained
    N_SWITCH_MODES,
} SwitchMode;

#define SWITCH_DRAIN_MS 50
#define SWITCH_STRAY_MS 2000 // how long frames that still come to the source are passed on, on one segment
#define SWITCH_READY_MS 5000 // how long frames wait for the guest's end to take them
#define SWITCH_QUEUE    (8u << 20)

// What becomes of a captured frame.
typedef enum {
    SWITCH_DELIVER,  // at once
    SWITCH_DROP,     // nothing passes now, or the destination has it
    SWITCH_OVERFLOW, // queue or tunnel are full
    SWITCH_TAKEN,    // queued or sent
} SwitchVerdict;

typedef struct Switch Switch;

// Where frames go that have waited or come from another host. None of them has been checked.
typedef struct {
    void (*deliver)(guint8 *frame, gsize length, const Offload *offload, void *data); // to the guest
    void (*inject)(guint8 *frame, gsize length, const Offload *offload, void *data);  // to the wire
} SwitchEnds;

// A tunnel's parameters, as tunnel_new() takes them.
typedef struct {
    int fd;
    const guint8 *key; // TLS_KEY bytes; NULL: no TLS (tests)
    gboolean server;
} SwitchTunnel;

// `port` and `capture` are borrowed.
Switch *switch_new(const MacAddress *mac, Port *port, Capture *capture, const SwitchEnds *ends, void *data);
void switch_free(Switch *move);

SwitchMode switch_mode(const Switch *move);

// What an administrator calls it: the mode's name, or "away" (the guest is here, its segment is not),
// "anchor" (the other way round, or a source that stays), "passing" (between two links).
const char *switch_mode_name(const Switch *move);

// Whether a move is prepared, under way or not settled yet.
gboolean switch_is_moving(const Switch *move);

// Whether the guest's segment is behind a link.
gboolean switch_is_away(const Switch *move);

// Orders, each legal in any mode. Those with a tunnel take the descriptor over.
void switch_standby(Switch *move);
void switch_pair(Switch *move, const SwitchTunnel *tunnel);
void switch_hold(Switch *move);
// FALSE with VIR_ERR_OPERATION_INVALID: no tunnel leads to the destination.
gboolean switch_hand_over(Switch *move, GError **error);
gboolean switch_receive(Switch *move, const SwitchTunnel *tunnel, GError **error);
// What waits goes to the guest, as soon as its end takes it. `arrived`: the guest is about to start running
// here, as after SWITCH_ARRIVING, and frames wait for it although there is no tunnel. Unless the guest is
// away, switch_mark() is to follow the first announcement.
void switch_activate(Switch *move, gboolean arrived);
void switch_mark(Switch *move);

// Source and destination of the move that is prepared (an anchor's guest comes home) have the same NIC: the
// marker divides all that both capture.
void switch_share(Switch *move);

// For a vnet that starts where another one was: its guest is away, or it is a guest's home anchor. The link
// is down.
void switch_be_away(Switch *move);
void switch_be_anchor(Switch *move);

// The next tunnel of the link between the guest and its home. FALSE with VIR_ERR_OPERATION_INVALID: there is
// no such link here.
gboolean switch_relink(Switch *move, const SwitchTunnel *tunnel, GError **error);

// Whether the guest's own frames go out.
gboolean switch_injects(const Switch *move);

// Decides about a captured frame, whose fields have been checked.
SwitchVerdict switch_captured(Switch *move, const guint8 *frame, gsize length, const Offload *offload);

// Sends a frame of a guest that is away to its home. FALSE: the link is down, or its queue is full.
gboolean switch_send_home(Switch *move, const struct iovec *parts, guint n, const Offload *offload);

// FALSE: what the guest sends, or the NIC captures, is better left there until links have room, which shows
// in switch_poll()'s entries.
gboolean switch_has_room(const Switch *move);

// For the loop: the descriptors, and the time until switch_serve() has something to do (-1: none). At the end
// of each turn switch_end_turn() sends what has gathered; `all_read`: nothing that the NIC had captured
// before this turn is unread.
#define SWITCH_FDS (3 * LINK_FDS)
guint switch_poll(const Switch *move, struct pollfd *fds);
int switch_wait_ms(const Switch *move);
void switch_serve(Switch *move, const struct pollfd *fds, guint n);
void switch_end_turn(Switch *move, gboolean all_read);

// The link that frames take now, between the guest and its home or between the hosts of a move. NULL: none.
const Link *switch_link(const Switch *move);

// Of the move that is prepared or under way: where the guest will be.
PlaceVerdict switch_place(const Switch *move);

// Whether the segment still sends the guest's frames to where it came from.
gboolean switch_has_strays(const Switch *move);

// Frames that are lost and of which no SwitchVerdict told, since they did not come from the NIC.
typedef struct {
    guint64 overflowed; // queue or link were full, or the link down
    guint64 runts;
} SwitchLosses;

SwitchLosses switch_losses(const Switch *move);

// Frames that wait here, and duplicates left out.
gsize switch_waiting(const Switch *move);
guint64 switch_duplicates(const Switch *move);
