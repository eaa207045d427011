// SPDX-License-Identifier: LGPL-2.1-or-later
// A client's connection, as procedures and event senders see it. All functions are safe from any thread.
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "driver/rpc/program.h"

RpcSession *rpc_session_ref(RpcSession *session);
void rpc_session_unref(RpcSession *session);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcSession, rpc_session_unref)

// Rises by one with each connection; for logs.
guint64 rpc_session_id(const RpcSession *session);

gboolean rpc_session_read_only(const RpcSession *session);
// For life: CONNECT_OPEN asked for it.
void rpc_session_make_read_only(RpcSession *session);
// TLS or a UNIX socket: nobody can listen.
gboolean rpc_session_secure(const RpcSession *session);
gboolean rpc_session_closed(const RpcSession *session);

// What the procedures keep for the connection; `destroy` runs with the last reference, on any thread.
void rpc_session_set_data(RpcSession *session, gpointer data, GDestroyNotify destroy);
gpointer rpc_session_data(const RpcSession *session);

// The peer on a UNIX socket (-1 elsewhere), or its distinguished name over TLS (else NULL; borrowed).
uid_t rpc_session_peer_uid(const RpcSession *session);
gid_t rpc_session_peer_gid(const RpcSession *session);
pid_t rpc_session_peer_pid(const RpcSession *session);
const char *rpc_session_peer_dn(const RpcSession *session);

// Sends a MESSAGE of the REMOTE program; `data` is encoded before the call returns. Nothing happens on a
// closed session. Events sent by one thread, and a reply that it returns afterwards, arrive in that order.
void rpc_session_send_event(RpcSession *session, guint procedure, xdrproc_t filter, const void *data);
// The same of another program, version 1.
void rpc_session_send_program_event(RpcSession *session, guint32 program, guint procedure, xdrproc_t filter,
                                    const void *data);

// Asks a silent client for a sign of life and closes a dead one (RpcServerLimits): what SUPPORTS_FEATURE(10)
// starts.
void rpc_session_start_keepalive(RpcSession *session);

// Closes when all that is queued has been sent.
void rpc_session_close_after_reply(RpcSession *session);
