// SPDX-License-Identifier: LGPL-2.1-or-later
// The states of a switch-over, and the frames that wait in them.
#include "vnet/switch.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"
#include "vnet/frame_queue.h"

static const char *const mode_names[] = {
    [SWITCH_STANDBY] = "standby", [SWITCH_ACTIVE] = "active",     [SWITCH_HOLDING] = "holding",
    [SWITCH_LEAVING] = "leaving", [SWITCH_ARRIVING] = "arriving", [SWITCH_SETTLING] = "settling",
};
G_STATIC_ASSERT(G_N_ELEMENTS(mode_names) == N_SWITCH_MODES);

#define SEEN_MAX 4096u // group frames remembered while settling

struct Switch {
    Port *port;
    Capture *capture;
    void (*deliver)(guint8 *, gsize, const Offload *, void *);
    void *data;

    SwitchMode mode;
    FrameQueue *queue; // holding: for the guest or the tunnel; arriving and settling: from the tunnel
    FrameQueue *own;   // settling: captured here
    Tunnel *tunnel;

    guint8 nonce[MARKER_NONCE];
    gboolean has_nonce;
    gboolean marked;  // leaving: the marker was seen. settling: it was sent
    gboolean drained; // settling: the source said so
    gint64 activated; // settling: since when, monotonic us
    gint64 ready;     // settling: since when the guest's end takes frames; 0: not yet
    GHashTable *seen; // settling: digests of group frames captured here -> how many
    guint64 duplicates;
};

static void come_in(guint8 *frame, gsize length, const Offload *offload, void *data);
static void take_nonce(const guint8 nonce[MARKER_NONCE], void *data);
static void take_drained(void *data);

static const TunnelEvents events = {come_in, take_nonce, take_drained};

Switch *
switch_new(Port *port, Capture *capture, void (*deliver)(guint8 *, gsize, const Offload *, void *),
           void *data)
{
    Switch *move = g_new0(Switch, 1);
    move->port = port;
    move->capture = capture;
    move->deliver = deliver;
    move->data = data;
    move->queue = frame_queue_new(SWITCH_QUEUE);
    move->own = frame_queue_new(SWITCH_QUEUE);
    move->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return move;
}

void
switch_free(Switch *move)
{
    if (!move)
        return;
    tunnel_free(move->tunnel);
    frame_queue_free(move->queue);
    frame_queue_free(move->own);
    g_hash_table_unref(move->seen);
    g_free(move);
}

SwitchMode
switch_mode(const Switch *move)
{
    return move->mode;
}

const char *
switch_mode_name(SwitchMode mode)
{
    return mode_names[mode];
}

static void
enter(Switch *move, SwitchMode mode)
{
    if (move->mode != mode)
        g_message("%s", mode_names[mode]);
    move->mode = mode;
}

static void
close_tunnel(Switch *move)
{
    g_clear_pointer(&move->tunnel, tunnel_free);
    move->has_nonce = move->marked = move->drained = FALSE;
}

void
switch_standby(Switch *move)
{
    close_tunnel(move);
    frame_queue_clear(move->queue);
    frame_queue_clear(move->own);
    enter(move, SWITCH_STANDBY);
}

void
switch_hold(Switch *move)
{
    if (move->mode == SWITCH_ACTIVE || move->mode == SWITCH_SETTLING)
        enter(move, SWITCH_HOLDING);
}

static void
send_back(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    tunnel_send_frame(((Switch *) data)->tunnel, frame, length, offload);
}

void
switch_hand_over(Switch *move, int fd)
{
    QueuedFrame *frame;
    port_drain(move->port);
    close_tunnel(move);
    move->tunnel = tunnel_new(fd, &events, move);
    port_take_back(move->port, send_back, move);
    while ((frame = frame_queue_peek(move->queue))) {
        tunnel_send_frame(move->tunnel, frame->bytes, frame->length, &frame->offload);
        frame_queue_pop(move->queue);
    }
    tunnel_flush(move->tunnel);
    enter(move, SWITCH_LEAVING);
}

