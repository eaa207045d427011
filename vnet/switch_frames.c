// SPDX-License-Identifier: LGPL-2.1-or-later
// What becomes of a switch-over's frames: those captured here, those of the guest's segment that a link
// brings, and those that wait.
#include "vnet/switch_internal.h"

// FALSE: there is no link, it is down, or its queue is full.
static gboolean
send_by(Link *link, const guint8 *frame, gsize length, const Offload *offload)
{
    const struct iovec part = {(void *) frame, length};
    return link && link_send_frame(link, &part, 1, offload);
}

void
switch_pass(Switch *move, Link *link, const guint8 *frame, gsize length, const Offload *offload)
{
    move->losses.overflowed += !send_by(link, frame, length, offload);
}

void
switch_enqueue(Switch *move, FrameQueue *queue, const guint8 *frame, gsize length, const Offload *offload)
{
    move->losses.overflowed += !frame_queue_push(queue, frame, length, offload);
}

gboolean
switch_is_frame(Switch *move, gsize length)
{
    move->losses.runts += length < PACKET_HEADER;
    return length >= PACKET_HEADER;
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

gboolean
switch_was_captured(Switch *move, const guint8 *frame, gsize length)
{
    if (!may_have_twin(move, frame) || !twins_received(move->twins, frame, length, g_get_monotonic_time()))
        return FALSE;
    move->duplicates++;
    return TRUE;
}

gint64
switch_settle_until(const Switch *move)
{
    return move->ready ? move->ready + SWITCH_DRAIN_MS * 1000 : move->activated + SWITCH_READY_MS * 1000;
}

static gboolean
is_late(const Switch *move)
{
    return g_get_monotonic_time() >= switch_settle_until(move);
}

gboolean
switch_own_are_due(const Switch *move)
{
    return !move->former || move->drained || is_late(move);
}

gboolean
switch_deliver_waiting(Switch *move, FrameQueue *queue)
{
    QueuedFrame *frame;
    while ((frame = frame_queue_peek(queue)) && port_has_room(move->port)) {
        move->ends->deliver(frame->bytes, frame->length, &frame->offload, move->data);
        frame_queue_pop(queue);
    }
    port_flush(move->port);
    return frame == NULL;
}

void
switch_settle(Switch *move)
{
    if (move->mode != SWITCH_SETTLING)
        return;
    if (!move->ready && !is_late(move) && !port_is_ready(move->port))
        return;
    gboolean due = switch_own_are_due(move);
    if (!move->ready)
        move->ready = g_get_monotonic_time();
    if (!switch_deliver_waiting(move, move->queue) || !due || !switch_deliver_waiting(move, move->own))
        return;
    switch_enter(move, SWITCH_ACTIVE);
}

gboolean
switch_follows(const Switch *move)
{
    return move->mode == SWITCH_HOLDING && port_tells_exactly(move->port) && port_is_ready(move->port);
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
    return send_by(move->peer, frame, length, offload) ? SWITCH_TAKEN : SWITCH_OVERFLOW;
}

// A frame of the guest's segment, when the guest is not to be kept waiting.
static SwitchVerdict
hold_or_deliver(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    if (switch_follows(move) && !frame_queue_peek(move->queue))
        return SWITCH_DELIVER;
    return wait_in(move->queue, frame, length, offload);
}

SwitchVerdict
switch_captured(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    // No guest sees them; nor, when it is away, anything of this segment.
    if (switch_take_marker(move, frame, length) || move->home)
        return SWITCH_TAKEN;
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

void
switch_take_frame(Switch *move, guint8 *frame, gsize length, const Offload *offload)
{
    gboolean waits = move->mode == SWITCH_SETTLING && (!move->ready || frame_queue_peek(move->queue));
    SwitchVerdict verdict = SWITCH_DELIVER;
    if (waits)
        verdict = wait_in(move->queue, frame, length, offload);
    else if (move->mode == SWITCH_LEAVING)
        verdict = send_on(move, frame, length, offload);
    else if (move->mode == SWITCH_HOLDING)
        verdict = hold_or_deliver(move, frame, length, offload);
    else if (move->mode != SWITCH_ACTIVE && move->mode != SWITCH_SETTLING)
        verdict = SWITCH_DROP;
    if (verdict == SWITCH_DELIVER)
        move->ends->deliver(frame, length, offload, move->data);
    move->losses.overflowed += verdict == SWITCH_OVERFLOW;
}

gboolean
switch_send_home(Switch *move, const struct iovec *parts, guint n, const Offload *offload)
{
    return move->home && link_send_frame(move->home, parts, n, offload);
}
