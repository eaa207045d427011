// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's processes: start, find again, end.
#include "driver/process.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/process_images.h"
#include "driver/process_nics.h"
#include "driver/store.h"
#include "emulator/command.h"
#include "emulator/firmware.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"
#include "emulator/probe.h"

#define CONNECT_MS    30000
#define TERM_GRACE_MS 3000
#define GRACEFUL_MS   10000
#define LOG_TAIL      1024

// One run of a domain, as its watch sees it: freed by the worker that handles the end.
typedef struct {
    Domain *domain;
    guint64 generation;
    EmulatorWatch *watch;
} Run;

// What a start has made and not yet handed to the domain.
typedef struct {
    EmulatorProcess process;
    Qmp *qmp;
    GPtrArray *vnets;
} Started;

EmulatorUser
process_emulator_user(const Driver *driver)
{
    return (EmulatorUser){.uid = driver->emulator_uid, .gid = driver->emulator_gid};
}

// *firmware: what the emulator finds for this guest, as text.
static char **
build_command(Domain *domain, const DomainDef *def, const ProcessOptions *options, char **firmware,
              GError **error)
{
    g_autoptr(EmulatorProbe) probe = process_probe(domain->driver, def, error);
    if (!probe)
        return NULL;
    const EmulatorRun run = {.directory = domain->run_dir,
                             .binary = probe->path,
                             .incoming = options->incoming != NULL,
                             .loses_tcg_stores = probe->loses_tcg_stores,
                             .serves_vhost = emulator_traits_serves_vhost(probe->traits),
                             .ram_kib = options->ram_kib};
    g_autoptr(json_t) files =
        emulator_firmware_describe((const char *const *) probe->directories, def, domain->driver->cache_dir);
    char *text = json_dumps(files, JSON_COMPACT | JSON_SORT_KEYS);
    *firmware = g_strdup(text);
    free(text);
    return emulator_command(def, &run, error);
}

static void
run_free(gpointer data)
{
    Run *run = data;
    g_clear_pointer(&run->watch, emulator_watch_free);
    domain_unref(run->domain);
    g_free(run);
}

static void
run_ended(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    const Run *run = data;
    lifecycle_emulator_ended(run->domain, run->generation);
}

static void
emulator_exited(pid_t pid G_GNUC_UNUSED, gpointer opaque)
{
    Run *run = opaque;
    driver_defer(run->domain->driver, run_ended, run, run_free);
}

gboolean
process_watch(Domain *domain, GError **error)
{
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    Run *run = g_new0(Run, 1);
    run->domain = domain_ref(domain);
    run->generation = domain->generation;
    g_autoptr(GError) failure = NULL;
    // The worker that frees `run` first waits for the domain's lock, which is held here.
    run->watch = emulator_watch(&process, domain->driver->emulator, emulator_exited, run, &failure);
    if (run->watch)
        return TRUE;
    run_free(run);
    g_propagate_error(error, g_steal_pointer(&failure));
    return FALSE;
}

Qmp *
process_connect_monitor(Domain *domain, pid_t pid, int timeout_ms, GError **error)
{
    g_autofree char *path = g_build_filename(domain->run_dir, "monitor.sock", NULL);
    const QmpCallbacks callbacks = {.event = emulator_event,
                                    .closed = process_monitor_lost,
                                    .opaque = domain_ref(domain),
                                    .destroy = (GDestroyNotify) domain_unref};
    return qmp_connect(domain->driver->emulator, path, pid, timeout_ms, &callbacks, error);
}

// What the emulator complained about, when it is that another has an image open.
static gboolean
explain_lock(const Domain *domain, const DomainDef *def, const char *complaint, GError **error)
{
    if (!strstr(complaint, "Failed to get ") || !strstr(complaint, " lock"))
        return FALSE;
    for (guint i = 0; i < def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(def->disks, i);
        for (const DomainImage *image = &disk->image; image && image->path; image = image->backing) {
            g_autofree char *named = g_strdup_printf("[%s]", image->path);
            if (!strstr(complaint, named))
                continue;
            g_autofree char *holder = images_find_holder(domain, image->path);
            quasar_set_error(error, VIR_ERR_RESOURCE_BUSY,
                             "image '%s' of disk '%s' is in use by %s: end that first, or let both share it "
                             "with <shareable/>",
                             image->path, disk->target, holder ? holder : "a process that cannot be seen");
            return TRUE;
        }
    }
    return FALSE;
}

