// SPDX-License-Identifier: LGPL-2.1-or-later
// The images of a guest that moves are flushed in the background.
#include "driver/migration/writeback.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/migration/disks.h"

// What is written at once: a thread in the midst of that cannot be ended, nor can its process. Many pieces of
// an image that is clean take their time, too.
#define PIECE  (16 << 20)
#define PIECES 1024

// Belongs to whoever began it and to its thread.
struct Writeback {
    GPtrArray *paths;
    GMutex lock;
    GCond changed;
    gboolean ended;
};

static void
clear(gpointer data)
{
    Writeback *writeback = data;
    g_ptr_array_unref(writeback->paths);
    g_mutex_clear(&writeback->lock);
    g_cond_clear(&writeback->changed);
}

static gboolean
has_ended(Writeback *writeback)
{
    g_mutex_lock(&writeback->lock);
    const gboolean ended = writeback->ended;
    g_mutex_unlock(&writeback->lock);
    return ended;
}

// Until then or the end.
static void
rest(Writeback *writeback, gint64 until_us)
{
    g_mutex_lock(&writeback->lock);
    while (!writeback->ended && g_cond_wait_until(&writeback->changed, &writeback->lock, until_us))
        ;
    g_mutex_unlock(&writeback->lock);
}

// FALSE: ended, or errno says why it cannot be done.
static gboolean
flush(Writeback *writeback, int fd)
{
    struct stat facts;
    if (fstat(fd, &facts) < 0)
        return FALSE;
    const off_t piece = MAX(PIECE, facts.st_size / PIECES);
    for (off_t offset = 0; offset < facts.st_size; offset += piece)
        if (has_ended(writeback) || sync_file_range(fd, offset, piece,
                                                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                                        SYNC_FILE_RANGE_WAIT_AFTER) < 0)
            return FALSE;
    return !has_ended(writeback) && fdatasync(fd) == 0;
}

static gboolean
flush_all(Writeback *writeback, const GArray *images)
{
    for (guint i = 0; i < images->len; i++)
        if (!flush(writeback, g_array_index(images, int, i)))
            return FALSE;
    return TRUE;
}

static GArray *
open_all(const GPtrArray *paths)
{
    GArray *images = g_array_new(FALSE, FALSE, sizeof(int));
    for (guint i = 0; i < paths->len; i++) {
        const int fd = open(g_ptr_array_index(paths, i), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0)
            g_array_append_val(images, fd);
    }
    return images;
}

static void
close_all(GArray *images)
{
    for (guint i = 0; i < images->len; i++)
        close(g_array_index(images, int, i));
    g_array_unref(images);
}

static gpointer
run(gpointer data)
{
    Writeback *writeback = data;
    GArray *images = open_all(writeback->paths);
    gint64 began = g_get_monotonic_time();
    while (images->len > 0 && flush_all(writeback, images)) {
        const gint64 now = g_get_monotonic_time();
        rest(writeback, now + MAX(now - began, WRITEBACK_REST_MS * G_TIME_SPAN_MILLISECOND));
        began = g_get_monotonic_time();
    }
    const int problem = errno;
    if (images->len > 0 && !has_ended(writeback))
        g_message("an image of a guest that moves cannot be flushed: %s", g_strerror(problem));
    close_all(images);
    g_atomic_rc_box_release_full(writeback, clear);
    return NULL;
}

static GPtrArray *
paths_of(const DomainDef *def)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; def && i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk_travels(disk) && disk->image.path && g_strcmp0(disk->cache, "unsafe") != 0)
            g_ptr_array_add(paths, g_strdup(disk->image.path));
    }
    return paths;
}

Writeback *
writeback_begin(Domain *domain)
{
    domain_lock(domain);
    g_autoptr(GPtrArray) paths = paths_of(domain->live);
    domain_unlock(domain);
    if (paths->len == 0)
        return NULL;
    Writeback *writeback = g_atomic_rc_box_new0(Writeback);
    writeback->paths = g_steal_pointer(&paths);
    g_mutex_init(&writeback->lock);
    g_cond_init(&writeback->changed);
    g_thread_unref(g_thread_new("writeback", run, g_atomic_rc_box_acquire(writeback)));
    return writeback;
}

void
writeback_end(Writeback *writeback)
{
    if (!writeback)
        return;
    g_mutex_lock(&writeback->lock);
    writeback->ended = TRUE;
    g_cond_signal(&writeback->changed);
    g_mutex_unlock(&writeback->lock);
    g_atomic_rc_box_release_full(writeback, clear);
}
