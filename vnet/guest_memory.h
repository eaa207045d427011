// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest's memory as vhost-user shares it: mapped, looked up with bounds, and its dirty log.
#pragma once

#include <glib.h>
#include <sys/uio.h>

#define GUEST_MEMORY_REGIONS 8u

// One region as the front-end describes it. `fd` is borrowed.
typedef struct {
    guint64 guest;  // guest-physical address
    guint64 size;   // bytes
    guint64 user;   // where the front-end itself has it
    guint64 offset; // in the file
    int fd;
} MemoryRegion;

typedef struct GuestMemory GuestMemory;

GuestMemory *guest_memory_new(void);
void guest_memory_free(GuestMemory *memory);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GuestMemory, guest_memory_free)

// Maps the regions in place of those before. VIR_ERR_RPC when one does not fit its file or wraps around;
// nothing is mapped then.
gboolean guest_memory_set(GuestMemory *memory, const MemoryRegion *regions, guint n, GError **error);

// `length` bytes at an address of the front-end's, all in one region; NULL when they are not the guest's
// memory.
void *guest_memory_user(const GuestMemory *memory, guint64 user, guint64 length);

// Appends the parts of guest-physical [guest, guest + length) to parts[*n]. FALSE: not all of it is memory,
// or there are more than `max` parts.
gboolean guest_memory_parts(const GuestMemory *memory, guint64 guest, guint64 length, struct iovec *parts,
                            guint *n, guint max);

// The dirty log: one bit for each 4096 bytes from guest-physical 0 (vhost-user, "Migration"). fd -1 ends
// logging; it is borrowed otherwise.
gboolean guest_memory_set_log(GuestMemory *memory, int fd, guint64 size, guint64 offset, GError **error);

// Marks a write to guest-physical memory; what the log does not cover is left out. Does nothing without a
// log.
void guest_memory_mark(GuestMemory *memory, guint64 guest, guint64 length);

// The same for a place that guest_memory_parts() gave.
void guest_memory_mark_host(GuestMemory *memory, const void *place, guint64 length);
