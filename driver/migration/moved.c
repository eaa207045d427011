// SPDX-License-Identifier: LGPL-2.1-or-later
// Notes about guests that have left.
#include "driver/migration/moved.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/migration/disks.h"

static char *
note_path(const char *state_dir, const char *uuid)
{
    return g_build_filename(state_dir, "moved", uuid, NULL);
}

void
moved_note(const char *state_dir, const Handoff *handoff)
{
    g_autofree char *directory = g_build_filename(state_dir, "moved", NULL);
    g_autofree char *path = note_path(state_dir, handoff->uuid);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) note = json_pack("{s:s*, s:[]}", "host", handoff->peer_host, "images");
    for (char **image = handoff->images; image && *image; image++)
        json_array_append_new(json_object_get(note, "images"), json_string(*image));
    char *text = json_dumps(note, JSON_COMPACT);
    if (!text || !file_make_directory(directory, 0700, &error) || !file_replace(path, text, -1, 0600, &error))
        g_warning("where %s has moved is not noted: %s", handoff->uuid,
                  error ? error->message : "it cannot be encoded");
    free(text);
}

void
moved_forget(const char *state_dir, const char *uuid)
{
    g_autofree char *path = note_path(state_dir, uuid);
    g_autoptr(GError) error = NULL;
    if (!file_remove(path, &error))
        g_warning("%s", error->message);
}

// The image that the move set aside and nobody has put back; NULL: none.
static const char *
find_superseded(json_t *note)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(note, "images"), index, item)
    {
        const char *path = json_string_value(item);
        g_autofree char *old = path ? disks_superseded_path(path) : NULL;
        if (old && !g_file_test(path, G_FILE_TEST_EXISTS) && g_file_test(old, G_FILE_TEST_EXISTS))
            return path;
    }
    return NULL;
}

gboolean
moved_check(const char *state_dir, const char *uuid, const char *name, GError **error)
{
    g_autofree char *path = note_path(state_dir, uuid);
    g_autoptr(json_t) note = json_load_file(path, 0, NULL);
    const char *image = note ? find_superseded(note) : NULL;
    if (!image)
        return TRUE;
    g_autofree char *old = disks_superseded_path(image);
    const char *host = json_string_value(json_object_get(note, "host"));
    if (!host)
        host = "another host";
    quasar_set_error(
        error, VIR_ERR_OPERATION_INVALID,
        "the guest '%s' has moved to %s; its old image here is %s. Bring it back with 'virsh -c "
        "quasar+tls://%s/system migrate --live %s quasar+tls://%s/system'; to go on with the old "
        "image instead, make sure that the guest does not run there and rename it to %s",
        name, host, old, host, name, g_get_host_name(), image);
    return FALSE;
}

gboolean
moved_check_saved(const char *state_dir, const char *uuid, const char *name, gint64 saved_at, GError **error)
{
    g_autofree char *path = note_path(state_dir, uuid);
    g_autoptr(json_t) note = json_load_file(path, 0, NULL);
    const char *host = json_string_value(json_object_get(note, "host"));
    struct stat st;
    if (!note || json_array_size(json_object_get(note, "images")) > 0 || stat(path, &st) < 0 ||
        st.st_mtim.tv_sec < saved_at)
        return TRUE;
    return quasar_set_error(
        error, VIR_ERR_OPERATION_INVALID,
        "the guest '%s' has moved to %s after it was saved, and would run twice; if it is "
        "gone from there for good, remove %s",
        name, host ? host : "another host", path);
}
