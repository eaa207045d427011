// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames and words between the vnets of two hosts, over a connected stream socket and in a TLS session.
#pragma once

#include <glib.h>
#include <poll.h>
#include <sys/uio.h>

#include "base/tls.h"
#include "vnet/marker.h"
#include "vnet/offload.h"

// Theory of operation: a stream, not datagrams (DTLS). TUNNEL_DRAINED and TUNNEL_LAST mean what they say only
// in order; a guest's longest frame has to pass whatever the path's MTU is; and a record that was replayed,
// swapped or changed ends the session, which its own counters and authentication see.
typedef struct Tunnel Tunnel;

// What passes beside frames; vnet/switch.h says when. The numbers are on the wire.
typedef enum {
    TUNNEL_NONCE = 2,    // with a nonce: what the sender's probes and its marker bear
    TUNNEL_DRAINED = 3,  // no frame from before the marker follows
    TUNNEL_PROBED = 4,   // a probe, or a marker to the guest, has gone out on the sender's wire
    TUNNEL_SEEN = 5,     // ... and was captured here
    TUNNEL_UNSEEN = 6,   // ... and was not
    TUNNEL_HERE = 7,     // the guest runs here, on this segment
    TUNNEL_AWAY = 8,     // the guest runs here, and its segment is behind the tunnel
    TUNNEL_LAST = 9,     // no frame follows in this tunnel: the next one is in another
    TUNNEL_LEARNED = 10, // frames for the guest come to the destination by themselves
    TUNNEL_STRAYS = 11,  // they do not: the source goes on passing them on
    TUNNEL_WORDS,
} TunnelWord;

// What comes in; all calls are made from tunnel_serve(). `nonce` with TUNNEL_NONCE, else NULL.
typedef struct {
    void (*frame)(guint8 *frame, gsize length, const Offload *offload, void *data);
    void (*word)(TunnelWord word, const guint8 nonce[MARKER_NONCE], void *data);
} TunnelEvents;

// Takes the descriptor over. `key`: what the session's two sides share; one of them is the server. NULL: no
// TLS (tests).
Tunnel *tunnel_new(int fd, const guint8 key[TLS_KEY], gboolean server, const TunnelEvents *events,
                   void *data);
void tunnel_free(Tunnel *tunnel);

// Whether the other side has proven that it has the key.
gboolean tunnel_is_up(const Tunnel *tunnel);

void tunnel_poll(const Tunnel *tunnel, struct pollfd *fd);

// FALSE: the other side closed its end, or broke the rules (with an error).
gboolean tunnel_serve(Tunnel *tunnel, const struct pollfd *fd, GError **error);

// FALSE when the queue is full (the caller counts). tunnel_flush() sends what waits.
gboolean tunnel_send_frame(Tunnel *tunnel, const struct iovec *parts, guint n, const Offload *offload);
gboolean tunnel_send_word(Tunnel *tunnel, TunnelWord word, const guint8 *nonce);
void tunnel_flush(Tunnel *tunnel);

// Bytes that wait for the socket, and the smoothed round trip as TCP measures it, in us (-1: not known).
gsize tunnel_waiting(const Tunnel *tunnel);
gint64 tunnel_round_trip(const Tunnel *tunnel);
