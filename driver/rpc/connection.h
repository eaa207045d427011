// SPDX-License-Identifier: LGPL-2.1-or-later
// A non-blocking connection that carries frames, with TLS or without: the same for server and client.
#pragma once

#include <glib.h>

#include "base/tls.h"
#include "driver/rpc/message.h"

// Belongs to one thread at a time.
typedef struct RpcConnection RpcConnection;

typedef enum {
    RPC_IO_MESSAGE, // a whole frame came (receive), or everything was sent (send)
    RPC_IO_AGAIN,   // wait for rpc_connection_condition()
    RPC_IO_CLOSED,  // the peer closed between two frames
    RPC_IO_FAILED,  // error is set; the connection is dead
} RpcIo;

// Takes both over (`tls` may be NULL; its handshake is done, or is done by rpc_connection_handshake()). Makes
// the descriptor non-blocking.
RpcConnection *rpc_connection_new(int fd, TlsSession *tls);
void rpc_connection_free(RpcConnection *connection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcConnection, rpc_connection_free)

int rpc_connection_fd(const RpcConnection *connection);
TlsSession *rpc_connection_tls(const RpcConnection *connection);
// Gives up both without closing them, and frees the connection.
int rpc_connection_steal(RpcConnection *connection, TlsSession **tls);

// RPC_IO_MESSAGE: done. Without TLS at once.
RpcIo rpc_connection_handshake(RpcConnection *connection, GError **error);

// The next frame. Call until it says RPC_IO_AGAIN.
RpcIo rpc_connection_receive(RpcConnection *connection, RpcMessage **message, GError **error);

// Queues a finished message (taken over). Send with rpc_connection_send().
void rpc_connection_queue(RpcConnection *connection, RpcMessage *message);
// Raw bytes in the order of the frames: the server's 0x01 that says the certificate was accepted.
void rpc_connection_queue_bytes(RpcConnection *connection, const void *data, gsize length);
// RPC_IO_MESSAGE: nothing is left.
RpcIo rpc_connection_send(RpcConnection *connection, GError **error);
gsize rpc_connection_queued(const RpcConnection *connection); // bytes not sent yet

// What to poll for: G_IO_IN when `reading`, G_IO_OUT when bytes are queued, and what TLS is waiting for.
GIOCondition rpc_connection_condition(const RpcConnection *connection, gboolean reading);
// TLS holds bytes that poll() does not see: receive again without waiting.
gboolean rpc_connection_pending(const RpcConnection *connection);

gboolean rpc_connection_is_unix(const RpcConnection *connection);
