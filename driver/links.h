// SPDX-License-Identifier: LGPL-2.1-or-later
// The host's NICs as the kernel tells of them (rtnetlink(7)).
#pragma once

#include <glib.h>

typedef enum {
    LINK_UP,         // frames pass
    LINK_NO_CARRIER, // it is up, but nothing is at its other end
    LINK_DOWN,       // it was taken down
    LINK_GONE,       // it is no more
} LinkState;

typedef void (*LinkChanged)(const char *nic, LinkState state, gpointer data);

// From now on `changed` is called on the context's thread, and must not block: for each NIC that is not up,
// soon, and for each whose state changes. For as long as the context lives.
gboolean links_watch(GMainContext *context, LinkChanged changed, gpointer data, GError **error);

// As it is now.
LinkState links_look(const char *nic);

// What one datagram of the kernel says, `length` bytes; nothing for what is malformed. What links_watch()
// uses, and what is fuzzed.
void links_decode(const void *bytes, gsize length, LinkChanged changed, gpointer data);
