// SPDX-License-Identifier: LGPL-2.1-or-later
// What another host's virtquasard says in JSON: cookies, addresses, traits of its emulator, records of
// anchors.
#include <stdint.h>

#include "base/frame.h"
#include "driver/migration/anchor_record.h"
#include "driver/migration/cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
as_cookie(const uint8_t *data, size_t size)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, size);
    g_autoptr(Cookie) cookie = cookie_decode(bytes, NULL);
    g_autoptr(GBytes) again = cookie ? cookie_encode(cookie) : NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_cookie(data, size);
    g_autoptr(json_t) message = frame_decode(data, size, NULL);
    if (!message)
        return 0;
    g_autoptr(PeerAddress) address = peer_address_decode(message);
    g_autoptr(AnchorRecord) record = anchor_record_decode(message);
    g_autoptr(json_t) again = record ? anchor_record_encode(record) : NULL;
    g_assert_true(!record || again);
    return 0;
}