static void
set_destroyed(const Domain *domain, GError **error)
{
    quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "domain '%s' was destroyed while it was starting",
                     domain->name);
}

// `problem` is why its monitor could not be reached.
static void
explain_start(const Domain *domain, const DomainDef *def, goffset log_start, const GError *problem,
              GError **error)
{
    g_autofree char *log = domain_log_path((Domain *) domain);
    g_autofree char *complaint = emulator_log_tail(log, log_start, LOG_TAIL);
    if (domain->destroying)
        set_destroyed(domain, error);
    else if (!explain_lock(domain, def, complaint, error))
        quasar_set_error(error, quasar_error_code(problem), "the emulator did not start: %s (its log is %s)",
                         *complaint ? complaint : problem->message, log);
}

// Known from here on to whoever wants to end it, and to a daemon that comes after us.
static gboolean
record_process(Domain *domain, const EmulatorProcess *process, const char *firmware, GError **error)
{
    domain_lock(domain);
    g_free(domain->firmware);
    domain->firmware = g_strdup(firmware);
    domain->pid = process->pid;
    domain->pid_start = process->start_time;
    // Who asked for its end until now has seen no process to kill.
    gboolean ok = !domain->destroying && store_save_status(domain, error);
    if (domain->destroying)
        set_destroyed(domain, error);
    domain_unlock(domain);
    return ok;
}

static gboolean
launch(Domain *domain, const DomainDef *def, const ProcessOptions *options, Started *started, GError **error)
{
    const EmulatorUser user = process_emulator_user(domain->driver);
    g_autofree char *log = domain_log_path(domain);
    g_autoptr(GError) problem = NULL;
    if (!process_check_stray(domain, error) || !images_lend(domain, def, error) ||
        !emulator_run_directory_create(domain->run_dir, &user, error) ||
        !nics_spawn(domain, def, NICS_BEFORE_EMULATOR, options->vnet_armed, started->vnets, error))
        return FALSE;
    g_autofree char *firmware = NULL;
    g_auto(GStrv) argv = build_command(domain, def, options, &firmware, error);
    if (!argv || !emulator_launch((const char *const *) argv, &user, log, &started->process, error) ||
        !record_process(domain, &started->process, firmware, error))
        return FALSE;
    started->qmp = process_connect_monitor(domain, started->process.pid, CONNECT_MS, &problem);
    if (!started->qmp)
        explain_start(domain, def, started->process.log_start, problem, error);
    return started->qmp != NULL;
}

// What the command line cannot say. A guest that comes from elsewhere brings its balloon's size along.
static gboolean
adjust_devices(const DomainDef *def, gboolean incoming, Qmp *qmp, GError **error)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        if (interface->link == TRISTATE_OFF && !monitor_set_link(qmp, interface->info.alias, FALSE, error))
            return FALSE;
    }
    gboolean balloon = g_strcmp0(def->memballoon.model, "virtio") == 0;
    return incoming || !balloon || def->current_memory_kib >= def->memory_kib ||
           monitor_balloon(qmp, def->current_memory_kib, error);
}

static void
fill_pty(Domain *domain, Qmp *qmp, DomainChardev *chardev, const char *alias)
{
    if (!alias)
        return;
    g_autoptr(GError) error = NULL;
    g_autofree char *id = emulator_chardev(alias);
    char *pty = monitor_query_pty(qmp, id, &error);
    if (!pty) {
        g_warning("domain '%s': no pty of %s: %s", domain->name, alias, error->message);
        return;
    }
    domain_lock(domain);
    g_free(chardev->source_path);
    chardev->source_path = pty;
    domain_unlock(domain);
}

