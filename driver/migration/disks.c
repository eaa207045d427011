// SPDX-License-Identifier: LGPL-2.1-or-later
// Disks of a move: describe, create, adjust, supersede.
#include "driver/migration/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/process.h"
#include "emulator/blockdev.h"
#include "emulator/image.h"
#include "emulator/monitor.h"

static char *
hash_cache(const Driver *driver)
{
    return g_build_filename(driver->state_dir, "hashes", NULL);
}

static gboolean
describe(Driver *driver, const DomainDisk *source, gboolean full, guint64 virtual_size, Cookie *cookie,
         GError **error)
{
    CookieDisk *disk = g_new0(CookieDisk, 1);
    g_ptr_array_add(cookie->disks, disk);
    disk->target = g_strdup(source->target);
    disk->path = g_strdup(source->image.path);
    disk->format = g_strdup(source->image.format);
    disk->virtual_size = virtual_size;
    const DomainImage *backing = source->image.backing;
    if (!backing || !backing->path)
        return TRUE;
    disk->backing_path = g_strdup(backing->path);
    disk->backing_format = g_strdup(backing->format);
    g_autofree char *cache = hash_cache(driver);
    // A backing file with a backing file of its own is not identified by its bytes alone; then all of it
    // travels.
    if (full || (backing->backing && backing->backing->path))
        disk->full = TRUE;
    else
        disk->backing_sha256 = image_sha256(backing->path, cache, error);
    return disk->full || disk->backing_sha256;
}

// The guest-visible size of each disk, by the emulator's own word: the image is locked by it.
static gboolean
virtual_size_of(json_t *blocks, const char *alias, guint64 *size)
{
    size_t index;
    json_t *block;
    json_array_foreach(blocks, index, block)
    {
        const char *qdev = json_string_value(json_object_get(block, "qdev"));
        json_t *image = json_object_get(json_object_get(block, "inserted"), "image");
        if (!qdev || !strstr(qdev, alias) || !image)
            continue;
        *size = (guint64) json_integer_value(json_object_get(image, "virtual-size"));
        return TRUE;
    }
    return FALSE;
}

gboolean
disk_travels(const DomainDisk *disk)
{
    return !disk->readonly && disk->device != DOMAIN_DISK_CDROM;
}

