// SPDX-License-Identifier: LGPL-2.1-or-later
// The states of a switch-over, and the frames that wait in them.
#include "vnet/switch.h"

#include <string.h>

#include "base/error.h"
#include "vnet/frame_queue.h"
#include "vnet/twins.h"

static const char *const mode_names[] = {
    [SWITCH_STANDBY] = "standby", [SWITCH_ACTIVE] = "active",     [SWITCH_HOLDING] = "holding",
    [SWITCH_LEAVING] = "leaving", [SWITCH_ARRIVING] = "arriving", [SWITCH_SETTLING] = "settling",
};
G_STATIC_ASSERT(G_N_ELEMENTS(mode_names) == N_SWITCH_MODES);

#define LINK_MAX (512u * 1024) // bytes that wait for a link before its sources have to

struct Switch {
    Port *port;
    Capture *capture;
    const SwitchEnds *ends;
    void *data;

    SwitchMode mode;
    FrameQueue *queue; // holding: for the guest or the tunnel; arriving and settling: from the tunnel
    FrameQueue *own;   // settling: captured here
    Link *home;        // the guest's segment is behind it; NULL: it is this one
    Link *peer;        // the other host of the move, then where the guest is
    Link *former;      // where the guest came from, on this segment, as long as frames may come from there
    gboolean anchor;   // leaving: the guest is away
    gint64 arrived; // leaving: when the destination said that the guest is there, on this segment; 0: not yet

    Place place;
    gboolean asked;   // arriving: a probe is out
    gboolean shared;  // source and destination have the same NIC
    gboolean marked;  // leaving, or settling with a shared NIC: the marker was seen
    gboolean drained; // settling: the source said so
    gint64 activated; // settling: since when, monotonic us
    gint64 settled;   // when `former` went away, monotonic us
    gint64 ready;     // settling: since when the guest's end takes frames; 0: not yet
    Twins *twins;     // arriving to active: group frames that come both ways
    guint64 duplicates;
};

static void peer_frame(guint8 *frame, gsize length, const Offload *offload, void *data);
static void peer_word(TunnelWord word, const guint8 *nonce, void *data);
static void former_frame(guint8 *frame, gsize length, const Offload *offload, void *data);
static void former_word(TunnelWord word, const guint8 *nonce, void *data);
static void home_frame(guint8 *frame, gsize length, const Offload *offload, void *data);
static void home_word(TunnelWord word, const guint8 *nonce, void *data);

static const TunnelEvents peer_events = {peer_frame, peer_word};
static const TunnelEvents former_events = {former_frame, former_word};
static const TunnelEvents home_events = {home_frame, home_word};

Switch *
switch_new(Port *port, Capture *capture, const SwitchEnds *ends, void *data)
{
    Switch *move = g_new0(Switch, 1);
    move->port = port;
    move->capture = capture;
    move->ends = ends;
    move->data = data;
    move->queue = frame_queue_new(SWITCH_QUEUE);
    move->own = frame_queue_new(SWITCH_QUEUE);
    move->twins = twins_new();
    return move;
}

void
switch_free(Switch *move)
{
    if (!move)
        return;
    link_free(move->peer);
    link_free(move->former);
    link_free(move->home);
    frame_queue_free(move->queue);
    frame_queue_free(move->own);
    twins_free(move->twins);
    g_free(move);
}

SwitchMode
switch_mode(const Switch *move)
{
    return move->mode;
}

const char *
switch_mode_name(const Switch *move)
{
    if (move->mode == SWITCH_LEAVING && (move->home || move->anchor))
        return move->home ? "passing" : "anchor";
    return move->mode == SWITCH_ACTIVE && move->home ? "away" : mode_names[move->mode];
}

gboolean
switch_is_away(const Switch *move)
{
    return move->home != NULL;
}

static void
enter(Switch *move, SwitchMode mode)
{
    const char *before = switch_mode_name(move);
    move->mode = mode;
    if (before != switch_mode_name(move))
        g_message("%s", switch_mode_name(move));
}

