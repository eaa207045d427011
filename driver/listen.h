// SPDX-License-Identifier: LGPL-2.1-or-later
// The sockets that virtquasard serves, and the limits of serving, as virtquasard.conf asks for them.
#pragma once

#include "driver/config.h"
#include "driver/driver.h"
#include "driver/rpc/server.h"

// Keys max_clients, max_client_requests, max_workers, prio_workers, keepalive_interval (s) and
// keepalive_count; those not given are 0, the server's default. VIR_ERR_CONF_SYNTAX for a number that cannot
// be one.
gboolean listen_limits(const Config *config, RpcServerLimits *limits, GError **error);

// Keys unix_sock_dir, unix_sock_group, unix_sock_rw_perms, unix_sock_ro_perms, and, when the driver has
// credentials, listen_addr, tls_port and tls_allowed_dn_list. Before the context of the server runs.
gboolean listen_all(RpcServer *server, Driver *driver, GError **error);
