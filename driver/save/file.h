// SPDX-License-Identifier: LGPL-2.1-or-later
// Files with saved guests: written beside their name, and there only when they are whole.
#pragma once

#include "driver/save/image.h"

// One that is being written, under a temporary name.
typedef struct {
    char *path;      // what it will be
    char *temporary; // what it is; NULL: it has its name, or is gone
    int fd;          // stands where the stream begins
    guint64 stream_offset;
} SaveFile;

// Beside `path`, with `room` bytes for the description. VIR_ERR_INVALID_ARG: the path is not absolute, or
// something is there that is no ordinary file. A link is followed.
SaveFile *save_file_create(const char *path, gsize room, GError **error);

// The stream is in it, and the file's end is the stream's: writes what stands before it, and syncs. With
// `drop_cache` the host need not remember what it holds. VIR_ERR_OPERATION_FAILED: the room is not enough.
gboolean save_file_finish(SaveFile *file, const SaveImage *image, gboolean drop_cache, GError **error);

// Gives it its name, in the place of what had it. On failure nothing of it has the name.
gboolean save_file_commit(SaveFile *file, GError **error);

// One without its name is removed.
void save_file_free(SaveFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SaveFile, save_file_free)

// Reads and checks one, and leaves it open at its stream (*fd, close-on-exec; NULL: closes it). All errors
// name the path.
SaveImage *save_file_open(const char *path, int *fd, GError **error);

// Puts another description before the same stream: a new file takes the name.
gboolean save_file_describe(const char *path, const SaveImage *image, GError **error);
