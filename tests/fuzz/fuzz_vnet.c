// SPDX-License-Identifier: LGPL-2.1-or-later
// Ethernet frames, stream framing and control messages: all that reaches quasar-vnet from outside.
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/frame.h"
#include "vnet/control.h"
#include "vnet/offload.h"
#include "vnet/packet.h"
#include "vnet/stream.h"
#include "vnet/tunnel.h"

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

static void
as_segment(guint8 *frame, gsize length, void *data)
{
    guint8 sum = 0;
    for (gsize i = 0; i < length; i++)
        sum ^= frame[i];
    *(guint8 *) data ^= sum;
}

// A frame behind the header that says what work it still needs.
static void
as_offload(const uint8_t *data, size_t size)
{
    Offload offload;
    guint8 sum = 0;
    if (size < OFFLOAD_HEADER)
        return;
    offload_decode(data, TRUE, &offload);
    size -= OFFLOAD_HEADER;
    g_autofree guint8 *frame = g_memdup2(data + OFFLOAD_HEADER, size);
    if (offload_is_sane(&offload, size) && offload.kind == OFFLOAD_NONE &&
        (offload.flags & OFFLOAD_NEEDS_CHECKSUM))
        offload_complete_checksum(frame, size, &offload);
    offload_segment(frame, size, &offload, as_segment, &sum);
    if (offload_guess(frame, size, 68, &offload))
        g_assert_true(offload_is_sane(&offload, size));
}

static void
tunnel_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    gboolean mine;
    MarkerKind kind;
    marker_parse(frame, length, NULL, &mine, &kind);
    offload_is_sane(offload, length);
}

static void
tunnel_word(TunnelWord word, const guint8 *nonce, void *data)
{
    g_assert_true(word < TUNNEL_WORDS && (word == TUNNEL_NONCE) == (nonce != NULL));
    if (nonce)
        memcpy(data, nonce, MARKER_NONCE);
}

// What a peer may write into the tunnel, as far as a socket holds it.
static void
as_tunnel(const uint8_t *data, size_t size)
{
    static const TunnelEvents events = {tunnel_frame, tunnel_word};
    guint8 nonce[MARKER_NONCE];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
        return;
    Tunnel *tunnel = tunnel_new(ends[0], NULL, FALSE, &events, nonce);
    const struct pollfd fd = {ends[0], POLLIN, POLLIN};
    if (write(ends[1], data, size) >= 0)
        while (tunnel_serve(tunnel, &fd, NULL) && recv(ends[0], nonce, 1, MSG_PEEK) > 0)
            continue;
    tunnel_free(tunnel);
    close(ends[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_frame(data, size);
    as_stream(data, size);
    as_control(data, size);
    as_offload(data, size);
    as_tunnel(data, size);
    return 0;
}
