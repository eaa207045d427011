// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/rpc/stream: bytes both ways, all the ways to end, and a client that does not read.
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "tests/unit/rpc_fixture.h"

#define SERIAL 17

static RpcConnection *
open_stream(RpcFixture *fixture)
{
    RpcConnection *connection = rpc_connection_new(rpc_fixture_connect(fixture, FALSE), NULL);
    wire_send_call(connection, STREAM, SERIAL, 0);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 1);
    return connection;
}

static void
send_frame(RpcConnection *connection, RpcType type, RpcStatus status, const void *data, gsize length)
{
    RpcMessage *message = rpc_message_new(&(RpcHeader){RPC_PROGRAM_REMOTE, 1, STREAM, type, SERIAL, status});
    rpc_message_append(message, data, length);
    rpc_message_finish(message);
    wire_send(connection, message);
}

static RpcMessage *
receive_frame(RpcConnection *connection, RpcStatus status)
{
    RpcMessage *message = wire_receive(connection);
    assert_non_null(message);
    assert_int_equal(message->header.type, RPC_STREAM);
    assert_int_equal(message->header.program, RPC_PROGRAM_REMOTE);
    assert_int_equal(message->header.procedure, STREAM);
    assert_int_equal(message->header.serial, SERIAL);
    assert_int_equal(message->header.status, status);
    return message;
}

static void
assert_frame(RpcConnection *connection, RpcStatus status, const char *text)
{
    gsize length;
    g_autoptr(RpcMessage) message = receive_frame(connection, status);
    const guint8 *data = rpc_message_payload(message, &length);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(data, text, length);
}

static void
assert_still_serves(RpcConnection *connection)
{
    wire_send_call(connection, ECHO, 99, 12);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 12);
}

static void
assert_descriptor_closed(RpcFixture *fixture)
{
    char byte;
    rpc_fixture_wait(fixture, &fixture->streams_ended, 1);
    assert_int_equal(read(fixture->stream_fd, &byte, 1), 0);
}

static void
bytes_go_both_ways_until_finish(void **state)
{
    RpcFixture *fixture = *state;
    char text[16];
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    assert_int_equal(write(fixture->stream_fd, "login: ", 7), 7);
    assert_frame(connection, RPC_CONTINUE, "login: ");
    send_frame(connection, RPC_STREAM, RPC_CONTINUE, "root\n", 5);
    assert_int_equal(read(fixture->stream_fd, text, sizeof(text)), 5);
    assert_memory_equal(text, "root\n", 5);
    send_frame(connection, RPC_STREAM, RPC_OK, NULL, 0);
    assert_frame(connection, RPC_OK, "");
    assert_int_equal(fixture->streams_ended, 1); // before the client is told
    assert_descriptor_closed(fixture);
    assert_still_serves(connection);
}

static void
client_aborts(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    send_frame(connection, RPC_STREAM, RPC_ERROR, NULL, 0);
    assert_frame(connection, RPC_OK, "");
    assert_descriptor_closed(fixture);
    // What comes after the end is dropped.
    send_frame(connection, RPC_STREAM, RPC_CONTINUE, "late", 4);
    send_frame(connection, RPC_STREAM, RPC_OK, NULL, 0);
    assert_still_serves(connection);
}

static void
descriptor_ends(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    assert_int_equal(write(fixture->stream_fd, "bye", 3), 3);
    close(fixture->stream_fd);
    fixture->stream_fd = -1;
    assert_frame(connection, RPC_CONTINUE, "bye");
    assert_frame(connection, RPC_CONTINUE, "");
    send_frame(connection, RPC_STREAM, RPC_CONTINUE, "to nobody", 9);
    send_frame(connection, RPC_STREAM, RPC_OK, NULL, 0);
    assert_frame(connection, RPC_OK, "");
    rpc_fixture_wait(fixture, &fixture->streams_ended, 1);
    assert_still_serves(connection);
}

