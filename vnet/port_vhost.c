// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest behind QEMU's `-netdev vhost-user`: frames in the guest's own memory.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/frame_queue.h"
#include "vnet/port.h"
#include "vnet/vhost_device.h"
#include "vnet/vhost_frames.h"

// Theory of operation: the emulator connects here, and again after its end or ours was lost; one at a time.
// When its process is gone nobody will come again, and that is the end.
// Messages are few and small, so that they are read one by one, never further than their end: descriptors
// stay with the message that they came with. Frames for which the guest has no buffer yet wait in a backlog,
// and meanwhile the capture is not read: the kernel's buffer is the queue.
#define BACKLOG     (2u << 20)
#define AWAIT_S     60 // for the first connection
#define AWAIT_NEW_S 10 // for another one
#define GET_BATCH   64u
#define READ_BATCH                                                                                           \
    64u // pieces of messages; an emulator that never stops must not keep orders from being heard

typedef struct {
    Port port;
    int listener, fd; // -1: none
    int process;      // pidfd of who connected last; -1: not known
    gint64 lonely;    // since when nobody is connected, monotonic us
    gboolean ever;    // somebody was
    VhostDevice *device;
    FrameQueue *backlog;
    gboolean interrupt; // wanted for what was delivered since the last flush
    gboolean more;      // frames of the guest were left for the next round
    guint64 malformed, cut_off;

    VhostMessage message; // being received
    gsize received;
} VhostPort;

static void
vhost_close(Port *port)
{
    VhostPort *vhost = (VhostPort *) port;
    if (vhost->fd >= 0)
        close(vhost->fd);
    if (vhost->listener >= 0)
        close(vhost->listener);
    if (vhost->process >= 0)
        close(vhost->process);
    vhost_message_close_fds(&vhost->message);
    vhost_device_free(vhost->device);
    frame_queue_free(vhost->backlog);
    g_free(vhost);
}

static void
disconnect(VhostPort *vhost)
{
    if (vhost->fd >= 0)
        close(vhost->fd);
    vhost->fd = -1;
    vhost->lonely = g_get_monotonic_time();
    vhost->received = 0;
    vhost_message_close_fds(&vhost->message);
    vhost_device_reset(vhost->device);
    frame_queue_clear(vhost->backlog);
}

static gboolean
ring_waits_for_kick(const VhostPort *vhost, guint ring)
{
    return vhost_ring_ready(vhost->device, ring) && vhost->device->rings[ring].kick >= 0;
}

static guint
vhost_poll(Port *port, struct pollfd *fds)
{
    VhostPort *vhost = (VhostPort *) port;
    guint n = 0;
    fds[n++] = (struct pollfd){vhost->fd >= 0 ? vhost->fd : vhost->listener, POLLIN, 0};
    if (vhost->fd < 0 && vhost->process >= 0)
        fds[n++] = (struct pollfd){vhost->process, POLLIN, 0};
    for (guint i = 0; i < VHOST_RINGS; i++)
        if (ring_waits_for_kick(vhost, i))
            fds[n++] = (struct pollfd){vhost->device->rings[i].kick, POLLIN, 0};
    return n;
}

static int
vhost_wait_ms(const Port *port)
{
    const VhostPort *vhost = (const VhostPort *) port;
    if (vhost->more)
        return 0;
    if (vhost->fd >= 0)
        return -1;
    gint64 end = vhost->lonely + (vhost->ever ? AWAIT_NEW_S : AWAIT_S) * G_USEC_PER_SEC;
    return (int) (MAX(0, end - g_get_monotonic_time()) / 1000 + 1);
}

// By its process, which outlives its connection.
static void
note_process(VhostPort *vhost)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);
    if (vhost->process >= 0)
        close(vhost->process);
    vhost->process = -1;
    if (getsockopt(vhost->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0)
        vhost->process = (int) syscall(SYS_pidfd_open, peer.pid, 0);
}

