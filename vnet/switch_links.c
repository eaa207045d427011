// SPDX-License-Identifier: LGPL-2.1-or-later
// What the vnets of a switch-over tell each other: the frames and words of its links, probes and markers.
#include "vnet/switch_internal.h"

void
switch_send_marker(Switch *move, const guint8 nonce[MARKER_NONCE], MarkerKind kind)
{
    guint8 frame[MARKER_LENGTH];
    marker_build(frame, &move->mac, nonce, kind);
    capture_mark(move->capture, frame, sizeof(frame));
}

void
switch_say_answer(Link *asker, PlaceAnswer answer)
{
    if (answer != PLACE_SAYS_NOTHING && asker)
        link_send_word(asker, answer == PLACE_SAYS_SEEN ? TUNNEL_SEEN : TUNNEL_UNSEEN, NULL);
}

void
switch_probe(Switch *move)
{
    if (move->mode != SWITCH_ARRIVING || move->asked || move->place.verdict != PLACE_UNKNOWN ||
        !link_is_up(move->peer))
        return;
    switch_send_marker(move, move->place.nonce, MARKER_PROBE);
    link_send_word(move->peer, TUNNEL_PROBED, NULL);
    move->asked = TRUE;
}

// The destination's, at the source; and those that a sender captures itself.
static void
take_place_marker(Switch *move, MarkerKind kind)
{
    if (kind == MARKER_PROBE && move->mode != SWITCH_ARRIVING) {
        switch_say_answer(move->peer, place_captured(&move->place));
    } else if (kind == MARKER_MOMENT && move->mode == SWITCH_LEAVING && !move->marked) {
        move->marked = TRUE;
        move->ask_at = g_get_monotonic_time();
        link_send_word(move->peer, TUNNEL_DRAINED, NULL);
    } else if (kind == MARKER_MOMENT && move->mode == SWITCH_SETTLING) {
        move->marked = TRUE; // our own
    } else if (kind == MARKER_ECHO && switch_has_learned(move)) {
        move->shared = TRUE; // a hub
    }
}

gboolean
switch_take_marker(Switch *move, const guint8 *frame, gsize length)
{
    gboolean mine;
    MarkerKind kind;
    if (!marker_parse(frame, length, move->place.has_nonce ? move->place.nonce : NULL, &mine, &kind))
        return FALSE;
    if (mine && !move->home)
        take_place_marker(move, kind);
    // Another move may be prepared already, with another nonce.
    if (move->former && kind == MARKER_GUEST &&
        marker_parse(frame, length, move->learning.nonce, &mine, &kind) && mine)
        switch_say_answer(move->former, place_captured(&move->learning));
    return TRUE;
}

// To where the guest is, or from where it comes.
static void
peer_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Switch *move = data;
    if (!switch_is_frame(move, length))
        return;
    if (move->mode == SWITCH_LEAVING && move->home)
        switch_pass(move, move->home, frame, length, offload);
    else if (move->mode == SWITCH_LEAVING)
        move->ends->inject(frame, length, offload, move->data);
    else if (move->mode == SWITCH_ARRIVING && !switch_was_captured(move, frame, length))
        switch_enqueue(move, move->queue, frame, length, offload);
}

// What still comes from where the guest was.
static void
former_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    if (switch_is_frame(data, length) && !switch_was_captured(data, frame, length))
        switch_take_frame(data, frame, length, offload);
}

static void
home_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    if (switch_is_frame(data, length))
        switch_take_frame(data, frame, length, offload);
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
        switch_say_answer(move->peer, place_probed(&move->place));
    } else if ((word == TUNNEL_SEEN || word == TUNNEL_UNSEEN) && arrives) {
        place_answered(&move->place, word == TUNNEL_SEEN);
        move->asked = FALSE;
        switch_probe(move);
    } else if (word == TUNNEL_SEEN || word == TUNNEL_UNSEEN) {
        switch_take_answer(move, word == TUNNEL_SEEN);
    } else if ((word == TUNNEL_HERE || word == TUNNEL_AWAY) && leaves) {
        move->anchor = word == TUNNEL_AWAY;
        move->arrived = 0;
        if (word == TUNNEL_HERE)
            switch_arrived(move);
        g_message("%s", switch_mode_name(move));
    }
}

static void
former_word(TunnelWord word, const guint8 *nonce G_GNUC_UNUSED, void *data)
{
    Switch *move = data;
    move->drained |= word == TUNNEL_DRAINED;
    if (word == TUNNEL_PROBED)
        switch_say_answer(move->former, place_probed(&move->learning));
    else if (word == TUNNEL_LEARNED || word == TUNNEL_STRAYS)
        switch_take_learned(move, word == TUNNEL_LEARNED);
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

const TunnelEvents switch_peer_events = {peer_frame, peer_word};
const TunnelEvents switch_former_events = {former_frame, former_word};
const TunnelEvents switch_home_events = {home_frame, home_word};