// It says no more, and still takes what comes, however slowly.
static void
descriptor_ends_one_way(void **state)
{
    enum { LENGTH = 1024 * 1024 }; // more than a socket takes, less than makes the client wait
    RpcFixture *fixture = *state;
    g_autofree char *text = g_strnfill(LENGTH, 'u');
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    assert_return_code(shutdown(fixture->stream_fd, SHUT_WR), 0);
    assert_frame(connection, RPC_CONTINUE, "");
    for (int i = 0; i < 4; i++)
        send_frame(connection, RPC_STREAM, RPC_CONTINUE, text, LENGTH / 4);
    send_frame(connection, RPC_STREAM, RPC_OK, NULL, 0);
    for (gsize received = 0; received < LENGTH;) {
        ssize_t n = read(fixture->stream_fd, text, LENGTH);
        assert_true(n > 0);
        received += (gsize) n;
    }
    assert_frame(connection, RPC_OK, "");
    assert_descriptor_closed(fixture);
}

static void
client_dies(void **state)
{
    RpcFixture *fixture = *state;
    RpcConnection *connection = open_stream(fixture);
    rpc_connection_free(connection);
    assert_descriptor_closed(fixture);
    assert_serves(fixture);
}

static void
holes_are_refused(void **state)
{
    static const guint8 hole[] = {0, 0, 0, 0, 0, 0, 16, 0, /* flags */ 0, 0, 0, 0};
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    send_frame(connection, RPC_STREAM_HOLE, RPC_CONTINUE, hole, sizeof(hole));
    g_autoptr(RpcMessage) error = receive_frame(connection, RPC_ERROR);
    assert_int_equal(wire_error_code(error), VIR_ERR_RPC);
    assert_descriptor_closed(fixture);
    assert_still_serves(connection);
}

static void
server_aborts(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    g_autoptr(GError) reason = NULL;
    quasar_set_error(&reason, VIR_ERR_OPERATION_ABORTED, "taken over");
    rpc_stream_abort(fixture->stream, reason);
    rpc_stream_abort(fixture->stream, reason); // nothing happens twice
    g_autoptr(RpcMessage) error = receive_frame(connection, RPC_ERROR);
    assert_int_equal(wire_error_code(error), VIR_ERR_OPERATION_ABORTED);
    assert_descriptor_closed(fixture);
    rpc_stream_abort(fixture->stream, reason);
    assert_still_serves(connection);
    assert_int_equal(fixture->streams_ended, 1);
}

static void
aborted_before_it_was_open(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = rpc_connection_new(rpc_fixture_connect(fixture, FALSE), NULL);
    wire_send_call(connection, STREAM, SERIAL, 1);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_int(reply), 1); // the call has succeeded, and comes first
    g_autoptr(RpcMessage) error = receive_frame(connection, RPC_ERROR);
    assert_int_equal(wire_error_code(error), VIR_ERR_OPERATION_ABORTED);
    assert_descriptor_closed(fixture);
}

static void
a_call_that_fails_opens_none(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = rpc_connection_new(rpc_fixture_connect(fixture, FALSE), NULL);
    wire_send_call(connection, STREAM, SERIAL, -1);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    assert_int_equal(wire_error_code(reply), VIR_ERR_INVALID_ARG);
    assert_descriptor_closed(fixture);
    assert_still_serves(connection);
}

static void
a_serial_used_again_ends_the_former(void **state)
{
    RpcFixture *fixture = *state;
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    wire_send_call(connection, STREAM, SERIAL, 0);
    g_autoptr(RpcMessage) reply = wire_receive(connection);
    if (reply->header.type == RPC_STREAM) { // the former's end of file, since its other side is closed
        rpc_message_free(reply);
        reply = wire_receive(connection);
    }
    assert_int_equal(wire_int(reply), 1);
    rpc_fixture_wait(fixture, &fixture->streams_ended, 1);
    assert_int_equal(write(fixture->stream_fd, "new", 3), 3);
    assert_frame(connection, RPC_CONTINUE, "new");
}

