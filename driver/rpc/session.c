// SPDX-License-Identifier: LGPL-2.1-or-later
// One client's connection: its life on the I/O thread, and what other threads may ask of it.
//
// Theory of operation: only the I/O thread touches the connection. Workers post replies, events and closes as
// idle sources of the I/O context; sources of one priority run in the order in which they came.
#include "driver/rpc/session.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/internal.h"

#define FRAMES_AT_ONCE 64 // then other clients have their turn

typedef struct SessionSource {
    GSource source;
    RpcSession *session;
} SessionSource;

RpcSession *
rpc_session_ref(RpcSession *session)
{
    g_atomic_ref_count_inc(&session->refs);
    return session;
}

void
rpc_session_unref(RpcSession *session)
{
    if (!session || !g_atomic_ref_count_dec(&session->refs))
        return;
    if (session->data_destroy)
        session->data_destroy(session->data);
    g_hash_table_unref(session->streams);
    g_main_context_unref(session->context);
    g_mutex_clear(&session->lock);
    g_strfreev(session->allowed_dn);
    g_free(session->dn);
    g_free(session);
}

guint64
rpc_session_id(const RpcSession *session)
{
    return session->id;
}

gboolean
rpc_session_read_only(const RpcSession *session)
{
    return g_atomic_int_get(&session->read_only);
}

void
rpc_session_make_read_only(RpcSession *session)
{
    g_atomic_int_set(&session->read_only, TRUE);
}

gboolean
rpc_session_secure(const RpcSession *session)
{
    return session->secure;
}

gboolean
rpc_session_closed(const RpcSession *session)
{
    return g_atomic_int_get(&session->closed);
}

void
rpc_session_set_data(RpcSession *session, gpointer data, GDestroyNotify destroy)
{
    g_mutex_lock(&session->lock);
    gpointer old = session->data;
    GDestroyNotify old_destroy = session->data_destroy;
    session->data = data;
    session->data_destroy = destroy;
    g_mutex_unlock(&session->lock);
    if (old_destroy)
        old_destroy(old);
}

gpointer
rpc_session_data(const RpcSession *session)
{
    GMutex *lock = (GMutex *) &session->lock;
    g_mutex_lock(lock);
    gpointer data = session->data;
    g_mutex_unlock(lock);
    return data;
}

uid_t
rpc_session_peer_uid(const RpcSession *session)
{
    return session->uid;
}

gid_t
rpc_session_peer_gid(const RpcSession *session)
{
    return session->gid;
}

pid_t
rpc_session_peer_pid(const RpcSession *session)
{
    return session->pid;
}

const char *
rpc_session_peer_dn(const RpcSession *session)
{
    return session->dn;
}

// ---- posts from other threads ----

typedef struct Post {
    RpcSession *session;
    GSourceFunc function;
    gpointer data;
    GDestroyNotify destroy;
} Post;

static gboolean
post_run(gpointer data)
{
    Post *post = data;
    gpointer pair[2] = {post->session, post->data};
    post->function(pair);
    return G_SOURCE_REMOVE;
}

static void
post_free(gpointer data)
{
    Post *post = data;
    if (post->destroy)
        post->destroy(post->data);
    rpc_session_unref(post->session);
    g_free(post);
}

void
rpc_session_post(RpcSession *session, GSourceFunc function, gpointer data, GDestroyNotify destroy)
{
    Post *post = g_new0(Post, 1);
    *post = (Post){rpc_session_ref(session), function, data, destroy};
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, post_run, post, post_free);
    g_source_attach(source, session->context);
}

static gboolean
send_posted(gpointer data)
{
    gpointer *pair = data;
    RpcMessage *message = pair[1];
    RpcMessage *copy = rpc_message_new(&message->header);
    // The post frees its own; what is queued takes the bytes.
    GByteArray *empty = copy->bytes;
    copy->bytes = message->bytes;
    message->bytes = empty;
    rpc_session_queue(pair[0], copy);
    return G_SOURCE_REMOVE;
}

void
rpc_session_send_event(RpcSession *session, guint procedure, xdrproc_t filter, const void *data)
{
    rpc_session_send_program_event(session, RPC_PROGRAM_REMOTE, procedure, filter, data);
}

