// SPDX-License-Identifier: LGPL-2.1-or-later
// What one connection brings: frames, and the payload of each read as every type of the protocol.
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/rpc/connection.h"
#include "driver/rpc/program.h"
#include "driver/rpc/protocol.h"
#include "driver/rpc/quasar.h"
#include "driver/rpc/remote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    const char *name;
    gsize size;
    xdrproc_t filter;
} Type;

#define TYPE(name) {#name, sizeof(name), (xdrproc_t) xdr_##name},
static const Type types[] = {
#include "tests/fuzz/rpc_types.h"
};

static RpcMessage *
encode(const Type *type, const void *value)
{
    RpcMessage *message = rpc_message_new(&(RpcHeader){RPC_PROGRAM_REMOTE, 1, 1, RPC_CALL, 1, RPC_OK});
    g_autoptr(GError) error = NULL;
    gboolean ok = rpc_message_encode(message, type->filter, value, &error);
    if (!ok)
        g_error("%s was read and cannot be written: %s", type->name, error->message);
    rpc_message_finish(message);
    return message;
}

// What was read can be written; what was written reads the same.
static void
check_type(const RpcMessage *message, const Type *type)
{
    g_autofree void *value = g_malloc0(type->size);
    g_autofree void *again = g_malloc0(type->size);
    g_autoptr(GError) error = NULL;
    gboolean ok = rpc_message_decode(message, type->filter, value, &error);
    g_assert_true(ok ? !error : error != NULL);
    if (ok) {
        g_autoptr(RpcMessage) first = encode(type, value);
        g_assert_true(rpc_message_decode(first, type->filter, again, NULL));
        g_autoptr(RpcMessage) second = encode(type, again);
        g_assert_cmpuint(first->bytes->len, ==, second->bytes->len);
        g_assert_true(memcmp(first->bytes->data, second->bytes->data, first->bytes->len) == 0);
    }
    xdr_free(type->filter, value);
    xdr_free(type->filter, again);
}

static void
check_helpers(const RpcMessage *message)
{
    WireError wire = {0};
    WireParam param = {0};
    g_autoptr(GError) error = NULL;
    const char *text = NULL;
    guint64 number = 0;
    if (rpc_message_decode(message, (xdrproc_t) xdr_WireError, &wire, NULL)) {
        error = rpc_error_decode(&wire);
        g_assert_nonnull(error->message);
    }
    if (rpc_message_decode(message, (xdrproc_t) xdr_WireParam, &param, NULL)) {
        rpc_params_get_string(&param, 1, param.field, &text, NULL);
        rpc_params_get_ullong(&param, 1, param.field, &number, NULL);
    }
    xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    xdr_free((xdrproc_t) xdr_WireParam, (char *) &param);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), ==, 0);
    // What the socket does not take at once is a tail that never comes.
    ssize_t sent = size ? send(fds[0], data, size, MSG_NOSIGNAL) : 0;
    g_assert_cmpint(sent, >=, 0);
    shutdown(fds[0], SHUT_WR);

    g_autoptr(RpcConnection) connection = rpc_connection_new(fds[1], NULL);
    RpcIo io;
    do {
        g_autoptr(RpcMessage) message = NULL;
        g_autoptr(GError) error = NULL;
        io = rpc_connection_receive(connection, &message, &error);
        g_assert_true((io == RPC_IO_FAILED) == (error != NULL) &&
                      (io == RPC_IO_MESSAGE) == (message != NULL));
        for (gsize i = 0; message && i < G_N_ELEMENTS(types); i++)
            check_type(message, &types[i]);
        if (message)
            check_helpers(message);
    } while (io == RPC_IO_MESSAGE);
    g_assert_cmpint(io, !=, RPC_IO_AGAIN);
    close(fds[0]);
    return 0;
}
