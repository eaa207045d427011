// SPDX-License-Identifier: LGPL-2.1-or-later
// The networks that guests' NICs name: `default`, and what administrators define.
#pragma once

#include <glib.h>

#include "driver/event.h"
#include "xml/network.h"

// All calls are safe from any thread and never wait for a domain.
typedef struct NetworkList NetworkList;

// One network, as clients see it: copied out of the list; owned by the caller.
typedef struct {
    NetworkDef *def;
    gboolean active, autostart;
    gboolean persistent; // it has a definition; one that has none is gone when it is stopped
} Network;

void network_free(Network *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Network, network_free)

// Loads `directory`/NAME.xml and its autostart links; a file that cannot be read is logged and left alone.
// There is always a network `default`, on the NIC of the default route, unless a file defines it otherwise or
// it was undefined, which `directory`/default.undefined remembers. What runs is remembered in
// `status_directory`, which a boot of the host empties: then those with autostart are active.
// NULL directories: nothing is loaded or stored there. `events` (may be NULL) outlives the list.
NetworkList *network_list_new(const char *directory, const char *status_directory, EventBus *events);
void network_list_free(NetworkList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetworkList, network_list_free)

// VIR_ERR_NO_NETWORK.
Network *network_list_by_name(NetworkList *list, const char *name, GError **error);
Network *network_list_by_uuid(NetworkList *list, const guint8 uuid[16], GError **error);

// Network*, sorted by name.
GPtrArray *network_list_all(NetworkList *list);

// Parses, assigns and stores a definition. VIR_ERR_OPERATION_FAILED when its name or its UUID is another
// network's.
Network *network_list_define(NetworkList *list, const char *xml, GError **error);

// An active network lives on without its definition until it is stopped.
gboolean network_list_undefine(NetworkList *list, const char *name, GError **error);
gboolean network_list_set_active(NetworkList *list, const char *name, gboolean active, GError **error);
gboolean network_list_set_autostart(NetworkList *list, const char *name, gboolean autostart, GError **error);

// The host's NIC for guests of this network; caller frees. VIR_ERR_OPERATION_INVALID when it is not active.
char *network_list_resolve_nic(NetworkList *list, const char *name, GError **error);
