// SPDX-License-Identifier: LGPL-2.1-or-later
// The disks of a saved guest, known again by size and time.
#include "driver/save/disks.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/error.h"

static gboolean
is_written(const DomainDisk *disk)
{
    return disk->image.path && disk->image.type == DOMAIN_STORAGE_FILE && disk->device == DOMAIN_DISK_DISK &&
           !disk->readonly && !disk->shareable;
}

gboolean
save_disks_note(SaveImage *image, const DomainDef *def, GError **error)
{
    g_ptr_array_set_size(image->disks, 0);
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        struct stat st;
        if (!is_written(disk))
            continue;
        if (stat(disk->image.path, &st) < 0)
            return quasar_set_system_error(error, errno, "cannot look at '%s'", disk->image.path);
        if (!S_ISREG(st.st_mode))
            continue;
        SaveDisk *note = g_new0(SaveDisk, 1);
        *note = (SaveDisk){.target = g_strdup(disk->target),
                           .path = g_strdup(disk->image.path),
                           .size = (guint64) st.st_size,
                           .changed_s = st.st_mtim.tv_sec,
                           .changed_ns = st.st_mtim.tv_nsec};
        g_ptr_array_add(image->disks, note);
    }
    return TRUE;
}

static gboolean
is_unchanged(const SaveDisk *note, const struct stat *st)
{
    return (guint64) st->st_size == note->size && st->st_mtim.tv_sec == note->changed_s &&
           (st->st_mtim.tv_nsec == note->changed_ns || st->st_mtim.tv_nsec == 0);
}

static char *
time_text(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_local(seconds);
    return time ? g_date_time_format(time, "%F %T %z") : g_strdup("another time");
}

static gboolean
check_disk(const SaveImage *image, const SaveDisk *note, const DomainDef *def, GError **error)
{
    const DomainDisk *disk = domain_find_disk(def, note->target);
    struct stat st;
    if (!disk || !disk->image.path)
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "the guest '%s' was saved with a disk '%s', which its XML does not have",
                                image->name, note->target);
    if (stat(disk->image.path, &st) < 0)
        return quasar_set_system_error(error, errno, "cannot look at '%s', disk '%s' of the saved guest '%s'",
                                       disk->image.path, note->target, image->name);
    if (is_unchanged(note, &st))
        return TRUE;
    g_autofree char *then = time_text(note->changed_s), *now = time_text(st.st_mtim.tv_sec);
    return quasar_set_error(
        error, VIR_ERR_OPERATION_INVALID,
        "image '%s' of disk '%s' was changed (%s) after the guest '%s' was saved with it (%s): "
        "what the guest remembers of it would damage it. Put the image of that time back, "
        "with its time (as cp -p does), or start the guest anew",
        disk->image.path, note->target, now, image->name, then);
}

gboolean
save_disks_check(const SaveImage *image, const DomainDef *def, GError **error)
{
    for (guint i = 0; i < image->disks->len; i++)
        if (!check_disk(image, g_ptr_array_index(image->disks, i), def, error))
            return FALSE;
    return TRUE;
}
