// SPDX-License-Identifier: LGPL-2.1-or-later
// Files with saved guests.
#include "driver/save/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

// What a description may grow by before it is written: times of disks, a shorter or longer name.
#define SLACK (64u << 10)

static guint64
round_up(guint64 bytes)
{
    return (bytes + SAVE_ALIGNMENT - 1) / SAVE_ALIGNMENT * SAVE_ALIGNMENT;
}

// The place that a user means; caller frees.
static char *
resolve(const char *path, GError **error)
{
    char real[PATH_MAX];
    struct stat st;
    if (!g_path_is_absolute(path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no absolute path", path);
        return NULL;
    }
    if (!realpath(path, real))
        return g_strdup(path);
    if (stat(real, &st) == 0 && S_ISREG(st.st_mode))
        return g_strdup(real);
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is there and is no ordinary file", path);
    return NULL;
}

static SaveFile *
create_at(const char *path, guint64 stream_offset, GError **error)
{
    g_autofree char *real = resolve(path, error);
    if (!real)
        return NULL;
    g_autofree char *temporary = g_strconcat(real, ".XXXXXX", NULL);
    int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot create %s", temporary);
        return NULL;
    }
    SaveFile *file = g_new0(SaveFile, 1);
    *file = (SaveFile){.path = g_steal_pointer(&real),
                       .temporary = g_steal_pointer(&temporary),
                       .fd = fd,
                       .stream_offset = stream_offset};
    if (lseek(fd, (off_t) stream_offset, SEEK_SET) >= 0)
        return file;
    quasar_set_system_error(error, errno, "cannot write %s", file->temporary);
    save_file_free(file);
    return NULL;
}

SaveFile *
save_file_create(const char *path, gsize room, GError **error)
{
    return create_at(path, round_up(SAVE_HEAD + room + SLACK), error);
}

static gboolean
write_at(const SaveFile *file, const void *data, gsize length, guint64 offset, GError **error)
{
    for (gsize done = 0; done < length;) {
        ssize_t n = pwrite(file->fd, (const char *) data + done, length - done, (off_t) (offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return quasar_set_system_error(error, errno, "cannot write %s", file->path);
        done += (gsize) n;
    }
    return TRUE;
}

static void
digest(const void *data, gsize length, guint8 sha256[SAVE_SHA256])
{
    gsize size = SAVE_SHA256;
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(checksum, data, (gssize) length);
    g_checksum_get_digest(checksum, sha256, &size);
}

// Through the cache it has gone; then it need not stay there.
static void
forget_cached(int fd)
{
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

gboolean
save_file_finish(SaveFile *file, const SaveImage *image, gboolean drop_cache, GError **error)
{
    struct stat st;
    g_autoptr(GBytes) description = save_image_encode(image, error);
    if (!description)
        return FALSE;
    gsize length;
    const void *text = g_bytes_get_data(description, &length);
    if (SAVE_HEAD + length > file->stream_offset)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                                "there is no room for what is to be said of it");
    if (fstat(file->fd, &st) < 0)
        return quasar_set_system_error(error, errno, "cannot look at %s", file->path);
    if ((guint64) st.st_size <= file->stream_offset)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the emulator wrote nothing to %s",
                                file->path);
    SaveHead head = {.description_length = (guint32) length,
                     .stream_offset = file->stream_offset,
                     .stream_length = (guint64) st.st_size - file->stream_offset};
    guint8 bytes[SAVE_HEAD];
    digest(text, length, head.sha256);
    save_head_encode(&head, bytes);
    if (!write_at(file, text, length, SAVE_HEAD, error) || !write_at(file, bytes, SAVE_HEAD, 0, error))
        return FALSE;
    if (fsync(file->fd) < 0)
        return quasar_set_system_error(error, errno, "cannot write %s", file->path);
    if (drop_cache)
        forget_cached(file->fd);
    return TRUE;
}

gboolean
save_file_commit(SaveFile *file, GError **error)
{
    if (rename(file->temporary, file->path) < 0)
        return quasar_set_system_error(error, errno, "cannot replace %s", file->path);
    g_clear_pointer(&file->temporary, g_free);
    if (file_sync_directory(file->path, error))
        return TRUE;
    unlink(file->path);
    return FALSE;
}

void
save_file_free(SaveFile *file)
{
    if (!file)
        return;
    if (file->temporary)
        unlink(file->temporary);
    if (file->fd >= 0)
        close(file->fd);
    g_free(file->path);
    g_free(file->temporary);
    g_free(file);
}

static gboolean
read_at(int fd, void *data, gsize length, guint64 offset)
{
    for (gsize done = 0; done < length;) {
        ssize_t n = pread(fd, (char *) data + done, length - done, (off_t) (offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        done += (gsize) n;
    }
    return TRUE;
}

static SaveImage *
read_description(int fd, const SaveHead *head, GError **error)
{
    g_autofree char *text = g_malloc(head->description_length);
    guint8 sha256[SAVE_SHA256];
    if (!read_at(fd, text, head->description_length, SAVE_HEAD)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "it cannot be read");
        return NULL;
    }
    digest(text, head->description_length, sha256);
    if (memcmp(sha256, head->sha256, SAVE_SHA256) == 0)
        return save_image_decode(text, head->description_length, error);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "what it says of its guest is damaged");
    return NULL;
}

// At its stream when it returns.
static SaveImage *
read_image(int fd, SaveHead *head, GError **error)
{
    struct stat st;
    guint8 bytes[SAVE_HEAD];
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "it is no ordinary file");
        return NULL;
    }
    const gsize length = read_at(fd, bytes, SAVE_HEAD, 0) ? SAVE_HEAD : 0;
    if (!save_head_decode(bytes, length, head, error))
        return NULL;
    if ((guint64) st.st_size != head->stream_offset + head->stream_length) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "it has %" G_GINT64_FORMAT " bytes where it should have %" G_GUINT64_FORMAT
                         ": it was cut, or written to",
                         (gint64) st.st_size, head->stream_offset + head->stream_length);
        return NULL;
    }
    g_autoptr(SaveImage) image = read_description(fd, head, error);
    if (image && lseek(fd, (off_t) head->stream_offset, SEEK_SET) >= 0)
        return g_steal_pointer(&image);
    if (image)
        quasar_set_system_error(error, errno, "it cannot be read");
    return NULL;
}

