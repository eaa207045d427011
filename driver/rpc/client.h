// SPDX-License-Identifier: LGPL-2.1-or-later
// The client half of the wire: what a source daemon speaks to a destination, and tests to a server.
#pragma once

#include <glib.h>

#include "base/tls.h"
#include "driver/rpc/program.h"

// One thread of its own serves the socket and answers keepalive; calls may come from any thread at once.
typedef struct RpcClient RpcClient;

// `uri`: quasar[+tls|+unix]://[host[:port]]/path?socket=PATH&pkipath=... With a host and no transport it is
// TLS. The scheme may be qemu as well. Does AUTH_LIST, feature 10 and CONNECT_OPEN (the URI without
// transport, host and client-side parameters). `credentials` is needed for TLS only. The server's certificate
// must name the host.
RpcClient *rpc_client_connect(const char *uri, TlsCredentials *credentials, GError **error);

// Over a connected socket (taken over), without CONNECT_OPEN; tests.
RpcClient *rpc_client_new(int fd, TlsSession *tls);

// Calls in flight fail.
void rpc_client_free(RpcClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcClient, rpc_client_free)

// Blocks for the reply, timeout_ms at most (-1: as long as the connection lives). `ret` is zeroed and filled,
// to be released with xdr_free(procedure->ret_filter, ret). An error reply becomes a QUASAR_ERROR with the
// wire's code and message; a lost connection is VIR_ERR_RPC, time running out VIR_ERR_OPERATION_TIMEOUT (the
// late reply is dropped).
gboolean rpc_client_call(RpcClient *client, const RpcProcedure *procedure, const void *args, void *ret,
                         int timeout_ms, GError **error);

// The same of another program than REMOTE, version 1.
gboolean rpc_client_call_program(RpcClient *client, guint32 program, const RpcProcedure *procedure,
                                 const void *args, void *ret, int timeout_ms, GError **error);

// The server answers keepalive: from now on it is asked when it has been silent, and a connection on which it
// stays so is over.
void rpc_client_start_keepalive(RpcClient *client);

// Ends the connection from any thread; calls in flight fail at once.
void rpc_client_shutdown(RpcClient *client);

gboolean rpc_client_alive(RpcClient *client);