static void
fill_ptys(Domain *domain, DomainDef *def, Qmp *qmp)
{
    for (guint i = 0; i < def->serials->len; i++) {
        DomainChardev *serial = g_ptr_array_index(def->serials, i);
        fill_pty(domain, qmp, serial, serial->info.alias);
    }
    for (guint i = 0; i < def->consoles->len; i++) {
        DomainChardev *console = g_ptr_array_index(def->consoles, i);
        gboolean paired = g_strcmp0(console->target_type, "virtio") != 0;
        // The first console of a machine with a serial port is that port under another name.
        const DomainChardev *serial =
            paired && i < def->serials->len ? g_ptr_array_index(def->serials, i) : NULL;
        fill_pty(domain, qmp, console, serial ? serial->info.alias : console->info.alias);
    }
}

static void
begin_run(Domain *domain, DomainDef *def, gboolean incoming)
{
    domain->live = def;
    domain->generation++;
    domain->incoming = incoming;
    domain->reason_before = domain->reason;
    domain->starting = TRUE;
    domain->destroying = domain->shutdown_seen = domain->shutdown_by_guest = domain->fake_reboot = FALSE;
    domain->reboot_ended = FALSE;
    domain->stopped_us = domain->resumed_us = 0;
    domain->stop_expected = domain->resume_expected = FALSE;
    domain->started_at = g_get_real_time() / G_USEC_PER_SEC;
    domain_clear_messages(domain);
    domain_list_assign_id(domain->driver->domains, domain);
    nics_name(def, domain->id);
    g_free(domain->run_dir);
    domain->run_dir = emulator_run_directory_path(domain->driver->run_dir, domain->id, domain->name);
    domain_set_state(domain, VIR_DOMAIN_PAUSED,
                     incoming ? VIR_DOMAIN_PAUSED_MIGRATION : VIR_DOMAIN_PAUSED_STARTING_UP);
}

static gboolean
adopt(Domain *domain, Started *started, gboolean over, GError **error)
{
    domain->starting = !over;
    domain->qmp = g_steal_pointer(&started->qmp);
    g_ptr_array_unref(domain->vnets);
    domain->vnets = g_steal_pointer(&started->vnets);
    if (!store_save_status(domain, error) || !process_watch(domain, error))
        return FALSE;
    nics_watch(domain);
    return TRUE;
}

static void
undo_start(Domain *domain, Started *started)
{
    // Whatever adopt() has taken is ended by process_kill() and process_cleanup() in the same way.
    g_clear_pointer(&started->qmp, qmp_unref);
    if (started->vnets) {
        nics_release(started->vnets, TRUE);
        g_ptr_array_unref(started->vnets);
    }
    if (started->process.pid > 0)
        emulator_kill(&started->process, 0, NULL);
    domain_lock(domain);
    process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
}

gboolean
process_start(Domain *domain, DomainDef *def, const ProcessOptions *options, GError **error)
{
    Started started = {.vnets = g_ptr_array_new()};
    gboolean incoming = options->incoming != NULL;
    begin_run(domain, def, incoming && !options->restores);
    gboolean ok = store_save_status(domain, error);
    domain_unlock(domain);
    ok = ok && launch(domain, def, options, &started, error) &&
         adjust_devices(def, incoming, started.qmp, error) &&
         nics_spawn(domain, def, NICS_AFTER_EMULATOR, options->vnet_armed, started.vnets, error);
    if (ok) {
        fill_ptys(domain, def, started.qmp);
        domain_lock(domain);
        if (adopt(domain, &started, !options->restores, error))
            return TRUE;
        domain_unlock(domain);
    }
    undo_start(domain, &started);
    return FALSE;
}

Qmp *
domain_qmp(Domain *domain, GError **error)
{
    if (!domain_check_active(domain, error))
        return NULL;
    if (domain->qmp)
        return qmp_ref(domain->qmp);
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the emulator of domain '%s' is not connected yet",
                     domain->name);
    return NULL;
}

