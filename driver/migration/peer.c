// SPDX-License-Identifier: LGPL-2.1-or-later
// Peer connections: parallel connect, TLS with a pinned certificate, hello.
#include "driver/migration/peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/frame.h"

static const char *const kind_names[] = {"control", "ram", "disk", "nic", "resolve", "link"};
G_STATIC_ASSERT(G_N_ELEMENTS(kind_names) == PEER_KIND_LAST);

// Under which key a hello of this kind names what it is about.
static const char *const name_keys[PEER_KIND_LAST] = {[PEER_DISK] = "disk", [PEER_NIC] = "nic"};

// A peer that is gone is noticed after this long although nothing is being read from it.
#define USER_TIMEOUT_MS 5000u

// What the kernel may hold of a connection that it has not sent (bytes); else it takes megabytes. They would
// come before the last pages and the device state while the guest stands, and before a tunnel's frames.
#define UNSENT_LIMIT (128 * 1024)

void
peer_address_free(PeerAddress *address)
{
    if (!address)
        return;
    g_strfreev(address->addresses);
    g_free(address);
}

PeerAddress *
peer_address_copy(const PeerAddress *address)
{
    PeerAddress *copy = g_memdup2(address, sizeof(*address));
    copy->addresses = g_strdupv(address->addresses);
    return copy;
}

json_t *
peer_address_encode(const PeerAddress *address)
{
    if (!address)
        return NULL;
    json_t *addresses = json_array();
    for (char **text = address->addresses; *text; text++)
        json_array_append_new(addresses, json_string(*text));
    g_autoptr(GString) hex = g_string_new(NULL);
    for (guint i = 0; i < sizeof(address->sha256); i++)
        g_string_append_printf(hex, "%02x", address->sha256[i]);
    return json_pack("{s:o, s:i, s:s}", "addresses", addresses, "port", (int) address->port, "sha256",
                     hex->str);
}

static gboolean
decode_sha256(const char *hex, guint8 digest[32])
{
    if (strlen(hex) != 64)
        return FALSE;
    for (guint i = 0; i < 32; i++) {
        int high = g_ascii_xdigit_value(hex[2 * i]), low = g_ascii_xdigit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return FALSE;
        digest[i] = (guint8) (high << 4 | low);
    }
    return TRUE;
}

PeerAddress *
peer_address_decode(json_t *object)
{
    json_t *addresses, *value;
    const char *sha256;
    int port;
    size_t index;
    g_autoptr(PeerAddress) address = g_new0(PeerAddress, 1);
    if (json_unpack(object, "{s:o, s:i, s:s}", "addresses", &addresses, "port", &port, "sha256", &sha256) ||
        port < 1 || port > 65535 || !decode_sha256(sha256, address->sha256))
        return NULL;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    json_array_foreach(addresses, index, value) if (json_is_string(value))
        g_strv_builder_add(builder, json_string_value(value));
    address->addresses = g_strv_builder_end(builder);
    address->port = (guint16) port;
    return g_steal_pointer(&address);
}

void
peer_hello_free(PeerHello *hello)
{
    if (!hello)
        return;
    g_free(hello->token);
    g_free(hello->name);
    g_free(hello);
}

static gboolean
is_reachable(const struct ifaddrs *ifa)
{
    if (!ifa->ifa_addr || !(ifa->ifa_flags & IFF_UP) || (ifa->ifa_flags & IFF_LOOPBACK))
        return FALSE;
    if (ifa->ifa_addr->sa_family == AF_INET)
        return TRUE;
    return ifa->ifa_addr->sa_family == AF_INET6 &&
           !IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *) ifa->ifa_addr)->sin6_addr);
}

char **
peer_local_addresses(void)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) < 0)
        return g_strv_builder_end(builder);
    for (struct ifaddrs *ifa = list; ifa; ifa = ifa->ifa_next) {
        char text[NI_MAXHOST];
        socklen_t size = sizeof(struct sockaddr_in6);
        if (is_reachable(ifa) &&
            getnameinfo(ifa->ifa_addr, size, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
            g_strv_builder_add(builder, text);
    }
    freeifaddrs(list);
    return g_strv_builder_end(builder);
}

static void
set_socket_options(int fd)
{
    const int one = 1, unsent = UNSENT_LIMIT;
    const unsigned int timeout = USER_TIMEOUT_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
}

// A connect() under way, or -1.
static int
begin_connect(const char *address, guint16 port)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *result = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    if (getaddrinfo(address, service, &hints, &result) != 0)
        return -1;
    int fd = socket(result->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, result->ai_addr, result->ai_addrlen) < 0 && errno != EINPROGRESS) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(result);
    return fd;
}

// The index of a socket that has connected, or -1 when none is left or time is up. Closes those that failed.
static int
first_connected(struct pollfd *fds, guint n)
{
    gint64 end = g_get_monotonic_time() + PEER_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        int left = (int) ((end - g_get_monotonic_time()) / 1000);
        gboolean any = FALSE;
        for (guint i = 0; i < n; i++)
            any |= fds[i].fd >= 0;
        if (!any || left <= 0 || (poll(fds, n, left) < 0 && errno != EINTR))
            return -1;
        for (guint i = 0; i < n; i++) {
            int failure = 0;
            socklen_t size = sizeof(failure);
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            if (getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &failure, &size) == 0 && failure == 0)
                return (int) i;
            close(fds[i].fd);
            fds[i].fd = -1;
        }
    }
}