void
rpc_session_send_program_event(RpcSession *session, guint32 program, guint procedure, xdrproc_t filter,
                               const void *data)
{
    g_autoptr(GError) error = NULL;
    if (rpc_session_closed(session))
        return;
    g_autoptr(RpcMessage) message = rpc_message_new(&(RpcHeader){
        .program = program,
        .version = 1,
        .procedure = procedure,
        .type = RPC_MESSAGE,
    });
    if (!rpc_message_encode(message, filter, data, &error)) {
        g_warning("client %" G_GUINT64_FORMAT ": event %u is lost: %s", session->id, procedure,
                  error->message);
        return;
    }
    rpc_message_finish(message);
    rpc_session_post(session, send_posted, g_steal_pointer(&message), (GDestroyNotify) rpc_message_free);
}

static void
set_timer(RpcSession *session, guint seconds, GSourceFunc function)
{
    if (session->timer) {
        g_source_destroy(session->timer);
        g_clear_pointer(&session->timer, g_source_unref);
    }
    if (!seconds)
        return;
    session->timer = g_timeout_source_new_seconds(seconds);
    g_source_set_callback(session->timer, function, session, NULL);
    g_source_attach(session->timer, session->context);
}

static gboolean
keepalive_tick(gpointer data)
{
    g_autoptr(RpcSession) session = rpc_session_ref(data); // sending may close it
    const RpcServerLimits *limits = &session->server->limits;
    gint64 silence = (g_get_monotonic_time() - session->last_heard) / G_USEC_PER_SEC;
    // What we do not read cannot count as the client's silence, unless it does not read either.
    if (!rpc_session_reading(session) && !session->backlog)
        return G_SOURCE_CONTINUE;
    if (silence >= (gint64) limits->keepalive_interval * (limits->keepalive_count + 1)) {
        g_message("client %" G_GUINT64_FORMAT " was silent for %d s: closing", session->id, (int) silence);
        rpc_session_close(session);
        return G_SOURCE_REMOVE;
    }
    if (!session->backlog && silence >= limits->keepalive_interval - 1) {
        RpcMessage *ping = rpc_message_new(
            &(RpcHeader){RPC_PROGRAM_KEEPALIVE, 1, RPC_KEEPALIVE_PING, RPC_MESSAGE, 0, RPC_OK});
        rpc_message_finish(ping);
        rpc_session_queue(session, ping);
    }
    return session->connection ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean
start_keepalive(gpointer data)
{
    RpcSession *session = *(gpointer *) data;
    if (session->connection)
        set_timer(session, session->server->limits.keepalive_interval, keepalive_tick);
    return G_SOURCE_REMOVE;
}

void
rpc_session_start_keepalive(RpcSession *session)
{
    rpc_session_post(session, start_keepalive, NULL, NULL);
}

static gboolean
close_late(gpointer data)
{
    rpc_session_close(data);
    return G_SOURCE_REMOVE;
}

static gboolean
close_posted(gpointer data)
{
    RpcSession *session = *(gpointer *) data;
    if (!session->connection)
        return G_SOURCE_REMOVE;
    session->closing = TRUE;
    set_timer(session, RPC_HANDSHAKE_SECONDS, close_late);
    rpc_session_flush(session);
    return G_SOURCE_REMOVE;
}

void
rpc_session_close_after_reply(RpcSession *session)
{
    rpc_session_post(session, close_posted, NULL, NULL);
}

// ---- the I/O thread ----

static void
detach(RpcSession *session)
{
    set_timer(session, 0, NULL);
    if (session->source) {
        g_source_destroy(session->source);
        g_clear_pointer(&session->source, g_source_unref);
    }
}

// What a stream calls when it ends may look at the table.
static void
end_streams(RpcSession *session)
{
    g_autoptr(GHashTable) streams = session->streams;
    GHashTableIter iter;
    gpointer stream;
    session->streams = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) rpc_stream_unref);
    g_hash_table_iter_init(&iter, streams);
    while (g_hash_table_iter_next(&iter, NULL, &stream))
        rpc_stream_end(stream);
}

void
rpc_session_close(RpcSession *session)
{
    RpcServer *server = session->server;
    if (!session->connection)
        return;
    g_autoptr(RpcSession) keep = rpc_session_ref(session);
    g_atomic_int_set(&session->closed, TRUE);
    detach(session);
    end_streams(session);
    if (session->established && rpc_connection_tls(session->connection))
        tls_session_bye(rpc_connection_tls(session->connection));
    g_clear_pointer(&session->connection, rpc_connection_free);
    session->server = NULL;
    if (session->established && server->callbacks.session_closed)
        server->callbacks.session_closed(session, server->callbacks.data);
    g_hash_table_remove(server->sessions, session);
}