static gboolean
describe_all(Driver *driver, const DomainDef *def, gboolean full, json_t *blocks, Cookie *cookie,
             GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        guint64 size = 0;
        if (!disk_travels(disk))
            continue;
        if (disk->image.type != DOMAIN_STORAGE_FILE) {
            quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                             "disk %s is a block device; only disks in files can be moved", disk->target);
            return FALSE;
        }
        if (disk->shareable) {
            quasar_set_error(error, VIR_ERR_MIGRATE_UNSAFE, "disk %s is shared with other guests",
                             disk->target);
            return FALSE;
        }
        if (!virtual_size_of(blocks, disk->info.alias, &size)) {
            quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator does not know disk %s",
                             disk->target);
            return FALSE;
        }
        if (!describe(driver, disk, full, size, cookie, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
disks_describe(Domain *domain, gboolean full, Cookie *cookie, GError **error)
{
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    g_autoptr(DomainDef) def = qmp ? domain_def_copy(domain->live) : NULL;
    domain_unlock(domain);
    if (!qmp)
        return FALSE;
    g_autoptr(json_t) blocks = monitor_query_block(qmp, error);
    return blocks && describe_all(domain->driver, def, full, blocks, cookie, error);
}

static const CookieDisk *
find_in_cookie(const Cookie *cookie, const char *target)
{
    for (guint i = 0; i < cookie->disks->len; i++) {
        const CookieDisk *disk = g_ptr_array_index(cookie->disks, i);
        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

gboolean
disks_agree(const DomainDef *def, const Cookie *cookie, GError **error)
{
    guint travelling = 0;
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (!disk_travels(disk))
            continue;
        travelling++;
        const CookieDisk *said = find_in_cookie(cookie, disk->target);
        if (said && g_strcmp0(said->path, disk->image.path) == 0 &&
            g_strcmp0(said->format, disk->image.format) == 0)
            continue;
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "disk %s of the domain is %s (%s), but the other host says %s (%s); nothing is moved",
            disk->target, disk->image.path ? disk->image.path : "empty",
            disk->image.format ? disk->image.format : "no format", said ? said->path : "nothing",
            said ? said->format : "no format");
        return FALSE;
    }
    if (travelling == cookie->disks->len)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                     "the domain has %u writable disks, but the other host speaks of %u; nothing is moved",
                     travelling, cookie->disks->len);
    return FALSE;
}

char *
disks_format_node(Domain *domain, const char *target, GError **error)
{
    char *node = NULL;
    domain_lock(domain);
    for (guint i = 0; domain->live && !node && i < domain->live->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(domain->live->disks, i);
        if (g_strcmp0(disk->target, target) == 0)
            node = emulator_format_node(domain->live, i);
    }
    domain_unlock(domain);
    if (!node)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the guest has ended, or has no disk %s", target);
    return node;
}

static gboolean
same_backing(Driver *driver, const CookieDisk *disk)
{
    if (!disk->backing_sha256 || !g_file_test(disk->backing_path, G_FILE_TEST_IS_REGULAR))
        return FALSE;
    g_autofree char *cache = hash_cache(driver);
    g_autofree char *here = image_sha256(disk->backing_path, cache, NULL);
    return g_strcmp0(here, disk->backing_sha256) == 0;
}

static gboolean
create_file(const Driver *driver, const CookieDisk *disk, GPtrArray *created, GError **error)
{
    g_autofree char *directory = g_path_get_dirname(disk->path);
    if (!file_make_directory(directory, 0711, error))
        return FALSE;
    int fd = open(disk->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST) {
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "disk %s: %s exists at the destination and is not overwritten; move it away or remove it first",
            disk->target, disk->path);
        return FALSE;
    }
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot create %s at the destination", disk->path);
        return FALSE;
    }
    g_ptr_array_add(created, g_strdup(disk->path));
    gboolean ok = geteuid() != 0 || fchown(fd, driver->emulator_uid, driver->emulator_gid) == 0;
    if (!ok)
        quasar_set_system_error(error, errno, "cannot give %s to the emulator's user", disk->path);
    close(fd);
    return ok;
}

gboolean
disks_create(Driver *driver, Cookie *cookie, GPtrArray *created, GError **error)
{
    const EmulatorUser user = process_emulator_user(driver);
    for (guint i = 0; i < cookie->disks->len; i++) {
        CookieDisk *disk = g_ptr_array_index(cookie->disks, i);
        disk->full = disk->backing_path && (disk->full || !same_backing(driver, disk));
        const char *backing = disk->full ? NULL : disk->backing_path;
        if (!create_file(driver, disk, created, error) ||
            !image_create(disk->path, disk->format, disk->virtual_size, backing, disk->backing_format, &user,
                          error) ||
            !file_sync_directory(disk->path, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
disks_check_read_only(const DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (disk_travels(disk) || !disk->image.path)
            continue;
        if (g_file_test(disk->image.path, G_FILE_TEST_EXISTS))
            continue;
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "disk %s is read-only and does not travel: copy %s to the destination or eject it",
                         disk->target, disk->image.path);
        return FALSE;
    }
    return TRUE;
}

void
disks_adjust(DomainDef *def, const Cookie *cookie)
{
    for (guint i = 0; i < cookie->disks->len; i++) {
        const CookieDisk *disk = g_ptr_array_index(cookie->disks, i);
        DomainDisk *target = domain_find_disk(def, disk->target);
        if (!target || !disk->full)
            continue;
        domain_image_free(target->image.backing);
        target->image.backing = NULL;
        target->image.backing_terminated = TRUE;
    }
}

char *
disks_superseded_path(const char *path)
{
    return g_strconcat(path, ".superseded", NULL);
}

void
disks_supersede(char **paths)
{
    for (char **path = paths; path && *path; path++) {
        g_autofree char *old = disks_superseded_path(*path);
        g_autoptr(GError) error = NULL;
        if (g_rename(*path, old) < 0 && errno != ENOENT)
            g_warning("cannot rename %s: %s", *path, g_strerror(errno));
        else if (!file_sync_directory(old, &error))
            g_warning("%s", error->message);
    }
}
