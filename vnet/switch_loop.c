// SPDX-License-Identifier: LGPL-2.1-or-later
// A switch-over's share in the loop: its links' descriptors, its clocks, and what is due at each turn.
#include "vnet/switch_internal.h"

gboolean
switch_has_room(const Switch *move)
{
    const Link *sink = move->mode == SWITCH_LEAVING && !move->home ? move->peer : move->home;
    return !sink || link_waiting(sink) < SWITCH_LINK_MAX;
}

// Whether what comes from home can go on now.
static gboolean
home_may_read(const Switch *move)
{
    if (move->mode == SWITCH_LEAVING)
        return !move->peer || link_waiting(move->peer) < SWITCH_LINK_MAX;
    return move->mode != SWITCH_ACTIVE || port_has_room(move->port);
}

static gboolean
peer_may_read(const Switch *move)
{
    return move->mode != SWITCH_LEAVING || !move->home || link_waiting(move->home) < SWITCH_LINK_MAX;
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
        return frame_queue_peek(move->queue) || (frame_queue_peek(move->own) && switch_own_are_due(move));
    return switch_follows(move) && frame_queue_peek(move->queue);
}

static int
sooner(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

int
switch_wait_ms(const Switch *move)
{
    int wait = sooner(place_wait_ms(&move->place), place_wait_ms(&move->learning));
    if (move->peer)
        wait = sooner(wait, link_wait_ms(move->peer));
    if (move->former)
        wait = sooner(wait, link_wait_ms(move->former));
    if (move->home)
        wait = sooner(wait, link_wait_ms(move->home));
    wait = sooner(wait, switch_learn_wait_ms(move));
    // Where there is none, the port is told when there is.
    if (wants_room(move))
        return port_has_room(move->port) ? 0 : wait;
    if (move->mode != SWITCH_SETTLING)
        return wait;
    return sooner(wait, (int) (MAX(0, switch_settle_until(move) - g_get_monotonic_time()) / 1000 + 1));
}

// A link that a vnet between two others has lost ends it; an anchor waits for the next tunnel. On one segment
// nothing strays here any more after a while.
static void
look_after_links(Switch *move)
{
    if (move->former && !link_is_up(move->former)) {
        switch_end_former(move);
        move->settled = g_get_monotonic_time();
    }
    if (switch_has_learned(move))
        switch_end_former(move); // it was kept where the segment had not
    if (move->mode != SWITCH_LEAVING || move->anchor)
        return;
    if (switch_is_left(move) || !link_is_up(move->peer) || (move->home && !link_is_up(move->home)))
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
    switch_probe(move);
    switch_ask(move);
    switch_settle(move);
    if (switch_follows(move))
        switch_deliver_waiting(move, move->queue);
    if (n > 0)
        port_flush(move->port);
}

void
switch_end_turn(Switch *move, gboolean all_read)
{
    if (all_read)
        switch_say_answer(move->peer, place_answer_due(&move->place));
    // The NIC may be left unread for as long as the guest takes nothing; it will be asked again.
    switch_say_answer(move->former, place_answer_due(&move->learning));
    if (move->peer)
        link_flush(move->peer);
    if (move->former)
        link_flush(move->former);
    if (move->home)
        link_flush(move->home);
}
