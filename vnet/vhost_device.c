// SPDX-License-Identifier: LGPL-2.1-or-later
// vhost-user's messages: what each must look like, and what it does.
#include "vnet/vhost_device.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

// Theory of operation: the front-end is the emulator, which a guest may have taken over: every field is
// hostile. A message is checked whole against its row of the table (size, descriptors) and then carried out.
// Rings are worked in order and no frame is kept back in one, so that a ring's state is its two indices and
// nothing is in flight between two messages: a front-end that comes again finds all it needs in
// GET_VRING_BASE or in the used ring. So there is no region for buffers in flight
// (VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD): a NIC's front-end in QEMU never asks for one, and who dies between
// sending and telling sends one batch again at most.
enum {
    VERSION = 1,
    VERSION_MASK = 3,
    FLAG_REPLY = 4,
    FLAG_NEED_REPLY = 8,
    NO_DESCRIPTOR = 0x100, // in the payload of SET_VRING_KICK, _CALL and _ERR
    INDEX_MASK = 0xff,
    LOG_USED_RING = 1, // VHOST_VRING_F_LOG
};

enum {
    PROTOCOL_MULTIQUEUE = 0,
    PROTOCOL_LOG_SHMFD = 1,
    PROTOCOL_RARP = 2,
    PROTOCOL_REPLY_ACK = 3,
};

#define BIT(n) (G_GUINT64_CONSTANT(1) << (n))
// RARP is offered and ignored: announcing is vnet's own business, and without the bit QEMU complains.
#define PROTOCOL_OFFERED                                                                                     \
    (BIT(PROTOCOL_MULTIQUEUE) | BIT(PROTOCOL_LOG_SHMFD) | BIT(PROTOCOL_RARP) | BIT(PROTOCOL_REPLY_ACK))
#define BASE_FEATURES                                                                                        \
    (BIT(FEATURE_MERGEABLE) | BIT(FEATURE_LOG_ALL) | BIT(FEATURE_ANY_LAYOUT) | BIT(FEATURE_INDIRECT) |       \
     BIT(FEATURE_EVENT_INDEX) | BIT(FEATURE_PROTOCOL) | BIT(FEATURE_VERSION_1))
#define OFFLOAD_FEATURES                                                                                     \
    (BIT(FEATURE_CHECKSUM) | BIT(FEATURE_GUEST_CHECKSUM) | BIT(FEATURE_GUEST_TSO4) |                         \
     BIT(FEATURE_GUEST_TSO6) | BIT(FEATURE_GUEST_ECN) | BIT(FEATURE_HOST_TSO4) | BIT(FEATURE_HOST_TSO6) |    \
     BIT(FEATURE_HOST_ECN))

static void
close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void
vhost_message_close_fds(VhostMessage *message)
{
    for (guint i = 0; i < message->n_fds; i++)
        close_fd(&message->fds[i]);
    message->n_fds = 0;
}

VhostDevice *
vhost_device_new(gboolean offload)
{
    VhostDevice *device = g_new0(VhostDevice, 1);
    device->offered = BASE_FEATURES | (offload ? OFFLOAD_FEATURES : 0);
    device->memory = guest_memory_new();
    for (guint i = 0; i < VHOST_RINGS; i++)
        device->rings[i].kick = device->rings[i].call = device->rings[i].err = -1;
    return device;
}

void
vhost_device_reset(VhostDevice *device)
{
    for (guint i = 0; i < VHOST_RINGS; i++) {
        VhostRing *ring = &device->rings[i];
        close_fd(&ring->kick);
        close_fd(&ring->call);
        close_fd(&ring->err);
        *ring = (VhostRing){.kick = -1, .call = -1, .err = -1};
    }
    device->features = device->protocol_features = 0;
    guest_memory_set(device->memory, NULL, 0, NULL);
    guest_memory_set_log(device->memory, -1, 0, 0, NULL);
}

void
vhost_device_free(VhostDevice *device)
{
    if (!device)
        return;
    vhost_device_reset(device);
    guest_memory_free(device->memory);
    g_free(device);
}

