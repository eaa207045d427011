// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/rpc/: a live server over socket pairs, spoken to by our client and by hand-made frames.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/rpc/message.h"
#include "driver/rpc/remote.h"
#include "tests/unit/rpc_fixture.h"

static RpcConnection *
connect_raw(RpcFixture *fixture, gboolean read_only)
{
    return rpc_connection_new(rpc_fixture_connect(fixture, read_only), NULL);
}

// ---- calls and refusals ----

static void
errors_come_with_their_codes(void **state)
{
    static const RpcProcedure unknown = RPC_PROCEDURE(9999, "unknown", RpcVoid, RpcVoid, 0, NULL);
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(*state, FALSE), NULL);
    g_autoptr(GError) failed = NULL, missing = NULL;
    assert_false(rpc_client_call(client, rpc_fixture_procedure(FAILS), NULL, NULL, WAIT_MS, &failed));
    assert_int_equal(quasar_error_code(failed), VIR_ERR_NO_DOMAIN);
    assert_false(rpc_client_call(client, &unknown, NULL, NULL, WAIT_MS, &missing));
    assert_int_equal(quasar_error_code(missing), VIR_ERR_NO_SUPPORT);
    assert_true(rpc_client_alive(client));
    assert_echo(client, 7);
}

static void
refusals_name_the_function(void **state)
{
    static const RpcProcedure known = RPC_PROCEDURE(NAMED, "?", RpcVoid, RpcVoid, 0, NULL);
    static const RpcProcedure unknown = RPC_PROCEDURE(9999, "?", RpcVoid, RpcVoid, 0, NULL);
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(*state, FALSE), NULL);
    g_autoptr(GError) named = NULL, nameless = NULL;
    assert_false(rpc_client_call(client, &known, NULL, NULL, WAIT_MS, &named));
    assert_int_equal(quasar_error_code(named), VIR_ERR_NO_SUPPORT);
    assert_non_null(strstr(named->message, "virNotServed"));
    assert_false(rpc_client_call(client, &unknown, NULL, NULL, WAIT_MS, &nameless));
    assert_int_equal(quasar_error_code(nameless), VIR_ERR_NO_SUPPORT);
    assert_non_null(strstr(nameless->message, "9999"));
}

// It quotes a name as long as a client may send.
static void
long_errors_fit_the_wire(void **state)
{
    g_autofree char *name = g_strnfill(WIRE_STRING_MAX, 'x');
    g_autoptr(GError) error = NULL, problem = NULL;
    g_autoptr(RpcMessage) message = rpc_message_new(&(RpcHeader){.type = RPC_REPLY, .status = RPC_ERROR});
    WireError wire;
    quasar_set_error(&error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", name);
    rpc_error_encode(&wire, error);
    assert_true(rpc_message_encode(message, (xdrproc_t) xdr_WireError, &wire, &problem));
    rpc_message_finish(message);
    xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    assert_int_equal(wire_error_code(message), VIR_ERR_NO_DOMAIN);
}

// The code that a call with this header, and without arguments, is answered with.
static int
refusal(RpcConnection *connection, RpcHeader header)
{
    RpcMessage *call = rpc_message_new(&header);
    rpc_message_finish(call);
    wire_send(connection, call);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_non_null(reply);
    assert_int_equal(reply->header.type, RPC_REPLY);
    assert_int_equal(reply->header.program, header.program);
    assert_int_equal(reply->header.procedure, header.procedure);
    assert_int_equal(reply->header.serial, header.serial);
    return wire_error_code(reply);
}

static void
wrong_headers_are_refused(void **state)
{
    g_autoptr(RpcConnection) connection = connect_raw(*state, FALSE);
    const guint32 remote = RPC_PROGRAM_REMOTE;
    assert_int_equal(refusal(connection, (RpcHeader){1, 1, ECHO, RPC_CALL, 1, RPC_OK}), VIR_ERR_NO_SUPPORT);
    assert_int_equal(refusal(connection, (RpcHeader){remote, 2, ECHO, RPC_CALL, 2, RPC_OK}),
                     VIR_ERR_NO_SUPPORT);
    assert_int_equal(refusal(connection, (RpcHeader){remote, 1, ECHO, RPC_CALL, 3, RPC_ERROR}), VIR_ERR_RPC);
    // Its argument is missing.
    assert_int_equal(refusal(connection, (RpcHeader){remote, 1, ECHO, RPC_CALL, 4, RPC_OK}), VIR_ERR_RPC);
    // Known to the protocol, and not before OPEN.
    assert_int_equal(refusal(connection, (RpcHeader){remote, 1, 7777, RPC_CALL, 5, RPC_OK}),
                     VIR_ERR_NO_SUPPORT);
    wire_send_call(connection, ECHO, 6, 66);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 66);
}