gboolean
switch_receive(Switch *move, int fd, GError **error)
{
    switch_standby(move);
    move->tunnel = tunnel_new(fd, &events, move);
    if (getrandom(move->nonce, sizeof(move->nonce), GRND_NONBLOCK) != sizeof(move->nonce)) {
        quasar_set_system_error(error, errno, "cannot make a nonce");
        close_tunnel(move);
        return FALSE;
    }
    move->has_nonce = TRUE;
    tunnel_send_nonce(move->tunnel, move->nonce);
    tunnel_flush(move->tunnel);
    enter(move, SWITCH_ARRIVING);
    return TRUE;
}

static gboolean
is_group(const guint8 *frame)
{
    return (frame[0] & 1) != 0;
}

static char *
digest(const guint8 *frame, gsize length)
{
    return g_compute_checksum_for_data(G_CHECKSUM_SHA1, frame, length);
}

static void
remember(Switch *move, const guint8 *frame, gsize length)
{
    char *key = digest(frame, length);
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(move->seen, key));
    if (n == 0 && g_hash_table_size(move->seen) >= SEEN_MAX) {
        g_free(key);
        return;
    }
    g_hash_table_insert(move->seen, key, GUINT_TO_POINTER(n + 1));
}

// Whether a group frame from the tunnel was captured here too; forgets it.
static gboolean
came_already(Switch *move, const guint8 *frame, gsize length)
{
    g_autofree char *key = digest(frame, length);
    guint n = GPOINTER_TO_UINT(g_hash_table_lookup(move->seen, key));
    if (n == 0)
        return FALSE;
    g_hash_table_insert(move->seen, g_steal_pointer(&key), GUINT_TO_POINTER(n - 1));
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
    return !move->tunnel || move->drained || is_late(move);
}

