// SPDX-License-Identifier: LGPL-2.1-or-later
// The modes of a switch-over, and the orders that lead from one to another.
#include "vnet/switch.h"

#include "base/error.h"
#include "vnet/switch_internal.h"

static const char *const mode_names[] = {
    [SWITCH_STANDBY] = "standby", [SWITCH_ACTIVE] = "active",     [SWITCH_HOLDING] = "holding",
    [SWITCH_LEAVING] = "leaving", [SWITCH_ARRIVING] = "arriving", [SWITCH_SETTLING] = "settling",
};
G_STATIC_ASSERT(G_N_ELEMENTS(mode_names) == N_SWITCH_MODES);

Switch *
switch_new(const MacAddress *mac, Port *port, Capture *capture, const SwitchEnds *ends, void *data)
{
    Switch *move = g_new0(Switch, 1);
    move->mac = *mac;
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
    if (move->mode == SWITCH_LEAVING && (move->home || move->anchor || move->stays))
        return move->home ? "passing" : "anchor";
    return move->mode == SWITCH_ACTIVE && move->home ? "away" : mode_names[move->mode];
}

gboolean
switch_is_away(const Switch *move)
{
    return move->home != NULL;
}

gboolean
switch_is_moving(const Switch *move)
{
    switch (move->mode) {
    case SWITCH_HOLDING:
    case SWITCH_ARRIVING:
    case SWITCH_SETTLING:
        return TRUE;
    case SWITCH_ACTIVE:
        return move->peer && link_is_up(move->peer);
    case SWITCH_LEAVING:
        // What stays behind, or between two others, is there for as long as the guest is away.
        return !(move->anchor || move->stays || move->home);
    default:
        return FALSE;
    }
}

void
switch_enter(Switch *move, SwitchMode mode)
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
    move->asked = move->marked = move->shared = move->anchor = move->stays = FALSE;
    move->arrived = 0;
}

void
switch_end_former(Switch *move)
{
    g_clear_pointer(&move->former, link_free);
    move->learning = (Place){0};
}

static void
open_peer(Switch *move, const SwitchTunnel *tunnel)
{
    close_peer(move);
    move->peer = link_new(&switch_peer_events, move);
    if (tunnel)
        link_add(move->peer, tunnel->fd, tunnel->key, tunnel->server);
}

void
switch_standby(Switch *move)
{
    close_peer(move);
    switch_end_former(move);
    move->strays = FALSE;
    frame_queue_clear(move->queue);
    frame_queue_clear(move->own);
    switch_enter(move, SWITCH_STANDBY);
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
        switch_enqueue(move, move->queue, frame->bytes, frame->length, &frame->offload);
    switch_enter(move, SWITCH_HOLDING);
}

static void
send_back(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Switch *move = data;
    switch_pass(move, move->peer, frame, length, offload);
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
        switch_pass(move, move->peer, frame->bytes, frame->length, &frame->offload);
        frame_queue_pop(move->queue);
    }
    // Where nothing strays to where the guest was before any more. If it goes back there, the NIC there is
    // its own.
    if (move->drained && !move->strays)
        switch_end_former(move);
    switch_end_turn(move, FALSE);
    switch_enter(move, SWITCH_LEAVING);
    return TRUE;
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
    switch_enter(move, SWITCH_ARRIVING);
    return TRUE;
}

void
switch_be_away(Switch *move)
{
    if (!move->home)
        move->home = link_new(&switch_home_events, move);
}

void
switch_be_anchor(Switch *move)
{
    open_peer(move, NULL);
    move->anchor = TRUE;
    switch_enter(move, SWITCH_LEAVING);
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
        move->arrived = 0;
        g_message("%s", switch_mode_name(move));
    }
    return TRUE;
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
    link_set_events(link, here ? &switch_former_events : &switch_home_events);
    *(here ? &move->former : &move->home) = link;
    if (here)
        place_watch(&move->learning, move->place.nonce);
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
        switch_enter(move, SWITCH_SETTLING);
        switch_settle(move);
    } else {
        switch_enter(move, SWITCH_ACTIVE);
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
    if (move->mode != SWITCH_SETTLING || !move->former || !move->place.has_nonce)
        return;
    switch_send_marker(move, move->place.nonce, MARKER_MOMENT);
}

gboolean
switch_injects(const Switch *move)
{
    return move->mode == SWITCH_ACTIVE || move->mode == SWITCH_HOLDING || move->mode == SWITCH_SETTLING;
}

const Link *
switch_link(const Switch *move)
{
    return move->home ? move->home : move->peer;
}

gboolean
switch_has_strays(const Switch *move)
{
    return move->strays;
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

SwitchLosses
switch_losses(const Switch *move)
{
    return move->losses;
}

guint64
switch_duplicates(const Switch *move)
{
    return move->duplicates;
}
