// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames of libvirt's RPC protocol: the 28-byte start, limits, and what travels between threads.
#pragma once

#include <glib.h>
#include <rpc/types.h>
#include <rpc/xdr.h>

#define RPC_HEADER_SIZE 28u // length and header
#define RPC_FRAME_MAX   (4u + 33554432u)
#define RPC_FDS_MAX     32u
#define RPC_CHUNK_SIZE  262120u // stream data in one frame, as libvirt sends it

typedef enum {
    RPC_CALL = 0,
    RPC_REPLY = 1,
    RPC_MESSAGE = 2,
    RPC_STREAM = 3,
    RPC_CALL_WITH_FDS = 4,
    RPC_REPLY_WITH_FDS = 5,
    RPC_STREAM_HOLE = 6,
} RpcType;

typedef enum {
    RPC_OK = 0,
    RPC_ERROR = 1,
    RPC_CONTINUE = 2,
} RpcStatus;

enum {
    RPC_KEEPALIVE_PING = 1,
    RPC_KEEPALIVE_PONG = 2,
};

typedef struct RpcHeader {
    guint32 program;
    guint32 version;
    guint32 procedure;
    guint32 type; // RpcType
    guint32 serial;
    guint32 status; // RpcStatus
} RpcHeader;

// One frame, whole. The descriptors are the frame's.
typedef struct RpcMessage {
    RpcHeader header;
    GByteArray *bytes;   // the whole frame, with length, header and FD count
    gsize payload_start; // behind header and FD count
    guint n_fds;
    int fds[RPC_FDS_MAX];
} RpcMessage;

// An empty payload; with_fds() of the type is honoured by rpc_message_finish().
RpcMessage *rpc_message_new(const RpcHeader *header);
void rpc_message_free(RpcMessage *message);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcMessage, rpc_message_free)

void rpc_message_append(RpcMessage *message, const void *data, gsize length);
// FALSE, with VIR_ERR_RPC: it does not fit the filter's or the frame's limits.
gboolean rpc_message_encode(RpcMessage *message, xdrproc_t filter, const void *data, GError **error);
// Adopts the descriptor; before any payload, to a *_WITH_FDS type.
void rpc_message_add_fd(RpcMessage *message, int fd);
// Writes the length (and FD count) once the payload is complete.
void rpc_message_finish(RpcMessage *message);

const guint8 *rpc_message_payload(const RpcMessage *message, gsize *length);
// `out` is zeroed by the caller and released with xdr_free() in either case. Bytes left over are no error.
gboolean rpc_message_decode(const RpcMessage *message, xdrproc_t filter, void *out, GError **error);

gboolean rpc_type_has_fds(guint32 type);

// The codec of the first 28 bytes. FALSE: a length out of bounds.
gboolean rpc_header_read(const guint8 start[RPC_HEADER_SIZE], guint32 *length, RpcHeader *header);
void rpc_header_write(guint8 start[RPC_HEADER_SIZE], guint32 length, const RpcHeader *header);
