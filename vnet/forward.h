// SPDX-License-Identifier: LGPL-2.1-or-later
// Decides of each frame between a guest and a NIC whether it passes, and keeps the counts.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "vnet/capture.h"
#include "vnet/control.h"
#include "vnet/port.h"
#include "vnet/switch.h"

// Why a frame did not pass.
typedef enum {
    DROP_STANDBY,   // nothing passes now
    DROP_HOLD,      // nor do more frames fit where they wait for the end of the switch-over
    DROP_QUEUE,     // the guest is too slow
    DROP_UNREADY,   // the guest has not set its NIC up
    DROP_TRUNCATED, // the kernel cut it
    DROP_GIANT,     // longer than the link's MTU, and not to be segmented
    DROP_RUNT,
    DROP_SPOOFED, // from the guest, with a MAC that is not its own
    DROP_OFFLOAD, // the work left on it does not fit it
    DROP_INJECT,  // the NIC did not take it
    DROP_FOREIGN, // off the wire and not for the guest
    DROP_LINK,    // the link to the guest's home is down, or its queue full
    N_DROPS,
} Drop;

typedef struct {
    guint64 frames, bytes;
} Counter;

// Owned by the process's one thread. The pointers are borrowed.
typedef struct {
    MacAddress mac;
    Capture *capture;
    Port *port;

    Switch *move;
    guint64 captured; // frames that the NIC has handed over
    Counter to_guest, from_guest;
    guint64 drops[N_DROPS];
    gboolean inject_failed; // set with DROP_INJECT: the NIC is worth a look

    NetAddress learned[CONTROL_ADDRESSES]; // the latest last
    guint n_learned;
} Forward;

// Of the types that captures and ports call; `data` is the Forward.
void forward_to_guest(guint8 *frame, gsize length, const Offload *offload, gboolean truncated, void *data);
void forward_from_guest(const struct iovec *parts, guint n, gsize length, const Offload *offload, void *data);

// What a Switch calls; both check the frame. A frame for the guest, with what work it leaves done as the
// guest needs it; and one of the guest's that comes from where it is now.
void forward_deliver(guint8 *frame, gsize length, const Offload *offload, void *data);
void forward_inject(guint8 *frame, gsize length, const Offload *offload, void *data);

// "to_guest", "from_guest", "drops", "addresses", as vnet_client_status() tells; the caller owns it.
json_t *forward_status(const Forward *forward);
