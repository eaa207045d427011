// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames over a non-blocking socket.
//
// Theory of operation: a frame's descriptors follow it as one byte each, outside of its length. A read must
// therefore never cross the frame's end: the assembler asks for exactly the 28 bytes of the start, then for
// the rest, then for each descriptor. Memory grows with the bytes that came, not with the length that was
// promised.
#include "driver/rpc/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

#define READ_STEP 65536u

struct RpcConnection {
    int fd;
    TlsSession *tls;
    gboolean is_unix;
    GIOCondition read_wants; // what TLS waits for before it can read, or write; 0: the plain condition
    GIOCondition write_wants;
    GIOCondition handshake_wants;

    GByteArray *in;
    guint32 in_length; // 0: the start is not complete
    RpcHeader in_header;
    gboolean in_fds_known;
    guint in_fds_expected;
    guint in_n_fds;
    int in_fds[RPC_FDS_MAX];

    GQueue out;     // RpcMessage; raw bytes are a message without a header
    gsize out_done; // bytes of the first that are sent
    guint out_fds_done;
    gsize out_queued;
};

static gboolean
socket_is_unix(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof address;
    return getsockname(fd, (struct sockaddr *) &address, &length) == 0 && address.ss_family == AF_UNIX;
}

RpcConnection *
rpc_connection_new(int fd, TlsSession *tls)
{
    RpcConnection *connection = g_new0(RpcConnection, 1);
    connection->fd = fd;
    connection->tls = tls;
    connection->is_unix = socket_is_unix(fd);
    connection->in = g_byte_array_new();
    g_queue_init(&connection->out);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return connection;
}

void
rpc_connection_free(RpcConnection *connection)
{
    if (!connection)
        return;
    for (guint i = 0; i < connection->in_n_fds; i++)
        close(connection->in_fds[i]);
    g_byte_array_unref(connection->in);
    g_queue_clear_full(&connection->out, (GDestroyNotify) rpc_message_free);
    tls_session_free(connection->tls);
    if (connection->fd >= 0)
        close(connection->fd);
    g_free(connection);
}

int
rpc_connection_fd(const RpcConnection *connection)
{
    return connection->fd;
}

TlsSession *
rpc_connection_tls(const RpcConnection *connection)
{
    return connection->tls;
}

int
rpc_connection_steal(RpcConnection *connection, TlsSession **tls)
{
    int fd = connection->fd;
    connection->fd = -1;
    *tls = g_steal_pointer(&connection->tls);
    rpc_connection_free(connection);
    return fd;
}

gboolean
rpc_connection_is_unix(const RpcConnection *connection)
{
    return connection->is_unix;
}

static GIOCondition
wants(TlsStatus status)
{
    return status == TLS_WANT_READ ? G_IO_IN : status == TLS_WANT_WRITE ? G_IO_OUT : 0;
}

RpcIo
rpc_connection_handshake(RpcConnection *connection, GError **error)
{
    if (!connection->tls)
        return RPC_IO_MESSAGE;
    TlsStatus status = tls_session_handshake(connection->tls, error);
    connection->handshake_wants = wants(status);
    return status == TLS_DONE ? RPC_IO_MESSAGE : status == TLS_FAILED ? RPC_IO_FAILED : RPC_IO_AGAIN;
}

// One read. RPC_IO_MESSAGE: *done bytes came, at least one.
static RpcIo
read_some(RpcConnection *connection, void *data, gsize length, gsize *done, GError **error)
{
    if (connection->tls) {
        TlsStatus status = tls_session_read(connection->tls, data, length, done, error);
        connection->read_wants = wants(status);
        if (status == TLS_DONE)
            return *done ? RPC_IO_MESSAGE : RPC_IO_CLOSED;
        return status == TLS_FAILED ? RPC_IO_FAILED : RPC_IO_AGAIN;
    }
    ssize_t n;
    do
        n = recv(connection->fd, data, length, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *done = (gsize) n;
        return RPC_IO_MESSAGE;
    }
    if (n == 0)
        return RPC_IO_CLOSED;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return RPC_IO_AGAIN;
    quasar_set_system_error(error, errno, "cannot read from the connection");
    return RPC_IO_FAILED;
}

