// SPDX-License-Identifier: LGPL-2.1-or-later
// Listeners and workers of the server.
#include "driver/rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/internal.h"

typedef struct Listener {
    RpcServer *server;
    int fd;
    gboolean read_only;
    TlsCredentials *credentials; // NULL: a UNIX socket
    char **allowed_dn;
    GSource *source;
    gpointer tag;
} Listener;

typedef struct ListenerSource {
    GSource source;
    Listener *listener;
} ListenerSource;

static void
listener_free(gpointer data)
{
    Listener *listener = data;
    g_source_destroy(listener->source);
    g_source_unref(listener->source);
    close(listener->fd);
    if (listener->credentials)
        tls_credentials_unref(listener->credentials);
    g_strfreev(listener->allowed_dn);
    g_free(listener);
}

// Our own keepalive does not ask a client that we do not read at the moment, and not all clients have it:
// that the host of one is gone, the kernel finds out. A host that lives but does not read for as long is cut
// off too.
static void
set_tcp_options(int fd)
{
    const int on = 1, idle_s = 30, interval_s = 15, count = 4;
    const unsigned int timeout_ms = 90 * 1000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    // Bytes on the way hold keepalive probes back: then this counts.
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

static gboolean
listener_ready(GSource *source, GSourceFunc callback, gpointer data)
{
    Listener *listener = ((ListenerSource *) source)->listener;
    RpcServer *server = listener->server;
    g_source_set_ready_time(source, -1);
    g_source_modify_unix_fd(source, listener->tag, G_IO_IN);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            g_warning("cannot accept a client: %s", g_strerror(errno));
            // The client stays in the queue: polling at once would spin.
            g_source_modify_unix_fd(source, listener->tag, 0);
            g_source_set_ready_time(source, g_get_monotonic_time() + G_USEC_PER_SEC);
        }
        return G_SOURCE_CONTINUE;
    }
    if (g_hash_table_size(server->sessions) >= server->limits.max_clients) {
        g_warning("%u clients are connected: a new one is turned away", server->limits.max_clients);
        close(fd);
        return G_SOURCE_CONTINUE;
    }
    if (listener->credentials)
        set_tcp_options(fd);
    rpc_session_start(server, fd, listener->read_only, listener->credentials, listener->allowed_dn);
    return G_SOURCE_CONTINUE;
}

static GSourceFuncs listener_source_funcs = {.dispatch = listener_ready};

RpcServer *
rpc_server_new(GMainContext *context, const RpcProgram *programs, gsize n,
               const RpcServerCallbacks *callbacks, const RpcServerLimits *limits)
{
    RpcServer *server = g_new0(RpcServer, 1);
    server->context = g_main_context_ref(context ? context : g_main_context_default());
    server->programs = programs;
    server->n_programs = n;
    if (callbacks)
        server->callbacks = *callbacks;
    if (limits)
        server->limits = *limits;
    RpcServerLimits *l = &server->limits;
    l->max_clients = l->max_clients ? l->max_clients : 5000;
    l->max_client_requests = l->max_client_requests ? l->max_client_requests : 5;
    l->max_workers = l->max_workers ? l->max_workers : 20;
    l->priority_workers = l->priority_workers ? l->priority_workers : 5;
    l->keepalive_interval = l->keepalive_interval ? l->keepalive_interval : 5;
    l->keepalive_count = l->keepalive_count ? l->keepalive_count : 5;
    l->max_queued_bytes = l->max_queued_bytes ? l->max_queued_bytes : (gsize) 64 * 1024 * 1024;
    server->workers = g_thread_pool_new(rpc_dispatch_run, server, (gint) l->max_workers, FALSE, NULL);
    server->priority_workers =
        g_thread_pool_new(rpc_dispatch_run, server, (gint) l->priority_workers, FALSE, NULL);
    server->listeners = g_ptr_array_new_with_free_func(listener_free);
    server->sessions = g_hash_table_new_full(NULL, NULL, (GDestroyNotify) rpc_session_unref, NULL);
    return server;
}

