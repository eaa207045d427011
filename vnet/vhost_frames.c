// SPDX-License-Identifier: LGPL-2.1-or-later
// Frames with virtio-net's header (virtio 1.2, 5.1.6), spread over and gathered from chains of descriptors.
#include "vnet/vhost_frames.h"

#include <string.h>

#include "vnet/capture.h"

#define MERGE_MAX 64u // chains for one frame; even buffers of 1 KiB hold the longest

// The header has a count of buffers behind it when either feature is there.
static gsize
header_length(const VhostDevice *device)
{
    return vhost_has(device, FEATURE_MERGEABLE) || vhost_has(device, FEATURE_VERSION_1) ? OFFLOAD_HEADER + 2
                                                                                        : OFFLOAD_HEADER;
}

static gboolean
allowed(const VhostDevice *device, const Offload *offload, guint checksum, guint tso4, guint tso6, guint ecn)
{
    if ((offload->flags & OFFLOAD_NEEDS_CHECKSUM) && !vhost_has(device, checksum))
        return FALSE;
    if ((offload->kind & OFFLOAD_ECN) && !vhost_has(device, ecn))
        return FALSE;
    switch (offload->kind & ~OFFLOAD_ECN) {
    case OFFLOAD_NONE:
        return TRUE;
    case OFFLOAD_TCP4:
        return vhost_has(device, tso4);
    case OFFLOAD_TCP6:
        return vhost_has(device, tso6);
    default:
        return FALSE;
    }
}

gboolean
vhost_frames_take(const VhostDevice *device, const Offload *offload)
{
    return allowed(device, offload, FEATURE_GUEST_CHECKSUM, FEATURE_GUEST_TSO4, FEATURE_GUEST_TSO6,
                   FEATURE_GUEST_ECN);
}

// Writes bytes one after the other into a row of buffers and marks them in the dirty log.
typedef struct {
    GuestMemory *memory;
    const struct iovec *parts;
    guint n;
    gsize offset; // in the first part
} Writer;

static gsize
write_some(Writer *writer, const guint8 *bytes, gsize length)
{
    gsize written = 0;
    while (writer->n > 0 && written < length) {
        guint8 *place = (guint8 *) writer->parts->iov_base + writer->offset;
        gsize size = MIN(length - written, writer->parts->iov_len - writer->offset);
        memcpy(place, bytes + written, size);
        guest_memory_mark_host(writer->memory, place, size);
        written += size;
        writer->offset += size;
        if (writer->offset == writer->parts->iov_len) {
            writer->parts++;
            writer->n--;
            writer->offset = 0;
        }
    }
    return written;
}

// The chains that one frame goes into. Static: they are large, and the process has one thread.
static Chain chains[MERGE_MAX];

// How many chains hold `length` bytes; 0: too few are there, and none was taken. *hopeless: more would not
// help.
static guint
take_chains(VhostDevice *device, Ring *ring, guint64 length, gboolean *hopeless)
{
    guint most = vhost_has(device, FEATURE_MERGEABLE) ? MIN(MERGE_MAX, ring->size) : 1;
    guint64 room = 0;
    guint n = 0;
    while (room < length && n < most && ring_next(ring, device->memory, TRUE, &chains[n]))
        room += chains[n++].length;
    if (room >= length)
        return n;
    *hopeless = n == most;
    // A frame that fits nowhere gives its buffers back: they serve others.
    ring_put_back(ring, n);
    return 0;
}

static void
encode_header(const VhostDevice *device, const Offload *offload, guint buffers,
              guint8 header[OFFLOAD_HEADER + 2])
{
    Offload shown = *offload;
    if (!vhost_has(device, FEATURE_GUEST_CHECKSUM))
        shown.flags = 0;
    offload_encode(&shown, TRUE, header);
    header[OFFLOAD_HEADER] = (guint8) buffers;
    header[OFFLOAD_HEADER + 1] = (guint8) (buffers >> 8);
}

