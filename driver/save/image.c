// SPDX-License-Identifier: LGPL-2.1-or-later
// The head and the description of a file with a saved guest.
#include "driver/save/image.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"

#define MAGIC          "QuasarSavedGuest"
#define MAGIC_LENGTH   16u
#define LAYOUT_VERSION 1u
#define ID_LENGTH      32u

G_STATIC_ASSERT(sizeof(MAGIC) == MAGIC_LENGTH + 1);

static void
put32(guint8 *at, guint32 value)
{
    value = GUINT32_TO_BE(value);
    memcpy(at, &value, sizeof(value));
}

static void
put64(guint8 *at, guint64 value)
{
    value = GUINT64_TO_BE(value);
    memcpy(at, &value, sizeof(value));
}

static guint32
get32(const guint8 *at)
{
    guint32 value;
    memcpy(&value, at, sizeof(value));
    return GUINT32_FROM_BE(value);
}

static guint64
get64(const guint8 *at)
{
    guint64 value;
    memcpy(&value, at, sizeof(value));
    return GUINT64_FROM_BE(value);
}

void
save_head_encode(const SaveHead *head, guint8 bytes[SAVE_HEAD])
{
    memcpy(bytes, MAGIC, MAGIC_LENGTH);
    put32(bytes + 16, LAYOUT_VERSION);
    put32(bytes + 20, head->description_length);
    put64(bytes + 24, head->stream_offset);
    put64(bytes + 32, head->stream_length);
    memcpy(bytes + 40, head->sha256, SAVE_SHA256);
}

gboolean
save_head_decode(const void *data, gsize length, SaveHead *head, GError **error)
{
    const guint8 *bytes = data;
    if (length < SAVE_HEAD || memcmp(bytes, MAGIC, MAGIC_LENGTH) != 0)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "it holds no guest that Quasar has saved");
    if (get32(bytes + 16) != LAYOUT_VERSION)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                                "it was written by another version of Quasar (its layout is %u)",
                                get32(bytes + 16));
    *head = (SaveHead){.description_length = get32(bytes + 20),
                       .stream_offset = get64(bytes + 24),
                       .stream_length = get64(bytes + 32)};
    memcpy(head->sha256, bytes + 40, SAVE_SHA256);
    if (head->stream_length == 0)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "it was never written to its end");
    const gboolean sane = head->description_length > 0 && head->description_length <= SAVE_DESCRIPTION &&
                          head->stream_offset % SAVE_ALIGNMENT == 0 &&
                          head->stream_offset >= SAVE_HEAD + (guint64) head->description_length &&
                          head->stream_offset <= G_MAXINT64 / 2 && head->stream_length <= G_MAXINT64 / 2;
    return sane || quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "its head is damaged");
}

void
save_disk_free(SaveDisk *disk)
{
    g_free(disk->target);
    g_free(disk->path);
    g_free(disk);
}

static SaveImage *
new_empty(void)
{
    SaveImage *image = g_new0(SaveImage, 1);
    image->disks = g_ptr_array_new_with_free_func((GDestroyNotify) save_disk_free);
    return image;
}

SaveImage *
save_image_new(void)
{
    SaveImage *image = new_empty();
    g_autofree char *uuid = g_uuid_string_random();
    g_auto(GStrv) parts = g_strsplit(uuid, "-", -1);
    image->id = g_strjoinv("", parts);
    image->anchors = json_array();
    return image;
}

void
save_image_free(SaveImage *image)
{
    if (!image)
        return;
    g_free(image->id);
    g_free(image->uuid);
    g_free(image->name);
    g_free(image->host);
    g_free(image->xml);
    emulator_traits_free(image->traits);
    g_ptr_array_unref(image->disks);
    json_decref(image->anchors);
    g_free(image);
}

static json_t *
encode_disks(const SaveImage *image)
{
    json_t *list = json_array();
    for (guint i = 0; i < image->disks->len; i++) {
        const SaveDisk *disk = g_ptr_array_index(image->disks, i);
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I}", "target", disk->target, "path",
                                              disk->path, "size", (json_int_t) disk->size, "changed",
                                              (json_int_t) disk->changed_s, "changed-ns",
                                              (json_int_t) disk->changed_ns));
    }
    return list;
}

GBytes *
save_image_encode(const SaveImage *image, GError **error)
{
    g_autoptr(json_t) object = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:o, s:o, s:O}", "id", image->id, "uuid", image->uuid, "name",
        image->name, "host", image->host, "xml", image->xml, "saved", (json_int_t) image->saved_at, "paused",
        image->paused, "traits", emulator_traits_to_json(image->traits), "disks", encode_disks(image),
        "anchors", image->anchors);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    const gsize length = text ? strlen(text) : 0;
    if (text && length <= SAVE_DESCRIPTION)
        return g_bytes_new_with_free_func(text, length, free, text);
    free(text);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "what is to be said of the guest %s",
                     object ? "is too long" : "cannot be encoded");
    return NULL;
}

static gboolean
decode_disks(SaveImage *image, json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const char *target, *path;
        json_int_t size, changed, changed_ns;
        if (json_unpack(item, "{s:s, s:s, s:I, s:I, s:I}", "target", &target, "path", &path, "size", &size,
                        "changed", &changed, "changed-ns", &changed_ns) ||
            size < 0 || path[0] != '/')
            return FALSE;
        SaveDisk *disk = g_new0(SaveDisk, 1);
        *disk = (SaveDisk){.target = g_strdup(target),
                           .path = g_strdup(path),
                           .size = (guint64) size,
                           .changed_s = changed,
                           .changed_ns = changed_ns};
        g_ptr_array_add(image->disks, disk);
    }
    return json_is_array(list);
}

static gboolean
is_id(const char *text)
{
    return strlen(text) == ID_LENGTH && strspn(text, "0123456789abcdef") == ID_LENGTH;
}

static gboolean
decode_fields(SaveImage *image, json_t *object)
{
    const char *id, *uuid, *name, *host, *xml;
    json_int_t saved_at;
    json_t *traits, *disks, *anchors;
    if (json_unpack(object, "{s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:o, s:o, s:o}", "id", &id, "uuid", &uuid,
                    "name", &name, "host", &host, "xml", &xml, "saved", &saved_at, "paused", &image->paused,
                    "traits", &traits, "disks", &disks, "anchors", &anchors) ||
        !is_id(id) || !g_uuid_string_is_valid(uuid) || !json_is_array(anchors) ||
        !(image->traits = emulator_traits_from_json(traits)))
        return FALSE;
    image->id = g_strdup(id);
    image->uuid = g_strdup(uuid);
    image->name = g_strdup(name);
    image->host = g_strdup(host);
    image->xml = g_strdup(xml);
    image->saved_at = saved_at;
    image->anchors = json_incref(anchors);
    return decode_disks(image, disks);
}

SaveImage *
save_image_decode(const void *description, gsize length, GError **error)
{
    g_autoptr(json_t) object = json_loadb(description, length, JSON_REJECT_DUPLICATES, NULL);
    g_autoptr(SaveImage) image = new_empty();
    if (object && decode_fields(image, object))
        return g_steal_pointer(&image);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "what it says of its guest cannot be understood");
    return NULL;
}