static void
close_peer(Switch *move)
{
    g_clear_pointer(&move->peer, link_free);
    move->place = (Place){0};
    move->asked = move->marked = move->shared = move->anchor = FALSE;
    move->arrived = 0;
}

static void
open_peer(Switch *move, const SwitchTunnel *tunnel)
{
    close_peer(move);
    move->peer = link_new(&peer_events, move);
    if (tunnel)
        link_add(move->peer, tunnel->fd, tunnel->key, tunnel->server);
}

void
switch_standby(Switch *move)
{
    close_peer(move);
    g_clear_pointer(&move->former, link_free);
    frame_queue_clear(move->queue);
    frame_queue_clear(move->own);
    enter(move, SWITCH_STANDBY);
}

void
switch_pair(Switch *move, const SwitchTunnel *tunnel)
{
    open_peer(move, tunnel);
}

void
switch_hold(Switch *move)
{
    if (move->mode != SWITCH_ACTIVE && move->mode != SWITCH_SETTLING)
        return;
    // The next move may begin before the last has settled: what was captured here is the younger.
    for (QueuedFrame *frame; (frame = frame_queue_peek(move->own)); frame_queue_pop(move->own))
        frame_queue_push(move->queue, frame->bytes, frame->length, &frame->offload);
    enter(move, SWITCH_HOLDING);
}

static gboolean
send_link(Link *link, const guint8 *frame, gsize length, const Offload *offload)
{
    const struct iovec part = {(void *) frame, length};
    return link && link_send_frame(link, &part, 1, offload);
}

static void
send_back(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    send_link(((Switch *) data)->peer, frame, length, offload);
}

gboolean
switch_hand_over(Switch *move, GError **error)
{
    QueuedFrame *frame;
    if (!move->peer || !link_is_up(move->peer))
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "no tunnel leads to the destination");
    port_drain(move->port);
    port_take_back(move->port, send_back, move);
    while ((frame = frame_queue_peek(move->queue))) {
        send_link(move->peer, frame->bytes, frame->length, &frame->offload);
        frame_queue_pop(move->queue);
    }
    // Nothing strays to where the guest was before any more; and if it goes back there, the NIC there is its
    // own.
    if (move->drained)
        g_clear_pointer(&move->former, link_free);
    switch_end_turn(move, FALSE);
    enter(move, SWITCH_LEAVING);
    return TRUE;
}

// Where it arrives, a probe goes out as soon as the tunnel is up, and after each answer that settles nothing.
static void
probe(Switch *move)
{
    guint8 frame[MARKER_LENGTH];
    if (move->mode != SWITCH_ARRIVING || move->asked || move->place.verdict != PLACE_UNKNOWN ||
        !link_is_up(move->peer))
        return;
    marker_build(frame, move->place.nonce, MARKER_PROBE);
    capture_mark(move->capture, frame, sizeof(frame));
    link_send_word(move->peer, TUNNEL_PROBED, NULL);
    move->asked = TRUE;
}

gboolean
switch_receive(Switch *move, const SwitchTunnel *tunnel, GError **error)
{
    switch_standby(move);
    g_clear_pointer(&move->home, link_free);
    open_peer(move, tunnel);
    if (!place_begin(&move->place, error)) {
        close_peer(move);
        return FALSE;
    }
    link_send_word(move->peer, TUNNEL_NONCE, move->place.nonce);
    enter(move, SWITCH_ARRIVING);
    return TRUE;
}

void
switch_be_away(Switch *move)
{
    if (!move->home)
        move->home = link_new(&home_events, move);
}

void
switch_be_anchor(Switch *move)
{
    open_peer(move, NULL);
    move->anchor = TRUE;
    enter(move, SWITCH_LEAVING);
}

gboolean
switch_relink(Switch *move, const SwitchTunnel *tunnel, GError **error)
{
    Link *link = move->home ? move->home : move->mode == SWITCH_LEAVING ? move->peer : NULL;
    if (!link)
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "the guest is on its own segment, and no link leads away from it");
    link_add(link, tunnel->fd, tunnel->key, tunnel->server);
    if (!move->home && !move->anchor) {
        move->anchor = TRUE;
        g_message("%s", switch_mode_name(move));
    }
    return TRUE;
}

