// SPDX-License-Identifier: LGPL-2.1-or-later
// How large a disk is: to the guest, and on its host.
#include "driver/blockinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define QCOW2_SIZE_OFFSET 24 // docs/interop/qcow2.txt: header bytes 24 to 31, big-endian

static gboolean
qcow2_capacity(int fd, const char *path, guint64 *capacity, GError **error)
{
    static const char magic[] = {'Q', 'F', 'I', '\xfb'};
    guint8 header[QCOW2_SIZE_OFFSET + 8];
    guint64 size;

    if (pread(fd, header, sizeof(header), 0) != sizeof(header) || memcmp(header, magic, sizeof(magic)) != 0) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "'%s' is not a qcow2 image", path);
        return FALSE;
    }
    memcpy(&size, header + QCOW2_SIZE_OFFSET, sizeof(size));
    *capacity = GUINT64_FROM_BE(size);
    return TRUE;
}

static gboolean
image_sizes(int fd, const DomainImage *image, BlockInfo *info, GError **error)
{
    struct stat status;
    off_t end;

    if (fstat(fd, &status) < 0 || (end = lseek(fd, 0, SEEK_END)) < 0) {
        quasar_set_system_error(error, errno, "cannot size '%s'", image->path);
        return FALSE;
    }
    info->physical = (guint64) end;
    info->allocation = S_ISREG(status.st_mode) ? (guint64) status.st_blocks * 512 : info->physical;
    info->capacity = info->physical;
    return g_strcmp0(image->format, "qcow2") != 0 || qcow2_capacity(fd, image->path, &info->capacity, error);
}

gboolean
block_info(const DomainImage *image, BlockInfo *info, GError **error)
{
    if (!image->path) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "the drive has no medium");
        return FALSE;
    }
    // Non-blocking, as a path may name a FIFO that nobody writes to.
    const int fd = open(image->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot open '%s'", image->path);
        return FALSE;
    }
    const gboolean ok = image_sizes(fd, image, info, error);
    g_close(fd, NULL);
    return ok;
}
