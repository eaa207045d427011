// SPDX-License-Identifier: LGPL-2.1-or-later
// Split virtqueue: the only file that computes with places in rings.
#include "vnet/ring.h"

#include <string.h>

enum {
    DESCRIPTOR_NEXT = 1,
    DESCRIPTOR_WRITE = 2,
    DESCRIPTOR_INDIRECT = 4,
    AVAILABLE_NO_INTERRUPT = 1,
    USED_NO_NOTIFY = 1,
    DESCRIPTOR = 16,  // bytes
    USED_ELEMENT = 8, // bytes
    INDEX = 2,        // offset of the index in both rings
    ELEMENTS = 4,     // offset of the elements in both rings
};

typedef struct {
    guint64 address;
    guint32 length;
    guint16 flags, next;
} Descriptor;

static guint16
load16(const guint8 *place)
{
    return GUINT16_FROM_LE(__atomic_load_n((const guint16 *) (const void *) place, __ATOMIC_ACQUIRE));
}

static void
store16(guint8 *place, guint16 value)
{
    __atomic_store_n((guint16 *) (void *) place, GUINT16_TO_LE(value), __ATOMIC_RELEASE);
}

gboolean
ring_locate(Ring *ring, const GuestMemory *memory)
{
    guint64 size = ring->size;
    const RingAddress *address = &ring->address;
    ring->descriptors = ring->available = ring->used = NULL;
    if (size == 0 || size > RING_SIZE_MAX || (size & (size - 1)) != 0 || address->descriptors % 16 != 0 ||
        address->available % 2 != 0 || address->used % 4 != 0)
        return FALSE;
    // Two bytes behind each ring hold the event index.
    guint8 *descriptors = guest_memory_user(memory, address->descriptors, size * DESCRIPTOR);
    guint8 *available = guest_memory_user(memory, address->available, ELEMENTS + size * 2 + 2);
    guint8 *used = guest_memory_user(memory, address->used, ELEMENTS + size * USED_ELEMENT + 2);
    // Mappings keep what alignment the addresses have, unless a region itself is odd.
    if (!descriptors || !available || !used || (guintptr) available % 2 != 0 || (guintptr) used % 4 != 0)
        return FALSE;
    ring->descriptors = descriptors;
    ring->available = available;
    ring->used = used;
    return TRUE;
}

gboolean
ring_start(Ring *ring, const GuestMemory *memory, guint16 next_available)
{
    ring->broken = FALSE;
    ring->started = FALSE;
    if (!ring_locate(ring, memory))
        return FALSE;
    ring->next_available = next_available;
    ring->next_used = load16(ring->used + INDEX);
    ring->signalled_valid = FALSE;
    ring->started = TRUE;
    return TRUE;
}

void
ring_stop(Ring *ring)
{
    ring->started = FALSE;
    ring->descriptors = ring->available = ring->used = NULL;
}

static gboolean
usable(const Ring *ring)
{
    return ring->started && !ring->broken && ring->descriptors;
}

gboolean
ring_has_next(Ring *ring)
{
    if (!usable(ring))
        return FALSE;
    guint16 waiting = (guint16) (load16(ring->available + INDEX) - ring->next_available);
    if (waiting > ring->size)
        ring->broken = TRUE;
    return !ring->broken && waiting > 0;
}

static Descriptor
read_descriptor(const guint8 *place)
{
    guint8 bytes[DESCRIPTOR];
    Descriptor descriptor;
    memcpy(bytes, place, sizeof(bytes)); // once: it may change while it is looked at
    memcpy(&descriptor.address, bytes, 8);
    memcpy(&descriptor.length, bytes + 8, 4);
    memcpy(&descriptor.flags, bytes + 12, 2);
    memcpy(&descriptor.next, bytes + 14, 2);
    return (Descriptor){GUINT64_FROM_LE(descriptor.address), GUINT32_FROM_LE(descriptor.length),
                        GUINT16_FROM_LE(descriptor.flags), GUINT16_FROM_LE(descriptor.next)};
}

// A table of descriptors: the ring's own, or an indirect one, which must lie in one piece.
typedef struct {
    const guint8 *place;
    guint size;
} Table;

static gboolean
enter_indirect(const GuestMemory *memory, const Descriptor *descriptor, Table *table)
{
    struct iovec part;
    guint n = 0;
    if ((descriptor->flags & DESCRIPTOR_NEXT) || descriptor->length == 0 ||
        descriptor->length % DESCRIPTOR != 0 || descriptor->length / DESCRIPTOR > RING_SIZE_MAX ||
        !guest_memory_parts(memory, descriptor->address, descriptor->length, &part, &n, 1))
        return FALSE;
    *table = (Table){part.iov_base, descriptor->length / DESCRIPTOR};
    return TRUE;
}

