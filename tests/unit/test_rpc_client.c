// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/rpc/client: URIs, UNIX sockets, and what is said when there is nobody.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/rpc/remote.h"
#include "tests/unit/certificates.h"
#include "tests/unit/files.h"
#include "tests/unit/rpc_fixture.h"

static void
bad_uris_say_what_is_wrong(void **state)
{
    static const struct {
        const char *uri, *reason;
    } cases[] = {
        {"", "no URI"},
        {"web", "no URI"},
        {"quasar+tls://hostB:99999/system", "no URI"},
        {"quasar+tls://hostB:port/system", "no URI"},
        {"quasar+tls://[::1/system", "no URI"},
        {"qemus+tls://hostB/system", "no quasar:// URI"},
        {"qemu+ssh://hostB/system", "use quasar+tls://hostB/system"},
        {"http://hostB/", "no quasar:// URI"},
        {"quasar+tls:///system", "names no host"},
        {"quasar+unix://hostB/system", "use quasar+tls://hostB/system"},
        {"quasar+tcp://hostB/system", "use quasar+tls://hostB/system"},
        {"quasar+ssh://root@hostB/system", "use quasar+tls://hostB/system"},
        {"quasar+ext:///system", "use quasar+tls://HOST/system"},
        {"quasar+://hostB/system", "use quasar+tls://hostB/system"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(rpc_client_connect(cases[i].uri, NULL, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
        if (!strstr(error->message, cases[i].reason) || !strstr(error->message, cases[i].uri))
            fail_msg("%s: %s", cases[i].uri, error->message);
    }
}

typedef struct {
    const char *path;
    gboolean read_only;
} Listen;

static void
listen_unix(RpcFixture *fixture, gpointer data)
{
    Listen *listen = data;
    g_autoptr(GError) error = NULL;
    rpc_server_listen_unix(fixture->server, listen->path, 0700, (gid_t) -1, listen->read_only, &error);
    g_assert_no_error(error);
}

static RpcClient *
connect_to(const char *path, const char *rest, GError **error)
{
    g_autofree char *uri = g_strdup_printf("quasar+unix:///system?socket=%s%s", path, rest);
    return rpc_client_connect(uri, NULL, error);
}

static gboolean
writes(RpcClient *client, GError **error)
{
    WireIntArgs args = {1};
    WireIntRet ret;
    return rpc_client_call(client, rpc_fixture_procedure(WRITES), &args, &ret, WAIT_MS, error);
}

static void
unix_sockets_are_reached(void **state)
{
    char *directory = test_directory_new();
    g_autofree char *path = g_build_filename(directory, "sock", NULL);
    g_autofree char *restricted = g_build_filename(directory, "sock-ro", NULL);
    g_autoptr(GError) missing = NULL, denied = NULL, error = NULL;
    struct stat st;
    assert_null(connect_to(path, "", &missing));
    assert_int_equal(quasar_error_code(missing), VIR_ERR_SYSTEM_ERROR);
    assert_non_null(strstr(missing->message, path));

    assert_true(g_file_set_contents(path, "stale", -1, NULL)); // is replaced
    rpc_fixture_run(*state, listen_unix, &(Listen){path, FALSE});
    rpc_fixture_run(*state, listen_unix, &(Listen){restricted, TRUE});
    assert_return_code(stat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0700);
    // Parameters of the client's are not the server's business, which knows one name only.
    g_autoptr(RpcClient) client = connect_to(path, "&mode=direct&no_verify=1", &error);
    assert_null(error);
    assert_echo(client, 2);
    assert_true(writes(client, NULL));
    g_autoptr(RpcClient) reader = connect_to(restricted, "", &error);
    assert_null(error);
    assert_echo(reader, 2);
    // As users of another driver would say it; the server is asked for by its own name.
    g_autofree char *foreign = g_strdup_printf("qemu+unix:///system?socket=%s", path);
    g_autoptr(RpcClient) other = rpc_client_connect(foreign, NULL, &error);
    assert_null(error);
    assert_echo(other, 2);
    assert_false(writes(reader, &denied));
    assert_int_equal(quasar_error_code(denied), VIR_ERR_OPERATION_DENIED);
    test_directory_free(directory);
}

static void
what_the_server_refuses_is_passed_on(void **state)
{
    char *directory = test_directory_new();
    g_autofree char *path = g_build_filename(directory, "sock", NULL);
    g_autoptr(GError) error = NULL;
    rpc_fixture_run(*state, listen_unix, &(Listen){path, FALSE});
    assert_null(connect_to(path, "&web=1%202", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_CONNECT);
    assert_non_null(strstr(error->message, "quasar:///system?web=1%202 at this host"));
    assert_non_null(strstr(error->message, "virtquasard"));
    test_directory_free(directory);
}

static void
a_path_that_is_too_long_is_refused(void **state)
{
    RpcFixture *fixture = *state;
    g_autofree char *name = g_strnfill(200, 'n');
    g_autofree char *path = g_strdup_printf("/tmp/%s", name);
    g_autoptr(GError) error = NULL;
    assert_null(connect_to(path, "", &error));
    assert_non_null(error);
    assert_serves(fixture);
}

// Hangs up on the first client, or says what no server says.
static gpointer
answer_badly(gpointer data)
{
    g_autoptr(RpcConnection) connection = rpc_connection_new(GPOINTER_TO_INT(data), NULL);
    g_autoptr(RpcMessage) call = wire_receive(connection);
    RpcHeader header = call->header;
    header.type = RPC_REPLY;
    header.procedure++;
    RpcMessage *reply = rpc_message_new(&header);
    rpc_message_finish(reply);
    wire_send(connection, reply);
    return NULL;
}

// What one daemon says, another passes on: the prefix must not pile up on the way.
static void
errors_lose_on_arrival_what_the_wire_adds(void **state)
{
    const struct {
        virErrorNumber code;
        const char *sent, *arrives;
    } cases[] = {
        {VIR_ERR_NO_DOMAIN, "no domain 'web'", "no domain 'web'"},
        {VIR_ERR_RPC, "broken", "broken"}, // without a prefix
        {VIR_ERR_OPERATION_FAILED, "", "the other side named no reason"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) sent = g_error_new_literal(QUASAR_ERROR, (int) cases[i].code, cases[i].sent);
        WireError wire;
        rpc_error_encode(&wire, sent);
        g_autofree char *text = quasar_error_text(sent);
        assert_string_equal(rpc_text_or_null(wire.message), text);
        g_autoptr(GError) arrived = rpc_error_decode(&wire);
        assert_string_equal(arrived->message, cases[i].arrives);
        assert_int_equal(quasar_error_code(arrived), cases[i].code);
        xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    }
}

static void
replies_to_something_else_are_errors(void **state)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    g_autoptr(RpcClient) client = rpc_client_new(fds[0], NULL);
    GThread *thread = g_thread_new("bad", answer_badly, GINT_TO_POINTER(fds[1]));
    g_autoptr(GError) error = NULL;
    assert_false(writes(client, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    g_thread_join(thread);
}

static gpointer
call_gate(gpointer client)
{
    WireIntRet ret;
    GError *error = NULL;
    rpc_client_call(client, rpc_fixture_procedure(GATE), NULL, &ret, -1, &error);
    return error;
}

static void
shutdown_fails_the_calls_in_flight(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(fixture, FALSE), NULL);
    GThread *threads[3];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("gate", call_gate, client);
    rpc_fixture_wait(fixture, &fixture->gate_waiting, G_N_ELEMENTS(threads));
    rpc_client_shutdown(client);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autoptr(GError) error = g_thread_join(threads[i]);
        assert_non_null(error);
        assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    }
    assert_false(rpc_client_alive(client));
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, rpc_fixture_setup, rpc_fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_uris_say_what_is_wrong),
        LIVE(unix_sockets_are_reached),
        LIVE(what_the_server_refuses_is_passed_on),
        LIVE(a_path_that_is_too_long_is_refused),
        cmocka_unit_test(errors_lose_on_arrival_what_the_wire_adds),
        cmocka_unit_test(replies_to_something_else_are_errors),
        LIVE(shutdown_fails_the_calls_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
