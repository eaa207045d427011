// SPDX-License-Identifier: LGPL-2.1-or-later
// What the server's own parts know of each other: session, dispatch, stream, listeners.
#pragma once

#include <gio/gio.h>

#include "driver/rpc/connection.h"
#include "driver/rpc/server.h"

#define RPC_HANDSHAKE_SECONDS 30
// A client that leaves as much unread is not read either: what it asks for would only be queued.
#define RPC_UNREAD_MAX (1024u * 1024u)

struct RpcServer {
    GMainContext *context;
    const RpcProgram *programs;
    gsize n_programs;
    RpcServerCallbacks callbacks;
    RpcServerLimits limits;
    GThreadPool *workers, *priority_workers;
    GPtrArray *listeners;
    GHashTable *sessions; // RpcSession, referenced
    guint16 port;
};

// Fields are the I/O thread's, save those that say otherwise. With a NULL connection it is closed.
struct RpcSession {
    gatomicrefcount refs;
    RpcServer *server; // NULL once closed
    GMainContext *context;
    guint64 id;
    RpcConnection *connection;
    GSource *source;
    gpointer tag; // of the socket in `source`
    gboolean established, closing;
    guint requests;      // unanswered calls
    guint throttled;     // streams that hold too much for their descriptor
    gboolean backlog;    // the socket did not take all that was queued
    GHashTable *streams; // guint serial -> RpcStream
    GSource *timer;      // handshake deadline, then keepalive
    gint64 last_heard;
    char **allowed_dn;

    gint read_only, closed, opened; // atomic
    gboolean secure, can_pass_fds;  // set before the first call
    uid_t uid;
    gid_t gid;
    pid_t pid;
    char *dn;
    GMutex lock; // data
    gpointer data;
    GDestroyNotify data_destroy;
};

struct RpcCall {
    RpcSession *session;
    const RpcProcedure *procedure;
    RpcMessage *message;
    guint n_fds;
    int fds[RPC_FDS_MAX];
    RpcStream *stream;
};

// session.c; all on the I/O thread. Takes over fd; `credentials` NULL: a UNIX socket.
void rpc_session_start(RpcServer *server, int fd, gboolean read_only, TlsCredentials *credentials,
                       char **allowed_dn);
void rpc_session_close(RpcSession *session);
void rpc_session_queue(RpcSession *session, RpcMessage *message);
// Sends what can be sent and polls for the rest.
void rpc_session_flush(RpcSession *session);
// What held reading back is gone.
void rpc_session_resume(RpcSession *session);
gboolean rpc_session_reading(const RpcSession *session);
// From any thread: runs `function` on the I/O thread, in order, with a reference held.
void rpc_session_post(RpcSession *session, GSourceFunc function, gpointer data, GDestroyNotify destroy);

// dispatch.c. Takes the message over.
void rpc_dispatch(RpcSession *session, RpcMessage *message);
void rpc_dispatch_run(gpointer call, gpointer server); // on a worker
// A finished message that answers `call`: RPC_REPLY, or RPC_STREAM for a stream that failed.
RpcMessage *rpc_error_message(const RpcHeader *call, RpcType type, const GError *error);

// stream.c; but for the first on the I/O thread. Takes `fd` over.
void rpc_stream_prepare(RpcStream *stream, int fd, RpcStreamEnded ended, gpointer data);
// After the reply to the call that `header` is of. Takes the caller's reference over.
void rpc_stream_start(RpcStream *stream, const RpcHeader *header);
// Ends it, if it has not ended; the client is told nothing.
void rpc_stream_end(RpcStream *stream);
void rpc_stream_receive(RpcSession *session, RpcMessage *message);
void rpc_stream_resume_all(RpcSession *session);