static void
what_nobody_waits_for_is_dropped(void **state)
{
    static const RpcHeader headers[] = {
        {RPC_PROGRAM_REMOTE, 1, ECHO, RPC_REPLY, 1, RPC_OK},
        {RPC_PROGRAM_REMOTE, 1, ECHO, RPC_MESSAGE, 1, RPC_OK},
        {RPC_PROGRAM_REMOTE, 1, ECHO, RPC_STREAM, 1, RPC_CONTINUE},
        {RPC_PROGRAM_REMOTE, 1, ECHO, RPC_STREAM, 1, RPC_ERROR},
        {RPC_PROGRAM_REMOTE, 1, ECHO, RPC_STREAM_HOLE, 1, RPC_CONTINUE},
        {RPC_PROGRAM_KEEPALIVE, 1, RPC_KEEPALIVE_PONG, RPC_MESSAGE, 0, RPC_OK},
        {RPC_PROGRAM_KEEPALIVE, 1, 77, RPC_MESSAGE, 0, RPC_OK},
        {12345, 1, 1, RPC_MESSAGE, 0, RPC_OK},
    };
    g_autoptr(RpcConnection) connection = connect_raw(*state, FALSE);
    for (guint i = 0; i < G_N_ELEMENTS(headers); i++) {
        RpcMessage *message = rpc_message_new(&headers[i]);
        rpc_message_finish(message);
        wire_send(connection, message);
    }
    wire_send_call(connection, ECHO, 2, 22);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 22);
}

static void
authentication_list_is_none(void **state)
{
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(*state, TRUE), NULL);
    WireAuthListRet ret;
    assert_true(rpc_client_call(client, rpc_fixture_procedure(WIRE_AUTH_LIST), NULL, &ret, WAIT_MS, NULL));
    assert_int_equal(ret.types.types_len, 1);
    assert_int_equal(ret.types.types_val[0], 0);
    xdr_free((xdrproc_t) xdr_WireAuthListRet, (char *) &ret);
}

static gboolean
open_as(RpcClient *client, char *name, GError **error)
{
    WireOpenArgs args = {.name = &name};
    return rpc_client_call(client, rpc_fixture_procedure(WIRE_CONNECT_OPEN), &args, NULL, WAIT_MS, error);
}

static void
opens_once_and_closes_after_its_reply(void **state)
{
    char good[] = "quasar:///system", bad[] = "other:///system";
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(*state, FALSE), NULL);
    g_autoptr(GError) refused = NULL, again = NULL, lost = NULL;
    assert_false(open_as(client, bad, &refused));
    assert_int_equal(quasar_error_code(refused), VIR_ERR_NO_CONNECT);
    assert_true(open_as(client, good, NULL)); // a failed one may be repeated
    assert_false(open_as(client, good, &again));
    assert_int_equal(quasar_error_code(again), VIR_ERR_INTERNAL_ERROR);
    assert_true(
        rpc_client_call(client, rpc_fixture_procedure(WIRE_CONNECT_CLOSE), NULL, NULL, WAIT_MS, NULL));
    WireIntArgs args = {1};
    WireIntRet ret;
    assert_false(rpc_client_call(client, rpc_fixture_procedure(ECHO), &args, &ret, WAIT_MS, &lost));
    assert_int_equal(quasar_error_code(lost), VIR_ERR_RPC);
    rpc_fixture_wait(*state, &((RpcFixture *) *state)->sessions, 0);
}

