// SPDX-License-Identifier: LGPL-2.1-or-later
// The QMP client against a scripted monitor: a thread of the test at the other end of a socket pair.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <glib/gstdio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/monitor.h"

#define GREETING                                                                                             \
    "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7, \"minor\": 2, \"micro\": 0}}, \"capabilities\": "     \
    "[]}}\r\n"
// Longer than any wait that is expected to end otherwise.
#define PATIENCE_MS 30000

// The emulator's half: what it does with its end of the connection, which it closes.
typedef void (*Script)(int fd);

typedef struct {
    GMainContext *context;
    GMainLoop *loop;
    GThread *reader; // stands for virtquasard's emulator thread
    GThread *server;
    GMutex lock;
    GCond changed;
    GString *events; // names of the events that the callback has seen
    int closed, destroyed;
} Fixture;

typedef struct {
    Script script;
    int fd;
} Server;

static gpointer
serve(gpointer data)
{
    Server *server = data;
    server->script(server->fd);
    close(server->fd);
    g_free(server);
    return NULL;
}

static void
say(int fd, const char *text)
{
    for (gsize length = strlen(text); length > 0;) {
        ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        text += sent;
        length -= sent;
    }
}

static void
say_bytewise(int fd, const char *text)
{
    for (; *text; text++) {
        const char one[] = {*text, '\0'};
        say(fd, one);
        g_usleep(100);
    }
}

// One command; NULL when the client has gone.
static json_t *
hear(int fd)
{
    g_autoptr(GString) line = g_string_new(NULL);
    char byte;
    while (recv(fd, &byte, 1, 0) == 1) {
        if (byte == '\n')
            return json_loads(line->str, 0, NULL);
        g_string_append_c(line, byte);
    }
    return NULL;
}

// Takes the command and says "return" or "error" with its id.
static void
answer(int fd, json_t *command, const char *key, const char *value)
{
    g_autofree char *text = g_strdup_printf("{\"%s\": %s, \"id\": %" JSON_INTEGER_FORMAT "}\r\n", key, value,
                                            json_integer_value(json_object_get(command, "id")));
    say(fd, text);
    json_decref(command);
}

static void
greet(int fd)
{
    say(fd, GREETING);
    answer(fd, hear(fd), "return", "{}");
}

// Returns when the client has closed its end.
static void
until_closed(int fd)
{
    for (json_t *command = hear(fd); command; command = hear(fd))
        json_decref(command);
}

static gpointer
run_loop(gpointer loop)
{
    g_main_context_push_thread_default(g_main_loop_get_context(loop));
    g_main_loop_run(loop);
    g_main_context_pop_thread_default(g_main_loop_get_context(loop));
    return NULL;
}

static int
set_up(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    g_mutex_init(&fixture->lock);
    g_cond_init(&fixture->changed);
    fixture->events = g_string_new(NULL);
    fixture->context = g_main_context_new();
    fixture->loop = g_main_loop_new(fixture->context, FALSE);
    fixture->reader = g_thread_new("reader", run_loop, fixture->loop);
    *state = fixture;
    return 0;
}

static gboolean
quit(gpointer loop)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static int
tear_down(void **state)
{
    Fixture *fixture = *state;
    GSource *source = g_idle_source_new();
    g_source_set_callback(source, quit, fixture->loop, NULL);
    g_source_attach(source, fixture->context);
    g_source_unref(source);
    g_thread_join(fixture->reader);
    if (fixture->server)
        g_thread_join(fixture->server);
    g_main_loop_unref(fixture->loop);
    g_main_context_unref(fixture->context);
    g_string_free(fixture->events, TRUE);
    g_mutex_clear(&fixture->lock);
    g_cond_clear(&fixture->changed);
    g_free(fixture);
    return 0;
}

static void
on_event(Qmp *qmp G_GNUC_UNUSED, const char *event, json_t *data G_GNUC_UNUSED,
         gint64 received_us G_GNUC_UNUSED, gpointer opaque)
{
    Fixture *fixture = opaque;
    assert_true(g_thread_self() == fixture->reader);
    g_mutex_lock(&fixture->lock);
    g_string_append_printf(fixture->events, "%s ", event);
    g_mutex_unlock(&fixture->lock);
}

