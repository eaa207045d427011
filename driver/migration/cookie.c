// SPDX-License-Identifier: LGPL-2.1-or-later
// Migration cookies: JSON objects, checked completely when they are decoded.
#include "driver/migration/cookie.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"

#define COOKIE_VERSION 1

void
cookie_disk_free(CookieDisk *disk)
{
    if (!disk)
        return;
    g_free(disk->target);
    g_free(disk->path);
    g_free(disk->format);
    g_free(disk->backing_path);
    g_free(disk->backing_format);
    g_free(disk->backing_sha256);
    g_free(disk);
}

Cookie *
cookie_new(void)
{
    Cookie *cookie = g_new0(Cookie, 1);
    cookie->disks = g_ptr_array_new_with_free_func((GDestroyNotify) cookie_disk_free);
    return cookie;
}

void
cookie_free(Cookie *cookie)
{
    if (!cookie)
        return;
    g_free(cookie->uuid);
    g_free(cookie->name);
    g_free(cookie->hostname);
    g_free(cookie->machine);
    g_free(cookie->token);
    g_ptr_array_unref(cookie->disks);
    emulator_traits_free(cookie->traits);
    peer_address_free(cookie->peer);
    peer_address_free(cookie->way);
    g_free(cookie);
}

static json_t *
encode_disk(const CookieDisk *disk)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:s*, s:s*, s:s*, s:b}", "target", disk->target, "path",
                     disk->path, "format", disk->format, "size", (json_int_t) disk->virtual_size, "backing",
                     disk->backing_path, "backing-format", disk->backing_format, "backing-sha256",
                     disk->backing_sha256, "full", disk->full);
}

GBytes *
cookie_encode(const Cookie *cookie)
{
    json_t *disks = json_array();
    for (guint i = 0; i < cookie->disks->len; i++)
        json_array_append_new(disks, encode_disk(g_ptr_array_index(cookie->disks, i)));
    g_autoptr(json_t) object = json_pack(
        "{s:i, s:s, s:s, s:s*, s:s*, s:i, s:o, s:s*, s:o*, s:o*, s:o*, s:b}", "quasar", COOKIE_VERSION,
        "uuid", cookie->uuid, "name", cookie->name, "hostname", cookie->hostname, "machine", cookie->machine,
        "emulator", cookie->emulator_version, "disks", disks, "token", cookie->token, "peer",
        peer_address_encode(cookie->peer), "way", peer_address_encode(cookie->way), "traits",
        cookie->traits ? emulator_traits_to_json(cookie->traits) : NULL, "paused", cookie->paused);
    char *text = json_dumps(object, JSON_COMPACT);
    gsize length = strlen(text);
    return g_bytes_new_with_free_func(text, length, free, text);
}

static gboolean
decode_disk(json_t *object, Cookie *cookie)
{
    const char *target, *path, *format, *backing = NULL, *backing_format = NULL, *sha256 = NULL;
    json_int_t size = 0;
    int full = 0;
    if (json_unpack(object, "{s:s, s:s, s:s, s:I, s?s, s?s, s?s, s?b}", "target", &target, "path", &path,
                    "format", &format, "size", &size, "backing", &backing, "backing-format", &backing_format,
                    "backing-sha256", &sha256, "full", &full) ||
        size < 0 || path[0] != '/' || !*target)
        return FALSE;
    CookieDisk *disk = g_new0(CookieDisk, 1);
    disk->target = g_strdup(target);
    disk->path = g_strdup(path);
    disk->format = g_strdup(format);
    disk->virtual_size = (guint64) size;
    disk->backing_path = g_strdup(backing);
    disk->backing_format = g_strdup(backing_format);
    disk->backing_sha256 = g_strdup(sha256);
    disk->full = full;
    g_ptr_array_add(cookie->disks, disk);
    return TRUE;
}

static gboolean
decode_fields(json_t *object, Cookie *cookie)
{
    int version = 0;
    const char *uuid, *name, *hostname = NULL, *machine = NULL, *token = NULL;
    json_t *disks, *disk, *peer = NULL, *way = NULL, *traits = NULL;
    size_t index;
    if (json_unpack(object, "{s:i, s:s, s:s, s?s, s?s, s?i, s:o, s?s, s?o, s?o, s?o, s?b}", "quasar",
                    &version, "uuid", &uuid, "name", &name, "hostname", &hostname, "machine", &machine,
                    "emulator", &cookie->emulator_version, "disks", &disks, "token", &token, "peer", &peer,
                    "way", &way, "traits", &traits, "paused", &cookie->paused) ||
        version != COOKIE_VERSION)
        return FALSE;
    cookie->uuid = g_strdup(uuid);
    cookie->name = g_strdup(name);
    cookie->hostname = g_strdup(hostname);
    cookie->machine = g_strdup(machine);
    cookie->token = g_strdup(token);
    json_array_foreach(disks, index, disk) if (!decode_disk(disk, cookie)) return FALSE;
    if (traits && !(cookie->traits = emulator_traits_from_json(traits)))
        return FALSE;
    return (!peer || (cookie->peer = peer_address_decode(peer))) &&
           (!way || (cookie->way = peer_address_decode(way)));
}

Cookie *
cookie_decode(GBytes *bytes, GError **error)
{
    gsize length = 0;
    const void *data = bytes ? g_bytes_get_data(bytes, &length) : NULL;
    g_autoptr(json_t) object = length ? frame_decode(data, length, NULL) : NULL;
    g_autoptr(Cookie) cookie = cookie_new();
    if (object && decode_fields(object, cookie))
        return g_steal_pointer(&cookie);
    quasar_set_error(
        error, VIR_ERR_INTERNAL_ERROR,
        "the other host's migration cookie is not one of virtquasard's; both hosts must run Quasar");
    return NULL;
}
