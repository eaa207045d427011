// SPDX-License-Identifier: LGPL-2.1-or-later
// Ethernet frames, stream framing and control messages: all that reaches quasar-vnet from outside.
#include <stdint.h>
#include <string.h>

#include "base/frame.h"
#include "vnet/control.h"
#include "vnet/packet.h"
#include "vnet/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
as_frame(const uint8_t *data, size_t size)
{
    g_autofree guint8 *frame = g_memdup2(data, size);
    MacAddress mac = {{0x52, 0x54, 0, 1, 2, 3}};
    NetAddress address;
    packet_destination(frame, size, &mac);
    packet_is_for(frame, size, &mac);
    // The frame's own sender, so that the search for its address goes on.
    packet_source(frame, size, &mac);
    if (packet_owned_address(frame, size, &mac, &address)) {
        char text[PACKET_ADDRESS];
        NetAddress back;
        net_address_text(&address, text);
        g_assert_true(net_address_parse(text, &back));
    }
    packet_complete_checksum(frame, size);
}

static void
as_stream(const uint8_t *data, size_t size)
{
    g_autoptr(StreamReader) reader = stream_reader_new(STREAM_FRAME_MAX);
    while (size > 0) {
        gsize room = 0, length = 0;
        guint8 *message = NULL;
        guint8 *space = stream_reader_space(reader, &room);
        gsize n = MIN(MIN(room, size), 7u);
        memcpy(space, data, n);
        stream_reader_commit(reader, n);
        data += n;
        size -= n;
        int rc = 0;
        while ((rc = stream_reader_next(reader, &message, &length, NULL)) > 0) {
            g_assert_true(length > 0 && length <= STREAM_FRAME_MAX);
            as_frame(message, length);
        }
        if (rc < 0)
            return;
    }
}

static void
as_control(const uint8_t *data, size_t size)
{
    g_autoptr(json_t) message = frame_decode(data, size, NULL);
    ControlRequest request = {0};
    if (message && control_decode(message, &request, NULL))
        g_assert_cmpuint(request.n_addresses, <=, CONTROL_ADDRESSES);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_frame(data, size);
    as_stream(data, size);
    as_control(data, size);
    return 0;
}
