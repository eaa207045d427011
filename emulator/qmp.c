// SPDX-License-Identifier: LGPL-2.1-or-later
// The QMP client: parser, connection, calls that wait for replies, waiters for events.
#include "emulator/qmp.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/launch.h"

#define READ_CHUNK 65536

struct QmpParser {
    GString *buffer;
    gsize scanned; // bytes of the buffer known to hold no newline
    gsize line_max;
};

QmpParser *
qmp_parser_new(gsize line_max)
{
    QmpParser *parser = g_new0(QmpParser, 1);
    parser->buffer = g_string_new(NULL);
    parser->line_max = line_max;
    return parser;
}

void
qmp_parser_free(QmpParser *parser)
{
    if (!parser)
        return;
    g_string_free(parser->buffer, TRUE);
    g_free(parser);
}

static gboolean
parse_line(const char *line, gsize length, QmpMessageFunc message, gpointer opaque, GError **error)
{
    while (length > 0 && g_ascii_isspace(line[length - 1]))
        length--;
    if (length == 0)
        return TRUE;
    json_error_t problem;
    g_autoptr(json_t) value = json_loadb(line, length, 0, &problem);
    if (!value || !json_is_object(value)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator sent a line that is no JSON object: %s",
                         value ? "wrong type" : problem.text);
        return FALSE;
    }
    message(value, opaque);
    return TRUE;
}

gboolean
qmp_parser_feed(QmpParser *parser, const char *bytes, gsize length, QmpMessageFunc message, gpointer opaque,
                GError **error)
{
    GString *buffer = parser->buffer;
    g_string_append_len(buffer, bytes, length);
    gsize start = 0;
    for (;;) {
        const char *newline = memchr(buffer->str + parser->scanned, '\n', buffer->len - parser->scanned);
        gsize end = newline ? (gsize) (newline - buffer->str) : buffer->len;
        if (end - start > parser->line_max) {
            quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator sent a line of more than %zu bytes",
                             parser->line_max);
            return FALSE;
        }
        if (!newline)
            break;
        if (!parse_line(buffer->str + start, end - start, message, opaque, error))
            return FALSE;
        start = parser->scanned = end + 1;
    }
    g_string_erase(buffer, 0, start);
    parser->scanned = buffer->len;
    return TRUE;
}

struct Qmp {
    gint users;            // references of callers; the last one closes
    gint refs;             // keeps the memory: one for all users, one for the source
    GMainContext *context; // immutable
    int fd;                // immutable; shut down by qmp_close(), closed at the end
    QmpCallbacks callbacks;
    QmpParser *parser; // emulator thread only
    gint64 received_us;

    GMutex write_lock; // taken before `lock`; one command's bytes at a time
    GMutex lock;       // all below
    GCond changed;     // a reply, the greeting, an event or the end has come
    GSource *source;
    GHashTable *calls; // id -> Call of the thread that waits
    GPtrArray *waiters;
    guint64 last_id;
    gboolean greeted;
    gboolean closed;
};

typedef struct Call Call;
struct Call {
    guint64 id;
    json_t *reply;
};

struct QmpWaiter {
    Qmp *qmp;
    char **events;  // immutable; NULL: all
    GQueue pending; // json_t *, under qmp->lock
    gboolean cancelled;
};

static void
release(gpointer data)
{
    Qmp *qmp = data;
    if (!g_atomic_int_dec_and_test(&qmp->refs))
        return;
    if (qmp->callbacks.destroy)
        qmp->callbacks.destroy(qmp->callbacks.opaque);
    close(qmp->fd);
    qmp_parser_free(qmp->parser);
    g_hash_table_unref(qmp->calls);
    g_ptr_array_unref(qmp->waiters);
    g_main_context_unref(qmp->context);
    g_mutex_clear(&qmp->write_lock);
    g_mutex_clear(&qmp->lock);
    g_cond_clear(&qmp->changed);
    g_free(qmp);
}

// Returns whether this call is the one that ended it.
static gboolean
end_connection(Qmp *qmp)
{
    g_mutex_lock(&qmp->lock);
    gboolean first = !qmp->closed;
    qmp->closed = TRUE;
    GSource *source = g_steal_pointer(&qmp->source);
    g_cond_broadcast(&qmp->changed);
    g_mutex_unlock(&qmp->lock);
    if (first)
        shutdown(qmp->fd, SHUT_RDWR);
    if (source) {
        g_source_destroy(source);
        g_source_unref(source);
    }
    return first;
}

void
qmp_close(Qmp *qmp)
{
    end_connection(qmp);
}

Qmp *
qmp_ref(Qmp *qmp)
{
    g_atomic_int_inc(&qmp->users);
    return qmp;
}

