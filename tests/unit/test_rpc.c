// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/rpc/: a live server over socket pairs, spoken to by our client and by hand-made bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/rpc/client.h"
#include "driver/rpc/message.h"
#include "driver/rpc/protocol.h"
#include "driver/rpc/remote.h"
#include "driver/rpc/server.h"

#define WAIT_MS 20000
#define GATE    9001
#define ECHO    9002
#define FAILS   9003

static GMutex gate_lock;
static GCond gate_changed;
static guint gate_waiting;
static gboolean gate_open;

// Waits until the test opens the gate.
static gboolean
handle_gate(RpcCall *call, const void *args, void *ret, GError **error)
{
    g_mutex_lock(&gate_lock);
    gate_waiting++;
    g_cond_broadcast(&gate_changed);
    while (!gate_open)
        g_cond_wait(&gate_changed, &gate_lock);
    g_mutex_unlock(&gate_lock);
    ((WireIntRet *) ret)->value = 1;
    return TRUE;
}

static gboolean
handle_echo(RpcCall *call, const void *args, void *ret, GError **error)
{
    ((WireIntRet *) ret)->value = ((const WireIntArgs *) args)->value;
    return TRUE;
}

static gboolean
handle_fails(RpcCall *call, const void *args, void *ret, GError **error)
{
    quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name 'web'");
    return FALSE;
}

static const RpcProcedure procedures[] = {
    RPC_PROCEDURE(GATE, "gate", RpcVoid, WireIntRet, RPC_BEFORE_OPEN, handle_gate),
    RPC_PROCEDURE(ECHO, "echo", WireIntArgs, WireIntRet, RPC_BEFORE_OPEN, handle_echo),
    RPC_PROCEDURE(FAILS, "fails", RpcVoid, RpcVoid, RPC_BEFORE_OPEN, handle_fails),
};
static const RpcProcedure unknown = RPC_PROCEDURE(9999, "unknown", RpcVoid, RpcVoid, 0, NULL);
static const RpcProgram programs[] = {{RPC_PROGRAM_REMOTE, 1, procedures, G_N_ELEMENTS(procedures)}};

// A server on a thread of its own.
typedef struct {
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    RpcServer *server;
} Fixture;

static gpointer
serve(gpointer data)
{
    Fixture *fixture = data;
    g_main_context_push_thread_default(fixture->context);
    g_main_loop_run(fixture->loop);
    // The server is freed where it served.
    g_clear_pointer(&fixture->server, rpc_server_free);
    g_main_context_pop_thread_default(fixture->context);
    return NULL;
}

static int
start_server(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    const RpcServerCallbacks callbacks = {NULL};
    gate_open = FALSE;
    gate_waiting = 0;
    fixture->context = g_main_context_new();
    fixture->loop = g_main_loop_new(fixture->context, FALSE);
    fixture->server = rpc_server_new(fixture->context, programs, G_N_ELEMENTS(programs), &callbacks, NULL);
    fixture->thread = g_thread_new("server", serve, fixture);
    *state = fixture;
    return 0;
}

static gboolean
quit(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static int
stop_server(void **state)
{
    Fixture *fixture = *state;
    g_main_context_invoke(fixture->context, quit, fixture->loop);
    g_thread_join(fixture->thread);
    g_main_loop_unref(fixture->loop);
    g_main_context_unref(fixture->context);
    g_free(fixture);
    return 0;
}

typedef struct {
    RpcServer *server;
    int fd;
} Arrival;

static gboolean
add_client(gpointer data)
{
    g_autofree Arrival *arrival = data;
    rpc_server_add_client(arrival->server, arrival->fd, FALSE);
    return G_SOURCE_REMOVE;
}

// Our end of a new connection to the server.
static int
connect_pair(Fixture *fixture)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    Arrival *arrival = g_new(Arrival, 1);
    *arrival = (Arrival){fixture->server, fds[1]};
    g_main_context_invoke(fixture->context, add_client, arrival);
    return fds[0];
}

static void
assert_echo(RpcClient *client, int value)
{
    WireIntArgs args = {value};
    WireIntRet ret;
    g_autoptr(GError) error = NULL;
    gboolean ok = rpc_client_call(client, &procedures[1], &args, &ret, WAIT_MS, &error);
    assert_null(error);
    assert_true(ok);
    assert_int_equal(ret.value, value);
}

