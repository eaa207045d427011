// SPDX-License-Identifier: LGPL-2.1-or-later
// Anchor records: JSON files, replaced whole.
#include "driver/migration/anchor_record.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"

#define RECORD_VERSION 1

static const char *const role_names[] = {"home", "away"};
G_STATIC_ASSERT(G_N_ELEMENTS(role_names) == ANCHOR_ROLES);
static const char *const state_names[] = {"offered", "standing", "ending", "saved"};
G_STATIC_ASSERT(G_N_ELEMENTS(state_names) == ANCHOR_STATES);

char *
anchor_link_new(void)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_auto(GStrv) parts = g_strsplit(uuid, "-", -1);
    return g_strjoinv("", parts);
}

void
anchor_record_free(AnchorRecord *record)
{
    if (!record)
        return;
    g_free(record->uuid);
    g_free(record->name);
    g_free(record->mac);
    g_free(record->device);
    g_free(record->link);
    g_free(record->host);
    peer_address_free(record->peer);
    g_free(record);
}

AnchorRecord *
anchor_record_copy(const AnchorRecord *record)
{
    AnchorRecord *copy = g_memdup2(record, sizeof(*record));
    copy->uuid = g_strdup(record->uuid);
    copy->name = g_strdup(record->name);
    copy->mac = g_strdup(record->mac);
    copy->device = g_strdup(record->device);
    copy->link = g_strdup(record->link);
    copy->host = g_strdup(record->host);
    copy->peer = peer_address_copy(record->peer);
    return copy;
}

json_t *
anchor_record_encode(const AnchorRecord *record)
{
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:s, s:s*, s:s, s:I, s:s, s:o}", "version",
                     RECORD_VERSION, "role", role_names[record->role], "state", state_names[record->state],
                     "uuid", record->uuid, "name", record->name, "nic", (int) record->nic, "mac", record->mac,
                     "device", record->device, "link", record->link, "turn", (json_int_t) record->turn,
                     "host", record->host, "peer", peer_address_encode(record->peer));
}

// The number of a name, or -1.
static int
find_name(const char *const *names, guint n, const char *name)
{
    for (guint i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return (int) i;
    return -1;
}

static gboolean
is_link(const char *text)
{
    return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32;
}

AnchorRecord *
anchor_record_decode(json_t *object)
{
    int version = 0, nic = 0;
    json_int_t turn = 0;
    const char *role, *state, *uuid, *name, *mac, *device = NULL, *link, *host;
    json_t *peer;
    if (json_unpack(object, "{s:i, s:s, s:s, s:s, s:s, s:i, s:s, s?s, s:s, s:I, s:s, s:o}", "version",
                    &version, "role", &role, "state", &state, "uuid", &uuid, "name", &name, "nic", &nic,
                    "mac", &mac, "device", &device, "link", &link, "turn", &turn, "host", &host, "peer",
                    &peer) ||
        version != RECORD_VERSION || nic < 0 || nic > G_MAXUINT8 || turn < 1 || !is_link(link) ||
        !g_uuid_string_is_valid(uuid))
        return NULL;
    int role_number = find_name(role_names, ANCHOR_ROLES, role);
    int state_number = find_name(state_names, ANCHOR_STATES, state);
    g_autoptr(PeerAddress) address = peer_address_decode(peer);
    if (role_number < 0 || state_number < 0 || !address)
        return NULL;
    const AnchorRecord record = {.role = (AnchorRole) role_number,
                                 .state = (AnchorState) state_number,
                                 .uuid = (char *) uuid,
                                 .name = (char *) name,
                                 .nic = (guint) nic,
                                 .mac = (char *) mac,
                                 .device = (char *) device,
                                 .link = (char *) link,
                                 .turn = (guint64) turn,
                                 .host = (char *) host,
                                 .peer = address};
    return anchor_record_copy(&record);
}

static char *
record_directory(const char *state_dir)
{
    return g_build_filename(state_dir, "anchors", NULL);
}

static char *
record_path(const char *state_dir, const AnchorRecord *record)
{
    g_autofree char *directory = record_directory(state_dir);
    return g_strdup_printf("%s/%s-%u.%s", directory, record->uuid, record->nic, role_names[record->role]);
}

gboolean
anchor_record_store(const char *state_dir, const AnchorRecord *record, GError **error)
{
    g_autofree char *directory = record_directory(state_dir);
    g_autofree char *path = record_path(state_dir, record);
    g_autoptr(json_t) object = anchor_record_encode(record);
    g_autofree char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        return quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "an anchor's record cannot be encoded");
    return file_make_directory(directory, 0700, error) && file_replace(path, text, -1, 0600, error);
}

void
anchor_record_remove(const char *state_dir, const AnchorRecord *record)
{
    g_autofree char *path = record_path(state_dir, record);
    g_autoptr(GError) error = NULL;
    if (!file_remove(path, &error))
        g_warning("%s", error->message);
}

static AnchorRecord *
load(const char *path)
{
    g_autoptr(json_t) object = json_load_file(path, 0, NULL);
    AnchorRecord *record = object ? anchor_record_decode(object) : NULL;
    if (!record)
        g_critical("'%s' is no record of a guest's home; it is left alone", path);
    return record;
}

GPtrArray *
anchor_record_scan(const char *state_dir, AnchorRole role, const char *uuid)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify) anchor_record_free);
    g_autofree char *path = record_directory(state_dir);
    g_autofree char *suffix = g_strconcat(".", role_names[role], NULL);
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    const char *name;
    while (directory && (name = g_dir_read_name(directory))) {
        if (!g_str_has_suffix(name, suffix) || (uuid && !g_str_has_prefix(name, uuid)))
            continue;
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_autoptr(AnchorRecord) record = load(file);
        if (record && record->role == role)
            g_ptr_array_add(list, g_steal_pointer(&record));
    }
    return list;
}
