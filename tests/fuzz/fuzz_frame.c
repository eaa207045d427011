// SPDX-License-Identifier: LGPL-2.1-or-later
// One frame's payload as a peer sends it.
#include <stdint.h>

#include "base/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = frame_decode(data, size, &error);
    g_assert_true(message ? !error && json_is_object(message) : error != NULL);
    return 0;
}
