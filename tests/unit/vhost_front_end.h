// SPDX-License-Identifier: LGPL-2.1-or-later
// A vhost-user front-end and a guest's driver for tests: memory in a memfd, two rings, descriptors written by
// hand.
#pragma once

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vnet/vhost_device.h"

#define FRONT_MEMORY (1u << 20)
#define FRONT_GUEST  0x100000u   // guest-physical address of the memory
#define FRONT_USER   0x70000000u // where the front-end says that it has it
#define FRONT_SIZE   8u          // of each ring
#define FRONT_LOG    4096u

enum { FRONT_NEXT = 1, FRONT_WRITE = 2, FRONT_INDIRECT = 4 };

// Where ring `i` has its parts in the memory, and where buffers may go.
#define FRONT_DESCRIPTORS(i) (0x1000u * (i))
#define FRONT_AVAILABLE(i)   (0x1000u * (i) + 0x400u)
#define FRONT_USED(i)        (0x1000u * (i) + 0x800u)
#define FRONT_BUFFERS        0x10000u

typedef struct {
    int memory_fd, log_fd;
    guint8 *memory, *log;
    int kick[VHOST_RINGS], call[VHOST_RINGS], err[VHOST_RINGS];
    guint16 available[VHOST_RINGS];
    VhostDevice *device;
} FrontEnd;

static inline void
front_put(FrontEnd *front, gsize at, guint64 value, gsize size)
{
    value = GUINT64_TO_LE(value);
    memcpy(front->memory + at, &value, size);
}

static inline guint64
front_get(const FrontEnd *front, gsize at, gsize size)
{
    guint64 value = 0;
    memcpy(&value, front->memory + at, size);
    return GUINT64_FROM_LE(value);
}

static inline void
front_open(FrontEnd *front, gboolean offload)
{
    memset(front, 0, sizeof(*front));
    front->memory_fd = memfd_create("guest", MFD_CLOEXEC);
    front->log_fd = memfd_create("log", MFD_CLOEXEC);
    if (ftruncate(front->memory_fd, FRONT_MEMORY) != 0 || ftruncate(front->log_fd, FRONT_LOG) != 0)
        g_error("no memory");
    front->memory = mmap(NULL, FRONT_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, front->memory_fd, 0);
    front->log = mmap(NULL, FRONT_LOG, PROT_READ | PROT_WRITE, MAP_SHARED, front->log_fd, 0);
    for (guint i = 0; i < VHOST_RINGS; i++) {
        front->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        front->call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        front->err[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    front->device = vhost_device_new(offload);
}

static inline void
front_close(FrontEnd *front)
{
    vhost_device_free(front->device);
    munmap(front->memory, FRONT_MEMORY);
    munmap(front->log, FRONT_LOG);
    close(front->memory_fd);
    close(front->log_fd);
    for (guint i = 0; i < VHOST_RINGS; i++) {
        close(front->kick[i]);
        close(front->call[i]);
        close(front->err[i]);
    }
}

// Whether an event was told since the last look.
static inline gboolean
front_told(int fd)
{
    guint64 count;
    return read(fd, &count, sizeof(count)) == sizeof(count);
}

// Sends a message with `fd` (duplicated; -1: none).
static inline gboolean
front_send(FrontEnd *front, guint32 request, const void *payload, guint32 size, int fd, VhostMessage *reply,
           GError **error)
{
    VhostMessage message = {.request = request, .flags = 1, .size = size}, ignored;
    memcpy(message.payload, payload, size);
    if (fd >= 0)
        message.fds[message.n_fds++] = dup(fd);
    return vhost_device_handle(front->device, &message, reply ? reply : &ignored, error);
}

static inline gboolean
front_send64(FrontEnd *front, guint32 request, guint64 value, int fd)
{
    return front_send(front, request, &value, sizeof(value), fd, NULL, NULL);
}

static inline gboolean
front_send_state(FrontEnd *front, guint32 request, guint32 index, guint32 value)
{
    const guint32 state[2] = {index, value};
    return front_send(front, request, state, sizeof(state), -1, NULL, NULL);
}

static inline gboolean
front_set_memory(FrontEnd *front)
{
    const guint64 table[5] = {GUINT64_FROM_LE(1), FRONT_GUEST, FRONT_MEMORY, FRONT_USER, 0};
    return front_send(front, 5, table, sizeof(table), front->memory_fd, NULL, NULL);
}

static inline gboolean
front_set_address(FrontEnd *front, guint i, gboolean log)
{
    struct {
        guint32 index, flags;
        guint64 descriptors, used, available, log;
    } address = {i,
                 log,
                 FRONT_USER + FRONT_DESCRIPTORS(i),
                 FRONT_USER + FRONT_USED(i),
                 FRONT_USER + FRONT_AVAILABLE(i),
                 FRONT_GUEST + FRONT_USED(i)};
    return front_send(front, 9, &address, sizeof(address), -1, NULL, NULL);
}

// Sets a ring up and starts it at `base`.
static inline gboolean
front_start_ring(FrontEnd *front, guint i, guint16 base)
{
    front->available[i] = base;
    gboolean ok = front_send_state(front, 8, i, FRONT_SIZE) && front_send_state(front, 10, i, base) &&
                  front_set_address(front, i, FALSE) && front_send64(front, 13, i, front->call[i]) &&
                  front_send64(front, 14, i, front->err[i]) && front_send64(front, 12, i, front->kick[i]) &&
                  front_send_state(front, 18, i, 1);
    front_told(front->call[i]); // for what might have been missed
    return ok;
}

static inline gboolean
front_start(FrontEnd *front, guint64 features)
{
    return front_send64(front, 16, 0xf, -1) && front_send64(front, 2, features, -1) &&
           front_set_memory(front) && front_start_ring(front, VHOST_TO_GUEST, 0) &&
           front_start_ring(front, VHOST_FROM_GUEST, 0);
}

// Writes a descriptor of the table at `table` in the memory; `at`: the buffer's place in the memory.
static inline void
front_describe(FrontEnd *front, gsize table, guint index, guint64 at, guint32 length, guint16 flags,
               guint16 next)
{
    gsize place = table + (gsize) index * 16;
    front_put(front, place, FRONT_GUEST + at, 8);
    front_put(front, place + 8, length, 4);
    front_put(front, place + 12, flags, 2);
    front_put(front, place + 14, next, 2);
}

static inline void
front_offer(FrontEnd *front, guint ring, guint16 head)
{
    front_put(front, FRONT_AVAILABLE(ring) + 4 + (front->available[ring] % FRONT_SIZE) * 2u, head, 2);
    front_put(front, FRONT_AVAILABLE(ring) + 2, ++front->available[ring], 2);
}

static inline guint16
front_used(const FrontEnd *front, guint ring)
{
    return (guint16) front_get(front, FRONT_USED(ring) + 2, 2);
}