void
qmp_unref(Qmp *qmp)
{
    if (!qmp || !g_atomic_int_dec_and_test(&qmp->users))
        return;
    qmp_close(qmp);
    release(qmp);
}

gboolean
qmp_is_connected(Qmp *qmp)
{
    g_mutex_lock(&qmp->lock);
    gboolean connected = !qmp->closed;
    g_mutex_unlock(&qmp->lock);
    return connected;
}

static void
take_event(Qmp *qmp, const char *name, json_t *data)
{
    g_mutex_lock(&qmp->lock);
    for (guint i = 0; i < qmp->waiters->len; i++) {
        QmpWaiter *waiter = g_ptr_array_index(qmp->waiters, i);
        if (waiter->events && !g_strv_contains((const char *const *) waiter->events, name))
            continue;
        json_t *event = json_pack("{s:s, s:I}", "event", name, "at", (json_int_t) qmp->received_us);
        if (data)
            json_object_set(event, "data", data);
        g_queue_push_tail(&waiter->pending, event);
    }
    g_cond_broadcast(&qmp->changed);
    gboolean closed = qmp->closed;
    g_mutex_unlock(&qmp->lock);
    if (!closed && qmp->callbacks.event)
        qmp->callbacks.event(qmp, name, data, qmp->received_us, qmp->callbacks.opaque);
}

static void
take_reply(Qmp *qmp, json_t *message)
{
    guint64 id = json_integer_value(json_object_get(message, "id"));
    g_mutex_lock(&qmp->lock);
    Call *call = g_hash_table_lookup(qmp->calls, &id);
    if (call && !call->reply) {
        call->reply = json_incref(message);
        g_cond_broadcast(&qmp->changed);
    }
    g_mutex_unlock(&qmp->lock);
    if (!call)
        g_debug("QMP reply that nobody waits for");
}

static void
take_message(json_t *message, gpointer opaque)
{
    Qmp *qmp = opaque;
    const char *event = json_string_value(json_object_get(message, "event"));
    if (event) {
        take_event(qmp, event, json_object_get(message, "data"));
    } else if (json_object_get(message, "QMP")) {
        g_mutex_lock(&qmp->lock);
        qmp->greeted = TRUE;
        g_cond_broadcast(&qmp->changed);
        g_mutex_unlock(&qmp->lock);
    } else {
        take_reply(qmp, message);
    }
}

static gboolean
on_readable(int fd, GIOCondition condition, gpointer opaque)
{
    Qmp *qmp = opaque;
    g_autofree char *bytes = g_malloc(READ_CHUNK);
    ssize_t length = recv(fd, bytes, READ_CHUNK, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    qmp->received_us = g_get_monotonic_time();
    g_autoptr(GError) error = NULL;
    if (length > 0 && qmp_parser_feed(qmp->parser, bytes, length, take_message, qmp, &error))
        return G_SOURCE_CONTINUE;
    if (error)
        g_warning("QMP connection dropped: %s", error->message);
    if (end_connection(qmp) && qmp->callbacks.closed)
        qmp->callbacks.closed(qmp, qmp->callbacks.opaque);
    return G_SOURCE_REMOVE;
}

static void
set_ended(GError **error)
{
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "emulator ended");
}

// Waits on the condition until the deadline (-1: none); FALSE when it is over. qmp->lock is held.
static gboolean
wait_changed(Qmp *qmp, gint64 deadline_us)
{
    if (deadline_us >= 0)
        return g_cond_wait_until(&qmp->changed, &qmp->lock, deadline_us);
    g_cond_wait(&qmp->changed, &qmp->lock);
    return TRUE;
}

static gint64
deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
}

static int
left_ms(gint64 deadline_us)
{
    return deadline_us < 0 ? -1 : (int) CLAMP((deadline_us - g_get_monotonic_time()) / 1000, 0, G_MAXINT);
}

// As much as there is room for; a descriptor (fd -1: none) goes with the first byte.
static ssize_t
send_some(int socket, const char *bytes, gsize length, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (char *) bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control.space);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