// Reads until `in` holds `target` bytes.
static RpcIo
fill(RpcConnection *connection, gsize target, GError **error)
{
    while (connection->in->len < target) {
        guint have = connection->in->len;
        gsize step = MIN(target - have, READ_STEP), done = 0;
        g_byte_array_set_size(connection->in, have + (guint) step);
        RpcIo io = read_some(connection, connection->in->data + have, step, &done, error);
        g_byte_array_set_size(connection->in, have + (guint) (io == RPC_IO_MESSAGE ? done : 0));
        if (io == RPC_IO_CLOSED && have > 0) {
            quasar_set_error(error, VIR_ERR_RPC, "the connection ended inside a message");
            return RPC_IO_FAILED;
        }
        if (io != RPC_IO_MESSAGE)
            return io;
    }
    return RPC_IO_MESSAGE;
}

// Takes what a control message brought; more than one descriptor in it is a breach, and none leaks.
static gboolean
take_fds(RpcConnection *connection, struct msghdr *header)
{
    guint taken = 0;
    gboolean ok = !(header->msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        gsize n = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (gsize i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (taken++ == 0)
                connection->in_fds[connection->in_n_fds++] = fd;
            else
                close(fd);
        }
    }
    return ok && taken == 1;
}

static RpcIo
receive_fds(RpcConnection *connection, GError **error)
{
    while (connection->in_n_fds < connection->in_fds_expected) {
        union {
            char space[CMSG_SPACE(sizeof(int) * 4)];
            struct cmsghdr align;
        } control;
        char byte;
        struct iovec piece = {&byte, 1};
        struct msghdr header = {
            .msg_iov = &piece,
            .msg_iovlen = 1,
            .msg_control = control.space,
            .msg_controllen = sizeof control.space,
        };
        ssize_t n = recvmsg(connection->fd, &header, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return RPC_IO_AGAIN;
        if (n <= 0 || !take_fds(connection, &header)) {
            quasar_set_error(error, VIR_ERR_RPC, "a file descriptor announced by a message did not come");
            return RPC_IO_FAILED;
        }
    }
    return RPC_IO_MESSAGE;
}

static RpcIo
read_fd_count(RpcConnection *connection, GError **error)
{
    guint32 count;
    connection->in_fds_known = TRUE;
    connection->in_fds_expected = 0;
    if (!rpc_type_has_fds(connection->in_header.type))
        return RPC_IO_MESSAGE;
    if (connection->in_length < RPC_HEADER_SIZE + 4) {
        quasar_set_error(error, VIR_ERR_RPC, "a message lacks its number of file descriptors");
        return RPC_IO_FAILED;
    }
    memcpy(&count, connection->in->data + RPC_HEADER_SIZE, sizeof count);
    count = GUINT32_FROM_BE(count);
    if (count > RPC_FDS_MAX || (count > 0 && (!connection->is_unix || connection->tls))) {
        quasar_set_error(error, VIR_ERR_RPC, "%u file descriptors cannot come over this connection", count);
        return RPC_IO_FAILED;
    }
    connection->in_fds_expected = count;
    return RPC_IO_MESSAGE;
}

static RpcMessage *
take_message(RpcConnection *connection)
{
    RpcMessage *message = g_new0(RpcMessage, 1);
    message->header = connection->in_header;
    message->bytes = connection->in;
    message->payload_start = RPC_HEADER_SIZE + (rpc_type_has_fds(message->header.type) ? 4 : 0);
    message->n_fds = connection->in_n_fds;
    memcpy(message->fds, connection->in_fds, sizeof message->fds);
    connection->in = g_byte_array_new();
    connection->in_length = 0;
    connection->in_fds_known = FALSE;
    connection->in_n_fds = 0;
    return message;
}

RpcIo
rpc_connection_receive(RpcConnection *connection, RpcMessage **message, GError **error)
{
    RpcIo io;
    if (connection->in_length == 0) {
        // The length is judged as soon as it is here: a peer that promises 3 bytes sends no more.
        if ((io = fill(connection, 4, error)) != RPC_IO_MESSAGE)
            return io;
        guint32 length;
        memcpy(&length, connection->in->data, sizeof length);
        length = GUINT32_FROM_BE(length);
        if (length < RPC_HEADER_SIZE || length > RPC_FRAME_MAX) {
            quasar_set_error(error, VIR_ERR_RPC, "a message of %u bytes is outside of the limits", length);
            return RPC_IO_FAILED;
        }
        if ((io = fill(connection, RPC_HEADER_SIZE, error)) != RPC_IO_MESSAGE)
            return io;
        if (!rpc_header_read(connection->in->data, &connection->in_length, &connection->in_header)) {
            quasar_set_error(error, VIR_ERR_RPC, "a message has an unknown type or status");
            return RPC_IO_FAILED;
        }
    }
    if ((io = fill(connection, connection->in_length, error)) != RPC_IO_MESSAGE)
        return io;
    if (!connection->in_fds_known && (io = read_fd_count(connection, error)) != RPC_IO_MESSAGE)
        return io;
    if ((io = receive_fds(connection, error)) != RPC_IO_MESSAGE)
        return io;
    *message = take_message(connection);
    return RPC_IO_MESSAGE;
}

void
rpc_connection_queue(RpcConnection *connection, RpcMessage *message)
{
    connection->out_queued += message->bytes->len;
    g_queue_push_tail(&connection->out, message);
}

void
rpc_connection_queue_bytes(RpcConnection *connection, const void *data, gsize length)
{
    RpcMessage *raw = g_new0(RpcMessage, 1);
    raw->bytes = g_byte_array_new();
    rpc_message_append(raw, data, length);
    rpc_connection_queue(connection, raw);
}

static RpcIo
write_some(RpcConnection *connection, const void *data, gsize length, gsize *done, GError **error)
{
    if (connection->tls) {
        TlsStatus status = tls_session_write(connection->tls, data, length, done, error);
        connection->write_wants = wants(status);
        return status == TLS_DONE ? RPC_IO_MESSAGE : status == TLS_FAILED ? RPC_IO_FAILED : RPC_IO_AGAIN;
    }
    ssize_t n;
    do
        n = send(connection->fd, data, length, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        *done = (gsize) n;
        return RPC_IO_MESSAGE;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return RPC_IO_AGAIN;
    quasar_set_system_error(error, errno, "cannot write to the connection");
    return RPC_IO_FAILED;
}

static RpcIo
send_fd(RpcConnection *connection, int fd, GError **error)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr header = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.space,
        .msg_controllen = sizeof control.space,
    };
    struct cmsghdr *part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(part), &fd, sizeof fd);
    ssize_t n;
    do
        n = sendmsg(connection->fd, &header, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        return RPC_IO_MESSAGE;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return RPC_IO_AGAIN;
    quasar_set_system_error(error, errno, "cannot pass a file descriptor");
    return RPC_IO_FAILED;
}

