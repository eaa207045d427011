// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a segment has learned that frames for the guest go to its new host: the source asks, and if they do
// not, stays.
#include "vnet/switch_internal.h"

#define LEARN_PROBES   3u   // seen running
#define LEARN_PAUSE_MS 1000 // between the questions of a source that stays

// The source.

void
switch_arrived(Switch *move)
{
    move->arrived = g_get_monotonic_time();
    // The marker comes behind the announcement, so it is the moment to begin. It may be lost.
    move->ask_at = move->marked ? move->arrived : move->arrived + SWITCH_DRAIN_MS * 1000;
    move->seen = 0;
}

gboolean
switch_has_learned(const Switch *move)
{
    return move->mode == SWITCH_LEAVING && move->arrived && move->seen >= LEARN_PROBES;
}

static gboolean
is_learning(const Switch *move)
{
    return move->mode == SWITCH_LEAVING && move->arrived && !switch_has_learned(move);
}

void
switch_ask(Switch *move)
{
    if (!is_learning(move) || move->asked || g_get_monotonic_time() < move->ask_at)
        return;
    switch_send_marker(move, move->place.nonce, MARKER_GUEST);
    move->asked = link_send_word(move->peer, TUNNEL_PROBED, NULL);
    move->ask_at = g_get_monotonic_time() + PLACE_WAIT_MS * 1000; // should its queue be full
}

void
switch_take_answer(Switch *move, gboolean seen)
{
    if (!is_learning(move) || !move->asked)
        return;
    const gint64 now = g_get_monotonic_time();
    move->asked = FALSE;
    move->seen = seen ? move->seen + 1 : 0;
    // The other side took its time before it said that it has not seen one.
    move->ask_at = !seen && move->stays ? now + LEARN_PAUSE_MS * 1000 : now;
    if (is_learning(move))
        return;
    link_send_word(move->peer, TUNNEL_LEARNED, NULL);
    if (!move->stays)
        return;
    move->stays = FALSE;
    move->arrived = now; // what is still under way
    g_message("the segment has learned where the guest is");
}

static gint64
stray_end(const Switch *move)
{
    return move->arrived + SWITCH_STRAY_MS * 1000;
}

gboolean
switch_is_left(Switch *move)
{
    if (!move->arrived || move->stays || g_get_monotonic_time() < stray_end(move))
        return FALSE;
    if (!is_learning(move))
        return TRUE;
    move->stays = TRUE;
    link_send_word(move->peer, TUNNEL_STRAYS, NULL);
    g_warning("the segment still sends the guest's frames here, and they are passed on to where it is");
    return FALSE;
}

int
switch_learn_wait_ms(const Switch *move)
{
    if (move->mode != SWITCH_LEAVING || !move->arrived)
        return -1;
    gint64 due = move->stays ? G_MAXINT64 : stray_end(move);
    if (is_learning(move) && !move->asked)
        due = MIN(due, move->ask_at);
    return due == G_MAXINT64 ? -1 : (int) (MAX(0, due - g_get_monotonic_time()) / 1000 + 1);
}

// The destination.

void
switch_take_learned(Switch *move, gboolean learned)
{
    if (!move->learning.has_nonce || (!learned && move->strays))
        return; // it was told before
    move->strays = !learned;
    move->learning.has_nonce = !learned;
    if (learned)
        switch_send_marker(move, move->learning.nonce, MARKER_ECHO);
    else
        g_warning(
            "the segment does not bring the guest's frames here: those that still come to the host that "
            "it was on before are passed on");
}
