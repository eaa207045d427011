// SPDX-License-Identifier: LGPL-2.1-or-later
// The switch-over: where a guest's frames go while it changes hosts.
#pragma once

#include <glib.h>

#include "vnet/capture.h"
#include "vnet/marker.h"
#include "vnet/offload.h"
#include "vnet/port.h"
#include "vnet/tunnel.h"

// Theory of operation. The source is told `hold` before the guest stops: frames go on to the guest for as
// long as it takes them, and then, in order, into a queue (so a port that tells exactly what its guest has
// got may be held any time before the stop). At the handoff it is told `hand over` and gets a socket to the
// destination's vnet: what waits, and all that its NIC still captures, goes there; it injects nothing of this
// guest any more. If the move fails instead, `activate` gives the queue to the guest: nothing was lost.
//
// The destination is told `receive` and gets the other end. Frames that come are queued until it is told
// `activate` and the guest's end takes them. Then it announces the guest and sends a marker over the wire.
// The segment's switches have learned the guest's new place before the marker reaches the source; so once the
// source has seen it, it says "drained" and from then on keeps frames for groups to itself, since the
// destination sees them too. Until then the destination holds back what it captures itself, which is younger
// than what is on its way, for SWITCH_DRAIN_MS at most. A group frame that crossed the marker may come both
// ways: those that came from the tunnel and were captured here too are left out, once each.
//
// Without a marker at the source (two segments) all that it captures goes on through the tunnel.
typedef enum {
    SWITCH_STANDBY,  // nothing passes
    SWITCH_ACTIVE,   // the guest is here
    SWITCH_HOLDING,  // the source, from before the stop
    SWITCH_LEAVING,  // the source, from the handoff
    SWITCH_ARRIVING, // the destination, before the guest runs
    SWITCH_SETTLING, // the destination, until the source is drained
    N_SWITCH_MODES,
} SwitchMode;

#define SWITCH_DRAIN_MS 50
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

// `deliver` gives a frame that waited to the guest. `port` and `capture` are borrowed.
Switch *switch_new(Port *port, Capture *capture, void (*deliver)(guint8 *, gsize, const Offload *, void *),
                   void *data);
void switch_free(Switch *move);

SwitchMode switch_mode(const Switch *move);
const char *switch_mode_name(SwitchMode mode);

// Orders, each legal in any mode. switch_hand_over() and switch_receive() take the descriptor over.
void switch_standby(Switch *move);
void switch_hold(Switch *move);
void switch_hand_over(Switch *move, int fd);
gboolean switch_receive(Switch *move, int fd, GError **error);
// What waits goes to the guest, as soon as its end takes it. `arrived`: the guest is about to start running
// here, as after SWITCH_ARRIVING, and frames wait for it although there is no tunnel. switch_mark() is to
// follow the first announcement.
void switch_activate(Switch *move, gboolean arrived);
void switch_mark(Switch *move);

// Whether the guest's own frames go out.
gboolean switch_injects(const Switch *move);

// Decides about a captured frame, whose fields have been checked.
SwitchVerdict switch_captured(Switch *move, const guint8 *frame, gsize length, const Offload *offload);

// For the loop: at most one descriptor, and the time until switch_serve() has something to do (-1: none).
guint switch_poll(const Switch *move, struct pollfd *fd);
int switch_wait_ms(const Switch *move);
void switch_serve(Switch *move, const struct pollfd *fd, guint n);

// Frames that wait here, and duplicates left out.
gsize switch_waiting(const Switch *move);
guint64 switch_duplicates(const Switch *move);
