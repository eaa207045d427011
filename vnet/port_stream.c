// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest behind QEMU's `-netdev stream`: whole frames over a Unix socket, no offloads.
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/port.h"
#include "vnet/stream.h"

typedef struct {
    Port port;
    int fd;
    StreamReader *reader;
    StreamQueue *queue;
} StreamPort;

// QEMU may still be starting: tried for 10 s.
static int
connect_stream(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "socket path '%s' is too long", path);
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        if ((errno != ENOENT && errno != ECONNREFUSED && errno != EINTR) || g_get_monotonic_time() > end) {
            quasar_set_system_error(error, errno, "cannot connect to QEMU at '%s'", path);
            close(fd);
            return -1;
        }
        g_usleep(20000);
    }
    return fd;
}

static void
stream_close(Port *port)
{
    StreamPort *stream = (StreamPort *) port;
    close(stream->fd);
    stream_reader_free(stream->reader);
    stream_queue_free(stream->queue);
    g_free(stream);
}

static guint
stream_poll(Port *port, struct pollfd *fds)
{
    StreamPort *stream = (StreamPort *) port;
    fds[0] = (struct pollfd){stream->fd, POLLIN | (stream_queue_length(stream->queue) ? POLLOUT : 0), 0};
    return 1;
}

// What one read brings. *more: there may be more to read.
static PortState
read_frames(StreamPort *stream, gboolean *more, GError **error)
{
    gsize room, length;
    guint8 *space = stream_reader_space(stream->reader, &room), *frame;
    ssize_t got = recv(stream->fd, space, room, MSG_DONTWAIT);
    *more = got > 0;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return PORT_GOES_ON;
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return PORT_CLOSED;
    if (got < 0) {
        quasar_set_system_error(error, errno, "cannot read from QEMU");
        return PORT_BROKEN;
    }
    stream_reader_commit(stream->reader, (gsize) got);
    const Offload none = {0};
    int state;
    while ((state = stream_reader_next(stream->reader, &frame, &length, error)) == 1) {
        const struct iovec part = {frame, length};
        stream->port.frame(&part, 1, length, &none, stream->port.data);
    }
    return state == 0 ? PORT_GOES_ON : PORT_BROKEN;
}

static PortState
stream_serve(Port *port, const struct pollfd *fds, guint n, GError **error)
{
    gboolean more;
    return n == 0 || !(fds[0].revents & ~POLLOUT) ? PORT_GOES_ON
                                                  : read_frames((StreamPort *) port, &more, error);
}

// The emulator's end or its bad frames are found out again by the loop.
static void
stream_drain(Port *port)
{
    gboolean more = TRUE;
    for (guint i = 0; more && i < 64; i++)
        if (read_frames((StreamPort *) port, &more, NULL) != PORT_GOES_ON)
            return;
}

static gboolean
stream_is_ready(const Port *port)
{
    return TRUE;
}

static gboolean
stream_takes(const Port *port, const Offload *offload)
{
    return !(offload->flags & OFFLOAD_NEEDS_CHECKSUM) && offload->kind == OFFLOAD_NONE;
}

static PortDelivery
stream_deliver(Port *port, guint8 *frame, gsize length, const Offload *offload)
{
    return stream_queue_push(((StreamPort *) port)->queue, frame, length) ? PORT_DELIVERED : PORT_FULL;
}

// When QEMU is slow, the tail is dropped, as a NIC would.
static gboolean
stream_has_room(const Port *port)
{
    return TRUE;
}

static void
stream_flush(Port *port)
{
    StreamPort *stream = (StreamPort *) port;
    // A closed end is found out by reading, so that it is never taken for an error.
    stream_queue_flush(stream->queue, stream->fd, NULL);
}

// A running guest has in its memory what the emulator has read, unless its ring is full.
static gboolean
has_taken(const StreamPort *stream)
{
    int unread = 0;
    return stream_queue_length(stream->queue) == 0 &&
           (ioctl(stream->fd, SIOCOUTQ, &unread) != 0 || unread == 0);
}

static json_t *
stream_status(const Port *port)
{
    return json_pack("{s:s, s:b, s:b}", "kind", "stream", "ready", 1, "taken",
                     has_taken((const StreamPort *) port));
}

static const PortOps stream_ops = {
    .close = stream_close,
    .poll = stream_poll,
    .serve = stream_serve,
    .takes = stream_takes,
    .deliver = stream_deliver,
    .has_room = stream_has_room,
    .flush = stream_flush,
    .status = stream_status,
    .tells_exactly = FALSE, // what the emulator has read may wait in it
    .is_ready = stream_is_ready,
    .drain = stream_drain,
};

Port *
port_stream_open(const char *path, PortFrame frame, void *data, GError **error)
{
    int fd = connect_stream(path, error);
    if (fd < 0)
        return NULL;
    StreamPort *stream = g_new0(StreamPort, 1);
    stream->port = (Port){&stream_ops, frame, data};
    stream->fd = fd;
    stream->reader = stream_reader_new(STREAM_FRAME_MAX);
    stream->queue = stream_queue_new(STREAM_QUEUE_MAX);
    return &stream->port;
}
