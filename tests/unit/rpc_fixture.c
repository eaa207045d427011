// SPDX-License-Identifier: LGPL-2.1-or-later
// For the tests of the wire: a live server on a thread of its own, and hands to speak to it in raw frames.
#include "tests/unit/rpc_fixture.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/rpc/remote.h"

#define HANDLER(name) static gboolean name(RpcCall *call, const void *args, void *ret, GError **error)

static RpcFixture *current; // handlers have no data of their own

HANDLER(handle_gate)
{
    g_mutex_lock(&current->lock);
    current->gate_waiting++;
    g_cond_broadcast(&current->changed);
    while (!current->gate_open)
        g_cond_wait(&current->changed, &current->lock);
    g_mutex_unlock(&current->lock);
    ((WireIntRet *) ret)->value = 1;
    return TRUE;
}

HANDLER(handle_echo)
{
    ((WireIntRet *) ret)->value = ((const WireIntArgs *) args)->value;
    return TRUE;
}

HANDLER(handle_fails)
{
    quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name 'web'");
    return FALSE;
}

HANDLER(handle_big)
{
    // Tests send random arguments too.
    ((WireTextRet *) ret)->text =
        g_strnfill((gsize) CLAMP(((const WireIntArgs *) args)->value, 0, 1 << 22), 'x');
    return TRUE;
}

HANDLER(handle_flood)
{
    g_autofree char *text = g_strnfill(FLOOD_EVENT, 'x');
    WireTextRet event = {text};
    for (int i = 0; i < MIN(((const WireIntArgs *) args)->value, 1024); i++)
        rpc_session_send_event(rpc_call_session(call), FLOOD, (xdrproc_t) xdr_WireTextRet, &event);
    ((WireIntRet *) ret)->value = 1;
    return TRUE;
}

HANDLER(handle_swap_fd)
{
    int ends[2];
    if (rpc_call_fd(call, 0) < 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "no file descriptor came");
        return FALSE;
    }
    g_assert_cmpint(write(rpc_call_fd(call, 0), "i", 1), ==, 1);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    g_assert_cmpint(write(ends[0], "o", 1), ==, 1);
    close(ends[0]);
    ((WireIntRet *) ret)->value = 1;
    return rpc_call_pass_fd(call, ends[1], error);
}

static void
stream_ended(gpointer data)
{
    RpcFixture *fixture = data;
    g_mutex_lock(&fixture->lock);
    fixture->streams_ended++;
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

HANDLER(handle_stream)
{
    int ends[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), ==, 0);
    g_autoptr(RpcStream) stream = rpc_stream_new(call);
    rpc_call_open_stream(call, stream, ends[0], stream_ended, current);
    g_mutex_lock(&current->lock);
    if (current->stream_fd >= 0)
        close(current->stream_fd);
    current->stream_fd = ends[1];
    rpc_stream_unref(current->stream);
    current->stream = g_steal_pointer(&stream);
    g_mutex_unlock(&current->lock);
    if (((const WireIntArgs *) args)->value < 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "the stream is not wanted");
        return FALSE;
    }
    if (((const WireIntArgs *) args)->value > 0) {
        g_autoptr(GError) reason = NULL;
        quasar_set_error(&reason, VIR_ERR_OPERATION_ABORTED, "taken over");
        rpc_stream_abort(current->stream, reason); // is there before the stream is open
    }
    ((WireIntRet *) ret)->value = 1;
    return TRUE;
}

// What rpc_client_connect() asks for.
HANDLER(handle_auth_list)
{
    WireAuthListRet *out = ret;
    out->types.types_len = 1;
    out->types.types_val = g_new0(int, 1);
    return TRUE;
}

HANDLER(handle_feature)
{
    if (((const WireIntArgs *) args)->value == 10)
        rpc_session_start_keepalive(rpc_call_session(call));
    ((WireIntRet *) ret)->value = 1;
    return TRUE;
}

HANDLER(handle_open)
{
    const char *name = rpc_text_or_null(((const WireOpenArgs *) args)->name);
    if (g_str_equal(name, "quasar:///system"))
        return TRUE;
    quasar_set_error(error, VIR_ERR_NO_CONNECT, "%s", name);
    return FALSE;
}

HANDLER(handle_nothing)
{
    return TRUE;
}

