/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queued virtio request in the stream, the same bytes on every host.
 *
 * Little-endian: index, out_num, in_num and padding of 32 bits each; 1024 addresses in, 1024 out, of 64 bits;
 * 1024 vectors in, 1024 out, each 64 bits of zero and 64 bits of length.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "quasar/elements.h"

enum { HEADER = 16, ADDRESS = 8, VECTOR = 16 };

void quasar_get_element(QEMUFile *f, const QuasarElement *element)
{
    uint8_t bytes[VECTOR];

    qemu_get_buffer(f, bytes, HEADER);
    *element->index = ldl_le_p(bytes);
    *element->out_num = ldl_le_p(bytes + 4);
    *element->in_num = ldl_le_p(bytes + 8);
    for (int i = 0; i < 2 * VIRTQUEUE_MAX_SIZE; i++) {
        qemu_get_buffer(f, bytes, ADDRESS);
        element->addresses[i / VIRTQUEUE_MAX_SIZE][i % VIRTQUEUE_MAX_SIZE] = ldq_le_p(bytes);
    }
    for (int i = 0; i < 2 * VIRTQUEUE_MAX_SIZE; i++) {
        qemu_get_buffer(f, bytes, VECTOR);
        element->vectors[i / VIRTQUEUE_MAX_SIZE][i % VIRTQUEUE_MAX_SIZE].iov_len = ldq_le_p(bytes + 8);
    }
}

void quasar_put_element(QEMUFile *f, const QuasarElement *element)
{
    uint8_t bytes[VECTOR] = {0};

    stl_le_p(bytes, *element->index);
    stl_le_p(bytes + 4, *element->out_num);
    stl_le_p(bytes + 8, *element->in_num);
    qemu_put_buffer(f, bytes, HEADER);
    for (int i = 0; i < 2 * VIRTQUEUE_MAX_SIZE; i++) {
        stq_le_p(bytes, element->addresses[i / VIRTQUEUE_MAX_SIZE][i % VIRTQUEUE_MAX_SIZE]);
        qemu_put_buffer(f, bytes, ADDRESS);
    }
    memset(bytes, 0, sizeof(bytes));
    for (int i = 0; i < 2 * VIRTQUEUE_MAX_SIZE; i++) {
        stq_le_p(bytes + 8, element->vectors[i / VIRTQUEUE_MAX_SIZE][i % VIRTQUEUE_MAX_SIZE].iov_len);
        qemu_put_buffer(f, bytes, VECTOR);
    }
}