// Gives the guest what has waited, as long as there is room for it. TRUE: nothing is left.
static gboolean
deliver_waiting(Switch *move, FrameQueue *queue, gboolean from_source)
{
    QueuedFrame *frame;
    while ((frame = frame_queue_peek(queue)) && port_has_room(move->port)) {
        if (!from_source || !is_group(frame->bytes) || !came_already(move, frame->bytes, frame->length))
            move->deliver(frame->bytes, frame->length, &frame->offload, move->data);
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
    if (!deliver_waiting(move, move->queue, TRUE) || !due || !deliver_waiting(move, move->own, FALSE))
        return;
    enter(move, SWITCH_ACTIVE);
}

// A guest that is held and still runs takes frames, unless it resets its NIC meanwhile: then they wait.
static gboolean
follows(const Switch *move)
{
    return move->mode == SWITCH_HOLDING && port_tells_exactly(move->port) && port_is_ready(move->port);
}

void
switch_activate(Switch *move, gboolean arrived)
{
    if (move->mode == SWITCH_ACTIVE || move->mode == SWITCH_SETTLING)
        return;
    if (move->mode != SWITCH_ARRIVING)
        close_tunnel(move); // the guest stays, or comes without one
    if (move->mode == SWITCH_ARRIVING || move->mode == SWITCH_HOLDING || arrived) {
        g_hash_table_remove_all(move->seen);
        move->activated = g_get_monotonic_time();
        move->ready = 0;
        enter(move, SWITCH_SETTLING);
        settle(move);
    } else {
        enter(move, SWITCH_ACTIVE);
    }
}

void
switch_mark(Switch *move)
{
    static const Offload none;
    guint8 frame[MARKER_LENGTH];
    if (move->mode != SWITCH_SETTLING || !move->has_nonce || move->marked)
        return;
    marker_build(frame, move->nonce);
    const struct iovec part = {frame, sizeof(frame)};
    capture_send(move->capture, &none, &part, 1);
    move->marked = TRUE;
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
    if (move->marked && is_group(frame))
        return SWITCH_DROP;
    if (!move->tunnel || !tunnel_send_frame(move->tunnel, frame, length, offload))
        return SWITCH_OVERFLOW;
    tunnel_flush(move->tunnel);
    return SWITCH_TAKEN;
}

SwitchVerdict
switch_captured(Switch *move, const guint8 *frame, gsize length, const Offload *offload)
{
    gboolean mine;
    if (marker_parse(frame, length, move->has_nonce ? move->nonce : NULL, &mine)) {
        if (mine && move->mode == SWITCH_LEAVING && !move->marked) {
            move->marked = TRUE;
            tunnel_send_drained(move->tunnel);
            tunnel_flush(move->tunnel);
        }
        return SWITCH_TAKEN;
    }
    switch (move->mode) {
    case SWITCH_ACTIVE:
        return SWITCH_DELIVER;
    case SWITCH_HOLDING:
        if (follows(move) && !frame_queue_peek(move->queue))
            return SWITCH_DELIVER;
        return wait_in(move->queue, frame, length, offload);
    case SWITCH_LEAVING:
        return send_on(move, frame, length, offload);
    case SWITCH_SETTLING:
        if (is_group(frame))
            remember(move, frame, length);
        return wait_in(move->own, frame, length, offload);
    case SWITCH_STANDBY:
    case SWITCH_ARRIVING:
    case N_SWITCH_MODES:
        break;
    }
    return SWITCH_DROP;
}

// The destination's end of the tunnel. A frame that comes late goes to the guest at once.
static void
come_in(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Switch *move = data;
    if (length < PACKET_HEADER || move->mode == SWITCH_LEAVING)
        return;
    gboolean waits = move->mode == SWITCH_SETTLING && (!move->ready || frame_queue_peek(move->queue));
    if (move->mode == SWITCH_ARRIVING || waits)
        frame_queue_push(move->queue, frame, length, offload);
    else if (switch_injects(move) && !(is_group(frame) && came_already(move, frame, length)))
        move->deliver(frame, length, offload, move->data);
}

static void
take_nonce(const guint8 nonce[MARKER_NONCE], void *data)
{
    Switch *move = data;
    if (move->mode != SWITCH_LEAVING)
        return;
    memcpy(move->nonce, nonce, MARKER_NONCE);
    move->has_nonce = TRUE;
}

static void
take_drained(void *data)
{
    Switch *move = data;
    move->drained = TRUE;
}

guint
switch_poll(const Switch *move, struct pollfd *fd)
{
    if (!move->tunnel)
        return 0;
    tunnel_poll(move->tunnel, fd);
    return 1;
}

// Whether frames wait for nothing but room.
static gboolean
wants_room(const Switch *move)
{
    if (move->mode == SWITCH_SETTLING && move->ready)
        return frame_queue_peek(move->queue) || (frame_queue_peek(move->own) && own_are_due(move));
    return follows(move) && frame_queue_peek(move->queue);
}

int
switch_wait_ms(const Switch *move)
{
    // Where there is none, the port is told when there is.
    if (wants_room(move))
        return port_has_room(move->port) ? 0 : -1;
    if (move->mode != SWITCH_SETTLING)
        return -1;
    return (int) (MAX(0, settle_until(move) - g_get_monotonic_time()) / 1000 + 1);
}

void
switch_serve(Switch *move, const struct pollfd *fd, guint n)
{
    g_autoptr(GError) error = NULL;
    if (n > 0 && move->tunnel && fd->revents && !tunnel_serve(move->tunnel, fd, &error)) {
        if (error)
            g_warning("the tunnel broke: %s", error->message);
        close_tunnel(move);
        if (move->mode == SWITCH_LEAVING)
            switch_standby(move);
    }
    settle(move);
    if (follows(move))
        deliver_waiting(move, move->queue, FALSE);
    if (n > 0)
        port_flush(move->port);
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