static void
read_only_clients_cannot_write(void **state)
{
    g_autoptr(RpcConnection) restricted = connect_raw(*state, TRUE);
    wire_send_call(restricted, WRITES, 1, 5);
    g_autoptr(RpcMessage) refused = wire_receive(restricted);
    assert_int_equal(wire_error_code(refused), VIR_ERR_OPERATION_DENIED);
    wire_send_call(restricted, ECHO, 2, 6);
    g_autoptr(RpcMessage) reply = wire_receive(restricted);
    assert_int_equal(wire_int(reply), 6);

    g_autoptr(RpcConnection) full = connect_raw(*state, FALSE);
    wire_send_call(full, WRITES, 1, 5);
    g_autoptr(RpcMessage) written = wire_receive(full);
    assert_int_equal(wire_int(written), 5);
}

// ---- several calls, several clients ----

static gpointer
call_gate(gpointer client)
{
    WireIntRet ret;
    return GINT_TO_POINTER(rpc_client_call(client, rpc_fixture_procedure(GATE), NULL, &ret, WAIT_MS, NULL) &&
                           ret.value == 1);
}

// A call that waits does not hold back another, and its reply still finds it.
static void
replies_may_overtake(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcClient) client = rpc_client_new(rpc_fixture_connect(fixture, FALSE), NULL);
    GThread *thread = g_thread_new("gate", call_gate, client);
    rpc_fixture_wait(fixture, &fixture->gate_waiting, 1);
    assert_echo(client, 8);
    rpc_fixture_open_gate(fixture);
    assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
}

static void
one_client_has_a_limit_of_requests(void **state)
{
    enum { LIMIT = 3, CALLS = 5 };
    RpcFixture *fixture = rpc_fixture_new(&(RpcServerLimits){.max_client_requests = LIMIT});
    RpcConnection *connection = connect_raw(fixture, FALSE);
    for (guint i = 0; i < CALLS; i++)
        wire_send(connection, wire_call(GATE, i, NULL, NULL));
    rpc_fixture_wait(fixture, &fixture->gate_waiting, LIMIT);
    assert_serves(fixture); // others have their own
    g_mutex_lock(&fixture->lock);
    assert_int_equal(fixture->gate_waiting, LIMIT);
    g_mutex_unlock(&fixture->lock);
    rpc_fixture_open_gate(fixture);
    for (guint i = 0; i < CALLS; i++) {
        g_autoptr(RpcMessage) reply = wire_receive(connection);
        assert_int_equal(wire_int(reply), 1);
    }
    rpc_connection_free(connection);
    rpc_fixture_free(fixture);
}

static void
calls_beyond_the_workers_wait_their_turn(void **state)
{
    enum { CLIENTS = 6 };
    RpcFixture *fixture = rpc_fixture_new(&(RpcServerLimits){.max_workers = 2});
    g_autoptr(GPtrArray) connections = g_ptr_array_new_with_free_func((GDestroyNotify) rpc_connection_free);
    for (guint i = 0; i < CLIENTS; i++) {
        g_ptr_array_add(connections, connect_raw(fixture, FALSE));
        wire_send(connections->pdata[i], wire_call(GATE, i, NULL, NULL));
    }
    rpc_fixture_wait(fixture, &fixture->gate_waiting, 2);
    rpc_fixture_open_gate(fixture);
    for (guint i = 0; i < CLIENTS; i++) {
        g_autoptr(RpcMessage) reply = wire_receive(connections->pdata[i]);
        assert_int_equal(reply->header.serial, i);
    }
    g_ptr_array_set_size(connections, 0);
    rpc_fixture_free(fixture);
}