RpcIo
rpc_connection_send(RpcConnection *connection, GError **error)
{
    RpcMessage *first;
    while ((first = g_queue_peek_head(&connection->out))) {
        while (connection->out_done < first->bytes->len) {
            gsize done = 0;
            RpcIo io = write_some(connection, first->bytes->data + connection->out_done,
                                  first->bytes->len - connection->out_done, &done, error);
            if (io != RPC_IO_MESSAGE)
                return io;
            connection->out_done += done;
            connection->out_queued -= done;
        }
        while (connection->out_fds_done < first->n_fds) {
            RpcIo io = send_fd(connection, first->fds[connection->out_fds_done], error);
            if (io != RPC_IO_MESSAGE)
                return io;
            connection->out_fds_done++;
        }
        rpc_message_free(g_queue_pop_head(&connection->out));
        connection->out_done = 0;
        connection->out_fds_done = 0;
    }
    return RPC_IO_MESSAGE;
}

gsize
rpc_connection_queued(const RpcConnection *connection)
{
    return connection->out_queued;
}

GIOCondition
rpc_connection_condition(const RpcConnection *connection, gboolean reading)
{
    GIOCondition condition = connection->handshake_wants;
    if (condition)
        return condition;
    if (reading)
        condition |= connection->read_wants ? connection->read_wants : G_IO_IN;
    if (!g_queue_is_empty((GQueue *) &connection->out))
        condition |= connection->write_wants ? connection->write_wants : G_IO_OUT;
    return condition;
}

gboolean
rpc_connection_pending(const RpcConnection *connection)
{
    return connection->tls && tls_session_pending(connection->tls) > 0;
}
