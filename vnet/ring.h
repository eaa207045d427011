// SPDX-License-Identifier: LGPL-2.1-or-later
// A split virtqueue (virtio 1.2, 2.7), read as hostile input.
#pragma once

#include <glib.h>
#include <sys/uio.h>

#include "vnet/guest_memory.h"

#define RING_SIZE_MAX 32768u
#define RING_PARTS    1024u // the longest chain: QEMU's limit

// Where the front-end says that a ring is. Addresses are the front-end's own; `log` is guest-physical.
typedef struct {
    guint64 descriptors, available, used, log;
    gboolean log_used;
} RingAddress;

// Theory of operation: the guest may change all that is shared at any time, so each value is read once and
// checked before it is used. What cannot be right breaks the ring: it stands still until the front-end starts
// it anew, and everything else goes on. A chain is taken by ring_next() and given back by ring_used(), in any
// number; the guest sees what was used by ring_publish().
typedef struct {
    guint16 size; // a power of two
    RingAddress address;
    gboolean started;
    gboolean broken;
    gboolean event_index; // VIRTIO_RING_F_EVENT_IDX

    guint16 next_available, next_used;
    guint16 signalled; // next_used when it was last looked whether to interrupt
    gboolean signalled_valid;

    // In the guest's memory; NULL until ring_start() has found them.
    guint8 *descriptors, *available, *used;
} Ring;

typedef struct {
    guint16 head;
    guint n;
    guint64 length; // of all parts
    struct iovec parts[RING_PARTS];
} Chain;

// Finds the ring in memory. FALSE: it is not (all) there, or misaligned. To be called again when the memory
// changes.
gboolean ring_locate(Ring *ring, const GuestMemory *memory);

// Starts at `next_available`. As ring_locate().
gboolean ring_start(Ring *ring, const GuestMemory *memory, guint16 next_available);
void ring_stop(Ring *ring);

// Whether ring_next() would find something.
gboolean ring_has_next(Ring *ring);

// Takes the next chain, whose parts are all for the device to write (`writable`) or all for it to read.
// FALSE: there is none, or the ring broke.
gboolean ring_next(Ring *ring, const GuestMemory *memory, gboolean writable, Chain *chain);

// Gives the last `n` chains back as if they had not been taken; none of them may be used yet.
void ring_put_back(Ring *ring, guint n);

// Enters a chain as used with `written` bytes; ring_publish() shows all of them and tells whether to
// interrupt.
void ring_used(Ring *ring, GuestMemory *memory, guint16 head, guint32 written);
gboolean ring_publish(Ring *ring, GuestMemory *memory, guint n);

// Whether the guest is to tell of chains beyond those that are there. When it is, the ring must be looked at
// once more after this: some may have come before the guest saw it.
void ring_ask_for_kicks(Ring *ring, GuestMemory *memory, gboolean wanted);
