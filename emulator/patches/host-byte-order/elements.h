/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A queued virtio request in the stream, the same bytes on every host. */
#ifndef QUASAR_ELEMENTS_H
#define QUASAR_ELEMENTS_H

#include "hw/virtio/virtio.h"
#include "migration/qemu-file-types.h"

/* Where the caller keeps a request: in before out, each VIRTQUEUE_MAX_SIZE long. Only iov_len is moved. */
typedef struct QuasarElement {
    unsigned int *index, *out_num, *in_num;
    hwaddr *addresses[2];
    struct iovec *vectors[2];
} QuasarElement;

void quasar_get_element(QEMUFile *f, const QuasarElement *element);
void quasar_put_element(QEMUFile *f, const QuasarElement *element);

#endif
