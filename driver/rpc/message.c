// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames of libvirt's RPC protocol.
#include "driver/rpc/message.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"

static guint32
read_u32(const guint8 *at)
{
    guint32 value;
    memcpy(&value, at, sizeof value);
    return GUINT32_FROM_BE(value);
}

static void
write_u32(guint8 *at, guint32 value)
{
    value = GUINT32_TO_BE(value);
    memcpy(at, &value, sizeof value);
}

gboolean
rpc_type_has_fds(guint32 type)
{
    return type == RPC_CALL_WITH_FDS || type == RPC_REPLY_WITH_FDS;
}

gboolean
rpc_header_read(const guint8 start[RPC_HEADER_SIZE], guint32 *length, RpcHeader *header)
{
    *length = read_u32(start);
    header->program = read_u32(start + 4);
    header->version = read_u32(start + 8);
    header->procedure = read_u32(start + 12);
    header->type = read_u32(start + 16);
    header->serial = read_u32(start + 20);
    header->status = read_u32(start + 24);
    return *length >= RPC_HEADER_SIZE && *length <= RPC_FRAME_MAX && header->type <= RPC_STREAM_HOLE &&
           header->status <= RPC_CONTINUE;
}

void
rpc_header_write(guint8 start[RPC_HEADER_SIZE], guint32 length, const RpcHeader *header)
{
    write_u32(start, length);
    write_u32(start + 4, header->program);
    write_u32(start + 8, header->version);
    write_u32(start + 12, header->procedure);
    write_u32(start + 16, header->type);
    write_u32(start + 20, header->serial);
    write_u32(start + 24, header->status);
}

RpcMessage *
rpc_message_new(const RpcHeader *header)
{
    RpcMessage *message = g_new0(RpcMessage, 1);
    message->header = *header;
    message->payload_start = RPC_HEADER_SIZE + (rpc_type_has_fds(header->type) ? 4 : 0);
    message->bytes = g_byte_array_new();
    g_byte_array_set_size(message->bytes, (guint) message->payload_start);
    memset(message->bytes->data, 0, message->payload_start);
    return message;
}

void
rpc_message_free(RpcMessage *message)
{
    if (!message)
        return;
    for (guint i = 0; i < message->n_fds; i++)
        if (message->fds[i] >= 0)
            close(message->fds[i]);
    g_byte_array_unref(message->bytes);
    g_free(message);
}

void
rpc_message_append(RpcMessage *message, const void *data, gsize length)
{
    g_byte_array_append(message->bytes, data, (guint) length);
}

gboolean
rpc_message_encode(RpcMessage *message, xdrproc_t filter, const void *data, GError **error)
{
    gsize room = RPC_FRAME_MAX - message->payload_start;
    // The encoder does not change what it reads, but its prototype cannot say so.
    union {
        const void *in;
        void *out;
    } value = {.in = data};

    // xdrmem cannot grow: small first, because nearly all payloads are.
    for (gsize size = 4096;; size = MIN(size * 8, room)) {
        XDR xdr;
        g_autofree char *buffer = g_malloc(size);
        xdrmem_create(&xdr, buffer, (u_int) size, XDR_ENCODE);
        gboolean ok = filter(&xdr, value.out);
        u_int used = xdr_getpos(&xdr);
        xdr_destroy(&xdr);
        if (ok) {
            rpc_message_append(message, buffer, used);
            return TRUE;
        }
        if (size == room) {
            quasar_set_error(error, VIR_ERR_RPC, "Unable to encode message payload: it exceeds the limits");
            return FALSE;
        }
    }
}

void
rpc_message_add_fd(RpcMessage *message, int fd)
{
    g_assert(message->n_fds < RPC_FDS_MAX);
    message->fds[message->n_fds++] = fd;
}

void
rpc_message_finish(RpcMessage *message)
{
    rpc_header_write(message->bytes->data, message->bytes->len, &message->header);
    if (rpc_type_has_fds(message->header.type))
        write_u32(message->bytes->data + RPC_HEADER_SIZE, message->n_fds);
}

const guint8 *
rpc_message_payload(const RpcMessage *message, gsize *length)
{
    *length = message->bytes->len - message->payload_start;
    return message->bytes->data + message->payload_start;
}

gboolean
rpc_message_decode(const RpcMessage *message, xdrproc_t filter, void *out, GError **error)
{
    gsize length;
    XDR xdr;
    rpc_message_payload(message, &length);
    xdrmem_create(&xdr, (char *) message->bytes->data + message->payload_start, (u_int) length, XDR_DECODE);
    gboolean ok = filter(&xdr, out);
    xdr_destroy(&xdr);
    if (!ok)
        quasar_set_error(error, VIR_ERR_RPC, "Unable to decode message payload");
    return ok;
}