static void
two_hundred_clients_at_once(void **state)
{
    g_autoptr(GPtrArray) connections = g_ptr_array_new_with_free_func((GDestroyNotify) rpc_connection_free);
    for (guint i = 0; i < 200; i++)
        g_ptr_array_add(connections, connect_raw(*state, i % 2 == 0));
    for (guint i = 0; i < connections->len; i++)
        for (guint serial = 0; serial < 3; serial++)
            wire_send_call(connections->pdata[i], ECHO, serial, (int) (i * 10 + serial));
    for (guint i = 0; i < connections->len; i++) {
        guint seen = 0;
        for (guint n = 0; n < 3; n++) {
            g_autoptr(RpcMessage) reply = wire_receive(connections->pdata[i]);
            assert_int_equal(wire_int(reply), i * 10 + reply->header.serial);
            seen |= 1u << reply->header.serial;
        }
        assert_int_equal(seen, 7);
    }
}

static void
client_that_dies_during_its_call(void **state)
{
    RpcFixture *fixture = *state;
    RpcConnection *connection = connect_raw(fixture, FALSE);
    wire_send(connection, wire_call(GATE, 1, NULL, NULL));
    rpc_fixture_wait(fixture, &fixture->gate_waiting, 1);
    rpc_connection_free(connection);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    rpc_fixture_open_gate(fixture); // the reply has nowhere to go
    assert_serves(fixture);
}

static void
lost_connection_fails_calls(void **state)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    g_autoptr(RpcClient) client = rpc_client_new(fds[0], NULL);
    g_autoptr(GError) late = NULL, lost = NULL;
    WireIntRet ret;
    const RpcProcedure *gate = rpc_fixture_procedure(GATE);
    assert_false(rpc_client_call(client, gate, NULL, &ret, 1, &late));
    assert_int_equal(quasar_error_code(late), VIR_ERR_OPERATION_TIMEOUT);
    close(fds[1]);
    assert_false(rpc_client_call(client, gate, NULL, &ret, WAIT_MS, &lost));
    assert_int_equal(quasar_error_code(lost), VIR_ERR_RPC);
    assert_false(rpc_client_alive(client));
}

// ---- clients that do not read ----

// Events have no back-pressure, so a limit ends the client that takes none.
static void
events_that_nobody_reads_are_bounded(void **state)
{
    enum { LIMIT = 2 * 1024 * 1024 };
    RpcFixture *fixture = rpc_fixture_new(&(RpcServerLimits){.max_queued_bytes = LIMIT});
    RpcConnection *connection = connect_raw(fixture, FALSE);
    rpc_fixture_wait(fixture, &fixture->sessions, 1);
    wire_send_call(connection, FLOOD, 1, 4 * LIMIT / FLOOD_EVENT);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    assert_serves(fixture);
    rpc_connection_free(connection);
    rpc_fixture_free(fixture);
}

static void
one_that_reads_gets_all_events(void **state)
{
    enum { EVENTS = 128 };
    g_autoptr(RpcConnection) connection = connect_raw(*state, FALSE);
    wire_send_call(connection, FLOOD, 1, EVENTS);
    for (guint i = 0; i < EVENTS; i++) {
        g_autoptr(RpcMessage) event = wire_receive(connection);
        assert_non_null(event);
        assert_int_equal(event->header.type, RPC_MESSAGE);
        assert_int_equal(event->header.serial, 0);
    }
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 1); // after its events
}

static void
nothing(RpcFixture *fixture, gpointer data)
{
}

// Writes all that the socket takes while the server turns. FALSE: it takes no more.
static gboolean
push(RpcFixture *fixture, int fd, const guint8 *bytes, gsize length, gsize *done)
{
    for (int idle = 0; *done < length;) {
        ssize_t n = send(fd, bytes + *done, length - *done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            *done += (gsize) n;
            idle = 0;
        } else {
            assert_int_equal(errno, EAGAIN);
            rpc_fixture_run(fixture, nothing, NULL);
            if (++idle == 100)
                return FALSE;
        }
    }
    return TRUE;
}

