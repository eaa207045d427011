// SPDX-License-Identifier: LGPL-2.1-or-later
// Files that must survive a power failure: replaced whole, or not at all.
#pragma once

#include <glib.h>
#include <sys/types.h>

// Replaces `path` by `length` bytes of `data`: writes a temporary file beside it, fsyncs it, renames it,
// fsyncs the directory. On failure the old file stands and nothing is left behind. Several ms: never inside
// the pause.
gboolean file_replace(const char *path, const void *data, gssize length, mode_t mode, GError **error);

// Removes `path` and fsyncs its directory. A file that is not there is no error.
gboolean file_remove(const char *path, GError **error);

// fsyncs the directory that holds `path`.
gboolean file_sync_directory(const char *path, GError **error);

// mkdir -p with the mode for what is created.
gboolean file_make_directory(const char *path, mode_t mode, GError **error);

// Writes all of it or fails.
gboolean file_write_all(int fd, const void *data, gsize length, GError **error);