gboolean
vhost_has(const VhostDevice *device, guint feature)
{
    return (device->features & BIT(feature)) != 0;
}

static void
tell(int fd)
{
    static const guint64 one = 1;
    // A full counter is as good as a told one.
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
        return;
}

static guint32
get32(const VhostMessage *message, gsize offset)
{
    guint32 value;
    memcpy(&value, message->payload + offset, sizeof(value));
    return value;
}

static guint64
get64(const VhostMessage *message, gsize offset)
{
    guint64 value;
    memcpy(&value, message->payload + offset, sizeof(value));
    return value;
}

static int
take_fd(VhostMessage *message, guint i)
{
    int fd = i < message->n_fds ? message->fds[i] : -1;
    if (fd >= 0)
        message->fds[i] = -1;
    return fd;
}

static void
put64(VhostMessage *reply, guint64 value)
{
    memcpy(reply->payload, &value, sizeof(value));
    reply->size = sizeof(value);
}

static VhostRing *
find_ring(VhostDevice *device, guint64 index, GError **error)
{
    if (index < VHOST_RINGS)
        return &device->rings[index];
    quasar_set_error(error, VIR_ERR_RPC, "the emulator names ring %" G_GUINT64_FORMAT " of a NIC that has %d",
                     index, VHOST_RINGS);
    return NULL;
}

static gboolean
get_features(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    put64(reply, device->offered);
    return TRUE;
}

static gboolean
set_features(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    guint64 wanted = get64(message, 0);
    if (wanted & ~device->offered) {
        quasar_set_error(error, VIR_ERR_RPC,
                         "the emulator takes features that were not offered: %" G_GINT64_MODIFIER "x",
                         wanted & ~device->offered);
        return FALSE;
    }
    device->features = wanted;
    for (guint i = 0; i < VHOST_RINGS; i++) {
        device->rings[i].ring.event_index = vhost_has(device, FEATURE_EVENT_INDEX);
        // Rings of front-ends without the protocol's own features have no switch.
        if (!vhost_has(device, FEATURE_PROTOCOL))
            device->rings[i].enabled = TRUE;
    }
    return TRUE;
}

static gboolean
get_protocol_features(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    put64(reply, PROTOCOL_OFFERED);
    return TRUE;
}

static gboolean
set_protocol_features(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    device->protocol_features = get64(message, 0) & PROTOCOL_OFFERED;
    return TRUE;
}

static gboolean
get_queue_num(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    put64(reply, 1); // pairs
    return TRUE;
}

static gboolean
nothing(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    return TRUE;
}

static gboolean
reset_owner(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    for (guint i = 0; i < VHOST_RINGS; i++)
        ring_stop(&device->rings[i].ring);
    return TRUE;
}

static gboolean
set_memory(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    MemoryRegion regions[GUEST_MEMORY_REGIONS];
    guint32 n = get32(message, 0);
    if (n > GUEST_MEMORY_REGIONS || n != message->n_fds || message->size != 8 + n * 32) {
        quasar_set_error(error, VIR_ERR_RPC,
                         "the emulator's table of %u memory regions has %u descriptors, %u bytes", n,
                         message->n_fds, message->size);
        return FALSE;
    }
    for (guint i = 0; i < n; i++) {
        gsize at = 8 + (gsize) i * 32;
        regions[i] = (MemoryRegion){get64(message, at), get64(message, at + 8), get64(message, at + 16),
                                    get64(message, at + 24), message->fds[i]};
    }
    if (!guest_memory_set(device->memory, regions, n, error))
        return FALSE;
    for (guint i = 0; i < VHOST_RINGS; i++)
        if (device->rings[i].ring.started && !ring_locate(&device->rings[i].ring, device->memory))
            device->rings[i].ring.broken = TRUE;
    return TRUE;
}

static gboolean
set_log_base(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    if (!(device->protocol_features & BIT(PROTOCOL_LOG_SHMFD)) || message->n_fds != 1) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator's dirty log has no descriptor");
        return FALSE;
    }
    if (!guest_memory_set_log(device->memory, message->fds[0], get64(message, 0), get64(message, 8), error))
        return FALSE;
    put64(reply, 0);
    return TRUE;
}

