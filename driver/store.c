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
#include "driver/process_images.h"

// Theory of operation: /etc may be on a slow disk, and the emulator's thread needs the domain's lock, so a
// definition is formatted under the lock and written without it. Each decision about it draws a number under
// the lock; under the other lock, `files`, a number that is not above the one on disk has been overtaken and
// writes nothing.

static gboolean
change_link(Domain *domain, gboolean autostart, GError **error)
{
    g_autofree char *link = domain_autostart_path(domain);
    if (!autostart)
        return file_remove(link, error);
    g_autofree char *target = domain_definition_path(domain);
    if (symlink(target, link) < 0 && errno != EEXIST) {
        quasar_set_system_error(error, errno, "cannot create autostart link %s", link);
        return FALSE;
    }
    return file_sync_directory(link, error);
}

// `xml` NULL: removes it. Without the lock.
static gboolean
write_in_turn(Domain *domain, guint64 turn, const char *xml, GError **error)
{
    g_autofree char *path = domain_definition_path(domain);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->files);
    if (turn <= domain->definition_written)
        return TRUE;
    gboolean ok = xml ? file_replace(path, xml, -1, 0600, error)
                      : change_link(domain, FALSE, error) && file_remove(path, error);
    if (ok)
        domain->definition_written = turn;
    return ok;
}

// `def` NULL: none from now on. *overtaken: another decision was made meanwhile.
static gboolean
decide(Domain *domain, const DomainDef *def, gboolean *overtaken, GError **error)
{
    g_autofree char *xml = def ? domain_def_format(def, DOMAIN_FORMAT_INACTIVE, -1) : NULL;
    const guint64 turn = ++domain->definition_turn;
    domain_unlock(domain);
    gboolean ok = write_in_turn(domain, turn, xml, error);
    domain_lock(domain);
    *overtaken = turn != domain->definition_turn;
    return ok;
}

gboolean
store_save_definition(Domain *domain, const DomainDef *def, GError **error)
{
    gboolean overtaken;
    return decide(domain, def, &overtaken, error);
}

gboolean
store_define(Domain *domain, DomainDef *def, GError **error)
{
    g_autoptr(DomainDef) former = domain->persistent;
    gboolean overtaken;
    // Before it is written, as a guest that ends meanwhile is forgotten when it has no definition.
    domain->persistent = def;
    if (decide(domain, def, &overtaken, error))
        return TRUE;
    if (!overtaken) {
        domain->persistent = g_steal_pointer(&former);
        domain_def_free(def);
    }
    return FALSE;
}

gboolean
store_undefine(Domain *domain, GError **error)
{
    gboolean overtaken;
    if (!decide(domain, NULL, &overtaken, error))
        return FALSE;
    if (!overtaken) {
        g_clear_pointer(&domain->persistent, domain_def_free);
        domain->autostart = FALSE;
    }
    return TRUE;
}

gboolean
store_set_autostart(Domain *domain, gboolean autostart, GError **error)
{
    domain_unlock(domain);
    g_mutex_lock(&domain->files);
    gboolean ok = change_link(domain, autostart, error);
    g_mutex_unlock(&domain->files);
    domain_lock(domain);
    if (ok)
        domain->autostart = autostart;
    return ok;
}

static char *
number_text(gint64 number)
{
    return g_strdup_printf("%" G_GINT64_FORMAT, number);
}

static const char *
yes_or_no(gboolean value)
{
    return value ? "yes" : "no";
}

