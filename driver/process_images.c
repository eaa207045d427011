// SPDX-License-Identifier: LGPL-2.1-or-later
// Image files in use: the ledger of lent files, and who holds one.
#include "driver/process_images.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"
#include "driver/domains.h"

// Theory of operation: the ledger is written before a file's owner is changed and after it is changed back,
// so that whatever happens between leaves an entry too many, never one too few. An entry too many costs
// nothing: only a file that is the emulator's user's is given back.

typedef struct {
    uid_t uid;
    gid_t gid;
    GPtrArray *users; // char*: UUIDs of the guests
} Entry;

struct ImageLedger {
    GMutex lock;
    char *path;
    GHashTable *entries; // canonical path -> Entry
};

static void
entry_free(gpointer data)
{
    Entry *entry = data;
    g_ptr_array_unref(entry->users);
    g_free(entry);
}

static Entry *
entry_new(uid_t uid, gid_t gid)
{
    Entry *entry = g_new0(Entry, 1);
    *entry = (Entry){.uid = uid, .gid = gid, .users = g_ptr_array_new_with_free_func(g_free)};
    return entry;
}

static gboolean
entry_has(const Entry *entry, const char *uuid)
{
    return g_ptr_array_find_with_equal_func(entry->users, uuid, g_str_equal, NULL);
}

static gboolean
read_entries(ImageLedger *ledger, json_t *document)
{
    const char *path;
    json_t *item, *images = json_object_get(document, "images");
    if (!json_is_object(images))
        return FALSE;
    json_object_foreach(images, path, item)
    {
        json_int_t uid, gid;
        json_t *users, *user;
        size_t i;
        if (json_unpack(item, "{s:I, s:I, s:o}", "uid", &uid, "gid", &gid, "users", &users) < 0)
            return FALSE;
        Entry *entry = entry_new((uid_t) uid, (gid_t) gid);
        g_hash_table_replace(ledger->entries, g_strdup(path), entry);
        json_array_foreach(users, i, user)
            g_ptr_array_add(entry->users, g_strdup(json_string_value(user) ? json_string_value(user) : ""));
    }
    return TRUE;
}

static void
load(ImageLedger *ledger)
{
    if (!g_file_test(ledger->path, G_FILE_TEST_EXISTS))
        return;
    json_error_t problem;
    g_autoptr(json_t) document = json_load_file(ledger->path, 0, &problem);
    if (document && read_entries(ledger, document))
        return;
    g_autofree char *aside = g_strconcat(ledger->path, ".damaged", NULL);
    g_critical("%s cannot be read (%s) and is put aside as %s: images that were in use stay the emulator's "
               "user's",
               ledger->path, document ? "it is no list of images" : problem.text, aside);
    g_hash_table_remove_all(ledger->entries);
    if (rename(ledger->path, aside) < 0)
        g_warning("cannot rename %s: %s", ledger->path, g_strerror(errno));
}

ImageLedger *
image_ledger_new(const char *directory)
{
    ImageLedger *ledger = g_new0(ImageLedger, 1);
    g_mutex_init(&ledger->lock);
    ledger->path = g_build_filename(directory, "image-owners.json", NULL);
    ledger->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
    load(ledger);
    return ledger;
}

void
image_ledger_free(ImageLedger *ledger)
{
    if (!ledger)
        return;
    g_hash_table_unref(ledger->entries);
    g_mutex_clear(&ledger->lock);
    g_free(ledger->path);
    g_free(ledger);
}

