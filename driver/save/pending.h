// SPDX-License-Identifier: LGPL-2.1-or-later
// Saves that are under way, on disk: what a daemon that comes after us does about one that was cut off.
#pragma once

#include "driver/domain.h"
#include "driver/save/file.h"

// Theory of operation. STATE_DIR/saving/UUID is there from before the guest is stopped until the save has
// ended. The moment at which the guest becomes a saved one is the one at which the file gets its name: if the
// name leads to a file with the id of this save, it is saved and its emulator is ended, whatever was in the
// way; if not, what was written is removed and the guest goes on.

// On disk when it returns. `ran`: it is to run again if it is not saved.
gboolean save_pending_store(const Driver *driver, const SaveImage *image, const SaveFile *file, gboolean ran,
                            gboolean managed, GError **error);
void save_pending_remove(const Driver *driver, const char *uuid);

// At start-up, when the guests that run have been found, and before anything is done about their anchors.
// What has to be said to emulators that stay is said by workers.
void save_pending_settle(Driver *driver);