static gboolean
is_gone(const VhostPort *vhost)
{
    struct pollfd process = {vhost->process, POLLIN, 0};
    return vhost->process >= 0 && poll(&process, 1, 0) > 0;
}

static PortState
accept_emulator(VhostPort *vhost)
{
    vhost->fd = accept4(vhost->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (vhost->fd >= 0) {
        vhost->ever = TRUE;
        note_process(vhost);
        return PORT_GOES_ON;
    }
    gint64 lonely = g_get_monotonic_time() - vhost->lonely;
    gboolean waits = lonely <= (vhost->ever ? AWAIT_NEW_S : AWAIT_S) * G_USEC_PER_SEC;
    return waits && !is_gone(vhost) ? PORT_GOES_ON : PORT_CLOSED;
}

gboolean
port_vhost_expect(Port *port, pid_t emulator, GError **error)
{
    VhostPort *vhost = (VhostPort *) port;
    if (vhost->process >= 0)
        close(vhost->process);
    vhost->process = (int) syscall(SYS_pidfd_open, emulator, 0);
    return vhost->process >= 0 ||
           quasar_set_system_error(error, errno, "the emulator, process %d, cannot be watched",
                                   (int) emulator);
}

// Keeps the descriptors that came with a piece of the message; too many of them are closed.
static void
keep_fds(VhostMessage *message, struct msghdr *header)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        gsize n = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (gsize i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            if (message->n_fds < VHOST_FDS)
                message->fds[message->n_fds++] = fd;
            else
                close(fd);
        }
    }
}