static gboolean
is_group(const guint8 *frame)
{
    return (frame[0] & 1) != 0;
}

// Whether a frame may come both ways: one for a group, on one segment, while the source passes on what it
// captures.
static gboolean
may_have_twin(const Switch *move, const guint8 *frame)
{
    if (!is_group(frame) || move->shared)
        return FALSE;
    if (move->mode == SWITCH_ARRIVING)
        return move->place.verdict != PLACE_AWAY;
    return move->former || g_get_monotonic_time() < move->settled + TWINS_US;
}

// Whether a group frame that was captured here need not be given: it came from the tunnel.
static gboolean
has_come(Switch *move, const guint8 *frame, gsize length, gboolean given)
{
    if (!may_have_twin(move, frame) ||
        !twins_captured(move->twins, frame, length, given, g_get_monotonic_time()))
        return FALSE;
    move->duplicates += given;
    return TRUE;
}

// Whether a group frame from the tunnel need not be given: it was captured here.
static gboolean
was_captured(Switch *move, const guint8 *frame, gsize length)
{
    if (!may_have_twin(move, frame) || !twins_received(move->twins, frame, length, g_get_monotonic_time()))
        return FALSE;
    move->duplicates++;
    return TRUE;
}

static gint64
settle_until(const Switch *move)
{
    return move->ready ? move->ready + SWITCH_DRAIN_MS * 1000 : move->activated + SWITCH_READY_MS * 1000;
}

static gboolean
is_late(const Switch *move)
{
    return g_get_monotonic_time() >= settle_until(move);
}

// Settling: what was captured here is no longer younger than what may still come from the source.
static gboolean
own_are_due(const Switch *move)
{
    return !move->former || move->drained || is_late(move);
}

// Gives the guest what has waited, as long as there is room for it. TRUE: nothing is left.
static gboolean
deliver_waiting(Switch *move, FrameQueue *queue)
{
    QueuedFrame *frame;
    while ((frame = frame_queue_peek(queue)) && port_has_room(move->port)) {
        move->ends->deliver(frame->bytes, frame->length, &frame->offload, move->data);
        frame_queue_pop(queue);
    }
    port_flush(move->port);
    return frame == NULL;
}

// The frames of the source come first.
static void
settle(Switch *move)
{
    if (move->mode != SWITCH_SETTLING)
        return;
    if (!move->ready && !is_late(move) && !port_is_ready(move->port))
        return;
    gboolean due = own_are_due(move);
    if (!move->ready)
        move->ready = g_get_monotonic_time();
    if (!deliver_waiting(move, move->queue) || !due || !deliver_waiting(move, move->own))
        return;
    enter(move, SWITCH_ACTIVE);
}

// A guest that is held and still runs takes frames, unless it resets its NIC meanwhile: then they wait.
static gboolean
follows(const Switch *move)
{
    return move->mode == SWITCH_HOLDING && port_tells_exactly(move->port) && port_is_ready(move->port);
}

// The guest has come: is its segment here, or behind the link it came through? What the probes did not settle
// is settled so that frames pass.
static void
take_place(Switch *move)
{
    const gboolean here = move->place.verdict == PLACE_HERE ||
                          (move->place.verdict == PLACE_UNKNOWN && !link_is_up(move->peer));
    Link *link = g_steal_pointer(&move->peer);
    link_send_word(link, here ? TUNNEL_HERE : TUNNEL_AWAY, NULL);
    link_set_events(link, here ? &former_events : &home_events);
    *(here ? &move->former : &move->home) = link;
    move->drained = FALSE;
}

void
switch_activate(Switch *move, gboolean arrived)
{
    if (move->mode == SWITCH_ACTIVE || move->mode == SWITCH_SETTLING)
        return;
    if (move->mode == SWITCH_ARRIVING)
        take_place(move);
    else if (move->mode != SWITCH_HOLDING) // the move may go on
        close_peer(move);
    if (move->mode == SWITCH_ARRIVING || move->mode == SWITCH_HOLDING || arrived) {
        move->activated = g_get_monotonic_time();
        move->ready = 0;
        enter(move, SWITCH_SETTLING);
        settle(move);
    } else {
        enter(move, SWITCH_ACTIVE);
    }
}

