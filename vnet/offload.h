// SPDX-License-Identifier: LGPL-2.1-or-later
// Work on a frame that a sender has left to its NIC: checksums to complete, super-frames to segment.
#pragma once

#include <glib.h>

#define OFFLOAD_HEADER     10u // the header on packet sockets, and on rings of legacy guests
#define OFFLOAD_FRAME_MAX  (65535u + 14u + 8u + 4u)
#define OFFLOAD_HEADER_MAX 256u // Ethernet to TCP, options included, of a frame that can be segmented

// Names and values: virtio 1.2, 5.1.6.
enum {
    OFFLOAD_NEEDS_CHECKSUM = 1,
    OFFLOAD_DATA_VALID = 2, // a hint that nobody needs to take
};
typedef enum {
    OFFLOAD_NONE = 0,
    OFFLOAD_TCP4 = 1,
    OFFLOAD_TCP6 = 4,
    OFFLOAD_UDP = 5, // several datagrams of one flow
    OFFLOAD_ECN = 0x80,
} OffloadKind;

// In host byte order; all zero: a frame as it goes over a wire. Offsets count from the frame's first byte.
typedef struct {
    guint8 flags;
    guint8 kind;             // OffloadKind, OFFLOAD_ECN may be or-ed in
    guint16 header_length;   // a hint
    guint16 segment_size;    // payload of each segment
    guint16 checksum_start;  // what the checksum covers begins here ...
    guint16 checksum_offset; // ... and it is kept this much behind
} Offload;

// The bytes of virtio's header (little-endian on rings of virtio 1.0, the host's order on packet sockets).
void offload_decode(const guint8 bytes[OFFLOAD_HEADER], gboolean little_endian, Offload *offload);
void offload_encode(const Offload *offload, gboolean little_endian, guint8 bytes[OFFLOAD_HEADER]);

// Whether the values fit a frame of this length; a hostile sender's need not.
gboolean offload_is_sane(const Offload *offload, gsize length);

// Moves the offsets when `bytes` bytes are put into the frame's Ethernet header.
void offload_shift(Offload *offload, guint bytes);

// Completes the checksum that `offload` (sane) asks for, in place. The place holds the pseudo-header's sum.
void offload_complete_checksum(guint8 *frame, gsize length, const Offload *offload);

typedef void (*OffloadSegment)(guint8 *frame, gsize length, void *data);

// Hands over the segments of a super-frame (TCP over IPv4 or IPv6, UDP), checksums complete, each valid for
// the call only. They are made in place: the frame's bytes are lost. FALSE: it is not what `offload` says,
// nothing was handed over.
gboolean offload_segment(guint8 *frame, gsize length, const Offload *offload, OffloadSegment segment,
                         void *data);

// For captures that do not tell: takes a TCP frame over the link's MTU for a super-frame of full segments.
// FALSE when it is none.
gboolean offload_guess(const guint8 *frame, gsize length, guint mtu, Offload *offload);