#define RO_PRE (RPC_BEFORE_OPEN | RPC_READ_ONLY_OK)
static const RpcProcedure procedures[] = {
    RPC_PROCEDURE(GATE, "gate", RpcVoid, WireIntRet, RO_PRE, handle_gate),
    RPC_PROCEDURE(ECHO, "echo", WireIntArgs, WireIntRet, RO_PRE, handle_echo),
    RPC_PROCEDURE(FAILS, "fails", RpcVoid, RpcVoid, RO_PRE, handle_fails),
    RPC_PROCEDURE(WRITES, "writes", WireIntArgs, WireIntRet, RPC_BEFORE_OPEN, handle_echo),
    RPC_PROCEDURE(BIG, "big", WireIntArgs, WireTextRet, RO_PRE, handle_big),
    RPC_PROCEDURE(FLOOD, "flood", WireIntArgs, WireIntRet, RO_PRE, handle_flood),
    RPC_PROCEDURE(SWAP_FD, "swap fd", RpcVoid, WireIntRet, RO_PRE, handle_swap_fd),
    RPC_PROCEDURE(STREAM, "stream", WireIntArgs, WireIntRet, RO_PRE, handle_stream),
    RPC_PROCEDURE(WIRE_AUTH_LIST, "auth list", RpcVoid, WireAuthListRet, RO_PRE, handle_auth_list),
    RPC_PROCEDURE(WIRE_CONNECT_SUPPORTS_FEATURE, "feature", WireIntArgs, WireIntRet, RO_PRE, handle_feature),
    RPC_PROCEDURE(WIRE_CONNECT_OPEN, "open", WireOpenArgs, RpcVoid, RPC_READ_ONLY_OK | RPC_OPENS,
                  handle_open),
    RPC_PROCEDURE(WIRE_CONNECT_CLOSE, "close", RpcVoid, RpcVoid, RPC_READ_ONLY_OK | RPC_CLOSES,
                  handle_nothing),
};

static const char *
procedure_name(guint number)
{
    return number == NAMED ? "virNotServed" : NULL;
}

const RpcProgram rpc_fixture_program = {RPC_PROGRAM_REMOTE, 1, procedures, G_N_ELEMENTS(procedures),
                                        procedure_name};

const RpcProcedure *
rpc_fixture_procedure(guint number)
{
    const RpcProcedure *procedure = rpc_program_find(&rpc_fixture_program, number);
    assert_non_null(procedure);
    return procedure;
}

// ---- the server ----

static void
session_opened(RpcSession *session, gpointer data)
{
    RpcFixture *fixture = data;
    const char *dn = rpc_session_peer_dn(session);
    g_mutex_lock(&fixture->lock);
    fixture->sessions++;
    g_ptr_array_add(fixture->names, g_strdup(dn ? dn : "-"));
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

static void
session_closed(RpcSession *session, gpointer data)
{
    RpcFixture *fixture = data;
    g_mutex_lock(&fixture->lock);
    fixture->sessions--;
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

static void
peer_connected(int fd, TlsSession *tls, gpointer data)
{
    RpcFixture *fixture = data;
    g_mutex_lock(&fixture->lock);
    fixture->peer_fd = fd;
    fixture->peer_tls = tls;
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

static gpointer
serve(gpointer data)
{
    RpcFixture *fixture = data;
    g_main_context_push_thread_default(fixture->context);
    g_main_loop_run(fixture->loop);
    // The server is freed where it served; what its workers left behind holds sessions.
    g_clear_pointer(&fixture->server, rpc_server_free);
    while (g_main_context_iteration(fixture->context, FALSE))
        ;
    g_main_context_pop_thread_default(fixture->context);
    return NULL;
}

RpcFixture *
rpc_fixture_new(const RpcServerLimits *limits)
{
    RpcFixture *fixture = g_new0(RpcFixture, 1);
    const RpcServerCallbacks callbacks = {
        .session_opened = session_opened,
        .session_closed = session_closed,
        .peer_connected = peer_connected,
        .data = fixture,
    };
    signal(SIGPIPE, SIG_IGN);
    current = fixture;
    g_mutex_init(&fixture->lock);
    g_cond_init(&fixture->changed);
    fixture->names = g_ptr_array_new_with_free_func(g_free);
    fixture->peer_fd = -1;
    fixture->stream_fd = -1;
    fixture->context = g_main_context_new();
    fixture->loop = g_main_loop_new(fixture->context, FALSE);
    fixture->server = rpc_server_new(fixture->context, &rpc_fixture_program, 1, &callbacks, limits);
    fixture->thread = g_thread_new("server", serve, fixture);
    return fixture;
}

static void
quit(RpcFixture *fixture, gpointer data)
{
    g_main_loop_quit(fixture->loop);
}

void
rpc_fixture_free(RpcFixture *fixture)
{
    rpc_fixture_open_gate(fixture);
    rpc_fixture_run(fixture, quit, NULL);
    g_thread_join(fixture->thread);
    rpc_stream_unref(fixture->stream);
    if (fixture->stream_fd >= 0)
        close(fixture->stream_fd);
    tls_session_free(fixture->peer_tls);
    if (fixture->peer_fd >= 0)
        close(fixture->peer_fd);
    g_ptr_array_unref(fixture->names);
    g_main_loop_unref(fixture->loop);
    g_main_context_unref(fixture->context);
    g_cond_clear(&fixture->changed);
    g_mutex_clear(&fixture->lock);
    g_free(fixture);
    current = NULL;
}

int
rpc_fixture_setup(void **state)
{
    *state = rpc_fixture_new(NULL);
    return 0;
}

int
rpc_fixture_teardown(void **state)
{
    rpc_fixture_free(*state);
    return 0;
}

typedef struct {
    RpcFixture *fixture;
    void (*function)(RpcFixture *fixture, gpointer data);
    gpointer data;
    gboolean done;
} Errand;

static gboolean
run_errand(gpointer data)
{
    Errand *errand = data;
    errand->function(errand->fixture, errand->data);
    g_mutex_lock(&errand->fixture->lock);
    errand->done = TRUE;
    g_cond_broadcast(&errand->fixture->changed);
    g_mutex_unlock(&errand->fixture->lock);
    return G_SOURCE_REMOVE;
}

void
rpc_fixture_run(RpcFixture *fixture, void (*function)(RpcFixture *fixture, gpointer data), gpointer data)
{
    Errand errand = {fixture, function, data, FALSE};
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, run_errand, &errand, NULL);
    g_source_attach(source, fixture->context);
    g_mutex_lock(&fixture->lock);
    while (!errand.done)
        g_cond_wait(&fixture->changed, &fixture->lock);
    g_mutex_unlock(&fixture->lock);
}

void
rpc_fixture_wait(RpcFixture *fixture, const guint *value, guint wanted)
{
    gint64 end = g_get_monotonic_time() + WAIT_MS * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&fixture->lock);
    while (*value != wanted && g_cond_wait_until(&fixture->changed, &fixture->lock, end))
        ;
    guint seen = *value;
    g_mutex_unlock(&fixture->lock);
    assert_int_equal(seen, wanted);
}

void
rpc_fixture_open_gate(RpcFixture *fixture)
{
    g_mutex_lock(&fixture->lock);
    fixture->gate_open = TRUE;
    g_cond_broadcast(&fixture->changed);
    g_mutex_unlock(&fixture->lock);
}

static void
add_client(RpcFixture *fixture, gpointer data)
{
    rpc_server_add_client(fixture->server, ((int *) data)[0], ((int *) data)[1]);
}

int
rpc_fixture_connect(RpcFixture *fixture, gboolean read_only)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    int arrival[2] = {fds[1], read_only};
    rpc_fixture_run(fixture, add_client, arrival);
    return fds[0];
}