void
switch_share(Switch *move)
{
    move->shared = TRUE;
}

void
switch_mark(Switch *move)
{
    guint8 frame[MARKER_LENGTH];
    if (move->mode != SWITCH_SETTLING || !move->former || !move->place.has_nonce)
        return;
    marker_build(frame, move->place.nonce, MARKER_MOMENT);
    capture_mark(move->capture, frame, sizeof(frame));
}

gboolean
switch_injects(const Switch *move)
{
    return move->mode == SWITCH_ACTIVE || move->mode == SWITCH_HOLDING || move->mode == SWITCH_SETTLING;
}

static SwitchVerdict
wait_in(FrameQueue *queue, const guint8 *frame, gsize length, const Offload *offload)
{
    return frame_queue_push(queue, frame, length, offload) ? SWITCH_TAKEN : SWITCH_OVERFLOW;
}

static SwitchVerdict
send_on(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    if (move->marked && (is_group(frame) || move->shared))
        return SWITCH_DROP;
    return send_link(move->peer, frame, length, offload) ? SWITCH_TAKEN : SWITCH_OVERFLOW;
}

static void
say_answer(Switch *move, PlaceAnswer answer)
{
    if (answer != PLACE_SAYS_NOTHING && move->peer)
        link_send_word(move->peer, answer == PLACE_SAYS_SEEN ? TUNNEL_SEEN : TUNNEL_UNSEEN, NULL);
}

// A marker or a probe of the destination's, on this segment.
static void
take_marker(Switch *move, MarkerKind kind)
{
    if (kind == MARKER_PROBE && move->mode != SWITCH_ARRIVING) {
        say_answer(move, place_captured(&move->place));
    } else if (kind == MARKER_MOMENT && move->mode == SWITCH_LEAVING && !move->marked) {
        move->marked = TRUE;
        link_send_word(move->peer, TUNNEL_DRAINED, NULL);
    } else if (kind == MARKER_MOMENT && move->mode == SWITCH_SETTLING) {
        move->marked = TRUE; // our own
    }
}

// A frame of the guest's segment, when the guest is not to be kept waiting.
static SwitchVerdict
hold_or_deliver(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    if (follows(move) && !frame_queue_peek(move->queue))
        return SWITCH_DELIVER;
    return wait_in(move->queue, frame, length, offload);
}

SwitchVerdict
switch_captured(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    gboolean mine;
    MarkerKind kind;
    const Place *place = &move->place;
    if (marker_parse(frame, length, place->has_nonce ? place->nonce : NULL, &mine, &kind)) {
        if (mine && !move->home)
            take_marker(move, kind);
        return SWITCH_TAKEN;
    }
    if (move->home)
        return SWITCH_TAKEN; // not the guest's segment
    switch (move->mode) {
    case SWITCH_ACTIVE:
        return has_come(move, frame, length, TRUE) ? SWITCH_TAKEN : SWITCH_DELIVER;
    case SWITCH_HOLDING:
        return has_come(move, frame, length, TRUE) ? SWITCH_TAKEN
                                                   : hold_or_deliver(move, frame, length, offload);
    case SWITCH_LEAVING:
        return send_on(move, frame, length, offload);
    case SWITCH_SETTLING:
        // What comes before the marker the source has captured too.
        if (move->shared && !move->marked && move->former && !is_late(move))
            return SWITCH_TAKEN;
        return has_come(move, frame, length, TRUE) ? SWITCH_TAKEN
                                                   : wait_in(move->own, frame, length, offload);
    case SWITCH_ARRIVING:
        has_come(move, frame, length, FALSE);
        break;
    case SWITCH_STANDBY:
    case N_SWITCH_MODES:
        break;
    }
    return SWITCH_DROP;
}

