// SPDX-License-Identifier: LGPL-2.1-or-later
// Starts quasar-vnet, and speaks with it over its control socket.
#include "vnet/client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/frame.h"

#define CALL_TIMEOUT_MS  5000
#define START_TIMEOUT_MS 15000
#define READY_FD         3

struct VnetClient {
    gint references; // atomic
    GMutex lock;
    char *path;
    Channel *channel; // NULL: broken, connected anew by the next call
    pid_t pid;
    guint64 start_time;
    int timeout_ms; // of each call
};

static void
clear_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
typedef int Fd;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fd, clear_fd)

// Field 22 of /proc/PID/stat; the second field may hold spaces and ends with the last parenthesis.
static guint64
read_start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    const char *rest = strrchr(text, ')');
    g_auto(GStrv) fields = rest ? g_strsplit(rest + 1, " ", -1) : NULL;
    return fields && g_strv_length(fields) > 20 ? g_ascii_strtoull(fields[20], NULL, 10) : 0;
}

static gboolean
connect_client(VnetClient *client, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (strlen(client->path) >= sizeof(address.sun_path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "socket path '%s' is too long", client->path);
        return FALSE;
    }
    g_strlcpy(address.sun_path, client->path, sizeof(address.sun_path));
    g_auto(Fd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // One that hangs accepts nobody, and its queue of those who wait is soon full.
    const struct timeval limit = {client->timeout_ms / 1000, client->timeout_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "no quasar-vnet answers at '%s': %s", client->path,
                         g_strerror(errno));
        return FALSE;
    }
    client->pid = peer.pid;
    client->start_time = read_start_time(peer.pid);
    client->channel = channel_new(fd, NULL);
    fd = -1;
    return TRUE;
}

VnetClient *
vnet_client_attach(const char *control_path, GError **error)
{
    return vnet_client_attach_briefly(control_path, CALL_TIMEOUT_MS, error);
}

VnetClient *
vnet_client_attach_briefly(const char *control_path, int timeout_ms, GError **error)
{
    g_autoptr(VnetClient) client = g_new0(VnetClient, 1);
    client->references = 1;
    client->timeout_ms = timeout_ms;
    g_mutex_init(&client->lock);
    client->path = g_strdup(control_path);
    return connect_client(client, error) ? g_steal_pointer(&client) : NULL;
}

VnetClient *
vnet_client_ref(VnetClient *client)
{
    g_atomic_int_inc(&client->references);
    return client;
}

void
vnet_client_unref(VnetClient *client)
{
    if (!client || !g_atomic_int_dec_and_test(&client->references))
        return;
    g_clear_pointer(&client->channel, channel_free);
    g_mutex_clear(&client->lock);
    g_free(client->path);
    g_free(client);
}

// Where the start is told: "ok", or why it failed. An empty text: it died without a word.
static gboolean
await_ready(int fd, GError **error)
{
    char text[1024] = "";
    gsize length = 0;
    gint64 end = g_get_monotonic_time() + START_TIMEOUT_MS * 1000;
    for (;;) {
        int left = (int) ((end - g_get_monotonic_time()) / 1000);
        struct pollfd wait = {fd, POLLIN, 0};
        if (left <= 0 || (poll(&wait, 1, left) == 0)) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "quasar-vnet does not start within %d s",
                             START_TIMEOUT_MS / 1000);
            return FALSE;
        }
        ssize_t n = read(fd, text + length, sizeof(text) - 1 - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        length += (gsize) n;
    }
    if (strcmp(text, "ok") == 0)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "quasar-vnet cannot start: %s",
                     text[0] ? text : "it ended without saying why, see its log");
    return FALSE;
}

static char *
program_path(void)
{
    const char *directory = g_getenv("QUASAR_LIBEXECDIR");
    return g_build_filename(directory ? directory : LIBEXECDIR, "quasar-vnet", NULL);
}

