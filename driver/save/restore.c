// SPDX-License-Identifier: LGPL-2.1-or-later
// Restoring a guest, step by step.
#include "driver/save/restore.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "driver/domains.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/moved.h"
#include "driver/migration/nics.h"
#include "driver/process.h"
#include "driver/save/definition.h"
#include "driver/save/disks.h"
#include "driver/save/file.h"
#include "driver/save/managed.h"
#include "driver/save/stream.h"
#include "driver/store.h"
#include "emulator/monitor.h"

// One restore.
typedef struct {
    Domain *domain;
    const char *path;
    int fd; // at the stream
    SaveImage *image;
    DomainDef *def; // what is to run
    gboolean paused;
    gboolean drop_cache;
    gboolean managed;
} Restoring;

static void
restoring_clear(Restoring *restoring)
{
    if (restoring->fd >= 0)
        close(restoring->fd);
    save_image_free(restoring->image);
    domain_def_free(restoring->def);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Restoring, restoring_clear)

static gboolean
check_flags(guint flags, guint known, GError **error)
{
    const guint both = VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
    if (flags & VIR_DOMAIN_SAVE_RESET_NVRAM)
        return quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                                "guests have no NVRAM here that could be reset");
    if (flags & ~known)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) of a saved guest",
                                flags & ~known);
    return (flags & both) != both ||
           quasar_set_error(error, VIR_ERR_INVALID_ARG, "running and paused exclude each other");
}

static gboolean
decide_paused(const SaveImage *image, guint flags)
{
    return flags & VIR_DOMAIN_SAVE_PAUSED ? TRUE : flags & VIR_DOMAIN_SAVE_RUNNING ? FALSE : image->paused;
}

static gboolean
read_file(Restoring *restoring, Driver *driver, const char *xml, GError **error)
{
    restoring->image = save_file_open(restoring->path, &restoring->fd, error);
    restoring->def = restoring->image ? save_definition(driver, restoring->image->xml, xml, error) : NULL;
    if (!restoring->def)
        return FALSE;
    return g_strcmp0(restoring->def->uuid, restoring->image->uuid) == 0 ||
           quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s: its XML is of another guest",
                            restoring->path);
}

// Before anything is started for it.
static gboolean
check_here(const Restoring *restoring, GError **error)
{
    Driver *driver = restoring->domain->driver;
    const SaveImage *image = restoring->image;
    const ProcessArrival arrival = {
        .source = image->traits, .machine = restoring->def->machine, .paused = TRUE};
    if (moved_check_saved(driver->state_dir, image->uuid, image->name, image->saved_at, error) &&
        process_check_arrival(driver, restoring->def, &arrival, error) &&
        save_disks_check(image, restoring->def, error))
        return TRUE;
    g_prefix_error(error, "%s cannot be restored here: ", restoring->path);
    return FALSE;
}