gboolean
store_save_status(Domain *domain, GError **error)
{
    const Job *job = &domain->job;
    g_autofree char *path = domain_status_path(domain);
    g_autofree char *state = number_text(domain->state);
    g_autofree char *reason = number_text(domain->reason);
    g_autofree char *pid = number_text(domain->pid);
    g_autofree char *pid_start = number_text((gint64) domain->pid_start);
    g_autofree char *started = number_text(domain->started_at);
    g_autofree char *downtime = number_text((gint64) domain->max_downtime_ms);
    g_autofree char *speed = number_text((gint64) domain->max_speed_mib);
    g_autofree char *async = number_text(job->async);
    g_autofree char *operation = number_text(job->current.operation);
    g_autofree char *began =
        number_text(job->async == ASYNC_NONE ? 0 : job_started_wall_us(job) / G_USEC_PER_SEC);
    const char *const pairs[] = {
        "state",        state,
        "reason",       reason,
        "pid",          pid,
        "pidStart",     pid_start,
        "started",      started,
        "runDir",       domain->run_dir ? domain->run_dir : "",
        "firmware",     domain->firmware ? domain->firmware : "",
        "incoming",     yes_or_no(domain->incoming),
        "starting",     yes_or_no(domain->starting),
        "destroying",   yes_or_no(domain->destroying),
        "shutdownSeen", yes_or_no(domain->shutdown_seen),
        "fakeReboot",   yes_or_no(domain->fake_reboot),
        "maxDowntime",  downtime,
        "maxSpeed",     speed,
        "job",          async,
        "jobOperation", operation,
        "jobStarted",   began,
        NULL,
    };
    g_autofree char *xml = domain_def_format_status(domain->live, domain->id, pairs);
    return file_replace(path, xml, -1, 0600, error);
}

typedef struct {
    Domain *domain;
    guint64 generation;
} Save;

static void
save_free(gpointer data)
{
    Save *save = data;
    domain_unref(save->domain);
    g_free(save);
}

static void
save_now(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    const Save *save = data;
    Domain *domain = save->domain;
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    if (domain_is_active(domain) && domain->generation == save->generation &&
        !store_save_status(domain, &error))
        g_warning("domain '%s': %s", domain->name, error->message);
    domain_unlock(domain);
}

void
store_save_status_soon(Domain *domain)
{
    if (!domain_is_active(domain) || !domain->live)
        return;
    Save *save = g_new0(Save, 1);
    *save = (Save){.domain = domain_ref(domain), .generation = domain->generation};
    driver_defer(domain->driver, save_now, save, save_free);
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

static gboolean
is_yes(GHashTable *pairs, const char *key)
{
    return g_strcmp0(g_hash_table_lookup(pairs, key), "yes") == 0;
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
    domain->firmware = g_strdup(g_hash_table_lookup(pairs, "firmware"));
    domain->incoming = is_yes(pairs, "incoming");
    domain->starting = is_yes(pairs, "starting");
    domain->destroying = is_yes(pairs, "destroying");
    domain->shutdown_seen = is_yes(pairs, "shutdownSeen");
    domain->fake_reboot = is_yes(pairs, "fakeReboot");
    domain->max_downtime_ms = number_of(pairs, "maxDowntime");
    domain->max_speed_mib = number_of(pairs, "maxSpeed");
    job_inherit(domain, (AsyncJob) number_of(pairs, "job"), (int) number_of(pairs, "jobOperation"),
                (gint64) number_of(pairs, "jobStarted") * G_USEC_PER_SEC);
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
    if (id < 0 || !def->uuid || !g_hash_table_lookup(pairs, "runDir") ||
        (number_of(pairs, "pid") == 0 && !is_yes(pairs, "starting"))) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "its id, uuid, run-time directory or pid is missing");
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
        int reason = process_end_reason(domain);
        g_message("domain '%s' ended while no daemon watched: %s", domain->name, gone->message);
        domain_call_stopped_hook(domain, reason);
        process_cleanup(domain, reason);
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
    process_report_strays(driver);
    images_give_back_unused(driver);
}

void
store_settle_jobs(Driver *driver)
{
    g_autoptr(GPtrArray) active = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (guint i = 0; i < active->len; i++) {
        Domain *domain = g_ptr_array_index(active, i);
        domain_lock(domain);
        if (domain_may_run(domain, NULL))
            job_end_inherited(domain, VIR_DOMAIN_JOB_FAILED);
        domain_unlock(domain);
    }
}
