// SPDX-License-Identifier: LGPL-2.1-or-later
// The tunnels of a link: the one in use, its successor and its predecessor.
#include "vnet/link.h"

#include "vnet/frame_queue.h"

#define EARLY_MAX (4u << 20)

// How long a tunnel that is out of use is kept, so that the other end reads all of it.
#define LINGER_MS 2000

// One tunnel, and what is known of it.
typedef struct {
    Link *link;
    Tunnel *tunnel;
    gboolean ended; // the other end's TUNNEL_LAST has come
    gint64 retired; // when it went out of use, monotonic us
} Lane;

struct Link {
    const TunnelEvents *events;
    void *data;
    Lane *former, *current, *next;
    FrameQueue *early; // came through `current` before `former` was done
};

static void
free_lane(Lane *lane)
{
    tunnel_free(lane->tunnel);
    g_free(lane);
}

Link *
link_new(const TunnelEvents *events, void *data)
{
    Link *link = g_new0(Link, 1);
    link->events = events;
    link->data = data;
    link->early = frame_queue_new(EARLY_MAX);
    return link;
}

void
link_free(Link *link)
{
    if (!link)
        return;
    g_clear_pointer(&link->former, free_lane);
    g_clear_pointer(&link->current, free_lane);
    g_clear_pointer(&link->next, free_lane);
    frame_queue_free(link->early);
    g_free(link);
}

void
link_set_events(Link *link, const TunnelEvents *events)
{
    link->events = events;
}

// Frames of the current tunnel need not wait any more.
static void
end_former(Link *link)
{
    QueuedFrame *frame;
    if (link->former)
        link->former->ended = TRUE;
    while ((frame = frame_queue_peek(link->early))) {
        link->events->frame(frame->bytes, frame->length, &frame->offload, link->data);
        frame_queue_pop(link->early);
    }
}

static void
take_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Lane *lane = data;
    Link *link = lane->link;
    // A full queue means that the former tunnel is stuck: waiting longer would only lose more.
    if (lane != link->former && link->former && !link->former->ended) {
        if (frame_queue_push(link->early, frame, length, offload))
            return;
        end_former(link);
    }
    link->events->frame(frame, length, offload, link->data);
}

static void
take_word(TunnelWord word, const guint8 *nonce, void *data)
{
    Lane *lane = data;
    Link *link = lane->link;
    if (word != TUNNEL_LAST || (lane != link->former && !link->next))
        link->events->word(word, nonce, link->data);
    else if (lane == link->former)
        end_former(link);
    else
        lane->ended = TRUE;
}

static const TunnelEvents lane_events = {take_frame, take_word};

// The successor goes into use.
static void
promote(Link *link)
{
    end_former(link);
    g_clear_pointer(&link->former, free_lane);
    link->former = g_steal_pointer(&link->current);
    link->current = g_steal_pointer(&link->next);
    if (!link->former)
        return;
    link->former->retired = g_get_monotonic_time();
    tunnel_send_word(link->former->tunnel, TUNNEL_LAST, NULL);
    tunnel_flush(link->former->tunnel);
}

void
link_add(Link *link, int fd, const guint8 key[TLS_KEY], gboolean server)
{
    Lane *lane = g_new0(Lane, 1);
    *lane = (Lane){.link = link, .tunnel = tunnel_new(fd, key, server, &lane_events, lane)};
    g_clear_pointer(&link->next, free_lane);
    link->next = lane;
    if (!link->current || tunnel_is_up(lane->tunnel))
        promote(link);
}

gboolean
link_is_up(const Link *link)
{
    return link->current && tunnel_is_up(link->current->tunnel);
}

static guint
lanes_of(const Link *link, Lane *lanes[LINK_FDS])
{
    guint n = 0;
    if (link->former)
        lanes[n++] = link->former;
    if (link->current)
        lanes[n++] = link->current;
    if (link->next)
        lanes[n++] = link->next;
    return n;
}

guint
link_fds(const Link *link)
{
    Lane *lanes[LINK_FDS];
    return lanes_of(link, lanes);
}

guint
link_poll(const Link *link, gboolean reads, struct pollfd *fds)
{
    Lane *lanes[LINK_FDS];
    guint n = lanes_of(link, lanes);
    for (guint i = 0; i < n; i++) {
        tunnel_poll(lanes[i]->tunnel, &fds[i]);
        if (!reads && tunnel_is_up(lanes[i]->tunnel))
            fds[i].events &= ~POLLIN;
    }
    return n;
}

static gint64
former_until(const Link *link)
{
    return link->former->retired + (link->former->ended ? LINGER_MS : LINK_FORMER_MS) * 1000;
}

int
link_wait_ms(const Link *link)
{
    if (!link->former)
        return -1;
    return (int) (MAX(0, former_until(link) - g_get_monotonic_time()) / 1000 + 1);
}

static void
look_after_former(Link *link)
{
    if (!link->former || g_get_monotonic_time() < former_until(link))
        return;
    if (link->former->ended)
        g_clear_pointer(&link->former, free_lane);
    else
        end_former(link);
}

static void
drop_lane(Link *link, Lane *lane)
{
    if (lane == link->former)
        end_former(link);
    Lane **slot = lane == link->former ? &link->former : lane == link->next ? &link->next : &link->current;
    g_clear_pointer(slot, free_lane);
}

void
link_serve(Link *link, const struct pollfd *fds, guint n)
{
    Lane *lanes[LINK_FDS];
    guint n_lanes = lanes_of(link, lanes);
    for (guint i = 0; i < MIN(n, n_lanes); i++) {
        g_autoptr(GError) error = NULL;
        if (tunnel_serve(lanes[i]->tunnel, &fds[i], &error))
            continue;
        if (error)
            g_warning("a tunnel broke: %s", error->message);
        drop_lane(link, lanes[i]);
    }
    if (link->next && (!link->current || tunnel_is_up(link->next->tunnel))) {
        gboolean ended = link->current && link->current->ended;
        promote(link);
        if (ended)
            end_former(link);
    }
    look_after_former(link);
}

gboolean
link_send_frame(Link *link, const struct iovec *parts, guint n, const Offload *offload)
{
    return link->current && tunnel_send_frame(link->current->tunnel, parts, n, offload);
}

gboolean
link_send_word(Link *link, TunnelWord word, const guint8 *nonce)
{
    return link->current && tunnel_send_word(link->current->tunnel, word, nonce);
}

void
link_flush(Link *link)
{
    if (link->current)
        tunnel_flush(link->current->tunnel);
}

gsize
link_waiting(const Link *link)
{
    return link->current ? tunnel_waiting(link->current->tunnel) : 0;
}

gint64
link_round_trip(const Link *link)
{
    return link->current ? tunnel_round_trip(link->current->tunnel) : -1;
}
