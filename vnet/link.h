// SPDX-License-Identifier: LGPL-2.1-or-later
// A link to another vnet that outlives its tunnels: frames keep their order when one tunnel takes over from
// another.
#pragma once

#include <glib.h>

#include "vnet/tunnel.h"

// Theory of operation. Both ends get the two ends of a new connection while the former may still stand (its
// way leads through a host that the guest has left, or it is about to break). Each end goes over to the new
// tunnel when that is up, and says TUNNEL_LAST in the former as its last message. What comes through the new
// tunnel waits until the other end's TUNNEL_LAST has come through the former, or the former has broken, or
// LINK_FORMER_MS have passed. A vnet between the two ends passes TUNNEL_LAST on like every word.
typedef struct Link Link;

#define LINK_FORMER_MS 1000
#define LINK_FDS       3u

// A link without a tunnel: it is down, what is sent is refused.
Link *link_new(const TunnelEvents *events, void *data);
void link_free(Link *link);

// From now on what comes is told to these.
void link_set_events(Link *link, const TunnelEvents *events);

// Another tunnel, with the parameters of tunnel_new(); takes the descriptor over.
void link_add(Link *link, int fd, const guint8 key[TLS_KEY], gboolean server);

// Whether the other end is known to be there.
gboolean link_is_up(const Link *link);

// At most LINK_FDS descriptors, whose number link_fds() tells too, until the next call of another function;
// without `reads` nothing is taken from the other end.
guint link_fds(const Link *link);
guint link_poll(const Link *link, gboolean reads, struct pollfd *fds);
int link_wait_ms(const Link *link); // -1: link_serve() need not be called before a descriptor is ready
void link_serve(Link *link, const struct pollfd *fds, guint n);

// As tunnel_send_frame() and so on.
gboolean link_send_frame(Link *link, const struct iovec *parts, guint n, const Offload *offload);
gboolean link_send_word(Link *link, TunnelWord word, const guint8 *nonce);
void link_flush(Link *link);
gsize link_waiting(const Link *link);
gint64 link_round_trip(const Link *link);
