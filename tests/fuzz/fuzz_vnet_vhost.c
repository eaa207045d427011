// SPDX-License-Identifier: LGPL-2.1-or-later
// vhost-user: messages of a hostile emulator, and rings that a hostile guest wrote.
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vnet/vhost_device.h"
#include "vnet/vhost_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Input: one byte of choices, one with the number of messages, the messages {request, size, number of
// descriptors, payload}, then what the guest's memory holds.
enum {
    MEMORY = 1 << 16,
    OFFLOAD = 1,
    PREPARED = 2, // rings are set up in the usual way first
};

typedef struct {
    const uint8_t *data;
    size_t size;
} Input;

static guint8
next_byte(Input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

static void
look(const struct iovec *parts, guint n, gsize length, const Offload *offload, void *data)
{
    gsize total = 0;
    for (guint i = 0; i < n; i++) {
        const guint8 *bytes = parts[i].iov_base;
        if (parts[i].iov_len > 0)
            *(guint8 *) data ^= bytes[0] ^ bytes[parts[i].iov_len - 1];
        total += parts[i].iov_len;
    }
    g_assert_cmpuint(total, ==, length);
    g_assert_cmpuint(parts[0].iov_len, >=, MIN(length, PORT_HEAD));
}

static void
work(VhostDevice *device)
{
    static guint8 frame[9000];
    const Offload offload = {.flags = OFFLOAD_NEEDS_CHECKSUM, .checksum_start = 34, .checksum_offset = 16};
    guint8 sum = 0;
    guint64 malformed = 0;
    gboolean interrupt = FALSE;
    const Port port = {.frame = look, .data = &sum};
    vhost_frames_get(device, 64, &port, &malformed);
    for (gsize length = 60; length <= sizeof(frame); length *= 3)
        vhost_frames_put(device, frame, length, &offload, &interrupt);
    for (guint i = 0; i < VHOST_RINGS; i++) {
        ring_ask_for_kicks(&device->rings[i].ring, device->memory, TRUE);
        ring_ask_for_kicks(&device->rings[i].ring, device->memory, FALSE);
        vhost_ring_look_after(device, i);
    }
}

static gboolean
send_message(VhostDevice *device, guint32 request, const void *payload, guint32 size, int fd, guint n_fds)
{
    VhostMessage message = {.request = request, .flags = 1, .size = size}, reply;
    memcpy(message.payload, payload, MIN(size, VHOST_PAYLOAD));
    for (guint i = 0; i < n_fds && i < VHOST_FDS; i++)
        message.fds[message.n_fds++] = dup(fd);
    gboolean ok = vhost_device_handle(device, &message, &reply, NULL);
    g_assert_cmpuint(message.n_fds, ==, 0);
    g_assert_cmpuint(reply.size, <=, VHOST_PAYLOAD);
    return ok;
}

static void
prepare(VhostDevice *device, int memory, int event)
{
    const guint64 table[5] = {1, 0, MEMORY, 0, 0}, features = device->offered, protocol = 0xf;
    const guint64 log[2] = {4096, 0};
    send_message(device, 16, &protocol, 8, -1, 0);
    send_message(device, 2, &features, 8, -1, 0);
    send_message(device, 5, table, 40, memory, 1);
    send_message(device, 6, log, 16, memory, 1);
    for (guint32 i = 0; i < VHOST_RINGS; i++) {
        const guint32 ring_size[2] = {i, 16}, base[2] = {i, 0}, on[2] = {i, 1};
        const guint64 index = i, address[5] = {i | (guint64) 1 << 32, i * 4096, i * 4096 + 1024,
                                               i * 4096 + 512, i * 4096};
        send_message(device, 8, ring_size, 8, -1, 0);
        send_message(device, 10, base, 8, -1, 0);
        send_message(device, 9, address, 40, -1, 0);
        send_message(device, 13, &index, 8, event, 1);
        send_message(device, 12, &index, 8, event, 1);
        send_message(device, 18, on, 8, -1, 0);
    }
}

static void
keep_quiet(const char *domain, GLogLevelFlags level, const char *message, void *data)
{
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_log_set_handler(NULL, G_LOG_LEVEL_WARNING, keep_quiet, NULL);
    Input input = {data, size};
    guint8 choices = next_byte(&input), n = next_byte(&input) % 32;
    g_autoptr(VhostDevice) device = vhost_device_new((choices & OFFLOAD) != 0);
    int memory = memfd_create("guest", MFD_CLOEXEC), event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ftruncate(memory, MEMORY) != 0)
        return 0;
    if (choices & PREPARED)
        prepare(device, memory, event);
    for (guint i = 0; i < n; i++) {
        guint32 request = next_byte(&input), length = next_byte(&input);
        guint fds = next_byte(&input);
        guint8 payload[256] = {0};
        for (guint32 at = 0; at < length; at++)
            payload[at] = next_byte(&input);
        send_message(device, request, payload, length, fds & 0x80 ? event : memory, fds & 0xf);
        if (i % 4 == 3)
            work(device);
    }
    if (pwrite(memory, input.data, MIN(input.size, (size_t) MEMORY), 0) < 0)
        g_error("no memory");
    work(device);
    close(memory);
    close(event);
    return 0;
}