static void
count(Fixture *fixture, int *counter)
{
    g_mutex_lock(&fixture->lock);
    (*counter)++;
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

static void
on_closed(Qmp *qmp G_GNUC_UNUSED, gpointer opaque)
{
    count(opaque, &((Fixture *) opaque)->closed);
}

static void
on_destroy(gpointer opaque)
{
    count(opaque, &((Fixture *) opaque)->destroyed);
}

static void
wait_counted(Fixture *fixture, const int *counter)
{
    g_mutex_lock(&fixture->lock);
    while (*counter == 0)
        g_cond_wait(&fixture->changed, &fixture->lock);
    g_mutex_unlock(&fixture->lock);
}

static Qmp *
start_with(Fixture *fixture, Script script, int timeout_ms, GError **error)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    Server *server = g_new0(Server, 1);
    *server = (Server){.script = script, .fd = ends[1]};
    fixture->server = g_thread_new("monitor", serve, server);
    const QmpCallbacks callbacks = {
        .event = on_event, .closed = on_closed, .opaque = fixture, .destroy = on_destroy};
    return qmp_new(fixture->context, ends[0], timeout_ms, &callbacks, error);
}

static Qmp *
start(Fixture *fixture, Script script)
{
    g_autoptr(GError) error = NULL;
    Qmp *qmp = start_with(fixture, script, PATIENCE_MS, &error);
    if (!qmp)
        fail_msg("%s", error->message);
    return qmp;
}

static void
assert_refused(Qmp *qmp, const char *command, int timeout_ms, int code, const char *words)
{
    g_autoptr(GError) error = NULL;
    assert_null(qmp_execute(qmp, command, NULL, timeout_ms, &error));
    assert_int_equal(quasar_error_code(error), code);
    if (!strstr(error->message, words))
        fail_msg("'%s' is not in '%s'", words, error->message);
}

static void
bytewise_script(int fd)
{
    say_bytewise(fd, GREETING);
    g_autoptr(json_t) capabilities = hear(fd);
    g_autoptr(json_t) command = NULL;
    assert_string_equal(json_string_value(json_object_get(capabilities, "execute")), "qmp_capabilities");
    say_bytewise(fd, "{\"return\": {}, \"id\": 1}\r\n");
    command = hear(fd);
    assert_string_equal(json_string_value(json_object_get(command, "execute")), "query-status");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(command, "arguments"), "x")), 7);
    say_bytewise(fd, "{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n");
    until_closed(fd);
}

static void
test_fragments(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, bytewise_script);
    g_autoptr(json_t) reply = qmp_execute(qmp, "query-status", json_pack("{s:i}", "x", 7), PATIENCE_MS, NULL);
    assert_string_equal(json_string_value(json_object_get(reply, "status")), "running");
    assert_true(qmp_is_connected(qmp));
}

static void
events_script(int fd)
{
    greet(fd);
    json_t *command = hear(fd);
    say(fd, "{\"event\": \"STOP\"}\r\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"active\"}}\r\n");
    answer(fd, command, "return", "{}");
    say(fd,
        "{\"event\": \"RESUME\"}\r\n{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\r\n");
    until_closed(fd);
}

static void
assert_next_event(QmpWaiter *waiter, const char *name, const char *status)
{
    g_autoptr(json_t) event =
        qmp_waiter_next(waiter, g_get_monotonic_time() + PATIENCE_MS * G_TIME_SPAN_MILLISECOND, NULL);
    assert_non_null(event);
    assert_string_equal(json_string_value(json_object_get(event, "event")), name);
    assert_true(json_integer_value(json_object_get(event, "at")) > 0);
    json_t *data = json_object_get(event, "data");
    if (status)
        assert_string_equal(json_string_value(json_object_get(data, "status")), status);
    else
        assert_null(data);
}

