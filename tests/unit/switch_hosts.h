// SPDX-License-Identifier: LGPL-2.1-or-later
// Hosts of a switch-over: vnets in one process, their tunnels socket pairs, wire and guests played by the
// test. It is linked in place of what captures frames, and of GLib's clock.
#pragma once

#include "vnet/switch.h"

enum { LENGTH = 60 };

// One host: a guest's end that takes frames when `ready`, and what reached it as a text of their letters.
typedef struct {
    Port port;
    gboolean ready;
    guint room; // frames that it still takes
    GString *got;
    GString *sent; // to the wire: M is a marker or a probe, a letter a frame of the guest's
    guint8 last_sent[LENGTH];
    gboolean probed; // last_sent has not been taken from the wire yet
    Switch *move;
} Host;

extern gint64 host_later; // than it is, us: what is tried here does not wait

// Guests' ends that tell exactly what the guest has taken, and that do not.
extern const PortOps host_exact_ops, host_vague_ops;

Host *host_new(const PortOps *ops);
void host_free(Host *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, host_free)

// A frame off the wire: a small letter is for the guest alone, a capital one for all.
SwitchVerdict host_capture(Host *host, char letter);
void host_capture_all(Host *host, const char *letters);

// One turn of a vnet's loop.
void host_serve(Host *host);

// The guest runs there now.
void host_activate(Host *host, gboolean arrived);

SwitchTunnel plain_tunnel(int fd);

// A tunnel between two hosts that none has used yet.
void hosts_pair(Host *source, Host *target);

// They find out where they are to each other, by way of `middle` unless that is NULL.
void hosts_find_place(Host *source, Host *middle, Host *target, gboolean one_segment);

// Both, on one segment; and the source hands over what has waited.
void hosts_connect(Host *source, Host *target);

// What a host has sent to the guest last reaches another host: the segment's doing. FALSE: there was nothing.
gboolean hosts_carry(Host *from, Host *to);
