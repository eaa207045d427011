// SPDX-License-Identifier: LGPL-2.1-or-later
// Durable files: replace and remove, with the fsyncs that make them so.
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

gboolean
file_write_all(int fd, const void *data, gsize length, GError **error)
{
    const char *at = data;
    while (length > 0) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            quasar_set_system_error(error, errno, "cannot write");
            return FALSE;
        }
        at += n;
        length -= (gsize) n;
    }
    return TRUE;
}

gboolean
file_sync_directory(const char *path, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0) {
        quasar_set_system_error(error, errno, "cannot sync directory %s", directory);
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    close(fd);
    return TRUE;
}

gboolean
file_make_directory(const char *path, mode_t mode, GError **error)
{
    if (g_mkdir_with_parents(path, mode) == 0)
        return TRUE;
    quasar_set_system_error(error, errno, "cannot create directory %s", path);
    return FALSE;
}

static gboolean
write_and_sync(int fd, const char *path, const void *data, gsize length, mode_t mode, GError **error)
{
    if (!file_write_all(fd, data, length, error)) {
        g_prefix_error(error, "%s: ", path);
        return FALSE;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0) {
        quasar_set_system_error(error, errno, "cannot write %s", path);
        return FALSE;
    }
    return TRUE;
}

gboolean
file_replace(const char *path, const void *data, gssize length, mode_t mode, GError **error)
{
    g_autofree char *temporary = g_strconcat(path, ".XXXXXX", NULL);
    int fd = g_mkstemp_full(temporary, O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot create %s", temporary);
        return FALSE;
    }
    gboolean ok =
        write_and_sync(fd, temporary, data, length < 0 ? strlen(data) : (gsize) length, mode, error);
    close(fd);
    if (ok && rename(temporary, path) < 0) {
        quasar_set_system_error(error, errno, "cannot replace %s", path);
        ok = FALSE;
    }
    if (!ok) {
        unlink(temporary);
        return FALSE;
    }
    return file_sync_directory(path, error);
}

gboolean
file_remove(const char *path, GError **error)
{
    if (unlink(path) < 0) {
        if (errno == ENOENT)
            return TRUE;
        quasar_set_system_error(error, errno, "cannot remove %s", path);
        return FALSE;
    }
    return file_sync_directory(path, error);
}