static int
connect_any(const PeerAddress *address, GError **error)
{
    guint n = g_strv_length(address->addresses);
    g_autofree struct pollfd *fds = g_new0(struct pollfd, n + 1);
    for (guint i = 0; i < n; i++)
        fds[i] =
            (struct pollfd){.fd = begin_connect(address->addresses[i], address->port), .events = POLLOUT};
    int winner = first_connected(fds, n);
    int fd = winner >= 0 ? fds[winner].fd : -1;
    for (guint i = 0; i < n; i++)
        if (fds[i].fd >= 0 && fds[i].fd != fd)
            close(fds[i].fd);
    if (fd < 0) {
        g_autofree char *tried = g_strjoinv(", ", address->addresses);
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "cannot reach the other host's virtquasard on port %u of any of its addresses (%s); check "
            "that the port is open between the hosts",
            address->port, tried);
    }
    return fd;
}

static gboolean
shake_hands(TlsSession *tls, int fd, GError **error)
{
    gint64 end = g_get_monotonic_time() + PEER_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        TlsStatus status = tls_session_handshake(tls, error);
        if (status == TLS_DONE || status == TLS_FAILED)
            return status == TLS_DONE;
        struct pollfd pfd = {.fd = fd, .events = status == TLS_WANT_READ ? POLLIN : POLLOUT};
        int left = (int) ((end - g_get_monotonic_time()) / 1000);
        if (left <= 0 || poll(&pfd, 1, left) == 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                             "the destination did not finish the TLS handshake");
            return FALSE;
        }
    }
}

static gboolean
check_pin(TlsSession *tls, const guint8 expected[32], GError **error)
{
    guint8 digest[32];
    if (!tls_session_verify(tls, NULL, error))
        return FALSE;
    if (tls_session_peer_sha256(tls, digest) && memcmp(digest, expected, sizeof(digest)) == 0)
        return TRUE;
    quasar_set_error(
        error, VIR_ERR_RPC,
        "the host that answered shows another certificate than the destination that agreed to the migration");
    return FALSE;
}

static gboolean
send_hello(Channel *channel, const char *token, PeerKind kind, const char *name, GError **error)
{
    g_autoptr(json_t) hello =
        json_pack("{s:i, s:s, s:s}", "version", PEER_VERSION, "token", token, "kind", kind_names[kind]);
    if (name_keys[kind])
        json_object_set_new(hello, name_keys[kind], json_string(name));
    return frame_send(channel, hello, PEER_TIMEOUT_MS, error);
}

Channel *
peer_connect(const PeerAddress *address, TlsCredentials *credentials, const char *token, PeerKind kind,
             const char *name, GError **error)
{
    static const char *const alpn[] = {PEER_ALPN, NULL};
    int fd = connect_any(address, error);
    if (fd < 0)
        return NULL;
    set_socket_options(fd);
    g_autoptr(Channel) channel = channel_new(fd, tls_session_new(credentials, FALSE, fd, alpn));
    TlsSession *tls = channel_tls(channel);
    if (!shake_hands(tls, fd, error) || !check_pin(tls, address->sha256, error))
        return NULL;
    if (g_strcmp0(tls_session_alpn(tls), PEER_ALPN) != 0) {
        quasar_set_error(error, VIR_ERR_RPC, "port %u of the destination is not served by virtquasard",
                         address->port);
        return NULL;
    }
    if (!send_hello(channel, token, kind, name, error))
        return NULL;
    return g_steal_pointer(&channel);
}

// A dead path is found although nothing is sent.
static void
set_tunnel_options(int fd)
{
    const int idle_s = 10, interval_s = 5, probes = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

gboolean
peer_to_tunnel(Channel *channel, gboolean server, VnetTunnel *tunnel, GError **error)
{
    *tunnel = (VnetTunnel){.fd = -1, .server = server};
    if (!tls_session_export_key(channel_tls(channel), "EXPORTER-quasar-tunnel", tunnel->key, error)) {
        channel_free(channel);
        return FALSE;
    }
    tunnel->fd = channel_end_tls(channel, PEER_TIMEOUT_MS, error);
    if (tunnel->fd >= 0)
        set_tunnel_options(tunnel->fd);
    return tunnel->fd >= 0;
}

static PeerHello *
hello_decode(json_t *message, GError **error)
{
    int version = 0;
    const char *token = NULL, *kind = NULL;
    if (json_unpack(message, "{s:i, s:s, s:s}", "version", &version, "token", &token, "kind", &kind)) {
        quasar_set_error(error, VIR_ERR_RPC, "a peer's first message is not a hello");
        return NULL;
    }
    if (version != PEER_VERSION) {
        quasar_set_error(error, VIR_ERR_RPC,
                         "the peer speaks version %d of the migration protocol, this host %d", version,
                         PEER_VERSION);
        return NULL;
    }
    for (guint i = 0; i < PEER_KIND_LAST; i++) {
        const char *name = name_keys[i] ? json_string_value(json_object_get(message, name_keys[i])) : NULL;
        if (!g_str_equal(kind, kind_names[i]) || (name_keys[i] && !name))
            continue;
        PeerHello *hello = g_new0(PeerHello, 1);
        hello->token = g_strdup(token);
        hello->kind = i;
        hello->name = g_strdup(name);
        return hello;
    }
    quasar_set_error(error, VIR_ERR_RPC, "a peer asks for a connection of unknown kind '%s'", kind);
    return NULL;
}

PeerHello *
peer_receive_hello(Channel *channel, GError **error)
{
    set_socket_options(channel_fd(channel));
    g_autoptr(json_t) message = frame_receive(channel, PEER_TIMEOUT_MS, error);
    return message ? hello_decode(message, error) : NULL;
}
