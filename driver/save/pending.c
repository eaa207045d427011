// SPDX-License-Identifier: LGPL-2.1-or-later
// Records of saves that are under way.
#include "driver/save/pending.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/save/managed.h"
#include "driver/save/save.h"

static char *
directory_of(const Driver *driver)
{
    return g_build_filename(driver->state_dir, "saving", NULL);
}

static char *
record_path(const Driver *driver, const char *uuid)
{
    return g_build_filename(driver->state_dir, "saving", uuid, NULL);
}

gboolean
save_pending_store(const Driver *driver, const SaveImage *image, const SaveFile *file, gboolean ran,
                   gboolean managed, GError **error)
{
    g_autofree char *directory = directory_of(driver);
    g_autofree char *path = record_path(driver, image->uuid);
    g_autoptr(json_t) record = json_pack("{s:s, s:s, s:s, s:b, s:b}", "id", image->id, "path", file->path,
                                         "temporary", file->temporary, "ran", ran, "managed", managed);
    char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
    gboolean ok =
        text && file_make_directory(directory, 0700, error) && file_replace(path, text, -1, 0600, error);
    free(text);
    return ok || quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "'%s' is no text that can be recorded",
                                  file->path);
}

void
save_pending_remove(const Driver *driver, const char *uuid)
{
    g_autofree char *path = record_path(driver, uuid);
    g_autoptr(GError) error = NULL;
    if (!file_remove(path, &error))
        g_warning("%s", error->message);
}

static void
go_on(Driver *driver G_GNUC_UNUSED, gpointer domain)
{
    save_call_back(domain, TRUE);
}

static void
stay_paused(Driver *driver G_GNUC_UNUSED, gpointer domain)
{
    save_call_back(domain, FALSE);
}

static void
settle(Driver *driver, const char *uuid, json_t *record)
{
    const char *id, *path, *temporary;
    int ran, managed;
    guint8 bytes[VIR_UUID_BUFLEN];
    if (!domain_uuid_parse(uuid, bytes) ||
        json_unpack(record, "{s:s, s:s, s:s, s:b, s:b}", "id", &id, "path", &path, "temporary", &temporary,
                    "ran", &ran, "managed", &managed)) {
        g_critical("the record of a save of %s cannot be understood; it is left alone", uuid);
        return;
    }
    g_autoptr(Domain) domain = domain_list_by_uuid(driver->domains, bytes, NULL);
    g_autoptr(SaveImage) image = save_file_open(path, NULL, NULL);
    if (image && g_str_equal(image->id, id)) {
        g_message("guest '%s' was saved in %s when the last daemon ended", image->name, path);
        save_conclude(driver, domain, uuid, managed);
    } else {
        unlink(temporary);
        if (domain)
            driver_defer(driver, ran ? go_on : stay_paused, domain_ref(domain),
                         (GDestroyNotify) domain_unref);
    }
    save_pending_remove(driver, uuid);
}

void
save_pending_settle(Driver *driver)
{
    g_autofree char *directory = directory_of(driver);
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autoptr(json_t) record = json_load_file(path, 0, NULL);
        // A half one was never acted on.
        if (record)
            settle(driver, name, record);
        else
            unlink(path);
    }
}
