// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames between the vnets of two hosts, over a connected stream socket that somebody else made and protects.
#pragma once

#include <glib.h>
#include <poll.h>

#include "vnet/marker.h"
#include "vnet/offload.h"

typedef struct Tunnel Tunnel;

// What comes in; all calls are made from tunnel_serve().
typedef struct {
    void (*frame)(guint8 *frame, gsize length, const Offload *offload, void *data);
    void (*nonce)(const guint8 nonce[MARKER_NONCE],
                  void *data);   // what the other side will mark the wire with
    void (*drained)(void *data); // no frame from before the marker follows
} TunnelEvents;

// Takes the descriptor over.
Tunnel *tunnel_new(int fd, const TunnelEvents *events, void *data);
void tunnel_free(Tunnel *tunnel);

void tunnel_poll(const Tunnel *tunnel, struct pollfd *fd);

// FALSE: the other side closed its end, or broke the rules (with an error).
gboolean tunnel_serve(Tunnel *tunnel, const struct pollfd *fd, GError **error);

// FALSE when the queue is full (the caller counts). tunnel_flush() sends what waits.
gboolean tunnel_send_frame(Tunnel *tunnel, const guint8 *frame, gsize length, const Offload *offload);
gboolean tunnel_send_nonce(Tunnel *tunnel, const guint8 nonce[MARKER_NONCE]);
gboolean tunnel_send_drained(Tunnel *tunnel);
void tunnel_flush(Tunnel *tunnel);