// Reads up to `length` bytes of the message to `place`. 1: some came, 0: none now, -1: the emulator closed
// its end.
static int
receive(VhostPort *vhost, void *place, gsize length)
{
    union {
        struct cmsghdr align;
        guint8 bytes[CMSG_SPACE(VHOST_FDS * sizeof(int))];
    } control;
    struct iovec part = {place, length};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(vhost->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
    keep_fds(&vhost->message, &header);
    vhost->received += (gsize) n;
    return n == 0 ? -1 : 1;
}

static gboolean
send_reply(VhostPort *vhost, const VhostMessage *reply)
{
    const guint32 header[3] = {reply->request, reply->flags, reply->size};
    struct iovec parts[2] = {{(void *) header, sizeof(header)}, {(void *) reply->payload, reply->size}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    // An emulator that does not read its few bytes of answers is as good as gone.
    return sendmsg(vhost->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) ==
           (ssize_t) (sizeof(header) + reply->size);
}

// Whether the message's header, or all of it, is there.
static gboolean
has_header(const VhostPort *vhost)
{
    return vhost->received >= VHOST_HEADER;
}

static gboolean
carry_out(VhostPort *vhost, GError **error)
{
    VhostMessage reply;
    vhost->received = 0;
    gboolean ok = vhost_device_handle(vhost->device, &vhost->message, &reply, error);
    memset(&vhost->message, 0, sizeof(vhost->message));
    if (!ok)
        return FALSE;
    if (reply.request && !send_reply(vhost, &reply)) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator does not read its answers");
        return FALSE;
    }
    return TRUE;
}

// One piece of a message. 1: go on, 0: nothing more now, -1: cut the emulator off, with an error unless it
// left.
static int
read_message(VhostPort *vhost, GError **error)
{
    VhostMessage *message = &vhost->message;
    G_STATIC_ASSERT(G_STRUCT_OFFSET(VhostMessage, payload) == VHOST_HEADER);
    gsize wanted = has_header(vhost) ? VHOST_HEADER + message->size : VHOST_HEADER;
    int state = receive(vhost, (guint8 *) message + vhost->received, wanted - vhost->received);
    if (state <= 0)
        return state;
    if (vhost->received == VHOST_HEADER && wanted == VHOST_HEADER && !vhost_message_check(message, error))
        return -1;
    if (!has_header(vhost) || vhost->received < VHOST_HEADER + message->size)
        return 1;
    return carry_out(vhost, error) ? 1 : -1;
}

static void
read_messages(VhostPort *vhost)
{
    g_autoptr(GError) error = NULL;
    int state = 1;
    for (guint i = 0; i < READ_BATCH && state > 0; i++)
        state = read_message(vhost, &error);
    if (state >= 0)
        return;
    if (error) {
        vhost->cut_off++;
        g_warning("%s; it is cut off and may connect again", error->message);
    }
    disconnect(vhost);
}

// What is in the backlog goes first. FALSE: something is left of it.
static gboolean
deliver_backlog(VhostPort *vhost)
{
    QueuedFrame *frame;
    while ((frame = frame_queue_peek(vhost->backlog))) {
        if (vhost_frames_put(vhost->device, frame->bytes, frame->length, &frame->offload,
                             &vhost->interrupt) == FRAME_NO_ROOM)
            return FALSE;
        frame_queue_pop(vhost->backlog);
    }
    return TRUE;
}

// The guest tells of new buffers only while it is asked to.
static void
watch_for_room(VhostPort *vhost)
{
    VhostDevice *device = vhost->device;
    Ring *ring = &device->rings[VHOST_TO_GUEST].ring;
    if (!vhost_ring_ready(device, VHOST_TO_GUEST))
        return;
    while (!deliver_backlog(vhost)) {
        guint16 before = ring->next_available;
        ring_ask_for_kicks(ring, device->memory, TRUE);
        // Once more: buffers may have come before the guest saw that it is asked.
        if (deliver_backlog(vhost) || ring->next_available == before)
            return;
    }
    ring_ask_for_kicks(ring, device->memory, FALSE);
}

static void
take_frames(VhostPort *vhost)
{
    VhostDevice *device = vhost->device;
    Ring *ring = &device->rings[VHOST_FROM_GUEST].ring;
    vhost->more = FALSE;
    if (!vhost_ring_ready(device, VHOST_FROM_GUEST))
        return;
    ring_ask_for_kicks(ring, device->memory, FALSE);
    if (vhost_frames_get(device, GET_BATCH, &vhost->port, &vhost->malformed) == GET_BATCH) {
        vhost->more = TRUE; // others have their turn first
        return;
    }
    ring_ask_for_kicks(ring, device->memory, TRUE);
    vhost->more = ring_has_next(ring);
}

// A guest that runs could go on for ever: as many as a ring can hold.
static void
vhost_drain(Port *port)
{
    VhostPort *vhost = (VhostPort *) port;
    take_frames(vhost);
    for (guint i = 0; vhost->more && i < RING_SIZE_MAX / GET_BATCH; i++)
        take_frames(vhost);
}

static void
drain_kick(const struct pollfd *fd)
{
    guint64 count;
    if ((fd->revents & POLLIN) && read(fd->fd, &count, sizeof(count)) < 0)
        return; // nothing to drain is fine
}

static void
vhost_flush(Port *port)
{
    VhostPort *vhost = (VhostPort *) port;
    watch_for_room(vhost);
    if (vhost->interrupt)
        vhost_ring_call(vhost->device, VHOST_TO_GUEST);
    vhost->interrupt = FALSE;
}

static PortState
vhost_serve(Port *port, const struct pollfd *fds, guint n, GError **error)
{
    VhostPort *vhost = (VhostPort *) port;
    if (vhost->fd < 0)
        return accept_emulator(vhost);
    for (guint i = 1; i < n; i++)
        drain_kick(&fds[i]);
    take_frames(vhost);
    if (fds[0].revents) {
        // A GET_VRING_BASE that has come is to find the guest's frames gone, and the guest called.
        vhost_drain(port);
        vhost_flush(port);
        read_messages(vhost);
        vhost->more = vhost->fd >= 0; // a ring that was started may hold frames already
    }
    watch_for_room(vhost);
    return PORT_GOES_ON;
}

static gboolean
vhost_takes(const Port *port, const Offload *offload)
{
    return vhost_frames_take(((const VhostPort *) port)->device, offload);
}

static PortDelivery
vhost_deliver(Port *port, guint8 *frame, gsize length, const Offload *offload)
{
    VhostPort *vhost = (VhostPort *) port;
    if (!vhost_ring_ready(vhost->device, VHOST_TO_GUEST))
        return PORT_UNREADY;
    if (deliver_backlog(vhost)) {
        switch (vhost_frames_put(vhost->device, frame, length, offload, &vhost->interrupt)) {
        case FRAME_PUT:
            return PORT_DELIVERED;
        case FRAME_TOO_LONG:
            return PORT_FULL;
        case FRAME_NO_RING:
            return PORT_UNREADY;
        case FRAME_NO_ROOM:
            break;
        }
    }
    return frame_queue_push(vhost->backlog, frame, length, offload) ? PORT_DELIVERED : PORT_FULL;
}

static gboolean
vhost_has_room(const Port *port)
{
    return frame_queue_length(((const VhostPort *) port)->backlog) == 0;
}

static json_t *
vhost_status(const Port *port)
{
    const VhostPort *vhost = (const VhostPort *) port;
    g_autofree char *features = g_strdup_printf("0x%" G_GINT64_MODIFIER "x", vhost->device->features);
    return json_pack("{s:s, s:b, s:s, s:b, s:I, s:I, s:I, s:I}", "kind", "vhost-user", "ready",
                     vhost_ring_ready(vhost->device, VHOST_TO_GUEST), "features", features, "logging",
                     vhost_has(vhost->device, FEATURE_LOG_ALL), "backlog",
                     (json_int_t) frame_queue_length(vhost->backlog), "malformed",
                     (json_int_t) vhost->malformed, "broken_rings", (json_int_t) vhost->device->broken,
                     "cut_off", (json_int_t) vhost->cut_off);
}

static gboolean
vhost_is_ready(const Port *port)
{
    return vhost_ring_ready(((const VhostPort *) port)->device, VHOST_TO_GUEST);
}

static void
vhost_take_back(Port *port, PortTaken taken, void *data)
{
    FrameQueue *backlog = ((VhostPort *) port)->backlog;
    QueuedFrame *frame;
    while ((frame = frame_queue_peek(backlog))) {
        taken(frame->bytes, frame->length, &frame->offload, data);
        frame_queue_pop(backlog);
    }
}

static const PortOps vhost_ops = {
    .close = vhost_close,
    .poll = vhost_poll,
    .wait_ms = vhost_wait_ms,
    .serve = vhost_serve,
    .takes = vhost_takes,
    .deliver = vhost_deliver,
    .has_room = vhost_has_room,
    .flush = vhost_flush,
    .status = vhost_status,
    .tells_exactly = TRUE,
    .is_ready = vhost_is_ready,
    .drain = vhost_drain,
    .take_back = vhost_take_back,
};

Port *
port_vhost_open(const char *path, gboolean offload, PortFrame frame, void *data, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "socket path '%s' is too long", path);
        return NULL;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    VhostPort *vhost = g_new0(VhostPort, 1);
    g_autoptr(Port) port = &vhost->port;
    vhost->port = (Port){&vhost_ops, frame, data};
    vhost->fd = vhost->process = -1;
    vhost->lonely = g_get_monotonic_time();
    vhost->device = vhost_device_new(offload);
    vhost->backlog = frame_queue_new(BACKLOG);
    vhost->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(path);
    mode_t mask = umask(0177);
    gboolean bound = bind(vhost->listener, (struct sockaddr *) &address, sizeof(address)) == 0;
    umask(mask);
    if (!bound || listen(vhost->listener, 1) != 0) {
        quasar_set_system_error(error, errno, "cannot listen on '%s'", path);
        return NULL;
    }
    return g_steal_pointer(&port);
}
