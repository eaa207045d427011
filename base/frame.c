// SPDX-License-Identifier: LGPL-2.1-or-later
// Framed JSON messages: encode, decode, send, receive.
#include "base/frame.h"

#include <string.h>

#include "base/error.h"

gboolean
frame_send(Channel *channel, json_t *message, int timeout_ms, GError **error)
{
    gsize length = json_dumpb(message, NULL, 0, JSON_COMPACT);
    if (length == 0 || length > FRAME_MAX) {
        quasar_set_error(error, VIR_ERR_RPC, "message of %zu bytes cannot be sent", length);
        return FALSE;
    }
    // Header and payload leave in one write: two would be two TLS records and, without Nagle, two packets.
    g_autofree char *frame = g_malloc(4 + length);
    guint32 header = GUINT32_TO_BE((guint32) length);
    memcpy(frame, &header, 4);
    json_dumpb(message, frame + 4, length, JSON_COMPACT);
    return channel_write(channel, frame, 4 + length, timeout_ms, error);
}

json_t *
frame_decode(const void *data, gsize length, GError **error)
{
    json_error_t problem;
    json_t *message = json_loadb(data, length, JSON_REJECT_DUPLICATES, &problem);
    if (!message) {
        quasar_set_error(error, VIR_ERR_RPC, "message is not JSON: %s", problem.text);
        return NULL;
    }
    if (!json_is_object(message)) {
        quasar_set_error(error, VIR_ERR_RPC, "message is not a JSON object");
        json_decref(message);
        return NULL;
    }
    return message;
}

json_t *
frame_receive(Channel *channel, int timeout_ms, GError **error)
{
    guint32 header;
    if (!channel_read(channel, &header, sizeof(header), timeout_ms, error))
        return NULL;
    gsize length = GUINT32_FROM_BE(header);
    if (length == 0 || length > FRAME_MAX) {
        quasar_set_error(error, VIR_ERR_RPC, "message of %zu bytes, limit is %u", length, FRAME_MAX);
        return NULL;
    }
    g_autofree char *payload = g_malloc(length);
    if (!channel_read(channel, payload, length, timeout_ms, error))
        return NULL;
    return frame_decode(payload, length, error);
}
