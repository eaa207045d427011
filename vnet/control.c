// SPDX-License-Identifier: LGPL-2.1-or-later
// Control requests and the clients that send them.
#include "vnet/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/stream.h"

static gboolean
decode_addresses(json_t *list, ControlRequest *request, GError **error)
{
    gsize i;
    json_t *item;
    if (!json_is_array(list) || json_array_size(list) > CONTROL_ADDRESSES) {
        quasar_set_error(error, VIR_ERR_RPC, "'addresses' is not a list of at most %u", CONTROL_ADDRESSES);
        return FALSE;
    }
    json_array_foreach(list, i, item)
    {
        const char *text = json_string_value(item);
        if (!text || !net_address_parse(text, &request->addresses[i])) {
            quasar_set_error(error, VIR_ERR_RPC, "'%s' is no IP address", text ? text : "(no text)");
            return FALSE;
        }
    }
    request->n_addresses = (guint) json_array_size(list);
    return TRUE;
}

static gboolean
decode_key(json_t *value, ControlRequest *request, GError **error)
{
    const char *text = json_string_value(value);
    gboolean ok = text && strlen(text) == 2 * TLS_KEY;
    for (guint i = 0; ok && i < TLS_KEY; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]), low = g_ascii_xdigit_value(text[2 * i + 1]);
        ok = high >= 0 && low >= 0;
        request->key[i] = (guint8) (high << 4 | low);
    }
    request->has_key = ok;
    return ok || quasar_set_error(error, VIR_ERR_RPC, "'key' is not of %u hex digits", 2 * TLS_KEY);
}

gboolean
control_decode(json_t *message, ControlRequest *request, GError **error)
{
    static const char *const names[] = {
        [CONTROL_STATUS] = "status",   [CONTROL_ACTIVATE] = "activate", [CONTROL_STANDBY] = "standby",
        [CONTROL_HOLD] = "hold",       [CONTROL_PAIR] = "pair",         [CONTROL_HAND_OVER] = "hand-over",
        [CONTROL_RECEIVE] = "receive", [CONTROL_AWAY] = "away",         [CONTROL_RELINK] = "relink",
        [CONTROL_SHARE] = "share",     [CONTROL_WATCH] = "watch",       [CONTROL_QUIT] = "quit",
    };
    const char *name = json_string_value(json_object_get(message, "cmd"));
    memset(request, 0, sizeof(*request));
    request->fd = -1;
    for (guint i = 0; name && i < G_N_ELEMENTS(names); i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        request->command = (ControlCommand) i;
        request->announce = json_is_true(json_object_get(message, "announce"));
        request->server = json_is_true(json_object_get(message, "server"));
        json_t *addresses = json_object_get(message, "addresses"), *key = json_object_get(message, "key");
        return (!addresses || decode_addresses(addresses, request, error)) &&
               (!key || decode_key(key, request, error));
    }
    quasar_set_error(error, VIR_ERR_RPC, "unknown command '%s'", name ? name : "(none)");
    return FALSE;
}

typedef struct {
    int fd;     // -1: free
    int passed; // the descriptor that came last, or -1
    gboolean watches;
    StreamReader *reader;
    StreamQueue *queue;
} Client;

struct Control {
    int listener;
    Client clients[CONTROL_CLIENTS];
};

static void
client_close(Client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    if (client->passed >= 0)
        close(client->passed);
    client->fd = client->passed = -1;
    client->watches = FALSE;
    g_clear_pointer(&client->reader, stream_reader_free);
    g_clear_pointer(&client->queue, stream_queue_free);
}

Control *
control_open(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "socket path '%s' is too long", path);
        return NULL;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_autoptr(Control) control = g_new0(Control, 1);
    for (guint i = 0; i < CONTROL_CLIENTS; i++)
        control->clients[i].fd = control->clients[i].passed = -1;
    control->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(path);
    mode_t mask = umask(0177);
    gboolean bound = bind(control->listener, (struct sockaddr *) &address, sizeof(address)) == 0;
    umask(mask);
    if (!bound || listen(control->listener, 8) != 0) {
        quasar_set_system_error(error, errno, "cannot listen on '%s'", path);
        return NULL;
    }
    return g_steal_pointer(&control);
}

