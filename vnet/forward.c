// SPDX-License-Identifier: LGPL-2.1-or-later
// The forwarder: both directions of one guest's frames.
#include "vnet/forward.h"

#include <string.h>

// Theory of operation: frames from both sides are hostile. A frame's work left undone (offload) is checked
// against the frame, passed on to a receiver that takes it, and done here for one that does not. In standby
// both directions are read and thrown away: nothing old is delivered after the switch.
static const char *const drop_names[] = {
    [DROP_STANDBY] = "standby",     [DROP_HOLD] = "hold",       [DROP_QUEUE] = "queue",
    [DROP_UNREADY] = "unready",     [DROP_GIANT] = "giant",     [DROP_RUNT] = "runt",
    [DROP_TRUNCATED] = "truncated", [DROP_SPOOFED] = "spoofed", [DROP_OFFLOAD] = "offload",
    [DROP_INJECT] = "inject",       [DROP_FOREIGN] = "foreign", [DROP_LINK] = "link",
};
G_STATIC_ASSERT(G_N_ELEMENTS(drop_names) == N_DROPS);

static const Offload no_offload;

static gboolean
has_work(const Offload *offload)
{
    return (offload->flags & OFFLOAD_NEEDS_CHECKSUM) || offload->kind != OFFLOAD_NONE;
}

static void
learn(Forward *forward, const NetAddress *address)
{
    guint i = 0;
    while (i < forward->n_learned && !net_address_equal(&forward->learned[i], address))
        i++;
    if (i == CONTROL_ADDRESSES)
        i = 0; // full: the one seen longest ago gives way
    else if (i == forward->n_learned)
        forward->n_learned++;
    memmove(&forward->learned[i], &forward->learned[i + 1], (forward->n_learned - 1 - i) * sizeof(*address));
    forward->learned[forward->n_learned - 1] = *address;
}

// The longest frame for the guest or from it that is not to be segmented. The MTU of the NIC here does not
// matter to a guest that is away; its home minds its own.
static gsize
limit(const Forward *forward)
{
    return switch_is_away(forward->move) ? OFFLOAD_FRAME_MAX : packet_limit(capture_mtu(forward->capture));
}

static void
deliver(Forward *forward, guint8 *frame, gsize length, const Offload *offload)
{
    if (offload->kind == OFFLOAD_NONE && length > limit(forward)) {
        forward->drops[DROP_GIANT]++;
        return;
    }
    switch (port_deliver(forward->port, frame, length, offload)) {
    case PORT_DELIVERED:
        forward->to_guest.frames++;
        forward->to_guest.bytes += length;
        break;
    case PORT_UNREADY:
        forward->drops[DROP_UNREADY]++;
        break;
    case PORT_FULL:
        forward->drops[DROP_QUEUE]++;
        break;
    }
}

static void
deliver_segment(guint8 *frame, gsize length, void *data)
{
    deliver(data, frame, length, &no_offload);
}

void
forward_deliver(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    Forward *forward = data;
    // Frames from another host's vnet come here unchecked.
    if (!packet_is_for(frame, length, &forward->mac))
        forward->drops[DROP_FOREIGN]++;
    else if (!offload_is_sane(offload, length))
        forward->drops[DROP_OFFLOAD]++;
    else if (port_takes(forward->port, offload))
        deliver(forward, frame, length, offload);
    else if (offload->kind == OFFLOAD_NONE) {
        offload_complete_checksum(frame, length, offload);
        deliver(forward, frame, length, &no_offload);
    } else if (!offload_segment(frame, length, offload, deliver_segment, forward))
        forward->drops[DROP_OFFLOAD]++;
}

void
forward_to_guest(guint8 *frame, gsize length, const Offload *offload, gboolean truncated, void *data)
{
    Forward *forward = data;
    MacAddress source;
    forward->captured++;
    if (truncated)
        forward->drops[DROP_TRUNCATED]++;
    else if (length < PACKET_HEADER || !packet_source(frame, length, &source))
        forward->drops[DROP_RUNT]++;
    else if (mac_equal(&source, &forward->mac))
        forward->drops[DROP_FOREIGN]++;
    else
        switch (switch_captured(forward->move, frame, length, offload)) {
        case SWITCH_DELIVER:
            forward_deliver(frame, length, offload, forward);
            break;
        case SWITCH_DROP:
            forward->drops[DROP_STANDBY]++;
            break;
        case SWITCH_OVERFLOW:
            forward->drops[DROP_HOLD]++;
            break;
        case SWITCH_TAKEN:
            if (switch_mode(forward->move) == SWITCH_LEAVING) {
                forward->to_guest.frames++;
                forward->to_guest.bytes += length;
            }
            break;
        }
}

