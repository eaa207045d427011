// SPDX-License-Identifier: LGPL-2.1-or-later
// Disk images: asking and creating with qemu-img, and their checksums.
#pragma once

#include <glib.h>

#include "emulator/launch.h"

typedef struct ImageInfo ImageInfo;
struct ImageInfo {
    char *format; // raw, qcow2
    guint64 virtual_size;
    guint64 actual_size;
    char *backing_path;   // as it resolves from here; NULL: none
    char *backing_format; // NULL: not recorded
};
void image_info_clear(ImageInfo *info);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ImageInfo, image_info_clear)

// qemu-img info, run as `user` with bounded time and memory. format NULL: guessed. Blocks. A guest can write
// any header into a raw image, so a guess is for images that no guest has written; otherwise say the format.
gboolean image_probe(const char *path, const char *format, const EmulatorUser *user, ImageInfo *info,
                     GError **error);

// Makes an image in an existing file that `user` may write. backing NULL: none (format of the backing image
// is then ignored). virtual_size 0: the backing image's.
gboolean image_create(const char *path, const char *format, guint64 virtual_size, const char *backing,
                      const char *backing_format, const EmulatorUser *user, GError **error);

// SHA-256 of the file's bytes in hex; caller frees. Cached in `cache_directory` (NULL: not) by device, inode,
// size, mtime and ctime.
char *image_sha256(const char *path, const char *cache_directory, GError **error);
