// SPDX-License-Identifier: LGPL-2.1-or-later
// For the tests of the wire: a live server on a thread of its own, and hands to speak to it in raw frames.
#pragma once

#include "driver/rpc/client.h"
#include "driver/rpc/connection.h"
#include "driver/rpc/protocol.h"
#include "driver/rpc/server.h"

#define WAIT_MS 20000

enum {
    GATE = 9001,    // waits until the test opens the gate
    ECHO = 9002,    // WireIntArgs -> WireIntRet
    FAILS = 9003,   // VIR_ERR_NO_DOMAIN
    WRITES = 9004,  // refused to read-only clients
    BIG = 9005,     // WireIntArgs: returns a text of so many bytes
    FLOOD = 9006,   // WireIntArgs: sends so many events of FLOOD_EVENT bytes
    SWAP_FD = 9007, // writes a byte into the descriptor that came, returns the other end of a new pair
    STREAM = 9008,  // opens a stream; its other side is fixture->stream_fd
    NAMED = 9009,   // has a name and no procedure
};
#define FLOOD_EVENT 65536

extern const RpcProgram rpc_fixture_program;
const RpcProcedure *rpc_fixture_procedure(guint number);

typedef struct RpcFixture {
    GMainContext *context;
    GMainLoop *loop;
    GThread *thread;
    RpcServer *server; // the thread's

    GMutex lock; // what follows
    GCond changed;
    guint gate_waiting;
    gboolean gate_open;
    guint sessions;       // opened and not closed
    GPtrArray *names;     // of peers of sessions that were opened: DN, or "-"
    int peer_fd;          // of the last connection handed over, with `peer_tls`
    TlsSession *peer_tls; // NULL: none
    int stream_fd;        // the test's side of the last stream
    RpcStream *stream;    // the last one
    guint streams_ended;
} RpcFixture;

// One at a time.
RpcFixture *rpc_fixture_new(const RpcServerLimits *limits);
void rpc_fixture_free(RpcFixture *fixture);

// cmocka's setup and teardown, with the default limits.
int rpc_fixture_setup(void **state);
int rpc_fixture_teardown(void **state);

// Runs on the server's thread and waits.
void rpc_fixture_run(RpcFixture *fixture, void (*function)(RpcFixture *fixture, gpointer data),
                     gpointer data);

// Waits for *value to become `wanted`.
void rpc_fixture_wait(RpcFixture *fixture, const guint *value, guint wanted);
void rpc_fixture_open_gate(RpcFixture *fixture);

// Our end of a new connection.
int rpc_fixture_connect(RpcFixture *fixture, gboolean read_only);

// Waits: for the next frame (NULL: the server closed the connection, in order or not), for room.
RpcMessage *wire_receive(RpcConnection *connection);
void wire_send(RpcConnection *connection, RpcMessage *message);
// A call without descriptors; a NULL filter means no arguments.
RpcMessage *wire_call(guint procedure, guint serial, xdrproc_t filter, const void *args);
void wire_send_call(RpcConnection *connection, guint procedure, guint serial, int argument);
// Asserts that it is an error reply, and returns its code.
int wire_error_code(const RpcMessage *message);
int wire_int(const RpcMessage *message);

// Asserts that the server answers.
void assert_echo(RpcClient *client, int value);
void assert_serves(RpcFixture *fixture);