gboolean
process_continue(Domain *domain, int running_reason, GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    guint64 generation = domain->generation;
    domain->resume_expected = TRUE;
    domain_unlock(domain);
    gboolean ok = monitor_cont(qmp, error);
    domain_lock(domain);
    if (ok && generation == domain->generation && domain_is_active(domain)) {
        domain->incoming = FALSE;
        domain_set_state(domain, VIR_DOMAIN_RUNNING, running_reason);
        job_end_inherited(domain, domain->job.async == ASYNC_MIGRATION_IN ? VIR_DOMAIN_JOB_COMPLETED
                                                                          : VIR_DOMAIN_JOB_FAILED);
        store_save_status_soon(domain);
    } else if (!ok) {
        domain->resume_expected = FALSE;
    }
    return ok;
}

gboolean
process_pause(Domain *domain, int paused_reason, GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    guint64 generation = domain->generation;
    domain->stop_expected = TRUE;
    domain_unlock(domain);
    gboolean ok = monitor_stop(qmp, error);
    domain_lock(domain);
    if (ok && generation == domain->generation && domain_is_active(domain)) {
        domain_set_state(domain, VIR_DOMAIN_PAUSED, paused_reason);
        store_save_status_soon(domain);
    } else if (!ok) {
        domain->stop_expected = FALSE;
    }
    return ok;
}

gboolean
process_kill(Domain *domain, gboolean graceful, GError **error)
{
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    if (process.pid <= 0)
        return TRUE;
    domain_unlock(domain);
    gboolean ok = TRUE;
    if (!graceful) {
        ok = emulator_kill(&process, TERM_GRACE_MS, error);
    } else if (emulator_is_alive(&process)) {
        g_autoptr(Qmp) qmp = NULL;
        domain_lock(domain);
        qmp = domain_qmp(domain, error);
        domain_unlock(domain);
        ok = qmp && (monitor_quit(qmp, NULL) || TRUE) && emulator_wait(&process, GRACEFUL_MS);
        if (qmp && !ok)
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                             "the emulator of domain '%s' did not end in %d s", domain->name,
                             GRACEFUL_MS / 1000);
    }
    domain_lock(domain);
    return ok;
}

void
process_cleanup(Domain *domain, int shutoff_reason)
{
    if (domain->qmp)
        qmp_close(domain->qmp);
    g_clear_pointer(&domain->qmp, qmp_unref);
    // vnet ends by itself when QEMU's socket closes; waiting for its answer here would hold the lock.
    nics_release(domain->vnets, FALSE);
    g_clear_pointer(&domain->consoles, g_hash_table_unref);
    if (domain->run_dir)
        emulator_run_directory_remove(domain->run_dir);
    g_clear_pointer(&domain->run_dir, g_free);
    images_give_back(domain);
    store_remove_status(domain);
    job_end_inherited(domain, VIR_DOMAIN_JOB_FAILED);
    // A guest that did not arrive has not ended here either.
    if (domain->incoming)
        shutoff_reason = domain->reason_before;
    g_clear_pointer(&domain->firmware, g_free);
    domain->pid = 0;
    domain->pid_start = 0;
    domain->starting = FALSE;
    domain->incoming = FALSE;
    domain->updated = FALSE;
    domain->owner = NULL;
    domain_list_release_id(domain->driver->domains, domain);
    g_clear_pointer(&domain->live, domain_def_free);
    domain_set_state(domain, VIR_DOMAIN_SHUTOFF, shutoff_reason);
    if (!domain->persistent)
        domain_list_remove(domain->driver->domains, domain);
}

int
process_end_reason(const Domain *domain)
{
    if (domain->starting)
        return VIR_DOMAIN_SHUTOFF_FAILED;
    if (domain->destroying)
        return VIR_DOMAIN_SHUTOFF_DESTROYED;
    return domain->shutdown_seen ? VIR_DOMAIN_SHUTOFF_SHUTDOWN : VIR_DOMAIN_SHUTOFF_CRASHED;
}