gboolean
rpc_session_reading(const RpcSession *session)
{
    return session->server && !session->closing && !session->throttled &&
           session->requests < session->server->limits.max_client_requests &&
           rpc_connection_queued(session->connection) < RPC_UNREAD_MAX;
}

static void
update_poll(RpcSession *session)
{
    if (session->source)
        g_source_modify_unix_fd(session->source, session->tag,
                                rpc_connection_condition(session->connection, rpc_session_reading(session)));
}

void
rpc_session_flush(RpcSession *session)
{
    g_autoptr(GError) error = NULL;
    if (!session->connection)
        return;
    gboolean was_reading = rpc_session_reading(session);
    gsize before = rpc_connection_queued(session->connection);
    RpcIo io = rpc_connection_send(session->connection, &error);
    if (io == RPC_IO_FAILED || (io == RPC_IO_MESSAGE && session->closing)) {
        if (error)
            g_debug("client %" G_GUINT64_FORMAT ": %s", session->id, error->message);
        rpc_session_close(session);
        return;
    }
    if (rpc_connection_queued(session->connection) > session->server->limits.max_queued_bytes) {
        g_warning("client %" G_GUINT64_FORMAT " does not read what it is sent: closing", session->id);
        rpc_session_close(session);
        return;
    }
    // A full socket has room again only when the client reads: a sign of life.
    gsize left = rpc_connection_queued(session->connection);
    if (session->backlog && left < before)
        session->last_heard = g_get_monotonic_time();
    session->backlog = left > 0;
    if (!was_reading && rpc_session_reading(session))
        rpc_session_resume(session);
    update_poll(session);
}

void
rpc_session_queue(RpcSession *session, RpcMessage *message)
{
    if (!session->connection) {
        rpc_message_free(message);
        return;
    }
    rpc_connection_queue(session->connection, message);
    rpc_session_flush(session);
}

void
rpc_session_resume(RpcSession *session)
{
    // TLS may hold frames already that poll() does not see.
    if (session->source)
        g_source_set_ready_time(session->source, 0);
}

static gboolean
dn_allowed(char **globs, const char *dn)
{
    if (!globs)
        return TRUE;
    for (; *globs; globs++)
        if (g_pattern_match_simple(*globs, dn))
            return TRUE;
    return FALSE;
}

static gboolean
check_certificate(RpcSession *session, GError **error)
{
    TlsSession *tls = rpc_connection_tls(session->connection);
    if (!tls_session_verify(tls, NULL, error))
        return FALSE;
    session->dn = tls_session_peer_dn(tls);
    if (session->dn && dn_allowed(session->allowed_dn, session->dn))
        return TRUE;
    quasar_set_error(error, VIR_ERR_RPC, "the client certificate of %s is not in tls_allowed_dn_list",
                     session->dn ? session->dn : "(no name)");
    return FALSE;
}

static void
hand_over_peer(RpcSession *session)
{
    RpcServer *server = session->server;
    TlsSession *tls;
    g_autoptr(RpcSession) keep = rpc_session_ref(session);
    detach(session);
    g_atomic_int_set(&session->closed, TRUE);
    int fd = rpc_connection_steal(g_steal_pointer(&session->connection), &tls);
    session->server = NULL;
    g_hash_table_remove(server->sessions, session);
    server->callbacks.peer_connected(fd, tls, server->callbacks.data);
}

