// SPDX-License-Identifier: LGPL-2.1-or-later
// Peer-to-peer migration: the source daemon is the destination's client, and calls Prepare and Finish itself.
#pragma once

#include "driver/migration/migration.h"

// The destination's virtquasard as its client sees it.
typedef struct P2pDestination P2pDestination;

// `uri`: the destination's libvirt URI as the user typed it. Checks that it can take part. Blocks.
P2pDestination *p2p_connect(Driver *driver, const char *uri, GError **error);
void p2p_free(P2pDestination *destination);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(P2pDestination, p2p_free)

// virDomainMigratePrepare3Params and virDomainMigrateFinish3Params of the remote protocol. Finish with
// `listen_address`: the user's, or NULL. `cancelled` is expected to fail with VIR_ERR_MIGRATE_FINISH_OK,
// which is success here.
gboolean p2p_prepare(P2pDestination *destination, const char *name, const char *xml,
                     const char *listen_address, guint flags, GBytes *cookie_in, GBytes **cookie_out,
                     GError **error);
gboolean p2p_finish(P2pDestination *destination, const char *name, const char *xml, guint flags,
                    gboolean cancelled, GBytes *cookie_in, GError **error);
