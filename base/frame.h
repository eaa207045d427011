// SPDX-License-Identifier: LGPL-2.1-or-later
// Framed JSON messages between our own processes: a 32-bit big-endian length, then one JSON object.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "base/channel.h"

// The longest message: what a domain's XML and a cookie need, with room to spare.
#define FRAME_MAX (4u << 20)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

gboolean frame_send(Channel *channel, json_t *message, int timeout_ms, GError **error);

// The next message, a JSON object; the caller owns it. Errors as channel_read(); a length of 0 or above
// FRAME_MAX, bad JSON, or JSON that is no object is VIR_ERR_RPC, and the channel is of no further use.
json_t *frame_receive(Channel *channel, int timeout_ms, GError **error);

// Decodes one frame's payload; what frame_receive() uses, and what is fuzzed.
json_t *frame_decode(const void *data, gsize length, GError **error);
