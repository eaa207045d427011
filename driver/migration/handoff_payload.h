// SPDX-License-Identifier: LGPL-2.1-or-later
// What a handoff's record holds, and the token that names the move.
#pragma once

#include "driver/migration/handoff.h"

// The payload of the record as it stands in `state`. Caller frees with free(). VIR_ERR_INVALID_ARG for a
// field that decoding would refuse, VIR_ERR_INTERNAL_ERROR for one that is not UTF-8.
char *handoff_payload_encode(const Handoff *handoff, HandoffState state, GError **error);

// The other way round, into a handoff that has but its role and uuid. VIR_ERR_INTERNAL_ERROR, naming the
// record's `path`, for what is not the payload of that record; the handoff is not to be used then.
gboolean handoff_payload_decode(Handoff *handoff, const char *text, gsize length, const char *path,
                                GError **error);

#define HANDOFF_UUID_LENGTH 36u

// Lower case only: the UUID is a file's name here, and one guest must not have two.
gboolean handoff_uuid_valid(const char *uuid);

// Splits UUID "-" EPOCH "-" RANDOM. *uuid is the caller's to free.
gboolean handoff_token_parse(const char *token, char **uuid, guint64 *epoch, GError **error);