void
rpc_server_free(RpcServer *server)
{
    if (!server)
        return;
    g_ptr_array_unref(server->listeners);
    g_autoptr(GList) sessions = g_hash_table_get_keys(server->sessions);
    for (GList *at = sessions; at; at = at->next)
        rpc_session_close(at->data);
    g_thread_pool_free(server->workers, FALSE, TRUE);
    g_thread_pool_free(server->priority_workers, FALSE, TRUE);
    g_hash_table_unref(server->sessions);
    g_main_context_unref(server->context);
    g_free(server);
}

gboolean
rpc_server_listen_fd(RpcServer *server, int fd, gboolean read_only, TlsCredentials *credentials,
                     const char *const *allowed_dn, GError **error)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        quasar_set_system_error(error, errno, "cannot use the listening socket %d", fd);
        close(fd);
        return FALSE;
    }
    Listener *listener = g_new0(Listener, 1);
    listener->server = server;
    listener->fd = fd;
    listener->read_only = read_only;
    listener->credentials = credentials ? tls_credentials_ref(credentials) : NULL;
    listener->allowed_dn = g_strdupv((char **) allowed_dn);
    listener->source = g_source_new(&listener_source_funcs, sizeof(ListenerSource));
    ((ListenerSource *) listener->source)->listener = listener;
    listener->tag = g_source_add_unix_fd(listener->source, fd, G_IO_IN);
    g_source_attach(listener->source, server->context);
    g_ptr_array_add(server->listeners, listener);
    return TRUE;
}

gboolean
rpc_server_listen_unix(RpcServer *server, const char *path, mode_t mode, gid_t gid, gboolean read_only,
                       GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "the socket path %s is too long", path);
        return FALSE;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot create a socket");
        return FALSE;
    }
    unlink(path);
    // Nobody can connect before listen(), so the mode is right from the first client on.
    if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || chmod(path, mode) < 0 ||
        (gid != (gid_t) -1 && chown(path, (uid_t) -1, gid) < 0) || listen(fd, 128) < 0) {
        quasar_set_system_error(error, errno, "cannot listen on %s", path);
        close(fd);
        return FALSE;
    }
    return rpc_server_listen_fd(server, fd, read_only, NULL, NULL, error);
}

static int
bind_tcp(const struct addrinfo *info)
{
    int on = 1, off = 0;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, 128) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static guint16
bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } address = {0};
    socklen_t length = sizeof address;
    getsockname(fd, &address.any, &length);
    return g_ntohs(address.any.sa_family == AF_INET6 ? address.in6.sin6_port : address.in.sin_port);
}

gboolean
rpc_server_listen_tls(RpcServer *server, const char *address, guint16 port, TlsCredentials *credentials,
                      const char *const *allowed_dn, GError **error)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    int code = getaddrinfo(address, service, &hints, &list);
    if (code != 0) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "cannot resolve the listen address %s: %s",
                         address ? address : "*", gai_strerror(code));
        return FALSE;
    }
    int fd = -1;
    // IPv6 first: its socket serves IPv4 too.
    for (int pass = 0; pass < 2 && fd < 0; pass++)
        for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
            if ((at->ai_family == AF_INET6) == (pass == 0))
                fd = bind_tcp(at);
    int saved = errno;
    freeaddrinfo(list);
    if (fd < 0) {
        quasar_set_system_error(error, saved, "cannot listen on TCP port %u", port);
        return FALSE;
    }
    server->port = bound_port(fd);
    return rpc_server_listen_fd(server, fd, FALSE, credentials, allowed_dn, error);
}

void
rpc_server_add_client(RpcServer *server, int fd, gboolean read_only)
{
    rpc_session_start(server, fd, read_only, NULL, NULL);
}

guint16
rpc_server_port(const RpcServer *server)
{
    return server->port;
}

guint
rpc_server_session_count(const RpcServer *server)
{
    return g_hash_table_size(server->sessions);
}