// GLib forks twice when nobody asks for the child's end, so that the process is init's and never ours to wait
// for.
static gboolean
launch(const VnetSpec *spec, int ready, int log, GError **error)
{
    g_autofree char *program = program_path();
    const char *argv[24] = {program,
                            "--nic",
                            spec->nic,
                            "--mac",
                            spec->mac,
                            "--control",
                            spec->control_path,
                            "--name",
                            spec->name ? spec->name : "",
                            "--ready-fd",
                            G_STRINGIFY(READY_FD)};
    guint n = g_strv_length((char **) argv);
    if (spec->vhost_path || spec->stream_path) {
        argv[n++] = spec->vhost_path ? "--vhost" : "--stream";
        argv[n++] = spec->vhost_path ? spec->vhost_path : spec->stream_path;
    } else {
        argv[n++] = "--anchor";
    }
    if (spec->offload)
        argv[n++] = "--offload";
    if (spec->pcap) {
        argv[n++] = "--capture";
        argv[n++] = "pcap";
    }
    g_autofree char *emulator = g_strdup_printf("%d", (int) spec->emulator);
    if (spec->vhost_path && spec->emulator > 0) {
        argv[n++] = "--emulator";
        argv[n++] = emulator;
    }
    if (spec->user) {
        argv[n++] = "--user";
        argv[n++] = spec->user;
    }
    const int target = READY_FD;
    g_autoptr(GError) problem = NULL;
    if (g_spawn_async_with_pipes_and_fds("/", argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, -1, -1, log, &ready,
                                         &target, 1, NULL, NULL, NULL, NULL, &problem))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot start quasar-vnet: %s", problem->message);
    return FALSE;
}

VnetClient *
vnet_client_spawn(const VnetSpec *spec, GError **error)
{
    int ends[2];
    g_auto(Fd) log = -1;
    if (spec->log_path)
        log = open(spec->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (spec->log_path && log < 0) {
        quasar_set_system_error(error, errno, "cannot open log file '%s'", spec->log_path);
        return NULL;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        quasar_set_system_error(error, errno, "cannot make a pipe");
        return NULL;
    }
    g_auto(Fd) ready = ends[0];
    gboolean launched = launch(spec, ends[1], log, error);
    close(ends[1]); // or its end is never seen
    if (!launched || !await_ready(ready, error))
        return NULL;
    return vnet_client_attach(spec->control_path, error);
}

// Sends a message whose first byte carries a descriptor.
static gboolean
send_with_fd(Channel *channel, json_t *message, int fd, int timeout_ms, GError **error)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    g_autofree char *text = json_dumps(message, JSON_COMPACT);
    guint32 length = GUINT32_TO_BE((guint32) strlen(text));
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_byte_array_append(bytes, (const guint8 *) &length, sizeof(length));
    g_byte_array_append(bytes, (const guint8 *) text, (guint) strlen(text));
    struct iovec part = {bytes->data, 1};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    control.align = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
    if (sendmsg(channel_fd(channel), &header, MSG_NOSIGNAL) != 1) {
        quasar_set_system_error(error, errno, "cannot pass a socket to quasar-vnet");
        return FALSE;
    }
    return channel_write(channel, bytes->data + 1, bytes->len - 1, timeout_ms, error);
}

// Sends `request` (taken), with a descriptor unless that is -1, and gives the reply.
static json_t *
call(VnetClient *client, json_t *request, int fd, GError **error)
{
    g_autoptr(json_t) message = request;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);
    g_autoptr(json_t) reply = NULL;
    if (!client->channel && !connect_client(client, error))
        return NULL;
    if (fd >= 0 ? send_with_fd(client->channel, message, fd, client->timeout_ms, error)
                : frame_send(client->channel, message, client->timeout_ms, error))
        reply = frame_receive(client->channel, client->timeout_ms, error);
    if (!reply) {
        // A late answer would be taken for the next one's.
        g_clear_pointer(&client->channel, channel_free);
        return NULL;
    }
    const char *problem = json_string_value(json_object_get(reply, "error"));
    if (problem) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "quasar-vnet refuses: %s", problem);
        return NULL;
    }
    return g_steal_pointer(&reply);
}

static gboolean
command(VnetClient *client, json_t *request, GError **error)
{
    g_autoptr(json_t) reply = call(client, request, -1, error);
    return reply != NULL;
}

gboolean
vnet_client_activate(VnetClient *client, gboolean announce, const char *const *addresses, GError **error)
{
    json_t *list = json_array();
    for (; addresses && *addresses; addresses++)
        json_array_append_new(list, json_string(*addresses));
    return command(client,
                   json_pack("{s:s, s:b, s:o}", "cmd", "activate", "announce", announce, "addresses", list),
                   error);
}

gboolean
vnet_client_standby(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "standby"), error);
}

gboolean
vnet_client_hold(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "hold"), error);
}

static gboolean
give_tunnel(VnetClient *client, const char *name, const VnetTunnel *tunnel, GError **error)
{
    char key[2 * TLS_KEY + 1];
    for (guint i = 0; i < TLS_KEY; i++)
        g_snprintf(key + 2 * i, 3, "%02x", tunnel->key[i]);
    json_t *request = json_pack("{s:s, s:s, s:b}", "cmd", name, "key", key, "server", tunnel->server);
    g_autoptr(json_t) reply = call(client, request, tunnel->fd, error);
    return reply != NULL;
}

gboolean
vnet_client_pair(VnetClient *client, const VnetTunnel *tunnel, GError **error)
{
    return give_tunnel(client, "pair", tunnel, error);
}