static SaveImage *
open_image(const char *path, SaveHead *head, int *fd, GError **error)
{
    // Whatever is there instead of a file must not make us wait.
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        quasar_set_system_error(error, errno, "cannot open %s", path);
        return NULL;
    }
    g_autoptr(GError) problem = NULL;
    SaveImage *image = read_image(*fd, head, &problem);
    if (image)
        return image;
    close(*fd);
    *fd = -1;
    quasar_set_error(error, quasar_error_code(problem), "%s: %s", path, problem->message);
    return NULL;
}

SaveImage *
save_file_open(const char *path, int *fd, GError **error)
{
    SaveHead head;
    int own = -1;
    SaveImage *image = open_image(path, &head, &own, error);
    if (fd)
        *fd = own;
    else if (own >= 0)
        close(own);
    return image;
}

// From where both stand. A file system that can share blocks does not copy them.
static gboolean
copy_stream(int from, const SaveFile *to, guint64 length, GError **error)
{
    while (length > 0) {
        ssize_t n = copy_file_range(from, NULL, to->fd, NULL, MIN(length, G_MAXINT32), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return quasar_set_system_error(error, errno, "cannot write %s", to->temporary);
        if (n == 0)
            return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s has been cut meanwhile", to->path);
        length -= (guint64) n;
    }
    return TRUE;
}

gboolean
save_file_describe(const char *path, const SaveImage *image, GError **error)
{
    SaveHead head;
    int from = -1;
    g_autoptr(SaveImage) former = open_image(path, &head, &from, error);
    g_autoptr(GBytes) description = former ? save_image_encode(image, error) : NULL;
    g_autoptr(SaveFile) file =
        description ? save_file_create(path, g_bytes_get_size(description), error) : NULL;
    gboolean ok = file && copy_stream(from, file, head.stream_length, error) &&
                  save_file_finish(file, image, FALSE, error) && save_file_commit(file, error);
    if (from >= 0)
        close(from);
    return ok;
}