// Those that are this host's own NICs need none.
static gboolean
rearm(const Restoring *restoring, GError **error)
{
    Driver *driver = restoring->domain->driver;
    size_t i;
    json_t *item;
    anchor_home_end(driver, restoring->image->uuid);
    json_array_foreach(restoring->image->anchors, i, item)
    {
        g_autoptr(AnchorRecord) record = anchor_record_decode(item);
        if (!record || record->role != ANCHOR_AWAY || !g_str_equal(record->uuid, restoring->image->uuid))
            return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                                    "%s: what it says of the guest's network is damaged", restoring->path);
        if (g_strcmp0(record->host, g_get_host_name()) != 0 && !anchor_away_rearm(driver, record, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
load(const Restoring *restoring, GError **error)
{
    gboolean ok = save_stream_read(restoring->domain, restoring->fd, restoring->path, error);
    if (restoring->drop_cache)
        posix_fadvise(restoring->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (!ok || !fault_point("restore-loaded", error) || !rearm(restoring, error))
        return FALSE;
    move_nics_restore(restoring->domain);
    return TRUE;
}

// The stream brings why a guest stands, if the emulator itself had stopped it.
static int
paused_reason(Qmp *qmp)
{
    g_autofree char *status = NULL;
    int state = VIR_DOMAIN_PAUSED, reason = VIR_DOMAIN_PAUSED_USER;
    if (qmp && monitor_query_status(qmp, NULL, &status, NULL))
        emulator_state_from_runstate(status, &state, &reason);
    return reason == VIR_DOMAIN_PAUSED_IOERROR || reason == VIR_DOMAIN_PAUSED_WATCHDOG
               ? reason
               : VIR_DOMAIN_PAUSED_USER;
}

// Locked. The start is over: what a daemon finds that comes after us is a guest.
static gboolean
settle(Domain *domain, GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    domain_unlock(domain);
    const int reason = paused_reason(qmp);
    domain_lock(domain);
    if (!domain_check_active(domain, error))
        return FALSE;
    domain_set_state(domain, VIR_DOMAIN_PAUSED, reason);
    domain->starting = FALSE;
    return store_save_status(domain, error);
}

// Locked. What cannot be said of the file or the links any more is logged: the guest is here.
static void
let_go(const Restoring *restoring)
{
    Domain *domain = restoring->domain;
    g_autoptr(GError) error = NULL;
    domain_unlock(domain);
    anchor_away_restored(domain->driver, restoring->image->uuid);
    fault_point("restore-settled", NULL);
    if (restoring->managed && !managed_save_remove(domain, &error))
        g_warning("domain '%s': %s", domain->name, error->message);
    domain_lock(domain);
}

// Locked.
static gboolean
let_run(const Restoring *restoring, GError **error)
{
    Domain *domain = restoring->domain;
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_RESTORED);
    if (restoring->paused) {
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED,
                              restoring->image->paused ? VIR_DOMAIN_EVENT_SUSPENDED_RESTORED
                                                       : VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
        return TRUE;
    }
    if (!process_continue(domain, VIR_DOMAIN_RUNNING_RESTORED, error)) {
        g_prefix_error(error, "domain '%s' is restored, but cannot be resumed: ", domain->name);
        return FALSE;
    }
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT);
    return TRUE;
}

// Locked: ends what was started; the links wait again.
static void
undo(const Restoring *restoring)
{
    Domain *domain = restoring->domain;
    domain_unlock(domain);
    if (json_array_size(restoring->image->anchors) > 0)
        anchor_away_rest(domain->driver, restoring->image->uuid);
    domain_lock(domain);
    process_kill(domain, FALSE, NULL);
    if (domain_is_active(domain))
        process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
}

// Locked, with the job of a start; drops the lock meanwhile.
static gboolean
restore(Restoring *restoring, GError **error)
{
    Domain *domain = restoring->domain;
    const ProcessOptions options = {.incoming = "defer",
                                    .paused = TRUE,
                                    .vnet_armed = TRUE,
                                    .restores = TRUE,
                                    .ram_kib = restoring->image->traits->ram_kib};
    // First, as it says best why a disk is not what it was; and again, as it may be another's meanwhile.
    if (!domain_may_run(domain, error))
        return FALSE;
    domain_unlock(domain);
    gboolean ok = check_here(restoring, error);
    domain_lock(domain);
    if (!ok || !domain_may_run(domain, error) ||
        !process_start(domain, g_steal_pointer(&restoring->def), &options, error))
        return FALSE;
    domain_unlock(domain);
    ok = load(restoring, error);
    domain_lock(domain);
    if (!ok || !settle(domain, error)) {
        undo(restoring);
        return FALSE;
    }
    let_go(restoring);
    domain_call_started_hook(domain);
    ok = let_run(restoring, error);
    domain_unlock(domain);
    move_nics_mend(domain);
    domain_lock(domain);
    return ok;
}

gboolean
restore_managed(Domain *domain, guint flags, GError **error)
{
    g_autofree char *path = managed_save_path(domain);
    g_auto(Restoring) restoring = {.domain = domain,
                                   .path = path,
                                   .fd = -1,
                                   .drop_cache = (flags & VIR_DOMAIN_START_BYPASS_CACHE) != 0,
                                   .managed = TRUE};
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    domain_unlock(domain);
    gboolean ok = read_file(&restoring, domain->driver, NULL, error);
    domain_lock(domain);
    // The file has the domain's name, which another guest may have had.
    if (ok && !g_str_equal(restoring.image->uuid, uuid))
        ok = quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s is of another guest (%s)", path,
                              restoring.image->uuid);
    if (ok) {
        restoring.paused = (flags & VIR_DOMAIN_START_PAUSED) || restoring.image->paused;
        ok = restore(&restoring, error);
    }
    // Once it is here, its file has gone.
    if (!ok && domain->managed_save)
        g_prefix_error(
            error,
            "domain '%s' has a managed save, which cannot be restored (virsh start --force-boot starts it "
            "without): ",
            domain->name);
    return ok;
}

static gboolean
check_inactive(Domain *domain, GError **error)
{
    return !domain_is_active(domain) || quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                                         domain->incoming ? "domain '%s' is being moved here"
                                                                          : "domain '%s' is already running",
                                                         domain->name);
}

static gboolean
restore_domain(Restoring *restoring, gboolean created, GError **error)
{
    Domain *domain = restoring->domain;
    domain_lock(domain);
    // At once: who holds the job of a guest that runs may do so for long.
    gboolean ok = check_inactive(domain, error) && job_begin(domain, JOB_MODIFY, error);
    if (ok) {
        ok = domain->removed ? quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'",
                                                domain->name)
                             : check_inactive(domain, error) && restore(restoring, error);
        job_end(domain);
    }
    if (created && !domain->removed && !domain->persistent && !domain_is_active(domain))
        domain_list_remove(domain->driver->domains, domain);
    domain_unlock(domain);
    return ok;
}

gboolean
restore_file(Driver *driver, const char *path, const char *xml, guint flags, GError **error)
{
    const guint known = VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
    g_auto(Restoring)
        restoring = {.path = path, .fd = -1, .drop_cache = (flags & VIR_DOMAIN_SAVE_BYPASS_CACHE) != 0};
    gboolean created;
    if (!check_flags(flags, known, error) || !read_file(&restoring, driver, xml, error))
        return FALSE;
    restoring.paused = decide_paused(restoring.image, flags);
    g_autoptr(Domain) domain = domain_list_add(driver->domains, driver, restoring.def, &created, error);
    if (!domain)
        return FALSE;
    restoring.domain = domain;
    return restore_domain(&restoring, created, error);
}

char *
restore_describe(const char *path, GError **error)
{
    g_autoptr(SaveImage) image = save_file_open(path, NULL, error);
    g_autoptr(DomainDef) def = image ? domain_def_parse(image->xml, error) : NULL;
    return def ? save_definition_format(def) : NULL;
}

gboolean
restore_redefine(Driver *driver, const char *path, const char *xml, guint flags, GError **error)
{
    if (!check_flags(flags, VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED, error))
        return FALSE;
    g_autoptr(SaveImage) image = save_file_open(path, NULL, error);
    g_autoptr(DomainDef) def = image ? save_definition(driver, image->xml, xml, error) : NULL;
    if (!def)
        return FALSE;
    g_free(image->xml);
    image->xml = save_definition_format(def);
    image->paused = decide_paused(image, flags);
    return save_file_describe(path, image, error);
}
