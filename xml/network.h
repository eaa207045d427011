// SPDX-License-Identifier: LGPL-2.1-or-later
// The network document: a name for a NIC or bridge of this host.
#pragma once

#include <glib.h>

// `<network>` with `<forward mode='bridge'>`: guests' frames go out of a NIC (`interface`) or a bridge of the
// host. Neither given: the NIC of the default route, looked up when a guest starts. Source: formatnetwork.
typedef struct NetworkDef NetworkDef;
struct NetworkDef {
    char *name;
    char *uuid; // canonical text; NULL until network_def_assign
    guint8 uuid_bytes[16];
    char *title;
    char *description;
    char *interface; // `<forward><interface dev=''/>`; NULL
    char *bridge;    // `<bridge name=''/>`; NULL
};

void network_def_free(NetworkDef *def);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetworkDef, network_def_free)

// The network `default` as it is out of the box; interface may be NULL. Caller frees.
NetworkDef *network_def_new(const char *name, const char *interface);
NetworkDef *network_def_copy(const NetworkDef *def);

// VIR_ERR_XML_ERROR, VIR_ERR_CONFIG_UNSUPPORTED (other forward modes, ip, dhcp). Nothing is assigned.
NetworkDef *network_def_parse(const char *xml, GError **error);

// Gives a UUID to a network that has none.
void network_def_assign(NetworkDef *def);

// connections: running guests' NICs on it, written when above 0. Caller frees.
char *network_def_format(const NetworkDef *def, guint connections);