void
control_free(Control *control)
{
    if (!control)
        return;
    for (guint i = 0; i < CONTROL_CLIENTS; i++)
        client_close(&control->clients[i]);
    if (control->listener >= 0)
        close(control->listener);
    g_free(control);
}

guint
control_poll(Control *control, struct pollfd *fds)
{
    guint n = 0;
    gboolean room = FALSE;
    for (guint i = 0; i < CONTROL_CLIENTS; i++) {
        Client *client = &control->clients[i];
        room |= client->fd < 0;
        if (client->fd >= 0)
            fds[n++] =
                (struct pollfd){client->fd, POLLIN | (stream_queue_length(client->queue) ? POLLOUT : 0), 0};
    }
    if (room)
        fds[n++] = (struct pollfd){control->listener, POLLIN, 0};
    return n;
}

static void
accept_client(Control *control)
{
    for (guint i = 0; i < CONTROL_CLIENTS; i++) {
        Client *client = &control->clients[i];
        if (client->fd >= 0)
            continue;
        client->fd = accept4(control->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client->fd < 0)
            return;
        client->reader = stream_reader_new(CONTROL_MAX);
        client->queue = stream_queue_new(2 * CONTROL_MAX);
        return;
    }
}

static gboolean
send_message(Client *client, json_t *message)
{
    // A message with bytes that are no UTF-8 cannot be quoted in an answer.
    g_autofree char *text =
        message ? json_dumps(message, JSON_COMPACT) : g_strdup("{\"error\":\"bad message\"}");
    return text && stream_queue_push(client->queue, text, strlen(text)) &&
           stream_queue_flush(client->queue, client->fd, NULL);
}

static gboolean
answer(Client *client, const guint8 *payload, gsize length, ControlHandler handler, void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = frame_decode(payload, length, &error);
    g_autoptr(json_t) reply = NULL;
    ControlRequest request;
    if (message && control_decode(message, &request, &error)) {
        request.fd = client->passed;
        reply = handler(&request, data);
        if (request.fd >= 0)
            close(request.fd); // not taken: it belongs to this request and to no other
        client->passed = -1;
        client->watches |= request.command == CONTROL_WATCH;
    } else
        reply = json_pack("{s:s}", "error", error->message);
    return send_message(client, reply);
}

// As recv(); keeps the last descriptor that comes.
static ssize_t
receive(Client *client, void *space, gsize room)
{
    union {
        struct cmsghdr align;
        guint8 bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {space, room};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(client->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const struct cmsghdr *first = n > 0 ? CMSG_FIRSTHDR(&header) : NULL;
    if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS &&
        first->cmsg_len == CMSG_LEN(sizeof(int))) {
        if (client->passed >= 0)
            close(client->passed);
        memcpy(&client->passed, CMSG_DATA(first), sizeof(int));
    }
    return n;
}

// FALSE when the client is to be closed.
static gboolean
read_client(Client *client, ControlHandler handler, void *data)
{
    gsize room, length;
    guint8 *space = stream_reader_space(client->reader, &room), *payload;
    ssize_t n = receive(client, space, room);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    if (n == 0)
        return FALSE;
    stream_reader_commit(client->reader, (gsize) n);
    int state;
    while ((state = stream_reader_next(client->reader, &payload, &length, NULL)) == 1)
        if (!answer(client, payload, length, handler, data))
            return FALSE;
    return state == 0;
}

void
control_serve(Control *control, const struct pollfd *fds, guint n, ControlHandler handler, void *data)
{
    for (guint i = 0; i < n; i++) {
        if (!fds[i].revents)
            continue;
        if (fds[i].fd == control->listener) {
            accept_client(control);
            continue;
        }
        for (guint c = 0; c < CONTROL_CLIENTS; c++) {
            Client *client = &control->clients[c];
            if (client->fd != fds[i].fd)
                continue;
            gboolean good = stream_queue_flush(client->queue, client->fd, NULL);
            if (good && (fds[i].revents & ~POLLOUT))
                good = read_client(client, handler, data);
            if (!good)
                client_close(client);
            break;
        }
    }
}

void
control_tell(Control *control, json_t *message)
{
    for (guint i = 0; i < CONTROL_CLIENTS; i++) {
        Client *client = &control->clients[i];
        if (client->fd >= 0 && client->watches && !send_message(client, message))
            client_close(client);
    }
}
