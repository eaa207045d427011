// SPDX-License-Identifier: LGPL-2.1-or-later
// How a client comes to its connection: the URI, the socket, TLS, and the first calls.
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/client.h"
#include "driver/rpc/protocol.h"
#include "driver/rpc/remote.h"

#define CONNECT_TIMEOUT_S         10
#define CALL_TIMEOUT_MS           30000
#define OWN_SCHEME                "quasar"
#define DEFAULT_SOCKET            "/run/libvirt/virtquasard-sock"
#define FEATURE_PROGRAM_KEEPALIVE 10

typedef struct {
    gboolean tls;
    int port;
    char *host;
    char *socket_path;
    char *pki_path;
    char *name; // what CONNECT_OPEN is asked for
} Target;

static void
target_clear(Target *target)
{
    g_free(target->host);
    g_free(target->socket_path);
    g_free(target->pki_path);
    g_free(target->name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Target, target_clear)

// The URI as the server knows itself by it: scheme, path, and the parameters that are not the client's.
static char *
server_name(const char *scheme, const char *path, GHashTable *params)
{
    static const char *const ours[] = {"socket",  "pkipath",     "no_verify",
                                       "auth",    "mode",        "tls_priority",
                                       "command", "keyfile",     "netcat",
                                       "no_tty",  "no_sanity",   "proxy",
                                       "sshauth", "known_hosts", "known_hosts_verify",
                                       NULL};
    g_autoptr(GString) name = g_string_new(NULL);
    g_string_append_printf(name, "%s://%s", scheme, path);
    GHashTableIter iter;
    gpointer key, value;
    char mark = '?';
    g_hash_table_iter_init(&iter, params);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (g_strv_contains(ours, key))
            continue;
        g_autofree char *escaped = g_uri_escape_string(value, "/", FALSE);
        g_string_append_printf(name, "%c%s=%s", mark, (const char *) key, escaped);
        mark = '&';
    }
    return g_string_free(g_steal_pointer(&name), FALSE);
}

static gboolean
parse_transport(Target *target, const char *transport, const char *uri, GError **error)
{
    if (transport && !g_str_equal(transport, "tls") && !g_str_equal(transport, "unix")) {
        const char *host = target->host ? target->host : "HOST";
        quasar_set_error(
            error, VIR_ERR_INVALID_ARG,
            "hosts do not reach each other by the transport '%s' of '%s': use quasar+tls://%s/system",
            transport, uri, host);
        return FALSE;
    }
    target->tls = transport ? g_str_equal(transport, "tls") : target->host != NULL;
    if (target->tls && !target->host) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' names no host, which TLS needs", uri);
        return FALSE;
    }
    if (!target->tls && target->host) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "'%s' names a host, which a UNIX socket cannot reach: use quasar+tls://%s/system",
                         uri, target->host);
        return FALSE;
    }
    return TRUE;
}

static gboolean
target_parse(Target *target, const char *uri, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GUri) parsed = g_uri_parse(uri, G_URI_FLAGS_NONE, &cause);
    g_autoptr(GHashTable) params = NULL;
    if (parsed)
        params = g_uri_parse_params(g_uri_get_query(parsed) ? g_uri_get_query(parsed) : "", -1, "&;",
                                    G_URI_PARAMS_NONE, &cause);
    if (!params) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no URI: %s", uri, cause->message);
        return FALSE;
    }
    g_auto(GStrv) scheme = g_strsplit(g_uri_get_scheme(parsed), "+", 2);
    // Users of libvirt's QEMU driver know their hosts as qemu+tls://HOST/system; what answers is seen by its
    // taking our name.
    if (!g_str_equal(scheme[0], OWN_SCHEME) && !g_str_equal(scheme[0], "qemu")) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no quasar:// URI", uri);
        return FALSE;
    }
    const char *host = g_uri_get_host(parsed);
    target->host = host && *host ? g_strdup(host) : NULL;
    target->port = g_uri_get_port(parsed) > 0 ? g_uri_get_port(parsed) : RPC_TLS_PORT;
    target->socket_path = g_strdup(g_hash_table_lookup(params, "socket"));
    target->pki_path = g_strdup(g_hash_table_lookup(params, "pkipath"));
    target->name = server_name(OWN_SCHEME, g_uri_get_path(parsed), params);
    return parse_transport(target, scheme[1], uri, error);
}

static int
open_socket(const Target *target, GError **error)
{
    g_autoptr(GSocketClient) connector = g_socket_client_new();
    g_autoptr(GSocketConnectable) address = NULL;
    g_autoptr(GError) cause = NULL;
    const char *path = target->socket_path ? target->socket_path : DEFAULT_SOCKET;
    g_autofree char *port = target->tls ? g_strdup_printf(":%d", target->port) : g_strdup("");
    g_socket_client_set_enable_proxy(connector, FALSE);
    g_socket_client_set_timeout(connector, CONNECT_TIMEOUT_S);
    address = target->tls ? g_network_address_new(target->host, (guint16) target->port)
                          : G_SOCKET_CONNECTABLE(g_unix_socket_address_new(path));
    g_autoptr(GSocketConnection) connection = g_socket_client_connect(connector, address, NULL, &cause);
    if (!connection) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "unable to connect to server at '%s%s': %s",
                         target->tls ? target->host : path, port, cause->message);
        return -1;
    }
    int fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(connection)), F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        quasar_set_system_error(error, errno, "cannot keep the socket");
    else if (target->tls)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return fd;
}

