// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames into and out of a vhost-user NIC's rings.
#pragma once

#include <glib.h>

#include "vnet/offload.h"
#include "vnet/port.h"
#include "vnet/vhost_device.h"

typedef enum {
    FRAME_PUT,
    FRAME_NO_ROOM,  // the guest has made too few buffers available yet
    FRAME_TOO_LONG, // it will never fit the buffers that this guest makes
    FRAME_NO_RING,  // the ring does not run
} FramePut;

// Whether the guest's driver takes a frame with this work left.
gboolean vhost_frames_take(const VhostDevice *device, const Offload *offload);

// Writes a frame for the guest. The guest is not interrupted: vhost_ring_call() when *interrupt says so (it
// is only ever set here).
FramePut vhost_frames_put(VhostDevice *device, const guint8 *frame, gsize length, const Offload *offload,
                          gboolean *interrupt);

// Hands over up to `limit` frames of the guest, each to `port`'s consumer, and interrupts the guest when it
// wants that. What is too long or too short to be a frame with its header is left out and counted in
// *malformed. Returns how many chains were worked through; `limit`: more may wait.
guint vhost_frames_get(VhostDevice *device, guint limit, const Port *port, guint64 *malformed);