static void
errors_come_with_their_codes(void **state)
{
    g_autoptr(RpcClient) client = rpc_client_new(connect_pair(*state), NULL);
    g_autoptr(GError) failed = NULL, missing = NULL;
    assert_false(rpc_client_call(client, &procedures[2], NULL, NULL, WAIT_MS, &failed));
    assert_int_equal(quasar_error_code(failed), VIR_ERR_NO_DOMAIN);
    assert_false(rpc_client_call(client, &unknown, NULL, NULL, WAIT_MS, &missing));
    assert_non_null(missing);
    assert_true(rpc_client_alive(client));
    assert_echo(client, 7);
}

static gpointer
call_gate(gpointer client)
{
    WireIntRet ret;
    return GINT_TO_POINTER(rpc_client_call(client, &procedures[0], NULL, &ret, WAIT_MS, NULL) &&
                           ret.value == 1);
}

// A call that waits does not hold back another, and its reply still finds it.
static void
replies_may_overtake(void **state)
{
    g_autoptr(RpcClient) client = rpc_client_new(connect_pair(*state), NULL);
    GThread *thread = g_thread_new("gate", call_gate, client);
    g_mutex_lock(&gate_lock);
    while (gate_waiting == 0)
        g_cond_wait(&gate_changed, &gate_lock);
    g_mutex_unlock(&gate_lock);
    assert_echo(client, 8);
    g_mutex_lock(&gate_lock);
    gate_open = TRUE;
    g_cond_broadcast(&gate_changed);
    g_mutex_unlock(&gate_lock);
    assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
}

static void
assert_closed_after(Fixture *fixture, const guint8 *bytes, gsize length)
{
    int fd = connect_pair(fixture);
    guint8 answer[4096];
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
    shutdown(fd, SHUT_WR);
    ssize_t n;
    while ((n = read(fd, answer, sizeof(answer))) > 0)
        ;
    close(fd);
    // Others are served as before.
    g_autoptr(RpcClient) client = rpc_client_new(connect_pair(fixture), NULL);
    assert_echo(client, 9);
}

static void
rubbish_ends_its_own_connection_only(void **state)
{
    const RpcHeader header = {.program = RPC_PROGRAM_REMOTE, .version = 1, .procedure = ECHO, .serial = 1};
    guint8 start[RPC_HEADER_SIZE], garbage[256];
    memset(garbage, 0xa5, sizeof(garbage));
    assert_closed_after(*state, garbage, sizeof(garbage));
    rpc_header_write(start, RPC_HEADER_SIZE + 4, &header); // its four bytes never come
    for (gsize cut = 0; cut <= sizeof(start); cut += 7)
        assert_closed_after(*state, start, cut);
    rpc_header_write(start, RPC_FRAME_MAX + 1, &header);
    assert_closed_after(*state, start, sizeof(start));
    rpc_header_write(start, RPC_HEADER_SIZE - 1, &header);
    assert_closed_after(*state, start, sizeof(start));
    rpc_header_write(start, RPC_HEADER_SIZE, &header); // arguments missing
    assert_closed_after(*state, start, sizeof(start));
}

static void
many_clients_are_served(void **state)
{
    g_autoptr(GPtrArray) clients = g_ptr_array_new_with_free_func((GDestroyNotify) rpc_client_free);
    for (int i = 0; i < 200; i++)
        g_ptr_array_add(clients, rpc_client_new(connect_pair(*state), NULL));
    for (guint i = 0; i < clients->len; i++)
        assert_echo(clients->pdata[i], (int) i);
}

static void
lost_connection_fails_calls(void **state)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    g_autoptr(RpcClient) client = rpc_client_new(fds[0], NULL);
    g_autoptr(GError) late = NULL, lost = NULL;
    WireIntRet ret;
    assert_false(rpc_client_call(client, &procedures[0], NULL, &ret, 1, &late));
    assert_int_equal(quasar_error_code(late), VIR_ERR_OPERATION_TIMEOUT);
    close(fds[1]);
    assert_false(rpc_client_call(client, &procedures[0], NULL, &ret, WAIT_MS, &lost));
    assert_int_equal(quasar_error_code(lost), VIR_ERR_RPC);
    assert_false(rpc_client_alive(client));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(errors_come_with_their_codes, start_server, stop_server),
        cmocka_unit_test_setup_teardown(replies_may_overtake, start_server, stop_server),
        cmocka_unit_test_setup_teardown(rubbish_ends_its_own_connection_only, start_server, stop_server),
        cmocka_unit_test_setup_teardown(many_clients_are_served, start_server, stop_server),
        cmocka_unit_test(lost_connection_fails_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
