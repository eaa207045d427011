// SPDX-License-Identifier: LGPL-2.1-or-later
// Migration as libvirt's clients drive it: Begin, Prepare, Perform, Finish, Confirm, and abort.
#pragma once

#include <glib.h>

#include "driver/domain.h"
#include "driver/migration/params.h"

typedef struct RpcSession RpcSession;

// All of these block and are called on a worker. Flags are virDomainMigrateFlags; a flag that is not
// supported is refused by name (VIR_ERR_ARGUMENT_UNSUPPORTED). Outputs are owned by the caller.

// Source: checks that the guest can move and describes it; a Begin that no Perform follows is forgotten when
// the connection of `client` (NULL: none) ends. Code 81 (MIGRATE_UNSAFE) where a move would harm
// it.
gboolean migration_begin(Driver *driver, RpcSession *client, Domain *domain, const MigrationParams *params,
                         guint flags, char **xml_out, GBytes **cookie_out, GError **error);

// Destination: creates disks (O_EXCL) and a stopped emulator that waits. It dies with `client`'s connection
// or after 60 s unless Perform comes.
gboolean migration_prepare(Driver *driver, RpcSession *client, const MigrationParams *params, guint flags,
                           GBytes *cookie_in, GBytes **cookie_out, char **uri_out, GError **error);

// Source: moves disks, memory and the guest; returns TRUE only when the guest runs at the destination.
// `dconnuri`: the destination's libvirt URI (peer-to-peer: this side calls Prepare and Finish itself), or
// NULL.
gboolean migration_perform(Driver *driver, Domain *domain, const char *dconnuri,
                           const MigrationParams *params, guint flags, GBytes *cookie_in, GBytes **cookie_out,
                           GError **error);

// Destination: the guest, if it is owned here, whatever `cancelled` says; else, with `cancelled`, persists
// "refused", removes everything and fails with code 93 (MIGRATE_FINISH_OK).
gboolean migration_finish(Driver *driver, const MigrationParams *params, guint flags, gboolean cancelled,
                          GBytes *cookie_in, GBytes **cookie_out, Domain **out, GError **error);

// Source: bookkeeping. After released it never resumes the guest, and returns TRUE.
gboolean migration_confirm(Driver *driver, Domain *domain, const MigrationParams *params, guint flags,
                           gboolean cancelled, GBytes *cookie_in, GError **error);

// Ends a migration that runs; VIR_ERR_OPERATION_INVALID once the guest is released to the destination.
gboolean migration_abort(Driver *driver, Domain *domain, GError **error);

// A client's connection has ended: what it prepared and did not perform is undone. Does not block.
void migration_client_closed(Driver *driver, RpcSession *client);

// A connection whose ALPN is PEER_ALPN, authenticated; fd and session are taken. Any thread; does not block.
void migration_accept_peer(Driver *driver, int fd, TlsSession *tls);