// An emulator that is stopped or hung does not read: the wait for room is bounded as well.
static gboolean
send_all(Qmp *qmp, const char *bytes, gsize length, int fd, gint64 deadline_us, GError **error)
{
    gboolean cut = FALSE;
    while (length > 0) {
        ssize_t sent = send_some(qmp->fd, bytes, length, cut ? -1 : fd);
        if (sent > 0) {
            bytes += sent;
            length -= sent;
            cut = TRUE;
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            set_ended(error);
            return FALSE;
        }
        int left = left_ms(deadline_us);
        struct pollfd item = {.fd = qmp->fd, .events = POLLOUT};
        if (left == 0 || poll(&item, 1, left) == 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the emulator's monitor takes no commands");
            // A command cut in the middle would spoil all later ones.
            if (cut)
                shutdown(qmp->fd, SHUT_RDWR);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
send_command(Qmp *qmp, guint64 id, const char *command, json_t *arguments, int fd, gint64 deadline_us,
             GError **error)
{
    g_autoptr(json_t) request = json_pack("{s:s, s:I}", "execute", command, "id", (json_int_t) id);
    if (arguments)
        json_object_set(request, "arguments", arguments);
    char *text = json_dumps(request, JSON_COMPACT);
    g_autofree char *line = text ? g_strconcat(text, "\r\n", NULL) : NULL;
    free(text);
    if (!line) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "QEMU command '%s' cannot be encoded", command);
        return FALSE;
    }
    g_mutex_lock(&qmp->write_lock);
    gboolean sent = send_all(qmp, line, strlen(line), fd, deadline_us, error);
    g_mutex_unlock(&qmp->write_lock);
    return sent;
}

static gboolean
begin_call(Qmp *qmp, Call *call, GError **error)
{
    g_mutex_lock(&qmp->lock);
    gboolean closed = qmp->closed;
    if (!closed) {
        call->id = ++qmp->last_id;
        g_hash_table_insert(qmp->calls, &call->id, call);
    }
    g_mutex_unlock(&qmp->lock);
    if (closed)
        set_ended(error);
    return !closed;
}

static void
end_call(Qmp *qmp, Call *call, gboolean sent, const char *command, gint64 deadline_us, GError **error)
{
    g_mutex_lock(&qmp->lock);
    gboolean in_time = TRUE;
    while (sent && !call->reply && !qmp->closed && in_time)
        in_time = wait_changed(qmp, deadline_us);
    g_hash_table_remove(qmp->calls, &call->id);
    gboolean closed = qmp->closed;
    g_mutex_unlock(&qmp->lock);
    if (!sent || call->reply)
        return;
    if (closed)
        set_ended(error);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the emulator did not answer '%s' in time",
                         command);
}

json_t *
qmp_execute(Qmp *qmp, const char *command, json_t *arguments, int timeout_ms, GError **error)
{
    return qmp_execute_with_fd(qmp, command, arguments, -1, timeout_ms, error);
}

json_t *
qmp_execute_with_fd(Qmp *qmp, const char *command, json_t *arguments, int fd, int timeout_ms, GError **error)
{
    g_autoptr(json_t) owned = arguments;
    if (g_main_context_is_owner(qmp->context)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR,
                         "QEMU command '%s' from the thread that reads its reply", command);
        return NULL;
    }
    Call call = {0};
    if (!begin_call(qmp, &call, error))
        return NULL;
    gint64 deadline_us = deadline_after(timeout_ms);
    gboolean sent = send_command(qmp, call.id, command, owned, fd, deadline_us, error);
    end_call(qmp, &call, sent, command, deadline_us, error);
    g_autoptr(json_t) reply = call.reply;
    if (!reply)
        return NULL;
    json_t *problem = json_object_get(reply, "error");
    json_t *value = json_object_get(reply, "return");
    if (problem || !value) {
        const char *text = json_string_value(json_object_get(problem, "desc"));
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "unable to execute QEMU command '%s': %s", command,
                         text ? text : "no reason given");
        return NULL;
    }
    return json_incref(value);
}

gboolean
qmp_run(Qmp *qmp, const char *command, json_t *arguments, int timeout_ms, GError **error)
{
    g_autoptr(json_t) value = qmp_execute(qmp, command, arguments, timeout_ms, error);
    return value != NULL;
}

static gboolean
negotiate(Qmp *qmp, gint64 deadline_us, GError **error)
{
    gboolean in_time = TRUE;
    g_mutex_lock(&qmp->lock);
    while (!qmp->greeted && !qmp->closed && in_time)
        in_time = wait_changed(qmp, deadline_us);
    gboolean greeted = qmp->greeted, closed = qmp->closed;
    g_mutex_unlock(&qmp->lock);
    if (closed)
        set_ended(error);
    else if (!greeted)
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the emulator's monitor sent no greeting");
    return greeted && !closed && qmp_run(qmp, "qmp_capabilities", NULL, left_ms(deadline_us), error);
}