// With the lock held.
static gboolean
save(ImageLedger *ledger, GError **error)
{
    g_autoptr(json_t) document = json_pack("{s:i, s:{}}", "version", 1, "images");
    GHashTableIter iter;
    gpointer path, value;
    g_hash_table_iter_init(&iter, ledger->entries);
    while (g_hash_table_iter_next(&iter, &path, &value)) {
        const Entry *entry = value;
        json_t *users = json_array();
        for (guint i = 0; i < entry->users->len; i++)
            json_array_append_new(users, json_string(g_ptr_array_index(entry->users, i)));
        json_t *item = json_pack("{s:I, s:I, s:o}", "uid", (json_int_t) entry->uid, "gid",
                                 (json_int_t) entry->gid, "users", users);
        json_object_set_new(json_object_get(document, "images"), path, item);
    }
    char *text = json_dumps(document, JSON_INDENT(1) | JSON_SORT_KEYS);
    gboolean ok = file_replace(ledger->path, text, -1, 0600, error);
    free(text);
    return ok;
}

// Whether the emulator's user cannot open it as it is. Files that all may read and that the guest only reads
// stay whose they are, because guests share them.
static gboolean
needs_lending(const Driver *driver, const struct stat *st, gboolean writable)
{
    if (!driver->dynamic_ownership || (!writable && (st->st_mode & S_IROTH)))
        return FALSE;
    return st->st_uid != driver->emulator_uid || st->st_gid != driver->emulator_gid;
}

static gboolean
lend(const Driver *driver, const char *user, const char *path, const struct stat *st, gboolean change,
     GError **error)
{
    ImageLedger *ledger = driver->images;
    Entry *entry = g_hash_table_lookup(ledger->entries, path);
    // The emulator's user's own file: nobody is to get it back.
    if (!entry && !change)
        return TRUE;
    if (!entry) {
        entry = entry_new(st->st_uid, st->st_gid);
        g_hash_table_replace(ledger->entries, g_strdup(path), entry);
    }
    if (!entry_has(entry, user)) {
        g_ptr_array_add(entry->users, g_strdup(user));
        if (!save(ledger, error))
            return FALSE;
    }
    if (!change || chown(path, driver->emulator_uid, driver->emulator_gid) == 0)
        return TRUE;
    quasar_set_system_error(error, errno, "cannot give '%s' to the emulator's user", path);
    return FALSE;
}

static gboolean
lend_path(const Driver *driver, const char *user, const char *path, gboolean writable, GError **error)
{
    struct stat st;
    char real[PATH_MAX];
    if (!realpath(path, real) || stat(real, &st) < 0) {
        quasar_set_system_error(error, errno, "cannot access '%s'", path);
        return FALSE;
    }
    ImageLedger *ledger = driver->images;
    g_mutex_lock(&ledger->lock);
    gboolean ok = lend(driver, user, real, &st, needs_lending(driver, &st, writable), error);
    g_mutex_unlock(&ledger->lock);
    return ok;
}

static gboolean
lend_file(Domain *domain, const char *path, gboolean writable, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    if (lend_path(domain->driver, uuid, path, writable, error))
        return TRUE;
    g_prefix_error(error, "domain '%s': ", domain->name);
    return FALSE;
}

gboolean
images_lend_for_probe(Driver *driver, const char *path, char **loan, GError **error)
{
    static gint last;
    g_autofree char *user = g_strdup_printf("probe-%d", g_atomic_int_add(&last, 1));
    if (!lend_path(driver, user, path, FALSE, error))
        return FALSE;
    *loan = g_steal_pointer(&user);
    return TRUE;
}

gboolean
images_lend(Domain *domain, const DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        for (const DomainImage *image = &disk->image; image; image = image->backing) {
            gboolean writable = image == &disk->image && !disk->readonly && disk->device == DOMAIN_DISK_DISK;
            if (image->path && !lend_file(domain, image->path, writable, error))
                return FALSE;
        }
    }
    return (!def->kernel || lend_file(domain, def->kernel, FALSE, error)) &&
           (!def->initrd || lend_file(domain, def->initrd, FALSE, error));
}