static void
test_events(void **state)
{
    static const char *const migration[] = {"MIGRATION", NULL};
    Fixture *fixture = *state;
    g_autoptr(Qmp) qmp = start(fixture, events_script);
    g_autoptr(QmpWaiter) all = qmp_waiter_new(qmp, NULL);
    g_autoptr(QmpWaiter) some = qmp_waiter_new(qmp, migration);
    assert_true(qmp_run(qmp, "stop", NULL, PATIENCE_MS, NULL));
    // What came before the reply has been told before the call returned.
    g_mutex_lock(&fixture->lock);
    assert_true(g_str_has_prefix(fixture->events->str, "STOP MIGRATION "));
    g_mutex_unlock(&fixture->lock);
    assert_next_event(all, "STOP", NULL);
    assert_next_event(all, "MIGRATION", "active");
    assert_next_event(all, "RESUME", NULL);
    assert_next_event(all, "MIGRATION", "completed");
    assert_next_event(some, "MIGRATION", "active");
    assert_next_event(some, "MIGRATION", "completed");
    g_autoptr(GError) error = NULL;
    assert_null(qmp_waiter_next(some, g_get_monotonic_time(), &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
    qmp_waiter_cancel(some);
    g_clear_error(&error);
    assert_null(qmp_waiter_next(some, -1, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_ABORTED);
}

static void
reverse_script(int fd)
{
    greet(fd);
    json_t *first = hear(fd), *second = hear(fd);
    g_autofree char *echo_second =
        g_strdup_printf("\"%s\"", json_string_value(json_object_get(second, "execute")));
    g_autofree char *echo_first =
        g_strdup_printf("\"%s\"", json_string_value(json_object_get(first, "execute")));
    answer(fd, second, "return", echo_second);
    // Answers that nobody waits for: no id, an unknown one, one that is no number.
    say(fd, "{\"return\": \"stray\"}\r\n{\"return\": \"stray\", \"id\": 99}\r\n"
            "{\"return\": \"stray\", \"id\": \"1\"}\r\n{}\r\n");
    answer(fd, first, "return", echo_first);
    until_closed(fd);
}

static gpointer
call_other(gpointer qmp)
{
    return qmp_execute(qmp, "other", NULL, PATIENCE_MS, NULL);
}

static void
test_out_of_order(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, reverse_script);
    GThread *thread = g_thread_new("other", call_other, qmp);
    g_autoptr(json_t) own = qmp_execute(qmp, "own", NULL, PATIENCE_MS, NULL);
    g_autoptr(json_t) other = g_thread_join(thread);
    assert_string_equal(json_string_value(own), "own");
    assert_string_equal(json_string_value(other), "other");
}

static void
error_script(int fd)
{
    greet(fd);
    answer(fd, hear(fd), "error", "{\"class\": \"GenericError\", \"desc\": \"no such device\"}");
    answer(fd, hear(fd), "error", "7");
    answer(fd, hear(fd), "wrong", "7");
    answer(fd, hear(fd), "return", "{}");
    until_closed(fd);
}

static void
test_errors(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, error_script);
    assert_refused(qmp, "device_del", PATIENCE_MS, VIR_ERR_INTERNAL_ERROR, "no such device");
    assert_refused(qmp, "odd", PATIENCE_MS, VIR_ERR_INTERNAL_ERROR, "odd");
    assert_refused(qmp, "odder", PATIENCE_MS, VIR_ERR_INTERNAL_ERROR, "odder");
    assert_true(qmp_run(qmp, "fine", NULL, PATIENCE_MS, NULL));
}

static void
assert_command(int fd, const char *expected)
{
    json_t *command = hear(fd);
    g_autoptr(json_t) wanted = json_loads(expected, 0, NULL);
    assert_true(json_equal(json_object_get(command, "arguments"), json_object_get(wanted, "arguments")));
    assert_string_equal(json_string_value(json_object_get(command, "execute")),
                        json_string_value(json_object_get(wanted, "execute")));
    answer(fd, command, "return", "{}");
}

static void
adjust_script(int fd)
{
    greet(fd);
    assert_command(fd, "{\"execute\": \"balloon\", \"arguments\": {\"value\": 134217728}}");
    assert_command(fd, "{\"execute\": \"set_link\", \"arguments\": {\"name\": \"net0\", \"up\": false}}");
    until_closed(fd);
}

static void
test_adjustments(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, adjust_script);
    assert_true(monitor_balloon(qmp, 131072, NULL));
    assert_true(monitor_set_link(qmp, "net0", FALSE, NULL));
}

static void
late_script(int fd)
{
    greet(fd);
    json_t *slow = hear(fd), *next = hear(fd);
    answer(fd, slow, "return", "\"late\"");
    answer(fd, next, "return", "\"in time\"");
    until_closed(fd);
}

static void
test_late_reply_is_dropped(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, late_script);
    assert_refused(qmp, "slow", 1, VIR_ERR_OPERATION_TIMEOUT, "'slow'");
    g_autoptr(json_t) reply = qmp_execute(qmp, "next", NULL, PATIENCE_MS, NULL);
    assert_string_equal(json_string_value(reply), "in time");
}

static void
cut_script(int fd)
{
    greet(fd);
    json_decref(hear(fd));
    say(fd, "{\"return\": {\"status\": \"run");
}

