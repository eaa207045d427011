// SPDX-License-Identifier: LGPL-2.1-or-later
// The back-end of a vhost-user NIC: negotiation, memory, rings. No sockets here.
#pragma once

#include <glib.h>

#include "vnet/guest_memory.h"
#include "vnet/ring.h"

// Numbers: QEMU's docs/interop/vhost-user.rst; integers are in the host's order.
#define VHOST_HEADER  12u
#define VHOST_PAYLOAD 512u // more than any message that is understood here
#define VHOST_FDS     8u

// Rings, by index.
enum {
    VHOST_TO_GUEST,
    VHOST_FROM_GUEST,
    VHOST_RINGS,
};

// Bits of the features: virtio 1.2, 5.1.3 and 6; VHOST_F_LOG_ALL and the protocol's own bit.
enum {
    FEATURE_CHECKSUM = 0,
    FEATURE_GUEST_CHECKSUM = 1,
    FEATURE_GUEST_TSO4 = 7,
    FEATURE_GUEST_TSO6 = 8,
    FEATURE_GUEST_ECN = 9,
    FEATURE_HOST_TSO4 = 11,
    FEATURE_HOST_TSO6 = 12,
    FEATURE_HOST_ECN = 13,
    FEATURE_MERGEABLE = 15,
    FEATURE_LOG_ALL = 26,
    FEATURE_ANY_LAYOUT = 27,
    FEATURE_INDIRECT = 28,
    FEATURE_EVENT_INDEX = 29,
    FEATURE_PROTOCOL = 30,
    FEATURE_VERSION_1 = 32,
};

typedef struct {
    guint32 request, flags, size;
    guint8 payload[VHOST_PAYLOAD];
    int fds[VHOST_FDS]; // owned by whoever has the message; taken ones are -1
    guint n_fds;
} VhostMessage;

void vhost_message_close_fds(VhostMessage *message);

typedef struct {
    Ring ring;
    guint16 base; // where it starts
    gboolean enabled;
    int kick, call, err; // eventfds, -1: none
} VhostRing;

typedef struct {
    guint64 offered, features;
    guint64 protocol_features;
    GuestMemory *memory;
    VhostRing rings[VHOST_RINGS];
    guint64 broken; // rings that broke, ever
} VhostDevice;

// `offload`: the NIC's feature set has checksum and segmentation offloads; without it is the portable set.
VhostDevice *vhost_device_new(gboolean offload);
void vhost_device_free(VhostDevice *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VhostDevice, vhost_device_free)

// Forgets all that a front-end set up: it is gone.
void vhost_device_reset(VhostDevice *device);

gboolean vhost_has(const VhostDevice *device, guint feature);

// The header of a message alone: VIR_ERR_RPC when it is not of this version or too long to be understood.
gboolean vhost_message_check(const VhostMessage *message, GError **error);

// Carries a message out. TRUE with reply->request != 0: `reply` is to be sent. FALSE, VIR_ERR_RPC: the
// front-end broke the protocol and is to be cut off. Descriptors of `message` that are not kept are closed.
gboolean vhost_device_handle(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error);

// A ring that may be worked on: started, enabled, not broken.
gboolean vhost_ring_ready(const VhostDevice *device, guint index);

// Interrupts the guest.
void vhost_ring_call(const VhostDevice *device, guint index);

// To be called after work on a ring: counts it when it broke, and tells the front-end.
void vhost_ring_look_after(VhostDevice *device, guint index);
