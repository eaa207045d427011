// SPDX-License-Identifier: LGPL-2.1-or-later
// What is remembered of a guest that has left: where it went, and which of its images stayed behind.
#pragma once

#include <glib.h>

#include "driver/migration/handoff.h"

// A note decides nothing (records do, handoff.h): it is what a user is told who looks for the guest here. It
// lies at STATE_DIR/moved/UUID, outlives the record of the move, and is overwritten by the next one.

// The guest of this record has left; its images have been renamed. A failure is logged: the guest has gone
// all the same.
void moved_note(const char *state_dir, const Handoff *handoff);

// It is here again.
void moved_forget(const char *state_dir, const char *uuid);

// VIR_ERR_OPERATION_INVALID, naming the host, the images and the way back, when one of the guest's images is
// missing here and stands beside its place under the name that the move gave it. TRUE otherwise: whoever puts
// the image back knows what he does.
gboolean moved_check(const char *state_dir, const char *uuid, const char *name, GError **error);

// The same for a guest whose memory was saved (`saved_at`: wall clock, s): one that has moved since without
// an image that would tell is where it went, as far as is known here.
gboolean moved_check_saved(const char *state_dir, const char *uuid, const char *name, gint64 saved_at,
                           GError **error);