static void
test_closed_in_a_reply(void **state)
{
    Fixture *fixture = *state;
    g_autoptr(Qmp) qmp = start(fixture, cut_script);
    g_autoptr(QmpWaiter) waiter = qmp_waiter_new(qmp, NULL);
    g_autoptr(GError) error = NULL;
    assert_refused(qmp, "query-status", PATIENCE_MS, VIR_ERR_OPERATION_FAILED, "emulator ended");
    assert_refused(qmp, "query-status", PATIENCE_MS, VIR_ERR_OPERATION_FAILED, "emulator ended");
    assert_null(qmp_waiter_next(waiter, -1, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
    assert_false(qmp_is_connected(qmp));
    wait_counted(fixture, &fixture->closed);
    assert_int_equal(fixture->closed, 1);
}

static void
garbage_script(int fd)
{
    greet(fd);
    json_decref(hear(fd));
    say(fd, "(qemu) info status\r\n");
    until_closed(fd);
}

static void
array_script(int fd)
{
    greet(fd);
    json_decref(hear(fd));
    say(fd, "[{\"return\": {}, \"id\": 2}]\r\n");
    until_closed(fd);
}

static void
oversize_script(int fd)
{
    greet(fd);
    json_decref(hear(fd));
    g_autofree char *much = g_strnfill(1 << 20, ' ');
    say(fd, "{\"return\": \"");
    for (guint i = 0; i <= QMP_LINE_MAX >> 20; i++)
        say(fd, much);
    until_closed(fd);
}

// The connection ends: what follows such a line cannot be trusted to begin where a message begins.
static void
assert_ends_connection(Fixture *fixture, Script script)
{
    g_autoptr(Qmp) qmp = start(fixture, script);
    assert_refused(qmp, "query-status", PATIENCE_MS, VIR_ERR_OPERATION_FAILED, "emulator ended");
    wait_counted(fixture, &fixture->closed);
    assert_false(qmp_is_connected(qmp));
}

static void
test_garbage(void **state)
{
    assert_ends_connection(*state, garbage_script);
}

static void
test_array(void **state)
{
    assert_ends_connection(*state, array_script);
}

static void
test_oversize(void **state)
{
    assert_ends_connection(*state, oversize_script);
}

static void
silent_script(int fd)
{
    until_closed(fd);
}

static void
mute_script(int fd)
{
    say(fd, GREETING);
    until_closed(fd);
}

static void
test_no_negotiation(void **state)
{
    Fixture *fixture = *state;
    g_autoptr(GError) error = NULL;
    assert_null(start_with(fixture, silent_script, 50, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
    assert_non_null(strstr(error->message, "greeting"));
    g_thread_join(g_steal_pointer(&fixture->server));
    wait_counted(fixture, &fixture->destroyed);
    g_clear_error(&error);
    // Long enough that a slow machine's greeting is heard before it.
    assert_null(start_with(fixture, mute_script, 3000, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
    assert_non_null(strstr(error->message, "qmp_capabilities"));
    assert_int_equal(fixture->closed, 0);
}

static void
no_greeting_script(int fd)
{
    (void) fd;
}

static void
test_closed_before_greeting(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_null(start_with(*state, no_greeting_script, PATIENCE_MS, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
}

static gint deaf_may_end; // atomic

static void
deaf_script(int fd)
{
    greet(fd);
    while (!g_atomic_int_get(&deaf_may_end))
        g_usleep(1000);
    until_closed(fd);
}

// A stopped emulator takes bytes until the socket's buffer is full.
static void
test_deaf_emulator(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, deaf_script);
    g_autofree char *much = g_strnfill(4 << 20, 'x');
    g_autoptr(GError) error = NULL;
    assert_null(qmp_execute(qmp, "long", json_pack("{s:s}", "x", much), 50, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
    // The command was cut, so that no other can follow it.
    assert_refused(qmp, "next", PATIENCE_MS, VIR_ERR_OPERATION_FAILED, "emulator ended");
    g_atomic_int_set(&deaf_may_end, 1);
}

static const char *const not_ptys[] = {
    "/dev/tty1", "/dev/pts/", "/dev/pts/../kvm", "/dev/pts/7/", "7", "/dev/pts/70000000000", "/dev/pts/ptmx"};

static void
terminals_script(int fd)
{
    greet(fd);
    answer(fd, hear(fd), "return",
           "[{\"label\": \"other\", \"filename\": \"pty:/dev/pts/1\"},"
           " {\"label\": \"charserial0\", \"filename\": \"pty:/dev/pts/7\"}]");
    for (gsize i = 0; i < G_N_ELEMENTS(not_ptys); i++) {
        g_autofree char *list =
            g_strdup_printf("[{\"label\": \"charserial0\", \"filename\": \"pty:%s\"}]", not_ptys[i]);
        answer(fd, hear(fd), "return", list);
    }
    until_closed(fd);
}

static void
test_only_terminals_are_believed(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, terminals_script);
    g_autofree char *path = monitor_query_pty(qmp, "charserial0", NULL);
    assert_string_equal(path, "/dev/pts/7");
    for (gsize i = 0; i < G_N_ELEMENTS(not_ptys); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(monitor_query_pty(qmp, "charserial0", &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    }
}

static void
stateless_script(int fd)
{
    greet(fd);
    answer(fd, hear(fd), "return", "{\"running\": true}");
    answer(fd, hear(fd), "return", "{\"running\": true, \"status\": 7}");
    until_closed(fd);
}

static void
test_state_without_a_name(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, stateless_script);
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *status = NULL;
        gboolean running = FALSE;
        assert_false(monitor_query_status(qmp, &running, &status, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
        assert_null(status);
    }
}

static gpointer
close_it(gpointer qmp)
{
    g_usleep(20000);
    qmp_close(qmp);
    return NULL;
}

static void
unanswered_script(int fd)
{
    greet(fd);
    until_closed(fd);
}

static void
test_close_ends_calls(void **state)
{
    Fixture *fixture = *state;
    g_autoptr(Qmp) qmp = start(fixture, unanswered_script);
    GThread *thread = g_thread_new("closer", close_it, qmp);
    assert_refused(qmp, "wait", -1, VIR_ERR_OPERATION_FAILED, "emulator ended");
    g_thread_join(thread);
    // Our own end of it is no loss to report.
    assert_int_equal(fixture->closed, 0);
}

// What comes with the next byte; -1: none.
static int
take_descriptor(int fd)
{
    char byte, space[CMSG_SPACE(sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    int taken = -1;
    assert_int_equal(recvmsg(fd, &message, 0), 1);
    assert_int_equal(byte, '{');
    const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(&taken, CMSG_DATA(header), sizeof(int));
    return taken;
}

// The rest of a command whose first byte was taken.
static json_t *
hear_rest(int fd)
{
    g_autoptr(GString) line = g_string_new("{");
    char byte;
    while (recv(fd, &byte, 1, 0) == 1 && byte != '\n')
        g_string_append_c(line, byte);
    return json_loads(line->str, 0, NULL);
}

static void
descriptor_script(int fd)
{
    greet(fd);
    int taken = take_descriptor(fd);
    json_t *command = hear_rest(fd);
    assert_string_equal(json_string_value(json_object_get(command, "execute")), "getfd");
    assert_int_equal(write(taken, "here", 4), 4);
    close(taken);
    answer(fd, command, "return", "{}");
    assert_int_equal(take_descriptor(fd), -1);
    answer(fd, hear_rest(fd), "error", "{\"desc\": \"File descriptor named 'x' not found\"}");
    until_closed(fd);
}

static void
test_descriptor_goes_along(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, descriptor_script);
    int ends[2];
    char text[8] = "";
    assert_int_equal(pipe(ends), 0);
    assert_true(monitor_getfd(qmp, "x", ends[1], NULL));
    assert_int_equal(read(ends[0], text, sizeof(text)), 4);
    assert_string_equal(text, "here");
    assert_false(monitor_closefd(qmp, "x", NULL));
    close(ends[0]);
    close(ends[1]);
}

static void
call_off_script(int fd)
{
    static const char *const statuses[] = {"cancelling", "cancelling", "cancelled", "cancelling"};
    greet(fd);
    for (gsize i = 0;;) {
        json_t *command = hear(fd);
        if (!command)
            return;
        const gboolean query =
            g_str_equal(json_string_value(json_object_get(command, "execute")), "query-migrate");
        g_autofree char *value = g_strdup_printf("{\"status\": \"%s\"}", statuses[i]);
        answer(fd, command, "return", query ? value : "{}");
        i = query && i + 1 < G_N_ELEMENTS(statuses) ? i + 1 : i;
    }
}

static void
test_calling_off_waits_for_its_end(void **state)
{
    g_autoptr(Qmp) qmp = start(*state, call_off_script);
    g_autoptr(GError) error = NULL;
    assert_true(monitor_migrate_call_off(qmp, PATIENCE_MS, &error));
    // The next one never ends.
    assert_false(monitor_migrate_call_off(qmp, 20, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
}

static gpointer
listen_late(gpointer data)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, data, sizeof(address.sun_path));
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_usleep(50000);
    assert_int_equal(bind(listener, (struct sockaddr *) &address, sizeof(address)), 0);
    g_usleep(20000);
    assert_int_equal(listen(listener, 1), 0);
    int fd = accept(listener, NULL, NULL);
    close(listener);
    greet(fd);
    until_closed(fd);
    close(fd);
    return NULL;
}

static void
test_connect(void **state)
{
    Fixture *fixture = *state;
    g_autofree char *directory = g_dir_make_tmp("quasar-qmp-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "monitor.sock", NULL);
    g_autofree char *endless = g_strnfill(200, 'x');
    const QmpCallbacks callbacks = {.opaque = fixture, .destroy = on_destroy};
    g_autoptr(GError) error = NULL;
    // Nothing there, and the process has ended (no pid is that high).
    assert_null(qmp_connect(fixture->context, path, 0x7ffffff0, -1, &callbacks, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
    assert_int_equal(fixture->destroyed, 1);
    g_clear_error(&error);
    assert_null(qmp_connect(fixture->context, path, getpid(), 20, &callbacks, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
    assert_int_equal(fixture->destroyed, 2);
    g_clear_error(&error);
    assert_null(qmp_connect(fixture->context, endless, 0, 20, &callbacks, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    assert_int_equal(fixture->destroyed, 3);
    g_clear_error(&error);
    fixture->server = g_thread_new("listener", listen_late, path);
    Qmp *qmp = qmp_connect(fixture->context, path, getpid(), PATIENCE_MS, &callbacks, &error);
    assert_non_null(qmp);
    qmp_unref(qmp);
    g_thread_join(g_steal_pointer(&fixture->server));
    g_unlink(path);
    g_rmdir(directory);
}

static void
append_message(json_t *message, gpointer opaque)
{
    char *text = json_dumps(message, JSON_COMPACT);
    g_string_append_printf(opaque, "%s;", text);
    free(text);
}

static gboolean
feed(QmpParser *parser, const char *text, GString *out)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = qmp_parser_feed(parser, text, strlen(text), append_message, out, &error);
    assert_true(ok == !error);
    if (error)
        assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    return ok;
}

static void
test_parser(void **state)
{
    (void) state;
    g_autoptr(QmpParser) parser = qmp_parser_new(16);
    g_autoptr(GString) out = g_string_new(NULL);
    assert_true(feed(parser, "", out));
    assert_true(feed(parser, "\r\n \n{\"a\":1}\r\n{\"b\":2}\n{\"c\"", out));
    assert_string_equal(out->str, "{\"a\":1};{\"b\":2};");
    assert_true(feed(parser, ":3}", out));
    assert_true(feed(parser, "\n", out));
    assert_string_equal(out->str, "{\"a\":1};{\"b\":2};{\"c\":3};");
    // Sixteen bytes are allowed, seventeen are not, newline or none.
    assert_true(feed(parser, "{\"a\":\"12345678\"}\n", out));
    assert_false(feed(parser, "{\"a\":\"123456789\"}", out));
}

static void
test_parser_refuses(void **state)
{
    static const char *const lines[] = {"{\n", "[]\n", "7\n", "{} {}\n", "{\"a\":1,\"a\n", "\xff\n"};
    (void) state;
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(QmpParser) parser = qmp_parser_new(64);
        g_autoptr(GString) out = g_string_new(NULL);
        assert_true(feed(parser, "{\"a\":1}\n", out));
        assert_false(feed(parser, lines[i], out));
        assert_string_equal(out->str, "{\"a\":1};");
    }
}

#define CONNECTED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CONNECTED(test_fragments),
        CONNECTED(test_events),
        CONNECTED(test_out_of_order),
        CONNECTED(test_errors),
        CONNECTED(test_adjustments),
        CONNECTED(test_late_reply_is_dropped),
        CONNECTED(test_closed_in_a_reply),
        CONNECTED(test_garbage),
        CONNECTED(test_array),
        CONNECTED(test_oversize),
        CONNECTED(test_no_negotiation),
        CONNECTED(test_closed_before_greeting),
        CONNECTED(test_deaf_emulator),
        CONNECTED(test_only_terminals_are_believed),
        CONNECTED(test_state_without_a_name),
        CONNECTED(test_close_ends_calls),
        CONNECTED(test_descriptor_goes_along),
        CONNECTED(test_calling_off_waits_for_its_end),
        CONNECTED(test_connect),
        cmocka_unit_test(test_parser),
        cmocka_unit_test(test_parser_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