static gboolean
set_vring_num(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    VhostRing *ring = find_ring(device, get32(message, 0), error);
    guint32 size = get32(message, 4);
    if (!ring)
        return FALSE;
    if (size == 0 || size > RING_SIZE_MAX || (size & (size - 1)) != 0) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator gives a ring the impossible size %u", size);
        return FALSE;
    }
    ring_stop(&ring->ring);
    ring->ring.size = (guint16) size;
    return TRUE;
}

static gboolean
set_vring_addr(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    VhostRing *ring = find_ring(device, get32(message, 0), error);
    if (!ring)
        return FALSE;
    ring->ring.address = (RingAddress){.descriptors = get64(message, 8),
                                       .used = get64(message, 16),
                                       .available = get64(message, 24),
                                       .log = get64(message, 32),
                                       .log_used = (get32(message, 4) & LOG_USED_RING) != 0};
    // Sent to a running ring to switch its logging.
    if (ring->ring.started && !ring_locate(&ring->ring, device->memory))
        ring->ring.broken = TRUE;
    return TRUE;
}

static gboolean
set_vring_base(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    VhostRing *ring = find_ring(device, get32(message, 0), error);
    if (!ring)
        return FALSE;
    ring->base = (guint16) get32(message, 4);
    return TRUE;
}

static gboolean
get_vring_base(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    guint32 index = get32(message, 0);
    VhostRing *ring = find_ring(device, index, error);
    if (!ring)
        return FALSE;
    guint32 base = ring->ring.started ? ring->ring.next_available : ring->base;
    ring_stop(&ring->ring);
    ring->base = (guint16) base;
    close_fd(&ring->kick);
    close_fd(&ring->call);
    memcpy(reply->payload, &index, sizeof(index));
    memcpy(reply->payload + 4, &base, sizeof(base));
    reply->size = 8;
    return TRUE;
}

// The descriptor of SET_VRING_KICK, _CALL and _ERR goes to `place`; the ring, or NULL.
static VhostRing *
take_event(VhostDevice *device, VhostMessage *message, gsize place, GError **error)
{
    guint64 value = get64(message, 0);
    VhostRing *ring = find_ring(device, value & INDEX_MASK, error);
    if (!ring)
        return NULL;
    if (((value & NO_DESCRIPTOR) == 0) != (message->n_fds == 1)) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator's event has no descriptor");
        return NULL;
    }
    int *fd = (int *) (void *) ((guint8 *) ring + place);
    close_fd(fd);
    *fd = take_fd(message, 0);
    // As the emulator's own event descriptors are; another, or a full one, must not hold the loop up.
    if (*fd >= 0)
        fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) | O_NONBLOCK);
    return ring;
}

// A ring starts with its kick.
static gboolean
set_vring_kick(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    VhostRing *ring = take_event(device, message, G_STRUCT_OFFSET(VhostRing, kick), error);
    if (!ring)
        return FALSE;
    if (!ring->ring.started && !ring_start(&ring->ring, device->memory, ring->base)) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator's ring is not in the guest's memory");
        return FALSE;
    }
    return TRUE;
}

// A ring works from its kick on, which the front-end sends before this: the guest may have been called in
// vain meanwhile, and would wait for a call that never comes again. One call too many does no harm.
static gboolean
set_vring_call(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    const VhostRing *ring = take_event(device, message, G_STRUCT_OFFSET(VhostRing, call), error);
    if (ring)
        tell(ring->call);
    return ring != NULL;
}

static gboolean
set_vring_err(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    return take_event(device, message, G_STRUCT_OFFSET(VhostRing, err), error) != NULL;
}

static gboolean
set_vring_enable(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    VhostRing *ring = find_ring(device, get32(message, 0), error);
    if (!ring)
        return FALSE;
    ring->enabled = get32(message, 4) != 0;
    return TRUE;
}

typedef gboolean (*Handler)(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error);

#define ANY_SIZE G_MAXUINT32