// FALSE: the session is gone, or waits.
static gboolean
establish(RpcSession *session)
{
    g_autoptr(GError) error = NULL;
    TlsSession *tls = rpc_connection_tls(session->connection);
    RpcIo io = rpc_connection_handshake(session->connection, &error);
    if (io == RPC_IO_AGAIN) {
        update_poll(session);
        return FALSE;
    }
    if (io == RPC_IO_FAILED || (tls && !check_certificate(session, &error))) {
        // A peer tries all our addresses at once and closes those that it does not need.
        gboolean gone = g_error_matches(error, QUASAR_ERROR, VIR_ERR_NO_CONNECT);
        g_log(G_LOG_DOMAIN, gone ? G_LOG_LEVEL_DEBUG : G_LOG_LEVEL_WARNING,
              "client %" G_GUINT64_FORMAT " is refused: %s", session->id, error ? error->message : "TLS");
        if (io != RPC_IO_FAILED)
            tls_session_refuse(tls);
        rpc_session_close(session);
        return FALSE;
    }
    set_timer(session, 0, NULL);
    if (tls && g_strcmp0(tls_session_alpn(tls), RPC_PEER_ALPN) == 0 &&
        session->server->callbacks.peer_connected) {
        hand_over_peer(session);
        return FALSE;
    }
    session->established = TRUE;
    session->last_heard = g_get_monotonic_time();
    if (session->server->callbacks.session_opened)
        session->server->callbacks.session_opened(session, session->server->callbacks.data);
    if (tls)
        rpc_connection_queue_bytes(session->connection, "\1", 1);
    rpc_session_flush(session);
    return session->connection != NULL;
}

static void
read_frames(RpcSession *session)
{
    for (guint i = 0; session->connection && rpc_session_reading(session); i++) {
        g_autoptr(GError) error = NULL;
        RpcMessage *message = NULL;
        if (i == FRAMES_AT_ONCE) {
            rpc_session_resume(session);
            return;
        }
        RpcIo io = rpc_connection_receive(session->connection, &message, &error);
        if (io == RPC_IO_AGAIN)
            return;
        if (io != RPC_IO_MESSAGE) {
            g_debug("client %" G_GUINT64_FORMAT " ended: %s", session->id, error ? error->message : "closed");
            rpc_session_close(session);
            return;
        }
        session->last_heard = g_get_monotonic_time();
        rpc_dispatch(session, message);
    }
}

static gboolean
session_ready(GSource *source, GSourceFunc callback, gpointer data)
{
    g_autoptr(RpcSession) session = rpc_session_ref(((SessionSource *) source)->session);
    GIOCondition seen = g_source_query_unix_fd(source, session->tag);
    g_source_set_ready_time(source, -1);
    if (!session->established && !establish(session))
        return G_SOURCE_CONTINUE;
    // A hang-up is always reported: without reading we would spin.
    if ((seen & (G_IO_HUP | G_IO_ERR)) && !rpc_session_reading(session)) {
        rpc_session_close(session);
        return G_SOURCE_CONTINUE;
    }
    read_frames(session);
    rpc_session_flush(session);
    if (session->connection && rpc_connection_queued(session->connection) == 0)
        rpc_stream_resume_all(session);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs session_source_funcs = {.dispatch = session_ready};

static void
read_peer(RpcSession *session, int fd)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    session->uid = (uid_t) -1;
    session->gid = (gid_t) -1;
    session->pid = -1;
    if (session->can_pass_fds && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
        session->uid = peer.uid;
        session->gid = peer.gid;
        session->pid = peer.pid;
    }
}

void
rpc_session_start(RpcServer *server, int fd, gboolean read_only, TlsCredentials *credentials,
                  char **allowed_dn)
{
    static const char *const alpn[] = {RPC_PEER_ALPN, NULL};
    static guint64 next_id;
    RpcSession *session = g_new0(RpcSession, 1);
    g_atomic_ref_count_init(&session->refs);
    g_mutex_init(&session->lock);
    session->server = server;
    session->context = g_main_context_ref(server->context);
    session->id = ++next_id;
    session->read_only = read_only;
    session->allowed_dn = g_strdupv(allowed_dn);
    session->streams = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify) rpc_stream_unref);
    session->connection =
        rpc_connection_new(fd, credentials ? tls_session_new(credentials, TRUE, fd, alpn) : NULL);
    session->can_pass_fds = !credentials && rpc_connection_is_unix(session->connection);
    session->secure = credentials || session->can_pass_fds;
    read_peer(session, fd);
    g_hash_table_add(server->sessions, session);

    session->source = g_source_new(&session_source_funcs, sizeof(SessionSource));
    ((SessionSource *) session->source)->session = session;
    session->tag = g_source_add_unix_fd(session->source, fd, G_IO_IN);
    g_source_set_ready_time(session->source, 0);
    set_timer(session, RPC_HANDSHAKE_SECONDS, close_late);
    g_source_attach(session->source, session->context);
}
