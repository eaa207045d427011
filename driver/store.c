// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions, autostart links and status files.
#include "driver/store.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/process.h"

gboolean
store_save_definition(Domain *domain, const DomainDef *def, GError **error)
{
    g_autofree char *path = domain_definition_path(domain);
    g_autofree char *xml = domain_def_format(def, DOMAIN_FORMAT_INACTIVE, -1);
    return file_replace(path, xml, -1, 0600, error);
}

gboolean
store_remove_definition(Domain *domain, GError **error)
{
    g_autofree char *path = domain_definition_path(domain);
    return store_set_autostart(domain, FALSE, error) && file_remove(path, error);
}

gboolean
store_set_autostart(Domain *domain, gboolean autostart, GError **error)
{
    g_autofree char *link = domain_autostart_path(domain);
    if (!autostart) {
        if (!file_remove(link, error))
            return FALSE;
        domain->autostart = FALSE;
        return TRUE;
    }
    g_autofree char *target = domain_definition_path(domain);
    if (symlink(target, link) < 0 && errno != EEXIST) {
        quasar_set_system_error(error, errno, "cannot create autostart link %s", link);
        return FALSE;
    }
    if (!file_sync_directory(link, error))
        return FALSE;
    domain->autostart = TRUE;
    return TRUE;
}

// One line "path=uid:gid" for each image lent; paths are escaped so that they can hold newlines.
static char *
format_owners(GHashTable *owners)
{
    g_autoptr(GString) text = g_string_new(NULL);
    GHashTableIter iter;
    gpointer path, owner;
    g_hash_table_iter_init(&iter, owners);
    while (g_hash_table_iter_next(&iter, &path, &owner)) {
        g_autofree char *escaped = g_uri_escape_string(path, "/", FALSE);
        g_string_append_printf(text, "%s%s=%s", text->len ? " " : "", escaped, (const char *) owner);
    }
    return g_strdup(text->str);
}

static void
parse_owners(const char *text, GHashTable *owners)
{
    g_auto(GStrv) entries = g_strsplit(text ? text : "", " ", -1);
    for (char **entry = entries; *entry; entry++) {
        g_auto(GStrv) halves = g_strsplit(*entry, "=", 2);
        if (!halves[0] || !halves[1])
            continue;
        char *path = g_uri_unescape_string(halves[0], NULL);
        if (path)
            g_hash_table_replace(owners, path, g_strdup(halves[1]));
    }
}

gboolean
store_save_status(Domain *domain, GError **error)
{
    g_autofree char *path = domain_status_path(domain);
    g_autofree char *state = g_strdup_printf("%d", domain->state);
    g_autofree char *reason = g_strdup_printf("%d", domain->reason);
    g_autofree char *pid = g_strdup_printf("%d", (int) domain->pid);
    g_autofree char *pid_start = g_strdup_printf("%" G_GUINT64_FORMAT, domain->pid_start);
    g_autofree char *started = g_strdup_printf("%" G_GINT64_FORMAT, domain->started_at);
    g_autofree char *owners = format_owners(domain->original_owners);
    const char *const pairs[] = {"state",   state,   "reason",   reason,
                                 "pid",     pid,     "pidStart", pid_start,
                                 "started", started, "runDir",   domain->run_dir ? domain->run_dir : "",
                                 "owners",  owners,  "incoming", domain->incoming ? "yes" : "no",
                                 NULL};
    g_autofree char *xml = domain_def_format_status(domain->live, domain->id, pairs);
    return file_replace(path, xml, -1, 0600, error);
}

void
store_remove_status(Domain *domain)
{
    g_autofree char *path = domain_status_path(domain);
    g_autoptr(GError) error = NULL;
    if (!file_remove(path, &error))
        g_warning("%s", error->message);
}

static guint64
number_of(GHashTable *pairs, const char *key)
{
    const char *text = g_hash_table_lookup(pairs, key);
    return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

static void
fill_from_status(Domain *domain, DomainDef *def, int id, GHashTable *pairs)
{
    domain_list_restore_id(domain->driver->domains, domain, id);
    domain->live = def;
    domain->state = (int) number_of(pairs, "state");
    domain->reason = (int) number_of(pairs, "reason");
    domain->pid = (pid_t) number_of(pairs, "pid");
    domain->pid_start = number_of(pairs, "pidStart");
    domain->started_at = (gint64) number_of(pairs, "started");
    domain->run_dir = g_strdup(g_hash_table_lookup(pairs, "runDir"));
    domain->incoming = g_strcmp0(g_hash_table_lookup(pairs, "incoming"), "yes") == 0;
    parse_owners(g_hash_table_lookup(pairs, "owners"), domain->original_owners);
}

Domain *
store_read_status(Driver *driver, const char *path, GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GHashTable) pairs = NULL;
    int id = -1;
    if (!g_file_get_contents(path, &xml, NULL, error))
        return NULL;
    g_autoptr(DomainDef) def = domain_def_parse_status(xml, &id, &pairs, error);
    if (!def)
        return NULL;
    if (id < 0 || !def->uuid || number_of(pairs, "pid") == 0) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s: id, uuid or pid is missing", path);
        return NULL;
    }
    gboolean created;
    Domain *domain = domain_list_add(driver->domains, driver, def, &created, error);
    if (!domain)
        return NULL;
    domain_lock(domain);
    fill_from_status(domain, g_steal_pointer(&def), id, pairs);
    domain_unlock(domain);
    return domain;
}

static void
load_definition(Driver *driver, const char *path, GError **error)
{
    g_autofree char *xml = NULL;
    if (!g_file_get_contents(path, &xml, NULL, error))
        return;
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    if (!def)
        return;
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *expected = g_strconcat(def->name, ".xml", NULL);
    if (!def->uuid || !g_str_equal(base, expected)) {
        quasar_set_error(error, VIR_ERR_XML_ERROR, "the file's name is not the domain's, or it has no uuid");
        return;
    }
    gboolean created;
    g_autoptr(Domain) domain = domain_list_add(driver->domains, driver, def, &created, error);
    if (!domain)
        return;
    domain_lock(domain);
    g_autofree char *link = domain_autostart_path(domain);
    domain_def_free(domain->persistent);
    domain->persistent = g_steal_pointer(&def);
    domain->autostart = g_file_test(link, G_FILE_TEST_IS_SYMLINK);
    domain_unlock(domain);
}

static void
load_status(Driver *driver, const char *path, GError **error)
{
    g_autoptr(Domain) domain = store_read_status(driver, path, error);
    if (!domain)
        return;
    g_autoptr(GError) gone = NULL;
    domain_lock(domain);
    if (!process_reconnect(domain, &gone)) {
        g_message("domain '%s' ended while no daemon watched: %s", domain->name, gone->message);
        domain_call_stopped_hook(domain, VIR_DOMAIN_SHUTOFF_CRASHED);
        process_cleanup(domain, VIR_DOMAIN_SHUTOFF_CRASHED);
    }
    domain_unlock(domain);
}

static void
each_document(Driver *driver, const char *directory,
              void (*load)(Driver *driver, const char *path, GError **error))
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(directory, 0, &error);
    if (!dir) {
        g_warning("%s", error->message);
        return;
    }
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autoptr(GError) failure = NULL;
        if (!g_str_has_suffix(name, ".xml"))
            continue;
        load(driver, path, &failure);
        if (failure)
            g_warning("%s is left alone: %s", path, failure->message);
    }
}

void
store_load(Driver *driver)
{
    each_document(driver, driver->definition_dir, load_definition);
    each_document(driver, driver->run_dir, load_status);
}