static void
restore_owner(const Driver *driver, const char *path, const Entry *entry)
{
    struct stat st;
    if (stat(path, &st) < 0 || st.st_uid != driver->emulator_uid || st.st_gid != driver->emulator_gid)
        return;
    if (chown(path, entry->uid, entry->gid) < 0)
        g_warning("cannot give '%s' back to its owner (%u:%u): %s", path, (guint) entry->uid,
                  (guint) entry->gid, g_strerror(errno));
}

// Takes away users that `ended` knows; files without any are given back.
static void
drop_users(const Driver *driver, gboolean (*ended)(const char *uuid, gpointer data), gpointer data)
{
    ImageLedger *ledger = driver->images;
    GHashTableIter iter;
    gpointer path, value;
    gboolean changed = FALSE;
    g_mutex_lock(&ledger->lock);
    g_hash_table_iter_init(&iter, ledger->entries);
    while (g_hash_table_iter_next(&iter, &path, &value)) {
        Entry *entry = value;
        for (guint i = entry->users->len; i-- > 0;) {
            if (!ended(g_ptr_array_index(entry->users, i), data))
                continue;
            g_ptr_array_remove_index(entry->users, i);
            changed = TRUE;
        }
        if (entry->users->len > 0)
            continue;
        restore_owner(driver, path, entry);
        g_hash_table_iter_remove(&iter);
    }
    g_autoptr(GError) error = NULL;
    if (changed && !save(ledger, &error))
        g_warning("%s", error->message);
    g_mutex_unlock(&ledger->lock);
}

static gboolean
is_user(const char *user, gpointer data)
{
    return g_str_equal(user, data);
}

void
images_give_back(Domain *domain)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    drop_users(domain->driver, is_user, uuid);
}

void
images_end_probe(Driver *driver, char *loan)
{
    drop_users(driver, is_user, loan);
}

static gboolean
is_not_running(const char *uuid, gpointer running)
{
    return !g_hash_table_contains(running, uuid);
}

void
images_give_back_unused(Driver *driver)
{
    g_autoptr(GPtrArray) active = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    g_autoptr(GHashTable) running = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < active->len; i++)
        g_hash_table_add(running, domain_uuid_format(((Domain *) g_ptr_array_index(active, i))->uuid));
    drop_users(driver, is_not_running, running);
}

static gboolean
is_file(const char *path, const struct stat *file)
{
    struct stat st;
    return path && stat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static gboolean
domain_uses(Domain *domain, const struct stat *file)
{
    gboolean uses = FALSE;
    domain_lock(domain);
    for (guint i = 0; domain->live && i < domain->live->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(domain->live->disks, i);
        for (const DomainImage *image = &disk->image; image && !uses; image = image->backing)
            uses = is_file(image->path, file);
    }
    domain_unlock(domain);
    return uses;
}

static gboolean
process_has_open(const char *pid, const struct stat *file)
{
    g_autofree char *directory = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) fds = g_dir_open(directory, 0, NULL);
    const char *name;
    while (fds && (name = g_dir_read_name(fds))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        if (is_file(path, file))
            return TRUE;
    }
    return FALSE;
}

static char *
find_process(const struct stat *file)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc))) {
        if (!g_ascii_isdigit(*name) || !process_has_open(name, file))
            continue;
        g_autofree char *path = g_strdup_printf("/proc/%s/comm", name);
        g_autofree char *comm = NULL;
        g_file_get_contents(path, &comm, NULL, NULL);
        return g_strdup_printf("process %s (pid %s)", comm ? g_strstrip(comm) : "?", name);
    }
    return NULL;
}

char *
images_find_holder(const Domain *except, const char *path)
{
    struct stat file;
    if (stat(path, &file) < 0)
        return NULL;
    g_autoptr(GPtrArray) active =
        domain_list_filter(except->driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (guint i = 0; i < active->len; i++) {
        Domain *domain = g_ptr_array_index(active, i);
        if (domain != except && domain_uses(domain, &file))
            return g_strdup_printf("domain '%s'", domain->name);
    }
    return find_process(&file);
}