// What it asks for would only be queued: the server reads no more of it until it has read.
static void
one_that_only_asks_is_not_read(void **state)
{
    enum { MAX_CALLS = 200000 };
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = connect_raw(fixture, FALSE);
    g_autoptr(RpcMessage) call = wire_call(9999, 1, NULL, NULL);
    int fd = rpc_connection_fd(connection);
    guint calls = 0;
    gsize done = 0;
    while (calls < MAX_CALLS && push(fixture, fd, call->bytes->data, call->bytes->len, &done)) {
        calls++;
        done = 0;
    }
    assert_true(calls > 0 && calls < MAX_CALLS);
    assert_int_equal(fixture->sessions, 1);
    assert_serves(fixture);
    // It begins to read, and all that was asked is answered.
    for (guint i = 0; i < calls; i++) {
        g_autoptr(RpcMessage) reply = wire_receive(connection);
        assert_int_equal(wire_error_code(reply), VIR_ERR_NO_SUPPORT);
    }
}

// ---- keepalive ----

static void
ping_is_answered_while_calls_run(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = connect_raw(fixture, FALSE);
    wire_send(connection, wire_call(GATE, 1, NULL, NULL));
    rpc_fixture_wait(fixture, &fixture->gate_waiting, 1);
    RpcMessage *ping =
        rpc_message_new(&(RpcHeader){RPC_PROGRAM_KEEPALIVE, 1, RPC_KEEPALIVE_PING, RPC_MESSAGE, 0, RPC_OK});
    rpc_message_finish(ping);
    wire_send(connection, ping);
    g_autoptr(RpcMessage) pong = wire_receive(connection);
    assert_non_null(pong);
    assert_int_equal(pong->header.program, RPC_PROGRAM_KEEPALIVE);
    assert_int_equal(pong->header.procedure, RPC_KEEPALIVE_PONG);
    assert_int_equal(pong->header.type, RPC_MESSAGE);
}

static void
silent_client_is_closed_and_one_that_answers_is_not(void **state)
{
    RpcFixture *fixture = rpc_fixture_new(&(RpcServerLimits){.keepalive_interval = 1, .keepalive_count = 1});
    RpcClient *lives = rpc_client_new(rpc_fixture_connect(fixture, FALSE), NULL);
    RpcConnection *dead = connect_raw(fixture, FALSE);
    WireIntArgs feature = {10};
    WireIntRet ret;
    assert_true(rpc_client_call(lives, rpc_fixture_procedure(WIRE_CONNECT_SUPPORTS_FEATURE), &feature, &ret,
                                WAIT_MS, NULL));
    wire_send_call(dead, WIRE_CONNECT_SUPPORTS_FEATURE, 1, 10);
    g_autoptr(RpcMessage) reply = wire_receive(dead);
    assert_int_equal(wire_int(reply), 1);
    guint pings = 0;
    RpcMessage *message;
    while ((message = wire_receive(dead))) {
        assert_int_equal(message->header.program, RPC_PROGRAM_KEEPALIVE);
        assert_int_equal(message->header.procedure, RPC_KEEPALIVE_PING);
        pings++;
        rpc_message_free(message);
    }
    assert_true(pings > 0);
    rpc_fixture_wait(fixture, &fixture->sessions, 1);
    assert_echo(lives, 3);
    rpc_connection_free(dead);
    rpc_client_free(lives);
    rpc_fixture_free(fixture);
}

// It does not even take its questions: what it leaves unread must not be taken for life.
static void
client_that_does_not_read_dies_of_keepalive(void **state)
{
    RpcFixture *fixture = rpc_fixture_new(&(RpcServerLimits){.keepalive_interval = 1, .keepalive_count = 1});
    RpcConnection *connection = connect_raw(fixture, FALSE);
    rpc_fixture_wait(fixture, &fixture->sessions, 1);
    wire_send_call(connection, WIRE_CONNECT_SUPPORTS_FEATURE, 1, 10);
    wire_send_call(connection, FLOOD, 2, 64);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    rpc_connection_free(connection);
    rpc_fixture_free(fixture);
}

// ---- descriptors ----