FramePut
vhost_frames_put(VhostDevice *device, const guint8 *frame, gsize length, const Offload *offload,
                 gboolean *interrupt)
{
    Ring *ring = &device->rings[VHOST_TO_GUEST].ring;
    guint8 header[OFFLOAD_HEADER + 2];
    gsize left = header_length(device);
    gboolean hopeless = FALSE;
    if (!vhost_ring_ready(device, VHOST_TO_GUEST))
        return FRAME_NO_RING;
    guint n = take_chains(device, ring, left + length, &hopeless);
    if (n == 0) {
        gboolean gone = ring->broken;
        vhost_ring_look_after(device, VHOST_TO_GUEST);
        return gone ? FRAME_NO_RING : hopeless ? FRAME_TOO_LONG : FRAME_NO_ROOM;
    }
    encode_header(device, offload, n, header);
    const guint8 *from = header;
    for (guint i = 0; i < n; i++) {
        Writer writer = {device->memory, chains[i].parts, chains[i].n, 0};
        guint32 written = 0;
        if (from != NULL && left > 0) {
            gsize done = write_some(&writer, from, left);
            from += done;
            left -= done;
            written += (guint32) done;
        }
        if (left == 0) {
            gsize done = write_some(&writer, frame, length);
            frame += done;
            length -= done;
            written += (guint32) done;
        }
        ring_used(ring, device->memory, chains[i].head, written);
    }
    *interrupt |= ring_publish(ring, device->memory, n);
    return FRAME_PUT;
}

// Copies up to `length` bytes from the front of the chain's parts, and takes them off it. FALSE: there are
// fewer.
static gboolean
take_bytes(struct iovec **parts, guint *n, guint8 *bytes, gsize length)
{
    while (length > 0) {
        if (*n == 0)
            return FALSE;
        gsize size = MIN(length, (*parts)->iov_len);
        memcpy(bytes, (*parts)->iov_base, size);
        bytes += size;
        length -= size;
        (*parts)->iov_base = (guint8 *) (*parts)->iov_base + size;
        (*parts)->iov_len -= size;
        if ((*parts)->iov_len == 0) {
            (*parts)++;
            (*n)--;
        }
    }
    return TRUE;
}

// FALSE: no frame.
static gboolean
hand_over(const VhostDevice *device, Chain *chain, const Port *port)
{
    static guint8 copy[OFFLOAD_FRAME_MAX]; // of the head, or of all when it is in too many pieces
    guint8 header[OFFLOAD_HEADER + 2];
    struct iovec *parts = chain->parts, all[CAPTURE_PARTS];
    guint n = chain->n;
    gsize size = header_length(device);
    if (chain->length <= size || chain->length - size > OFFLOAD_FRAME_MAX ||
        !take_bytes(&parts, &n, header, size))
        return FALSE;
    gsize length = (gsize) chain->length - size;
    gsize head = n >= CAPTURE_PARTS ? length : MIN(length, PORT_HEAD);
    if (!take_bytes(&parts, &n, copy, head))
        return FALSE;
    Offload offload;
    offload_decode(header, TRUE, &offload);
    if (!allowed(device, &offload, FEATURE_CHECKSUM, FEATURE_HOST_TSO4, FEATURE_HOST_TSO6, FEATURE_HOST_ECN))
        return FALSE;
    all[0] = (struct iovec){copy, head};
    memcpy(&all[1], parts, n * sizeof(*parts));
    port->frame(all, 1 + n, length, &offload, port->data);
    return TRUE;
}

guint
vhost_frames_get(VhostDevice *device, guint limit, const Port *port, guint64 *malformed)
{
    static Chain chain;
    Ring *ring = &device->rings[VHOST_FROM_GUEST].ring;
    guint n = 0;
    if (!vhost_ring_ready(device, VHOST_FROM_GUEST))
        return 0;
    while (n < limit && ring_next(ring, device->memory, FALSE, &chain)) {
        if (!hand_over(device, &chain, port))
            ++*malformed;
        ring_used(ring, device->memory, chain.head, 0);
        n++;
    }
    if (ring_publish(ring, device->memory, n))
        vhost_ring_call(device, VHOST_FROM_GUEST);
    vhost_ring_look_after(device, VHOST_FROM_GUEST);
    return n;
}