// Bytes that the descriptor does not take are kept, then the client is not read, and all arrive in the end.
static void
a_descriptor_that_is_full_holds_the_client_back(void **state)
{
    enum { CHUNK = 256 * 1024, CHUNKS = 40 };
    RpcFixture *fixture = *state;
    g_autofree char *chunk = g_malloc(CHUNK);
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    gsize received = 0;
    guint queued = 0;
    for (; queued < CHUNKS; queued++) {
        memset(chunk, (int) queued, CHUNK);
        RpcMessage *message =
            rpc_message_new(&(RpcHeader){RPC_PROGRAM_REMOTE, 1, STREAM, RPC_STREAM, SERIAL, RPC_CONTINUE});
        rpc_message_append(message, chunk, CHUNK);
        rpc_message_finish(message);
        rpc_connection_queue(connection, message);
    }
    // The socket takes nothing more at some point although the server turns: what it keeps is bounded.
    for (int idle = 0; idle < 100; idle++) {
        gsize before = rpc_connection_queued(connection);
        assert_int_not_equal(rpc_connection_send(connection, NULL), RPC_IO_FAILED);
        assert_true(rpc_connection_queued(connection) > 0);
        if (rpc_connection_queued(connection) < before)
            idle = 0;
        assert_serves(fixture);
    }
    while (received < (gsize) CHUNK * CHUNKS) {
        gboolean unsent = rpc_connection_send(connection, NULL) == RPC_IO_AGAIN;
        struct pollfd fds[] = {
            {.fd = fixture->stream_fd, .events = POLLIN},
            {.fd = rpc_connection_fd(connection), .events = (short) (unsent ? POLLOUT : 0)},
        };
        assert_true(poll(fds, 2, WAIT_MS) > 0);
        if (!fds[0].revents)
            continue;
        ssize_t n = read(fixture->stream_fd, chunk, CHUNK);
        assert_true(n > 0);
        assert_int_equal((guint8) chunk[0], received / CHUNK);
        assert_int_equal((guint8) chunk[n - 1], (received + (gsize) n - 1) / CHUNK);
        received += (gsize) n;
    }
    send_frame(connection, RPC_STREAM, RPC_OK, NULL, 0);
    assert_frame(connection, RPC_OK, "");
}

// A guest that talks to a client which does not read: the guest waits, the server's memory does not grow.
static void
a_client_that_does_not_read_holds_the_descriptor_back(void **state)
{
    enum { MOST = 64 * 1024 * 1024 };
    RpcFixture *fixture = *state;
    g_autofree char *block = g_strnfill(65536, 'y');
    g_autoptr(RpcConnection) connection = open_stream(fixture);
    gsize sent = 0, received = 0, length;
    for (int idle = 0; idle < 100 && sent < MOST;) {
        ssize_t n = send(fixture->stream_fd, block, 65536, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += (gsize) n;
            idle = 0;
        } else {
            assert_int_equal(errno, EAGAIN);
            assert_serves(fixture);
            idle++;
        }
    }
    assert_true(sent > 0 && sent < MOST);
    while (received < sent) {
        g_autoptr(RpcMessage) message = receive_frame(connection, RPC_CONTINUE);
        rpc_message_payload(message, &length);
        received += length;
    }
    assert_int_equal(received, sent);
    assert_still_serves(connection);
}

#define LIVE(test) cmocka_unit_test_setup_teardown(test, rpc_fixture_setup, rpc_fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        LIVE(bytes_go_both_ways_until_finish),
        LIVE(client_aborts),
        LIVE(descriptor_ends),
        LIVE(descriptor_ends_one_way),
        LIVE(client_dies),
        LIVE(holes_are_refused),
        LIVE(server_aborts),
        LIVE(aborted_before_it_was_open),
        LIVE(a_call_that_fails_opens_none),
        LIVE(a_serial_used_again_ends_the_former),
        LIVE(a_descriptor_that_is_full_holds_the_client_back),
        LIVE(a_client_that_does_not_read_holds_the_descriptor_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