static guint
open_fds(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    guint n = 0;
    while (g_dir_read_name(dir))
        n++;
    return n;
}

static RpcMessage *
call_with_fds(guint procedure, guint announced, const int *fds, guint n)
{
    RpcMessage *message =
        rpc_message_new(&(RpcHeader){RPC_PROGRAM_REMOTE, 1, procedure, RPC_CALL_WITH_FDS, 1, RPC_OK});
    rpc_message_finish(message);
    guint32 count = GUINT32_TO_BE(announced);
    memcpy(message->bytes->data + RPC_HEADER_SIZE, &count, sizeof(count));
    for (guint i = 0; i < n; i++)
        rpc_message_add_fd(message, fds[i]);
    return message;
}

static void
descriptors_pass_both_ways(void **state)
{
    int ends[2];
    char byte = 0;
    g_autoptr(RpcConnection) connection = connect_raw(*state, FALSE);
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    wire_send(connection, call_with_fds(SWAP_FD, 1, &ends[1], 1));
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_non_null(reply);
    assert_int_equal(reply->header.type, RPC_REPLY_WITH_FDS);
    assert_int_equal(wire_int(reply), 1);
    assert_int_equal(reply->n_fds, 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(byte, 'i');
    assert_int_equal(read(ends[0], &byte, 1), 0); // the server has closed its copy
    assert_int_equal(read(reply->fds[0], &byte, 1), 1);
    assert_int_equal(byte, 'o');
    close(ends[0]);
    // A frame with none, and the next frame is whole.
    wire_send(connection, call_with_fds(SWAP_FD, 0, NULL, 0));
    g_autoptr(RpcMessage) none = wire_receive(connection);
    assert_int_equal(wire_error_code(none), VIR_ERR_INVALID_ARG);
}

static void
wrong_descriptors_end_the_connection_and_none_leaks(void **state)
{
    int fds[2];
    RpcFixture *fixture = *state;
    assert_serves(fixture);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    guint before = open_fds();
    assert_return_code(pipe(fds), 0);
    for (guint kind = 0; kind < 3; kind++) {
        g_autoptr(RpcConnection) connection = connect_raw(fixture, FALSE);
        int copy = dup(fds[0]);
        if (kind == 0) // more than there may be
            wire_send(connection, call_with_fds(SWAP_FD, RPC_FDS_MAX + 1, NULL, 0));
        else if (kind == 1) // fewer than announced, then a plain byte
            wire_send(connection, call_with_fds(SWAP_FD, 2, &copy, 1));
        else // an unknown procedure's
            wire_send(connection, call_with_fds(9999, 1, &copy, 1));
        if (kind == 0)
            close(copy);
        if (kind == 1)
            assert_int_equal(send(rpc_connection_fd(connection), "x", 1, MSG_NOSIGNAL), 1);
        g_autoptr(RpcMessage) reply = wire_receive(connection);
        assert_true(kind == 2 ? reply != NULL : reply == NULL);
    }
    close(fds[0]);
    close(fds[1]);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    assert_int_equal(open_fds(), before);
}

// ---- rubbish ----

// Sends, closes our side and reads to the end.
static void
assert_ends_after(RpcFixture *fixture, const guint8 *bytes, gsize length)
{
    int fd = rpc_fixture_connect(fixture, FALSE);
    guint8 answer[4096];
    ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
    assert_true(n == (ssize_t) length || (n < 0 && errno == EPIPE));
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, answer, sizeof(answer))) > 0)
        ;
    close(fd);
}

