// SPDX-License-Identifier: LGPL-2.1-or-later
// The server half of the wire: listeners, sessions, and the workers that run procedures.
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "base/tls.h"
#include "driver/rpc/program.h"
#include "driver/rpc/session.h"

#define RPC_PEER_ALPN "quasar-peer/1"

typedef struct RpcServer RpcServer;

// All run on the I/O thread and must not block.
typedef struct RpcServerCallbacks {
    void (*session_opened)(RpcSession *session,
                           gpointer data); // connected (TLS: verified); nothing called yet
    void (*session_closed)(RpcSession *session, gpointer data); // its calls may still run on workers
    // A peer daemon (ALPN) whose certificate was verified and allowed. Takes both over.
    void (*peer_connected)(int fd, TlsSession *tls, gpointer data);
    gpointer data;
} RpcServerCallbacks;

// 0 means the default.
typedef struct RpcServerLimits {
    guint max_clients;         // 5000
    guint max_client_requests; // 5: unanswered calls of one client, then it is not read
    guint max_workers;         // 20
    guint priority_workers;    // 5
    gsize max_queued_bytes;    // 64 MiB: a client that leaves more than that unread is closed
    guint keepalive_interval;  // 5: seconds of silence after which a client is asked whether it lives
    guint keepalive_count;     // 5: questions unanswered after which it is closed
} RpcServerLimits;

// `context` (NULL: the default one) is where sockets are served. `programs` stay the caller's and outlive the
// server.
RpcServer *rpc_server_new(GMainContext *context, const RpcProgram *programs, gsize n,
                          const RpcServerCallbacks *callbacks, const RpcServerLimits *limits);

// From the I/O thread. Closes listeners and sessions, and waits for running procedures.
void rpc_server_free(RpcServer *server);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcServer, rpc_server_free)

// Listeners are added before the context runs or from its thread. A stale socket file is replaced. gid -1:
// left as is.
gboolean rpc_server_listen_unix(RpcServer *server, const char *path, mode_t mode, gid_t gid,
                                gboolean read_only, GError **error);

// `address` NULL: all. `allowed_dn`: NULL-terminated globs, NULL: every verified client. port 0: the system's
// choice.
gboolean rpc_server_listen_tls(RpcServer *server, const char *address, guint16 port,
                               TlsCredentials *credentials, const char *const *allowed_dn, GError **error);

// A socket that listens already (systemd); taken over. `credentials` NULL: a UNIX socket.
gboolean rpc_server_listen_fd(RpcServer *server, int fd, gboolean read_only, TlsCredentials *credentials,
                              const char *const *allowed_dn, GError **error);

// A connected UNIX socket; taken over.
void rpc_server_add_client(RpcServer *server, int fd, gboolean read_only);

// The port of the last TLS listener (tests).
guint16 rpc_server_port(const RpcServer *server);

guint rpc_server_session_count(const RpcServer *server);
