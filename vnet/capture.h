// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's NIC: frames in and out.
#pragma once

#include <glib.h>
#include <sys/uio.h>

#include "vnet/offload.h"
#include "vnet/packet.h"

typedef struct Capture Capture;

typedef enum {
    CAPTURE_PACKET, // Linux packet socket: knows checksums and segments that a sender left to its NIC
    CAPTURE_PCAP,   // libpcap: any system that has it
} CaptureKind;

// One frame off the wire; it may be changed in place. `truncated`: the kernel cut it.
typedef void (*CaptureFrame)(guint8 *frame, gsize length, const Offload *offload, gboolean truncated,
                             void *data);

typedef enum {
    CAPTURE_SENT,
    CAPTURE_DROPPED, // no room in the socket, the NIC is down, or the kernel refused the frame
} CaptureSend;

typedef struct {
    guint64 received, dropped, ifdropped;
} CaptureStats;

// The kernel filter of a guest: what is for it, without what is from it. Our own frames are told by their
// source and never by their direction: two guests on one NIC, and the host itself, see each other only as
// outgoing frames. Caller frees.
char *capture_filter(const MacAddress *mac);

// Opens the NIC promiscuous. Needs CAP_NET_RAW (and CAP_NET_ADMIN for large buffers).
// VIR_ERR_OPERATION_FAILED.
Capture *capture_open(CaptureKind kind, const char *nic, const MacAddress *mac, GError **error);
void capture_close(Capture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Capture, capture_close)

int capture_fd(const Capture *capture);
guint capture_mtu(const Capture *capture);

// Hands over up to `limit` frames that wait. FALSE: the NIC is gone.
gboolean capture_read(Capture *capture, guint limit, CaptureFrame frame, void *data, GError **error);

// Whether capture_send() takes frames with work left; if not, their `offload` must be all zero.
gboolean capture_takes_offload(const Capture *capture);

// Sends one frame made of at most CAPTURE_PARTS parts.
#define CAPTURE_PARTS 64u
CaptureSend capture_send(Capture *capture, const Offload *offload, const struct iovec *parts, guint n);

// Sends a frame that this capture sees in its turn, as others on this NIC do: what was captured before it,
// and what after it.
void capture_mark(Capture *capture, const guint8 *frame, gsize length);
void capture_stats(Capture *capture, CaptureStats *stats);

// FALSE when the NIC is gone, or has been down for all of the last CAPTURE_DOWN_MAX calls; call it once a
// second while the NIC is suspect.
#define CAPTURE_DOWN_MAX 30u
gboolean capture_alive(Capture *capture, gboolean *up, GError **error);