// ---- raw frames ----

static void
wait_for(RpcConnection *connection, short events)
{
    struct pollfd pfd = {.fd = rpc_connection_fd(connection), .events = events};
    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
}

RpcMessage *
wire_receive(RpcConnection *connection)
{
    for (;;) {
        RpcMessage *message = NULL;
        RpcIo io = rpc_connection_receive(connection, &message, NULL);
        if (io != RPC_IO_AGAIN)
            return io == RPC_IO_MESSAGE ? message : NULL;
        wait_for(connection, POLLIN);
    }
}

void
wire_send(RpcConnection *connection, RpcMessage *message)
{
    RpcIo io;
    rpc_connection_queue(connection, message);
    while ((io = rpc_connection_send(connection, NULL)) == RPC_IO_AGAIN)
        wait_for(connection, POLLOUT);
    assert_int_equal(io, RPC_IO_MESSAGE);
}

RpcMessage *
wire_call(guint procedure, guint serial, xdrproc_t filter, const void *args)
{
    RpcMessage *message =
        rpc_message_new(&(RpcHeader){RPC_PROGRAM_REMOTE, 1, procedure, RPC_CALL, serial, RPC_OK});
    if (filter)
        assert_true(rpc_message_encode(message, filter, args, NULL));
    rpc_message_finish(message);
    return message;
}

void
wire_send_call(RpcConnection *connection, guint procedure, guint serial, int argument)
{
    WireIntArgs args = {argument};
    wire_send(connection, wire_call(procedure, serial, (xdrproc_t) xdr_WireIntArgs, &args));
}

int
wire_error_code(const RpcMessage *message)
{
    WireError wire = {0};
    assert_non_null(message);
    assert_int_equal(message->header.status, RPC_ERROR);
    assert_true(rpc_message_decode(message, (xdrproc_t) xdr_WireError, &wire, NULL));
    int code = wire.code;
    xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    return code;
}

int
wire_int(const RpcMessage *message)
{
    WireIntRet ret;
    assert_non_null(message);
    assert_int_equal(message->header.status, RPC_OK);
    assert_true(rpc_message_decode(message, (xdrproc_t) xdr_WireIntRet, &ret, NULL));
    return ret.value;
}

void
assert_echo(RpcClient *client, int value)
{
    WireIntArgs args = {value};
    WireIntRet ret;
    g_autoptr(GError) error = NULL;
    gboolean ok = rpc_client_call(client, rpc_fixture_procedure(ECHO), &args, &ret, WAIT_MS, &error);
    assert_null(error);
    assert_true(ok);
    assert_int_equal(ret.value, value);
}

void
assert_serves(RpcFixture *fixture)
{
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(fixture, FALSE), NULL);
    assert_echo(client, 9);
}
