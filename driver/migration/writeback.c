// SPDX-License-Identifier: LGPL-2.1-or-later
// The images of a guest that moves are flushed in the background.
#include "driver/migration/writeback.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver/migration/disks.h"

// What is written at once: a thread in the midst of that cannot be ended, nor can its process.
#define PIECE (64 << 20)
// A flush has no pieces. So it comes when they have last taken no longer, as little is left to it then; or no
// longer get to less.
#define PASS_US (100 * G_TIME_SPAN_MILLISECOND)
// Between two flushes of all; longer where they take longer, so that the disks are free half of the time.
#define REST_US (100 * G_TIME_SPAN_MILLISECOND)

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

// Both: FALSE: ended, or errno says why it cannot be done.
static gboolean
write_pieces(Writeback *writeback, int fd)
{
    struct stat facts;
    if (fstat(fd, &facts) < 0)
        return FALSE;
    for (off_t offset = 0; offset < facts.st_size; offset += PIECE)
        if (has_ended(writeback) || sync_file_range(fd, offset, PIECE,
                                                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                                        SYNC_FILE_RANGE_WAIT_AFTER) < 0)
            return FALSE;
    return TRUE;
}

static gboolean
flush(Writeback *writeback, int fd)
{
    gint64 took = G_MAXINT64, before;
    do {
        const gint64 began = g_get_monotonic_time();
        if (!write_pieces(writeback, fd))
            return FALSE;
        before = took;
        took = g_get_monotonic_time() - began;
    } while (took > PASS_US && took < before / 2);
    return !has_ended(writeback) && fdatasync(fd) == 0;
}

// An image with which that does not work is left out from then on.
static gboolean
flush_all(Writeback *writeback, GArray *images)
{
    for (guint i = images->len; i-- > 0 && !has_ended(writeback);) {
        const int fd = g_array_index(images, int, i);
        if (flush(writeback, fd) || has_ended(writeback))
            continue;
        g_message("an image of a guest that moves cannot be flushed: %s", g_strerror(errno));
        close(fd);
        g_array_remove_index_fast(images, i);
    }
    return images->len > 0 && !has_ended(writeback);
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
    while (flush_all(writeback, images)) {
        const gint64 now = g_get_monotonic_time();
        rest(writeback, now + MAX(now - began, REST_US));
        began = g_get_monotonic_time();
    }
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