static gboolean
walk(const Ring *ring, const GuestMemory *memory, gboolean writable, Chain *chain)
{
    Table table = {ring->descriptors, ring->size};
    guint index = chain->head;
    gboolean indirect = FALSE;
    // No chain is longer than its table, or it has a loop.
    for (guint steps = 0; index < table.size && steps < table.size; steps++) {
        Descriptor descriptor = read_descriptor(table.place + (gsize) index * DESCRIPTOR);
        if (descriptor.flags & DESCRIPTOR_INDIRECT) {
            if (indirect || !enter_indirect(memory, &descriptor, &table))
                return FALSE;
            indirect = TRUE;
            index = 0;
            steps = G_MAXUINT; // the count begins anew
            continue;
        }
        if (((descriptor.flags & DESCRIPTOR_WRITE) != 0) != writable ||
            !guest_memory_parts(memory, descriptor.address, descriptor.length, chain->parts, &chain->n,
                                RING_PARTS))
            return FALSE;
        chain->length += descriptor.length;
        if (!(descriptor.flags & DESCRIPTOR_NEXT))
            return TRUE;
        index = descriptor.next;
    }
    return FALSE;
}

gboolean
ring_next(Ring *ring, const GuestMemory *memory, gboolean writable, Chain *chain)
{
    if (!ring_has_next(ring))
        return FALSE;
    gsize slot = ring->next_available & (ring->size - 1);
    chain->head = load16(ring->available + ELEMENTS + slot * 2);
    chain->n = 0;
    chain->length = 0;
    if (chain->head >= ring->size || !walk(ring, memory, writable, chain)) {
        ring->broken = TRUE;
        return FALSE;
    }
    ring->next_available++;
    return TRUE;
}

void
ring_put_back(Ring *ring, guint n)
{
    ring->next_available = (guint16) (ring->next_available - n);
}

static void
mark_used(const Ring *ring, GuestMemory *memory, gsize offset, gsize length)
{
    if (ring->address.log_used)
        guest_memory_mark(memory, ring->address.log + offset, length);
}

void
ring_used(Ring *ring, GuestMemory *memory, guint16 head, guint32 written)
{
    gsize offset = ELEMENTS + (gsize) (ring->next_used & (ring->size - 1)) * USED_ELEMENT;
    const guint32 element[2] = {GUINT32_TO_LE((guint32) head), GUINT32_TO_LE(written)};
    memcpy(ring->used + offset, element, sizeof(element));
    mark_used(ring, memory, offset, sizeof(element));
    ring->next_used++;
}

// Whether `event` lies in what was added from `old` to `new`, all modulo 2^16 (virtio 1.2, 2.7.7.1).
static gboolean
crossed(guint16 event, guint16 new, guint16 old)
{
    return (guint16) (new - event - 1) < (guint16) (new - old);
}

gboolean
ring_publish(Ring *ring, GuestMemory *memory, guint n)
{
    if (n == 0 || !ring->used)
        return FALSE;
    store16(ring->used + INDEX, ring->next_used);
    mark_used(ring, memory, INDEX, 2);
    // The index must be seen before the guest's wish is read, or both sides may wait.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!ring->event_index)
        return !(load16(ring->available) & AVAILABLE_NO_INTERRUPT);
    guint16 event = load16(ring->available + ELEMENTS + (gsize) ring->size * 2);
    gboolean wanted = !ring->signalled_valid || crossed(event, ring->next_used, ring->signalled);
    ring->signalled = ring->next_used;
    ring->signalled_valid = TRUE;
    return wanted;
}

void
ring_ask_for_kicks(Ring *ring, GuestMemory *memory, gboolean wanted)
{
    if (!usable(ring))
        return;
    if (!ring->event_index) {
        store16(ring->used, wanted ? 0 : USED_NO_NOTIFY);
        mark_used(ring, memory, 0, 2);
    } else if (wanted) {
        // Not asking needs nothing: the event index stays behind.
        gsize offset = ELEMENTS + (gsize) ring->size * USED_ELEMENT;
        // Not our own index: some chains may be there, just too few for what waits.
        store16(ring->used + offset, load16(ring->available + INDEX));
        mark_used(ring, memory, offset, 2);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