static void
broken_frames_end_their_own_connection_only(void **state)
{
    const RpcHeader header = {.program = RPC_PROGRAM_REMOTE, .version = 1, .procedure = ECHO, .serial = 1};
    guint8 start[RPC_HEADER_SIZE], garbage[256];
    memset(garbage, 0xa5, sizeof(garbage));
    assert_ends_after(*state, garbage, sizeof(garbage));
    rpc_header_write(start, RPC_HEADER_SIZE + 4, &header); // its four bytes never come
    for (gsize cut = 0; cut <= sizeof(start); cut++)
        assert_ends_after(*state, start, cut);
    const guint32 lengths[] = {0, 3, 4, 27, RPC_FRAME_MAX + 1, 0x7fffffff, 0xffffffff};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        rpc_header_write(start, lengths[i], &header);
        // It is judged by its length alone: the connection ends although ours is open.
        g_autoptr(RpcConnection) connection = connect_raw(*state, FALSE);
        assert_int_equal(send(rpc_connection_fd(connection), start, 4, MSG_NOSIGNAL), 4);
        assert_null(wire_receive(connection));
    }
    assert_serves(*state);
}

static GByteArray *
random_packets(GRand *rand)
{
    GByteArray *bytes = g_byte_array_new();
    for (gint frames = g_rand_int_range(rand, 1, 4); frames > 0; frames--) {
        WireIntArgs args = {g_rand_int_range(rand, 0, 100)};
        g_autoptr(RpcMessage) call = wire_call(ECHO, (guint) frames, (xdrproc_t) xdr_WireIntArgs, &args);
        if (g_rand_boolean(rand)) // another type, status, length ...: any word of the header
            call->bytes->data[4 * g_rand_int_range(rand, 0, 7) + 3] = (guint8) g_rand_int_range(rand, 0, 64);
        for (gint flips = g_rand_int_range(rand, 0, 4); flips > 0; flips--)
            call->bytes->data[g_rand_int_range(rand, 0, (gint32) call->bytes->len)] ^=
                (guint8) (1u << g_rand_int_range(rand, 0, 8));
        g_byte_array_append(bytes, call->bytes->data, call->bytes->len);
    }
    if (g_rand_boolean(rand))
        g_byte_array_set_size(bytes, (guint) g_rand_int_range(rand, 0, (gint32) bytes->len));
    return bytes;
}

static void
thousands_of_broken_packets(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(GRand) rand = g_rand_new_with_seed(20050627);
    rpc_fixture_open_gate(fixture); // a damaged number may be the gate's
    assert_serves(fixture);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    guint before = open_fds();
    for (guint i = 0; i < 4000; i++) {
        g_autoptr(GByteArray) bytes = random_packets(rand);
        assert_ends_after(fixture, bytes->data, bytes->len);
        if (i % 500 == 0)
            assert_serves(fixture);
    }
    assert_serves(fixture);
    rpc_fixture_wait(fixture, &fixture->sessions, 0);
    if (fixture->stream_fd >= 0) {
        close(fixture->stream_fd);
        fixture->stream_fd = -1;
    }
    assert_int_equal(open_fds(), before);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, rpc_fixture_setup, rpc_fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(errors_come_with_their_codes),
        LIVE(refusals_name_the_function),
        cmocka_unit_test(long_errors_fit_the_wire),
        LIVE(wrong_headers_are_refused),
        LIVE(what_nobody_waits_for_is_dropped),
        LIVE(authentication_list_is_none),
        LIVE(opens_once_and_closes_after_its_reply),
        LIVE(read_only_clients_cannot_write),
        LIVE(replies_may_overtake),
        cmocka_unit_test(one_client_has_a_limit_of_requests),
        cmocka_unit_test(calls_beyond_the_workers_wait_their_turn),
        LIVE(two_hundred_clients_at_once),
        LIVE(client_that_dies_during_its_call),
        cmocka_unit_test(lost_connection_fails_calls),
        cmocka_unit_test(events_that_nobody_reads_are_bounded),
        LIVE(one_that_reads_gets_all_events),
        LIVE(one_that_only_asks_is_not_read),
        LIVE(ping_is_answered_while_calls_run),
        cmocka_unit_test(silent_client_is_closed_and_one_that_answers_is_not),
        cmocka_unit_test(client_that_does_not_read_dies_of_keepalive),
        LIVE(descriptors_pass_both_ways),
        LIVE(wrong_descriptors_end_the_connection_and_none_leaks),
        LIVE(broken_frames_end_their_own_connection_only),
        LIVE(thousands_of_broken_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
