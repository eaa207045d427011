// SPDX-License-Identifier: LGPL-2.1-or-later
// Disk images as the emulator's block nodes.
#include "emulator/blockdev.h"

#include <jansson.h>

#include "base/error.h"

// Theory of operation. Each image is two nodes, one for the file and one for its format, named as libvirt
// names them. A disk's own image has the disk's number, so that its name does not depend on other disks'
// chains; the images below are numbered after the last disk. The whole chain is spelled out and ends with
// "backing": null, because what an image's header says is the guest's and other tools' word, not ours. Only
// when the definition knows nothing of what is below an image is the header believed.

static guint
chain_length(const DomainImage *image)
{
    guint length = 0;
    for (; image && image->path; image = image->backing)
        length++;
    return length;
}

// `depth` 0 is the disk's own image.
static guint
node_number(const DomainDef *def, guint disk, guint depth)
{
    if (depth == 0)
        return disk + 1;
    guint number = def->disks->len + depth;
    for (guint i = 0; i < disk; i++) {
        const DomainDisk *before = g_ptr_array_index(def->disks, i);
        guint length = chain_length(&before->image);
        number += length ? length - 1 : 0;
    }
    return number;
}

static char *
format_node(const DomainDef *def, guint disk, guint depth)
{
    return g_strdup_printf("libvirt-%u-format", node_number(def, disk, depth));
}

static char *
file_node(const DomainDef *def, guint disk, guint depth)
{
    return g_strdup_printf("libvirt-%u-storage", node_number(def, disk, depth));
}

char *
emulator_format_node(const DomainDef *def, guint disk)
{
    return format_node(def, disk, 0);
}

char *
emulator_file_node(const DomainDef *def, guint disk)
{
    return file_node(def, disk, 0);
}

static gboolean
cache_is_direct(const char *cache)
{
    return g_strcmp0(cache, "none") == 0 || g_strcmp0(cache, "directsync") == 0;
}

// Both nodes need it: each has a cache mode of its own.
static void
set_cache(json_t *node, const DomainDisk *disk)
{
    if (!disk->cache || g_str_equal(disk->cache, "default"))
        return;
    json_object_set_new(node, "cache",
                        json_pack("{s:b, s:b}", "direct", cache_is_direct(disk->cache), "no-flush",
                                  g_str_equal(disk->cache, "unsafe")));
}

static char *
dump(json_t *node)
{
    char *raw = json_dumps(node, JSON_COMPACT);
    char *text = g_strdup(raw);
    free(raw);
    json_decref(node);
    return text;
}

static char *
file_blockdev(const DomainDisk *disk, const DomainImage *image, const char *name)
{
    json_t *node = json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver",
                             image->type == DOMAIN_STORAGE_BLOCK ? "host_device" : "file", "filename",
                             image->path, "node-name", name, "auto-read-only", TRUE, "discard", "unmap");
    if (disk->io)
        json_object_set_new(node, "aio", json_string(disk->io));
    set_cache(node, disk);
    return dump(node);
}

static void
set_backing(json_t *node, const DomainImage *image, const char *backing)
{
    if (backing)
        json_object_set_new(node, "backing", json_string(backing));
    else if (image->backing || image->backing_terminated)
        json_object_set_new(node, "backing", json_null());
}

static char *
format_blockdev(const DomainDisk *disk, const DomainImage *image, const char *name, const char *file,
                const char *backing)
{
    gboolean top = image == &disk->image;
    json_t *node = json_pack("{s:s, s:b}", "node-name", name, "read-only", !top || disk->readonly);
    if (disk->discard)
        json_object_set_new(node, "discard", json_string(disk->discard));
    if (top && disk->detect_zeroes)
        json_object_set_new(node, "detect-zeroes", json_string(disk->detect_zeroes));
    set_cache(node, disk);
    json_object_set_new(node, "driver", json_string(image->format));
    json_object_set_new(node, "file", json_string(file));
    if (g_str_equal(image->format, "qcow2"))
        set_backing(node, image, backing);
    return dump(node);
}

static gboolean
check_image(const DomainDisk *disk, const DomainImage *image, GError **error)
{
    const char *complaint = NULL;
    if (!image->format)
        complaint = "its format is not known, give type= in <driver> or a <format>";
    else if (!g_str_equal(image->format, "raw") && !g_str_equal(image->format, "qcow2"))
        complaint = "only the formats raw and qcow2 are supported";
    else if (g_str_equal(image->format, "raw") && image->backing && image->backing->path)
        complaint = "a raw image cannot have a <backingStore>";
    else if (g_strcmp0(disk->io, "native") == 0 && !cache_is_direct(disk->cache))
        complaint = "io='native' needs cache='none' or cache='directsync'";
    if (complaint)
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "image '%s' of disk '%s': %s", image->path,
                         disk->target, complaint);
    return complaint == NULL;
}

// The deepest image's nodes first: a node's children must be there before it.
static gboolean
add_chain(GPtrArray *nodes, const DomainDef *def, guint disk, guint depth, const DomainImage *image,
          GError **error)
{
    const DomainDisk *of = g_ptr_array_index(def->disks, disk);
    gboolean has_backing = image->backing && image->backing->path;
    if (!check_image(of, image, error) ||
        (has_backing && !add_chain(nodes, def, disk, depth + 1, image->backing, error)))
        return FALSE;
    g_autofree char *format = format_node(def, disk, depth);
    g_autofree char *file = file_node(def, disk, depth);
    g_autofree char *backing = has_backing ? format_node(def, disk, depth + 1) : NULL;
    g_ptr_array_add(nodes, file_blockdev(of, image, file));
    g_ptr_array_add(nodes, format_blockdev(of, image, format, file, backing));
    return TRUE;
}

GPtrArray *
emulator_blockdevs(const DomainDef *def, guint disk, GError **error)
{
    const DomainDisk *of = g_ptr_array_index(def->disks, disk);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new_with_free_func(g_free);
    if (of->image.path && !add_chain(nodes, def, disk, 0, &of->image, error))
        return NULL;
    return g_steal_pointer(&nodes);
}
