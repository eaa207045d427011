// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's NIC: frames in and out by libpcap.
#pragma once

#include <glib.h>

#include "vnet/packet.h"

typedef struct Capture Capture;

// One frame off the wire; `frame` may be changed in place. `truncated`: the kernel cut it.
typedef void (*CaptureFrame)(guint8 *frame, gsize length, gboolean truncated, void *data);

typedef enum {
    CAPTURE_SENT,
    CAPTURE_DROPPED, // no room in the socket, or the NIC is down
} CaptureSend;

typedef struct {
    guint64 received, dropped, ifdropped;
} CaptureStats;

// The kernel filter of a guest: what is for it, without what is from it. Our own frames are told by their
// source and never by their direction: two guests on one NIC, and the host itself, see each other only as
// outgoing frames. Caller frees.
char *capture_filter(const MacAddress *mac);

// Opens the NIC promiscuous. Needs CAP_NET_RAW (and CAP_NET_ADMIN for the send buffer).
// VIR_ERR_OPERATION_FAILED.
Capture *capture_open(const char *nic, const MacAddress *mac, GError **error);
void capture_close(Capture *capture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Capture, capture_close)

int capture_fd(const Capture *capture);
guint capture_mtu(const Capture *capture);

// Hands over up to `limit` frames that wait. FALSE: the NIC is gone.
gboolean capture_read(Capture *capture, int limit, CaptureFrame frame, void *data, GError **error);

CaptureSend capture_send(Capture *capture, const guint8 *frame, gsize length);
void capture_stats(Capture *capture, CaptureStats *stats);

// FALSE when the NIC is gone, or has been down for all of the last CAPTURE_DOWN_MAX calls; call it once a
// second while the NIC is suspect.
#define CAPTURE_DOWN_MAX 30u
gboolean capture_alive(Capture *capture, gboolean *up, GError **error);
