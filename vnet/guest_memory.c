// SPDX-License-Identifier: LGPL-2.1-or-later
// Mappings of the guest's memory; every address from outside is looked up here.
#include "vnet/guest_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/error.h"

#define LOG_PAGE 4096u

typedef struct {
    guint64 guest, size, user;
    guint8 *host;
    void *map; // begins at the file's start, which needs no alignment of the offset
    gsize map_size;
} Region;

struct GuestMemory {
    guint n;
    Region regions[GUEST_MEMORY_REGIONS];
    guint8 *log;
    guint64 log_bytes;
    void *log_map;
    gsize log_map_size;
};

GuestMemory *
guest_memory_new(void)
{
    return g_new0(GuestMemory, 1);
}

static void
unmap_regions(GuestMemory *memory)
{
    for (guint i = 0; i < memory->n; i++)
        munmap(memory->regions[i].map, memory->regions[i].map_size);
    memory->n = 0;
}

static void
unmap_log(GuestMemory *memory)
{
    if (memory->log_map)
        munmap(memory->log_map, memory->log_map_size);
    memory->log_map = NULL;
    memory->log = NULL;
    memory->log_bytes = 0;
}

void
guest_memory_free(GuestMemory *memory)
{
    if (!memory)
        return;
    unmap_regions(memory);
    unmap_log(memory);
    g_free(memory);
}

// Maps [0, offset + size) of a file that has them; a mapping past a file's end would end us at the first
// touch.
static void *
map_file(int fd, guint64 offset, guint64 size, gsize *map_size, GError **error)
{
    struct stat status;
    if (size == 0 || offset + size < size || fstat(fd, &status) != 0 || status.st_size < 0 ||
        offset + size > (guint64) status.st_size) {
        quasar_set_error(error, VIR_ERR_RPC,
                         "shared memory of %" G_GUINT64_FORMAT " bytes does not fit its file", size);
        return NULL;
    }
    *map_size = (gsize) (offset + size);
    void *map = mmap(NULL, *map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (map == MAP_FAILED) {
        quasar_set_system_error(error, errno, "cannot map the guest's memory");
        return NULL;
    }
    return map;
}

gboolean
guest_memory_set(GuestMemory *memory, const MemoryRegion *regions, guint n, GError **error)
{
    unmap_regions(memory);
    for (guint i = 0; i < n && i < GUEST_MEMORY_REGIONS; i++) {
        const MemoryRegion *given = &regions[i];
        Region *region = &memory->regions[i];
        if (given->guest + given->size < given->guest || given->user + given->size < given->user) {
            quasar_set_error(error, VIR_ERR_RPC, "a region of the guest's memory wraps around");
            unmap_regions(memory);
            return FALSE;
        }
        region->map = map_file(given->fd, given->offset, given->size, &region->map_size, error);
        if (!region->map) {
            unmap_regions(memory);
            return FALSE;
        }
        region->guest = given->guest;
        region->size = given->size;
        region->user = given->user;
        region->host = (guint8 *) region->map + given->offset;
        memory->n = i + 1;
    }
    return TRUE;
}

void *
guest_memory_user(const GuestMemory *memory, guint64 user, guint64 length)
{
    for (guint i = 0; i < memory->n; i++) {
        const Region *region = &memory->regions[i];
        guint64 offset = user - region->user;
        if (user >= region->user && offset < region->size && length <= region->size - offset)
            return region->host + offset;
    }
    return NULL;
}

static const Region *
find_guest(const GuestMemory *memory, guint64 guest)
{
    for (guint i = 0; i < memory->n; i++)
        if (guest >= memory->regions[i].guest && guest - memory->regions[i].guest < memory->regions[i].size)
            return &memory->regions[i];
    return NULL;
}

gboolean
guest_memory_parts(const GuestMemory *memory, guint64 guest, guint64 length, struct iovec *parts, guint *n,
                   guint max)
{
    while (length > 0) {
        const Region *region = find_guest(memory, guest);
        if (!region || *n == max)
            return FALSE;
        guint64 offset = guest - region->guest;
        guint64 size = MIN(length, region->size - offset);
        parts[(*n)++] = (struct iovec){region->host + offset, (gsize) size};
        guest += size; // a region never ends past the last address
        length -= size;
    }
    return TRUE;
}

gboolean
guest_memory_set_log(GuestMemory *memory, int fd, guint64 size, guint64 offset, GError **error)
{
    unmap_log(memory);
    if (fd < 0)
        return TRUE;
    memory->log_map = map_file(fd, offset, size, &memory->log_map_size, error);
    if (!memory->log_map)
        return FALSE;
    memory->log = (guint8 *) memory->log_map + offset;
    memory->log_bytes = size;
    return TRUE;
}

void
guest_memory_mark(GuestMemory *memory, guint64 guest, guint64 length)
{
    if (!memory->log || length == 0 || guest + length < guest)
        return;
    guint64 last = (guest + length - 1) / LOG_PAGE;
    for (guint64 page = guest / LOG_PAGE; page <= last && page / 8 < memory->log_bytes; page++)
        __atomic_fetch_or(&memory->log[page / 8], (guint8) (1u << (page % 8)), __ATOMIC_SEQ_CST);
}

void
guest_memory_mark_host(GuestMemory *memory, const void *place, guint64 length)
{
    const guint8 *host = place;
    if (!memory->log)
        return;
    for (guint i = 0; i < memory->n; i++) {
        const Region *region = &memory->regions[i];
        if (host >= region->host && host < region->host + region->size)
            guest_memory_mark(memory, region->guest + (guint64) (host - region->host), length);
    }
}