static Qmp *
new_until(GMainContext *context, int fd, gint64 deadline_us, const QmpCallbacks *callbacks, GError **error)
{
    Qmp *qmp = g_new0(Qmp, 1);
    qmp->users = 1;
    qmp->refs = 2;
    qmp->context = g_main_context_ref(context);
    qmp->fd = fd;
    if (callbacks)
        qmp->callbacks = *callbacks;
    qmp->parser = qmp_parser_new(QMP_LINE_MAX);
    g_mutex_init(&qmp->write_lock);
    g_mutex_init(&qmp->lock);
    g_cond_init(&qmp->changed);
    qmp->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
    qmp->waiters = g_ptr_array_new();
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(source, G_SOURCE_FUNC(on_readable), qmp, release);
    qmp->source = g_source_ref(source);
    g_source_attach(source, context);
    g_source_unref(source);
    if (negotiate(qmp, deadline_us, error))
        return qmp;
    qmp_unref(qmp);
    return NULL;
}

Qmp *
qmp_new(GMainContext *context, int fd, int timeout_ms, const QmpCallbacks *callbacks, GError **error)
{
    return new_until(context, fd, deadline_after(timeout_ms), callbacks, error);
}

// One try: the fd, or -1 with errno.
static int
connect_once(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *) address, sizeof(*address)) == 0)
        return fd;
    int problem = errno;
    if (fd >= 0)
        close(fd);
    errno = problem;
    return -1;
}

// Tries until the deadline: the connected socket, or -1.
static int
connect_until(const struct sockaddr_un *address, GPid pid, gint64 deadline_us, GError **error)
{
    for (;;) {
        int fd = connect_once(address);
        if (fd >= 0)
            return fd;
        int problem = errno;
        // Also when the process has ended and nobody has waited for it.
        if (pid > 0 && emulator_start_time(pid) == 0) {
            set_ended(error);
            return -1;
        }
        gboolean late = deadline_us >= 0 && g_get_monotonic_time() >= deadline_us;
        if (late || (problem != ENOENT && problem != ECONNREFUSED && problem != EAGAIN)) {
            quasar_set_system_error(error, problem, "cannot connect to the emulator's monitor '%s'",
                                    address->sun_path);
            return -1;
        }
        g_usleep(5000);
    }
}

Qmp *
qmp_connect(GMainContext *context, const char *path, GPid pid, int timeout_ms, const QmpCallbacks *callbacks,
            GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    gint64 deadline_us = deadline_after(timeout_ms);
    int fd = -1;
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "monitor path '%s' is too long for a socket", path);
    else
        fd = connect_until(&address, pid, deadline_us, error);
    if (fd >= 0)
        return new_until(context, fd, deadline_us, callbacks, error);
    if (callbacks && callbacks->destroy)
        callbacks->destroy(callbacks->opaque);
    return NULL;
}

QmpWaiter *
qmp_waiter_new(Qmp *qmp, const char *const *events)
{
    QmpWaiter *waiter = g_new0(QmpWaiter, 1);
    waiter->qmp = qmp_ref(qmp);
    waiter->events = g_strdupv((char **) events);
    g_queue_init(&waiter->pending);
    g_mutex_lock(&qmp->lock);
    g_ptr_array_add(qmp->waiters, waiter);
    g_mutex_unlock(&qmp->lock);
    return waiter;
}

json_t *
qmp_waiter_next(QmpWaiter *waiter, gint64 deadline_us, GError **error)
{
    Qmp *qmp = waiter->qmp;
    gboolean in_time = TRUE;
    g_mutex_lock(&qmp->lock);
    while (!waiter->cancelled && g_queue_is_empty(&waiter->pending) && !qmp->closed && in_time)
        in_time = wait_changed(qmp, deadline_us);
    gboolean cancelled = waiter->cancelled, closed = qmp->closed;
    json_t *event = cancelled ? NULL : g_queue_pop_head(&waiter->pending);
    g_mutex_unlock(&qmp->lock);
    if (event)
        return event;
    if (cancelled)
        quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "the wait for the emulator was given up");
    else if (closed)
        set_ended(error);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the emulator did not report in time");
    return NULL;
}

void
qmp_waiter_cancel(QmpWaiter *waiter)
{
    g_mutex_lock(&waiter->qmp->lock);
    waiter->cancelled = TRUE;
    g_cond_broadcast(&waiter->qmp->changed);
    g_mutex_unlock(&waiter->qmp->lock);
}

void
qmp_waiter_free(QmpWaiter *waiter)
{
    if (!waiter)
        return;
    g_mutex_lock(&waiter->qmp->lock);
    g_ptr_array_remove(waiter->qmp->waiters, waiter);
    g_mutex_unlock(&waiter->qmp->lock);
    g_queue_clear_full(&waiter->pending, (GDestroyNotify) json_decref);
    g_strfreev(waiter->events);
    qmp_unref(waiter->qmp);
    g_free(waiter);
}
