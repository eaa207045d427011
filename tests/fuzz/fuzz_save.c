// SPDX-License-Identifier: LGPL-2.1-or-later
// What a file says of the guest that is saved in it: its head, and the description behind it.
#include <stdint.h>

#include "base/frame.h"
#include "driver/migration/anchor_record.h"
#include "driver/save/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
as_description(const uint8_t *data, size_t size)
{
    g_autoptr(SaveImage) image = save_image_decode(data, size, NULL);
    if (!image)
        return;
    size_t i;
    json_t *item;
    json_array_foreach(image->anchors, i, item)
    {
        g_autoptr(AnchorRecord) record = anchor_record_decode(item);
    }
    g_autoptr(GBytes) again = save_image_encode(image, NULL);
    gsize length;
    const void *text = g_bytes_get_data(again, &length);
    g_autoptr(SaveImage) same = save_image_decode(text, length, NULL);
    g_assert_nonnull(same);
}

// As in a file, without the digest, which the fuzzer would not find.
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SaveHead head;
    as_description(data, size);
    if (!save_head_decode(data, size, &head, NULL))
        return 0;
    g_assert_cmpuint(head.stream_offset, >=, SAVE_HEAD + (guint64) head.description_length);
    guint8 bytes[SAVE_HEAD];
    save_head_encode(&head, bytes);
    g_assert_cmpmem(bytes, SAVE_HEAD, data, SAVE_HEAD);
    as_description(data + SAVE_HEAD, MIN(size - SAVE_HEAD, head.description_length));
    return 0;
}