gboolean
switch_send_home(Switch *move, const struct iovec *parts, guint n, const Offload *offload)
{
    return move->home && link_send_frame(move->home, parts, n, offload);
}

// To where the guest is, or from where it comes.
static void
peer_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Switch *move = data;
    if (length < PACKET_HEADER)
        return;
    if (move->mode == SWITCH_LEAVING && move->home)
        send_link(move->home, frame, length, offload);
    else if (move->mode == SWITCH_LEAVING)
        move->ends->inject(frame, length, offload, move->data);
    else if (move->mode == SWITCH_ARRIVING && !was_captured(move, frame, length))
        frame_queue_push(move->queue, frame, length, offload);
}

// A frame of the guest's segment that came by a link.
static void
take_frame(Switch *move, guint8 *frame, gsize length, const Offload *offload)
{
    gboolean waits = move->mode == SWITCH_SETTLING && (!move->ready || frame_queue_peek(move->queue));
    if (waits)
        frame_queue_push(move->queue, frame, length, offload);
    else if (move->mode == SWITCH_LEAVING)
        send_on(move, frame, length, offload);
    else if (move->mode == SWITCH_ACTIVE || move->mode == SWITCH_SETTLING ||
             (move->mode == SWITCH_HOLDING &&
              hold_or_deliver(move, frame, length, offload) == SWITCH_DELIVER))
        move->ends->deliver(frame, length, offload, move->data);
}

// What still comes from where the guest was.
static void
former_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    if (length >= PACKET_HEADER && !was_captured(data, frame, length))
        take_frame(data, frame, length, offload);
}

static void
former_word(TunnelWord word, const guint8 *nonce G_GNUC_UNUSED, void *data)
{
    Switch *move = data;
    move->drained |= word == TUNNEL_DRAINED;
}

static void
home_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    if (length >= PACKET_HEADER)
        take_frame(data, frame, length, offload);
}

// Words to the guest's home: those of the probes are for the vnet that sees its segment.
static void
pass_home(Switch *move, TunnelWord word, const guint8 *nonce)
{
    if (word == TUNNEL_NONCE)
        move->place = (Place){0};
    link_send_word(move->home, word, nonce);
}

static void
peer_word(TunnelWord word, const guint8 *nonce, void *data)
{
    Switch *move = data;
    const gboolean leaves = move->mode == SWITCH_LEAVING;
    const gboolean arrives = move->mode == SWITCH_ARRIVING;
    if (move->home) {
        pass_home(move, word, nonce);
    } else if (word == TUNNEL_NONCE && !arrives) {
        place_watch(&move->place, nonce);
        move->marked = move->shared = FALSE;
    } else if (word == TUNNEL_PROBED && !arrives) {
        say_answer(move, place_probed(&move->place));
    } else if ((word == TUNNEL_SEEN || word == TUNNEL_UNSEEN) && arrives) {
        place_answered(&move->place, word == TUNNEL_SEEN);
        move->asked = FALSE;
        probe(move);
    } else if ((word == TUNNEL_HERE || word == TUNNEL_AWAY) && leaves) {
        move->anchor = word == TUNNEL_AWAY;
        move->arrived = word == TUNNEL_HERE ? g_get_monotonic_time() : 0;
        g_message("%s", switch_mode_name(move));
    }
}

static void
home_word(TunnelWord word, const guint8 *nonce, void *data)
{
    Switch *move = data;
    if (!move->peer || word == TUNNEL_NONCE)
        return;
    if (word == TUNNEL_SEEN || word == TUNNEL_UNSEEN)
        place_answered(&move->place, word == TUNNEL_SEEN);
    // While the guest is here still, only the probes are the next destination's business.
    if (move->mode == SWITCH_LEAVING || word == TUNNEL_SEEN || word == TUNNEL_UNSEEN)
        link_send_word(move->peer, word, NULL);
}

gboolean
switch_has_room(const Switch *move)
{
    const Link *sink = move->mode == SWITCH_LEAVING && !move->home ? move->peer : move->home;
    return !sink || link_waiting(sink) < LINK_MAX;
}