// Waits as a TLS step asks for. FALSE: it failed, or time is up.
static gboolean
tls_wait(TlsStatus status, int fd, gint64 end, GError **error)
{
    if (status == TLS_FAILED)
        return FALSE;
    struct pollfd pfd = {.fd = fd, .events = status == TLS_WANT_WRITE ? POLLOUT : POLLIN};
    gint64 left_ms = (end - g_get_monotonic_time()) / 1000;
    if (left_ms > 0 && (poll(&pfd, 1, (int) left_ms) >= 0 || errno == EINTR))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the server did not finish the TLS handshake");
    return FALSE;
}

static TlsSession *
start_tls(int fd, const char *host, TlsCredentials *credentials, GError **error)
{
    gint64 end = g_get_monotonic_time() + CONNECT_TIMEOUT_S * G_USEC_PER_SEC;
    g_autoptr(TlsSession) tls = tls_session_new(credentials, FALSE, fd, NULL);
    TlsStatus status;
    while ((status = tls_session_handshake(tls, error)) != TLS_DONE)
        if (!tls_wait(status, fd, end, error)) {
            g_prefix_error(error, "server '%s': ", host);
            return NULL;
        }
    if (!tls_session_verify(tls, host, error)) {
        tls_session_refuse(tls);
        g_prefix_error(error, "server '%s': ", host);
        return NULL;
    }
    // The server's word on our certificate.
    guint8 accepted = 0;
    gsize done = 0;
    while ((status = tls_session_read(tls, &accepted, 1, &done, error)) != TLS_DONE)
        if (!tls_wait(status, fd, end, error)) {
            g_prefix_error(error, "server '%s' did not accept our certificate: ", host);
            return NULL;
        }
    if (done != 1 || accepted != 1) {
        quasar_set_error(error, VIR_ERR_RPC, "server '%s' did not accept our certificate", host);
        return NULL;
    }
    return g_steal_pointer(&tls);
}

static TlsCredentials *
target_credentials(const Target *target, TlsCredentials *given, GError **error)
{
    if (!target->pki_path && given)
        return tls_credentials_ref(given);
    if (!target->pki_path) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR,
                         "no client certificate is set up, which a TLS connection to '%s' needs",
                         target->host);
        return NULL;
    }
    g_autofree char *ca = g_build_filename(target->pki_path, "cacert.pem", NULL);
    g_autofree char *crl = g_build_filename(target->pki_path, "cacrl.pem", NULL);
    g_autofree char *cert = g_build_filename(target->pki_path, "clientcert.pem", NULL);
    g_autofree char *key = g_build_filename(target->pki_path, "clientkey.pem", NULL);
    return tls_credentials_load(ca, crl, cert, key, error);
}

static gboolean
open_session(RpcClient *client, char *name, GError **error)
{
    static const RpcProcedure auth_list =
        RPC_PROCEDURE(WIRE_AUTH_LIST, "auth list", RpcVoid, WireAuthListRet, 0, NULL);
    static const RpcProcedure supports_feature = RPC_PROCEDURE(
        WIRE_CONNECT_SUPPORTS_FEATURE, "virConnectSupportsFeature", WireIntArgs, WireIntRet, 0, NULL);
    static const RpcProcedure open =
        RPC_PROCEDURE(WIRE_CONNECT_OPEN, "virConnectOpen", WireOpenArgs, RpcVoid, 0, NULL);

    WireAuthListRet auth;
    gboolean listed = rpc_client_call(client, &auth_list, NULL, &auth, CALL_TIMEOUT_MS, error);
    gboolean free_entry = listed && (auth.types.types_len == 0 || auth.types.types_val[0] == 0);
    xdr_free((xdrproc_t) xdr_WireAuthListRet, (char *) &auth);
    if (!free_entry) {
        quasar_set_error(error, VIR_ERR_AUTH_FAILED,
                         "the server asks for an authentication that is not known");
        return FALSE;
    }
    WireIntArgs feature = {.value = FEATURE_PROGRAM_KEEPALIVE};
    WireIntRet supported;
    if (!rpc_client_call(client, &supports_feature, &feature, &supported, CALL_TIMEOUT_MS, error))
        return FALSE;
    if (supported.value == 1)
        rpc_client_start_keepalive(client);
    WireOpenArgs args = {.name = &name, .flags = 0};
    return rpc_client_call(client, &open, &args, NULL, CALL_TIMEOUT_MS, error);
}

// A daemon that does not know our name is most likely another one.
static void
explain_refusal(const Target *target, GError **error)
{
    if (!g_error_matches(*error, QUASAR_ERROR, VIR_ERR_NO_CONNECT))
        return;
    g_autoptr(GError) said = g_steal_pointer(error);
    quasar_set_error(error, VIR_ERR_NO_CONNECT, "%s at %s: is it virtquasard that answers there? It says: %s",
                     target->name, target->host ? target->host : "this host", said->message);
}

RpcClient *
rpc_client_connect(const char *uri, TlsCredentials *credentials, GError **error)
{
    g_auto(Target) target = {0};
    if (!target_parse(&target, uri, error))
        return NULL;
    g_autoptr(TlsCredentials) ours = NULL;
    if (target.tls && !(ours = target_credentials(&target, credentials, error)))
        return NULL;
    int fd = open_socket(&target, error);
    if (fd < 0)
        return NULL;
    TlsSession *tls = NULL;
    if (target.tls &&
        (!g_unix_set_fd_nonblocking(fd, TRUE, error) || !(tls = start_tls(fd, target.host, ours, error)))) {
        close(fd);
        return NULL;
    }
    g_autoptr(RpcClient) client = rpc_client_new(fd, tls);
    g_autoptr(GError) problem = NULL;
    if (open_session(client, target.name, &problem))
        return g_steal_pointer(&client);
    explain_refusal(&target, &problem);
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
}