gboolean
vnet_client_receive(VnetClient *client, const VnetTunnel *tunnel, GError **error)
{
    return give_tunnel(client, "receive", tunnel, error);
}

gboolean
vnet_client_relink(VnetClient *client, const VnetTunnel *tunnel, GError **error)
{
    return give_tunnel(client, "relink", tunnel, error);
}

gboolean
vnet_client_hand_over(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "hand-over"), error);
}

gboolean
vnet_client_away(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "away"), error);
}

gboolean
vnet_client_share(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "share"), error);
}

gboolean
vnet_client_watch(VnetClient *client, gboolean *up, GError **error)
{
    g_autoptr(json_t) reply = call(client, json_pack("{s:s}", "cmd", "watch"), -1, error);
    *up = json_is_true(json_object_get(json_object_get(reply, "link"), "up"));
    return reply != NULL;
}

// Without the lock, which vnet_client_cut() takes: nobody else uses a connection that watches.
int
vnet_client_wait(VnetClient *client, int timeout_ms, gboolean *up)
{
    int ready = client->channel ? channel_wait(client->channel, timeout_ms, NULL) : -1;
    if (ready <= 0)
        return ready;
    g_autoptr(json_t) event = frame_receive(client->channel, CALL_TIMEOUT_MS, NULL);
    *up = json_is_true(json_object_get(event, "up"));
    return event ? 1 : -1;
}

void
vnet_client_cut(VnetClient *client)
{
    g_mutex_lock(&client->lock);
    if (client->channel)
        channel_shutdown(client->channel);
    g_mutex_unlock(&client->lock);
}

json_t *
vnet_client_status(VnetClient *client, GError **error)
{
    return call(client, json_pack("{s:s}", "cmd", "status"), -1, error);
}

gboolean
vnet_client_quit(VnetClient *client, GError **error)
{
    return command(client, json_pack("{s:s}", "cmd", "quit"), error);
}

pid_t
vnet_client_pid(const VnetClient *client)
{
    return client->pid;
}

guint64
vnet_client_start_time(const VnetClient *client)
{
    return client->start_time;
}

char *
vnet_default_nic(GError **error)
{
    g_autofree char *text = NULL, *best = NULL;
    guint best_metric = G_MAXUINT;
    if (g_file_get_contents("/proc/net/route", &text, NULL, NULL)) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (guint i = 0; lines[i]; i++) {
            char nic[IFNAMSIZ];
            guint destination, flags, metric, mask;
            // 1: the route is up
            if (sscanf(lines[i], "%15s %x %*x %x %*d %*d %u %x", nic, &destination, &flags, &metric, &mask) ==
                    5 &&
                destination == 0 && mask == 0 && (flags & 1) && metric < best_metric) {
                g_free(best);
                best = g_strdup(nic);
                best_metric = metric;
            }
        }
    }
    if (!best)
        quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "this host has no IPv4 default route to take a NIC from; name one in the interface's "
            "<source dev='...'/>");
    return g_steal_pointer(&best);
}

// Whether the NIC's driver is one of those that sort out frames by the MACs and addresses of their own, also
// when they are promiscuous (ethtool's words, linux/ethtool.h).
static gboolean
is_virtual_lan(int fd, struct ifreq *request)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    request->ifr_data = (void *) &info;
    return ioctl(fd, SIOCETHTOOL, request) == 0 &&
           (g_str_equal(info.driver, "macvlan") || g_str_equal(info.driver, "ipvlan"));
}

gboolean
vnet_check_nic(const char *nic, GError **error)
{
    struct ifreq request = {0};
    const char *reason = NULL;
    g_autofree char *wireless = g_build_filename("/sys/class/net", nic, "phy80211", NULL);
    g_auto(Fd) fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_strlcpy(request.ifr_name, nic, sizeof(request.ifr_name));
    if (nic[0] == 0 || strlen(nic) >= IFNAMSIZ || ioctl(fd, SIOCGIFFLAGS, &request) != 0)
        reason = "this host has no such NIC";
    else if (request.ifr_flags & IFF_LOOPBACK)
        reason = "it is the loopback";
    else if (ioctl(fd, SIOCGIFHWADDR, &request) != 0 || request.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        reason = "it is not Ethernet";
    else if (!strchr(nic, '/') && g_file_test(wireless, G_FILE_TEST_EXISTS))
        reason = "it is wireless, and access points drop frames of any MAC but its own";
    else if (is_virtual_lan(fd, &request))
        reason = "it gets no frames for a MAC that is not its own; name the NIC under it";
    if (reason)
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "a guest cannot be put on '%s': %s", nic, reason);
    return reason == NULL;
}