// By request number. A row without a handler is not understood: its bit was never offered.
static const struct {
    Handler handler;
    guint32 size; // of the payload
    guint max_fds;
    gboolean replies; // by itself, not only when asked to
} requests[] = {
    [1] = {get_features, 0, 0, TRUE},
    [2] = {set_features, 8, 0, FALSE},
    [3] = {nothing, 0, 0, FALSE}, // SET_OWNER
    [4] = {reset_owner, 0, 0, FALSE},
    [5] = {set_memory, ANY_SIZE, VHOST_FDS, FALSE},
    [6] = {set_log_base, 16, 1, TRUE},
    [7] = {nothing, ANY_SIZE, 1,
           FALSE}, // SET_LOG_FD: to be told of the log is the front-end's wish, not its right
    [8] = {set_vring_num, 8, 0, FALSE},
    [9] = {set_vring_addr, 40, 0, FALSE},
    [10] = {set_vring_base, 8, 0, FALSE},
    [11] = {get_vring_base, 8, 0, TRUE},
    [12] = {set_vring_kick, 8, 1, FALSE},
    [13] = {set_vring_call, 8, 1, FALSE},
    [14] = {set_vring_err, 8, 1, FALSE},
    [15] = {get_protocol_features, 0, 0, TRUE},
    [16] = {set_protocol_features, 8, 0, FALSE},
    [17] = {get_queue_num, 0, 0, TRUE},
    [18] = {set_vring_enable, 8, 0, FALSE},
    [19] = {nothing, 8, 0, FALSE}, // SEND_RARP
};

gboolean
vhost_message_check(const VhostMessage *message, GError **error)
{
    if ((message->flags & VERSION_MASK) == VERSION && !(message->flags & FLAG_REPLY) &&
        message->size <= VHOST_PAYLOAD)
        return TRUE;
    quasar_set_error(error, VIR_ERR_RPC, "message %u of the emulator has flags 0x%x and %u bytes",
                     message->request, message->flags, message->size);
    return FALSE;
}

static gboolean
carry_out(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    guint32 request = message->request;
    if (!vhost_message_check(message, error))
        return FALSE;
    if (request >= G_N_ELEMENTS(requests) || !requests[request].handler) {
        quasar_set_error(error, VIR_ERR_RPC, "the emulator asks for what was not offered (message %u)",
                         request);
        return FALSE;
    }
    guint32 size = requests[request].size;
    if ((size == ANY_SIZE ? message->size < 8 : message->size != size) ||
        message->n_fds > requests[request].max_fds) {
        quasar_set_error(error, VIR_ERR_RPC, "message %u of the emulator has %u bytes and %u descriptors",
                         request, message->size, message->n_fds);
        return FALSE;
    }
    if (!requests[request].handler(device, message, reply, error))
        return FALSE;
    if (requests[request].replies)
        reply->request = request;
    else if ((message->flags & FLAG_NEED_REPLY) && (device->protocol_features & BIT(PROTOCOL_REPLY_ACK))) {
        reply->request = request;
        put64(reply, 0);
    }
    reply->flags = VERSION | FLAG_REPLY;
    return TRUE;
}

gboolean
vhost_device_handle(VhostDevice *device, VhostMessage *message, VhostMessage *reply, GError **error)
{
    memset(reply, 0, sizeof(*reply));
    gboolean ok = carry_out(device, message, reply, error);
    vhost_message_close_fds(message);
    return ok;
}

gboolean
vhost_ring_ready(const VhostDevice *device, guint index)
{
    const VhostRing *ring = &device->rings[index];
    return ring->enabled && ring->ring.started && !ring->ring.broken;
}

void
vhost_ring_call(const VhostDevice *device, guint index)
{
    tell(device->rings[index].call);
}

void
vhost_ring_look_after(VhostDevice *device, guint index)
{
    VhostRing *ring = &device->rings[index];
    if (!ring->ring.started || !ring->ring.broken)
        return;
    device->broken++;
    // A guest can do this for ever; the log is not to grow with it.
    if ((device->broken & (device->broken - 1)) == 0)
        g_warning("the guest broke its ring %u, which stands still until its NIC is reset", index);
    ring->base = ring->ring.next_available;
    ring_stop(&ring->ring);
    tell(ring->err);
}