// Whether what comes from home can go on now.
static gboolean
home_may_read(const Switch *move)
{
    if (move->mode == SWITCH_LEAVING)
        return !move->peer || link_waiting(move->peer) < LINK_MAX;
    return move->mode != SWITCH_ACTIVE || port_has_room(move->port);
}

static gboolean
peer_may_read(const Switch *move)
{
    return move->mode != SWITCH_LEAVING || !move->home || link_waiting(move->home) < LINK_MAX;
}

guint
switch_poll(const Switch *move, struct pollfd *fds)
{
    guint n = move->peer ? link_poll(move->peer, peer_may_read(move), fds) : 0;
    n += move->former ? link_poll(move->former, TRUE, fds + n) : 0;
    return n + (move->home ? link_poll(move->home, home_may_read(move), fds + n) : 0);
}

// Whether frames wait for nothing but room.
static gboolean
wants_room(const Switch *move)
{
    if (move->mode == SWITCH_SETTLING && move->ready)
        return frame_queue_peek(move->queue) || (frame_queue_peek(move->own) && own_are_due(move));
    return follows(move) && frame_queue_peek(move->queue);
}

static int
sooner(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

int
switch_wait_ms(const Switch *move)
{
    int wait = place_wait_ms(&move->place);
    if (move->peer)
        wait = sooner(wait, link_wait_ms(move->peer));
    if (move->former)
        wait = sooner(wait, link_wait_ms(move->former));
    if (move->home)
        wait = sooner(wait, link_wait_ms(move->home));
    if (move->mode == SWITCH_LEAVING && move->arrived)
        wait = sooner(
            wait, (int) (MAX(0, move->arrived + SWITCH_STRAY_MS * 1000 - g_get_monotonic_time()) / 1000 + 1));
    // Where there is none, the port is told when there is.
    if (wants_room(move))
        return port_has_room(move->port) ? 0 : wait;
    if (move->mode != SWITCH_SETTLING)
        return wait;
    return sooner(wait, (int) (MAX(0, settle_until(move) - g_get_monotonic_time()) / 1000 + 1));
}

// A link that a vnet between two others has lost ends it; an anchor waits for the next tunnel. On one segment
// nothing strays here any more after a while.
static void
look_after_links(Switch *move)
{
    if (move->former && !link_is_up(move->former)) {
        g_clear_pointer(&move->former, link_free);
        move->settled = g_get_monotonic_time();
    }
    if (move->mode != SWITCH_LEAVING || move->anchor)
        return;
    gboolean over = move->arrived && g_get_monotonic_time() >= move->arrived + SWITCH_STRAY_MS * 1000;
    if (over || !link_is_up(move->peer) || (move->home && !link_is_up(move->home)))
        switch_standby(move);
}

void
switch_serve(Switch *move, const struct pollfd *fds, guint n)
{
    Link *const links[] = {move->peer, move->former, move->home};
    guint first = 0;
    for (guint i = 0; i < G_N_ELEMENTS(links); i++) {
        if (!links[i])
            continue;
        guint own = MIN(n - first, link_fds(links[i]));
        link_serve(links[i], fds + first, own);
        first += own;
    }
    look_after_links(move);
    probe(move);
    settle(move);
    if (follows(move))
        deliver_waiting(move, move->queue);
    if (n > 0)
        port_flush(move->port);
}

void
switch_end_turn(Switch *move, gboolean all_read)
{
    if (all_read)
        say_answer(move, place_answer_due(&move->place));
    if (move->peer)
        link_flush(move->peer);
    if (move->former)
        link_flush(move->former);
    if (move->home)
        link_flush(move->home);
}

const Link *
switch_link(const Switch *move)
{
    return move->home ? move->home : move->peer;
}

PlaceVerdict
switch_place(const Switch *move)
{
    return move->place.verdict;
}

gsize
switch_waiting(const Switch *move)
{
    return frame_queue_length(move->queue) + frame_queue_length(move->own);
}

guint64
switch_duplicates(const Switch *move)
{
    return move->duplicates;
}