static void
inject(Forward *forward, const struct iovec *parts, guint n, gsize length, const Offload *offload)
{
    if (capture_send(forward->capture, offload, parts, n) != CAPTURE_SENT) {
        forward->drops[DROP_INJECT]++;
        forward->inject_failed = TRUE;
        return;
    }
    forward->from_guest.frames++;
    forward->from_guest.bytes += length;
}

static void
inject_segment(guint8 *frame, gsize length, void *data)
{
    Forward *forward = data;
    const struct iovec part = {frame, length};
    if (length > packet_limit(capture_mtu(forward->capture)))
        forward->drops[DROP_GIANT]++;
    else
        inject(forward, &part, 1, length, &no_offload);
}

// The capture does not do the work that the guest left: it is done on a copy.
static void
inject_finished(Forward *forward, const struct iovec *parts, guint n, gsize length, const Offload *offload)
{
    g_autofree guint8 *frame = g_malloc(length);
    gsize copied = 0;
    for (guint i = 0; i < n; i++) {
        memcpy(frame + copied, parts[i].iov_base, parts[i].iov_len);
        copied += parts[i].iov_len;
    }
    if (offload->kind == OFFLOAD_NONE) {
        offload_complete_checksum(frame, length, offload);
        inject_segment(frame, length, forward);
    } else if (!offload_segment(frame, length, offload, inject_segment, forward))
        forward->drops[DROP_OFFLOAD]++;
}

static void
send_home(Forward *forward, const struct iovec *parts, guint n, gsize length, const Offload *offload)
{
    if (!switch_send_home(forward->move, parts, n, offload)) {
        forward->drops[DROP_LINK]++;
        return;
    }
    forward->from_guest.frames++;
    forward->from_guest.bytes += length;
}

// Whether a guest's frame may pass; counts why not.
static gboolean
check_guests(Forward *forward, const guint8 *head, gsize head_length, gsize length, const Offload *offload)
{
    MacAddress source;
    if (length < PACKET_HEADER || !packet_source(head, head_length, &source))
        forward->drops[DROP_RUNT]++;
    else if (!mac_equal(&source, &forward->mac))
        forward->drops[DROP_SPOOFED]++;
    else if (!offload_is_sane(offload, length))
        forward->drops[DROP_OFFLOAD]++;
    else if (length > (offload->kind == OFFLOAD_NONE ? limit(forward) : OFFLOAD_FRAME_MAX))
        forward->drops[DROP_GIANT]++;
    else
        return TRUE;
    return FALSE;
}

static void
pass_out(Forward *forward, const struct iovec *parts, guint n, gsize length, const Offload *offload)
{
    if (switch_is_away(forward->move))
        send_home(forward, parts, n, length, offload);
    else if (has_work(offload) && !capture_takes_offload(forward->capture))
        inject_finished(forward, parts, n, length, offload);
    else
        inject(forward, parts, n, length, offload);
}

void
forward_from_guest(const struct iovec *parts, guint n, gsize length, const Offload *offload, void *data)
{
    Forward *forward = data;
    const guint8 *head = parts[0].iov_base;
    NetAddress address;
    if (!switch_injects(forward->move)) {
        forward->drops[DROP_STANDBY]++;
    } else if (check_guests(forward, head, parts[0].iov_len, length, offload)) {
        if (packet_owned_address(head, parts[0].iov_len, &forward->mac, &address))
            learn(forward, &address);
        pass_out(forward, parts, n, length, offload);
    }
}

void
forward_inject(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    const struct iovec part = {frame, length};
    if (check_guests(data, frame, length, length, offload))
        pass_out(data, &part, 1, length, offload);
}

json_t *
forward_status(const Forward *forward)
{
    json_t *drops = json_object(), *addresses = json_array();
    const SwitchLosses losses = switch_losses(forward->move);
    for (guint i = 0; i < N_DROPS; i++) {
        guint64 elsewhere = i == DROP_HOLD ? losses.overflowed : i == DROP_RUNT ? losses.runts : 0;
        json_object_set_new(drops, drop_names[i], json_integer((json_int_t) (forward->drops[i] + elsewhere)));
    }
    for (guint i = 0; i < forward->n_learned; i++) {
        char text[PACKET_ADDRESS];
        net_address_text(&forward->learned[i], text);
        json_array_append_new(addresses, json_string(text));
    }
    return json_pack("{s:{s:I, s:I}, s:{s:I, s:I}, s:o, s:o}",                        //
                     "to_guest", "frames", (json_int_t) forward->to_guest.frames,     //
                     "bytes", (json_int_t) forward->to_guest.bytes,                   //
                     "from_guest", "frames", (json_int_t) forward->from_guest.frames, //
                     "bytes", (json_int_t) forward->from_guest.bytes,                 //
                     "drops", drops, "addresses", addresses);
}
