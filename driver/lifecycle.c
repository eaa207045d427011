// SPDX-License-Identifier: LGPL-2.1-or-later
// The entry points that users call on a domain's life.
#include "driver/lifecycle.h"

#include "base/error.h"
#include "driver/domains.h"
#include "driver/process.h"
#include "driver/save/managed.h"
#include "driver/save/restore.h"
#include "driver/store.h"
#include "emulator/monitor.h"

// How soon a guest that could not start with the host is tried again.
#define AUTOSTART_AGAIN_MS 5000

static gboolean
check_flags(unsigned int flags, unsigned int known, const char *call, GError **error)
{
    if (!(flags & ~known))
        return TRUE;
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s", flags & ~known,
                     call);
    return FALSE;
}

static gboolean
begin(Domain *domain, JobType type, GError **error)
{
    domain_lock(domain);
    if (!job_begin(domain, type, error)) {
        domain_unlock(domain);
        return FALSE;
    }
    if (!domain->removed)
        return TRUE;
    quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", domain->name);
    job_end(domain);
    domain_unlock(domain);
    return FALSE;
}

// At once: the move has the job, and whoever waits for that would act on a guest that has just arrived.
static gboolean
check_arrived(Domain *domain, GError **error)
{
    domain_lock(domain);
    gboolean arrived = !domain->incoming;
    domain_unlock(domain);
    if (!arrived)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "domain '%s' is still being moved here; wait until it has arrived, or call the move "
                         "off at its old host with virsh domjobabort",
                         domain->name);
    return arrived;
}

static gboolean
begin_active(Domain *domain, JobType type, GError **error)
{
    if (!check_arrived(domain, error) || !begin(domain, type, error))
        return FALSE;
    if (domain_check_active(domain, error))
        return TRUE;
    job_end(domain);
    domain_unlock(domain);
    return FALSE;
}

static void
end(Domain *domain)
{
    job_end(domain);
    domain_unlock(domain);
}

static DomainDef *
parse_definition(Driver *driver, const char *xml, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    if (!def || !process_assign(driver, def, error))
        return NULL;
    return g_steal_pointer(&def);
}

// `ours`: nobody else relies on it being in the list.
static void
remove_if_unused(Domain *domain, gboolean ours)
{
    if (ours && !domain->persistent && !domain_is_active(domain))
        domain_list_remove(domain->driver->domains, domain);
}

Domain *
lifecycle_define(Driver *driver, const char *xml, unsigned int flags, GError **error)
{
    if (!check_flags(flags, VIR_DOMAIN_DEFINE_VALIDATE, "virDomainDefineXMLFlags", error))
        return NULL;
    g_autoptr(DomainDef) def = parse_definition(driver, xml, error);
    if (!def)
        return NULL;
    gboolean created;
    g_autoptr(Domain) domain = domain_list_add(driver->domains, driver, def, &created, error);
    if (!domain || !begin(domain, JOB_MODIFY, error))
        return NULL;
    const gboolean update = domain->persistent != NULL, active = domain_is_active(domain);
    const gboolean ok = store_define(domain, g_steal_pointer(&def), error);
    if (ok) {
        domain->updated = domain_is_active(domain);
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_DEFINED,
                              update ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
    } else {
        // A transient guest may have ended meanwhile, and was kept for its definition.
        remove_if_unused(domain, created || active);
    }
    end(domain);
    return ok ? g_steal_pointer(&domain) : NULL;
}

// Locked, with the job; drops the lock meanwhile.
static gboolean
drop_managed_save(Domain *domain, GError **error)
{
    domain_unlock(domain);
    gboolean ok = managed_save_remove(domain, error);
    domain_lock(domain);
    return ok;
}

// Locked, with the job.
static gboolean
undefine(Domain *domain, unsigned int flags, GError **error)
{
    if (!domain->persistent)
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient domain");
    if (domain->managed_save && !(flags & VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "domain '%s' has a managed save; remove it too with --managed-save, or first "
                                "with virsh managedsave-remove",
                                domain->name);
    return (!domain->managed_save || drop_managed_save(domain, error)) && store_undefine(domain, error);
}

gboolean
lifecycle_undefine(Domain *domain, unsigned int flags, GError **error)
{
    const unsigned int known = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                               VIR_DOMAIN_UNDEFINE_NVRAM | VIR_DOMAIN_UNDEFINE_KEEP_NVRAM |
                               VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
    if (!check_flags(flags, known, "virDomainUndefineFlags", error) || !begin(domain, JOB_MODIFY, error))
        return FALSE;
    const gboolean ok = undefine(domain, flags, error);
    if (ok) {
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
        if (!domain_is_active(domain))
            domain_call_forgotten_hook(domain);
        remove_if_unused(domain, TRUE);
    }
    end(domain);
    return ok;
}

static gboolean
check_start_flags(unsigned int flags, GError **error)
{
    const unsigned int known = VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_BYPASS_CACHE |
                               VIR_DOMAIN_START_FORCE_BOOT | VIR_DOMAIN_START_VALIDATE |
                               VIR_DOMAIN_START_AUTODESTROY;
    return check_flags(flags, known, "virDomainCreateWithFlags", error);
}

static void
save_status(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (!store_save_status(domain, &error))
        g_warning("domain '%s': %s", domain->name, error->message);
}

// A definition read from disk lacks what is a run's own, such as aliases. Drops the lock meanwhile.
static gboolean
complete(Domain *domain, DomainDef *def, GError **error)
{
    domain_unlock(domain);
    gboolean ok = process_assign(domain->driver, def, error);
    domain_lock(domain);
    return ok;
}

// With the job begun. Takes `def`.
static gboolean
start_locked(Domain *domain, DomainDef *def, unsigned int flags, gconstpointer owner, GError **error)
{
    g_autoptr(DomainDef) owned = def;
    const ProcessOptions options = {.paused = (flags & VIR_DOMAIN_START_PAUSED) != 0};
    if (!complete(domain, owned, error) || !domain_may_run(domain, error) ||
        !process_start(domain, g_steal_pointer(&owned), &options, error))
        return FALSE;
    if (options.paused) {
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
        save_status(domain);
    } else if (!process_continue(domain, VIR_DOMAIN_RUNNING_BOOTED, error)) {
        process_kill(domain, FALSE, NULL);
        process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
        return FALSE;
    }
    domain->owner = (flags & VIR_DOMAIN_START_AUTODESTROY) ? owner : NULL;
    domain_call_started_hook(domain);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_BOOTED);
    if (options.paused)
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    return TRUE;
}

// With the job begun.
static gboolean
start_saved(Domain *domain, unsigned int flags, gconstpointer owner, GError **error)
{
    if (!restore_managed(domain, flags, error))
        return FALSE;
    domain->owner = (flags & VIR_DOMAIN_START_AUTODESTROY) ? owner : NULL;
    return TRUE;
}

gboolean
lifecycle_start(Domain *domain, unsigned int flags, gconstpointer owner, GError **error)
{
    if (!check_start_flags(flags, error) || !check_arrived(domain, error) ||
        !begin(domain, JOB_MODIFY, error))
        return FALSE;
    gboolean ok = FALSE;
    if (domain_is_active(domain))
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is already running");
    else if (domain->managed_save && !(flags & VIR_DOMAIN_START_FORCE_BOOT))
        ok = start_saved(domain, flags, owner, error);
    else if (!domain->managed_save || drop_managed_save(domain, error))
        ok = start_locked(domain, domain_def_copy(domain->persistent), flags, owner, error);
    end(domain);
    return ok;
}

Domain *
lifecycle_create_xml(Driver *driver, const char *xml, unsigned int flags, gconstpointer owner, GError **error)
{
    if (!check_start_flags(flags, error))
        return NULL;
    g_autoptr(DomainDef) def = parse_definition(driver, xml, error);
    if (!def)
        return NULL;
    gboolean created;
    g_autoptr(Domain) domain = domain_list_add(driver->domains, driver, def, &created, error);
    if (!domain || !begin(domain, JOB_MODIFY, error))
        return NULL;
    gboolean ok = FALSE;
    if (domain_is_active(domain))
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already running", domain->name);
    else
        ok = start_locked(domain, g_steal_pointer(&def), flags, owner, error);
    if (!ok)
        remove_if_unused(domain, created);
    end(domain);
    return ok ? g_steal_pointer(&domain) : NULL;
}

static void
stopped(Domain *domain, int reason, int detail)
{
    domain_call_stopped_hook(domain, reason);
    // Emitted first, as the event carries the id that clients know the guest by.
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STOPPED, detail);
    process_cleanup(domain, reason);
}

gboolean
lifecycle_destroy(Domain *domain, unsigned int flags, GError **error)
{
    if (!check_flags(flags, VIR_DOMAIN_DESTROY_GRACEFUL, "virDomainDestroyFlags", error))
        return FALSE;
    domain_lock(domain);
    gboolean active = domain_check_active(domain, error);
    domain->destroying = active;
    domain_unlock(domain);
    if (!active)
        return FALSE;
    const gboolean allowed = domain_call_destroy_hook(domain, error);
    domain_lock(domain);
    guint64 generation = domain->generation;
    // A daemon that comes after us must not take this end for a crash.
    if (allowed && domain_is_active(domain))
        save_status(domain);
    // Before the job: whoever holds it may wait for this very emulator.
    gboolean ok = allowed && process_kill(domain, (flags & VIR_DOMAIN_DESTROY_GRACEFUL) != 0, error);
    if (!ok)
        domain->destroying = FALSE;
    if (ok && (ok = job_begin(domain, JOB_DESTROY, error))) {
        gboolean same = domain->generation == generation && domain_is_active(domain);
        // Killed again, because a guest that was just being started had no process then.
        if (same && (ok = process_kill(domain, FALSE, error)))
            stopped(domain, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED);
        job_end(domain);
    }
    domain_unlock(domain);
    return ok;
}

static void
destroy_orphan(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    Domain *domain = data;
    g_autoptr(GError) error = NULL;
    g_message("domain '%s' ends with the connection that started it", domain->name);
    if (!lifecycle_destroy(domain, 0, &error))
        g_warning("domain '%s': %s", domain->name, error->message);
}

void
lifecycle_owner_gone(Driver *driver, gconstpointer owner)
{
    g_autoptr(GPtrArray) active = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (guint i = 0; i < active->len; i++) {
        Domain *domain = g_ptr_array_index(active, i);
        domain_lock(domain);
        const gboolean orphaned = domain->owner == owner;
        domain_unlock(domain);
        if (orphaned)
            driver_defer(driver, destroy_orphan, domain_ref(domain), (GDestroyNotify) domain_unref);
    }
}

// Runs one QMP command without the lock.
static gboolean
command(Domain *domain, gboolean (*run)(Qmp *qmp, GError **error), GError **error)
{
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    if (!qmp)
        return FALSE;
    domain_unlock(domain);
    gboolean ok = run(qmp, error);
    domain_lock(domain);
    return ok;
}

static gboolean
powerdown(Domain *domain, gboolean reboot, GError **error)
{
    if (!begin_active(domain, JOB_MODIFY, error))
        return FALSE;
    gboolean ok = FALSE;
    if (domain->state != VIR_DOMAIN_RUNNING) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running: resume it first");
    } else {
        domain->fake_reboot = reboot;
        store_save_status_soon(domain);
        ok = command(domain, monitor_system_powerdown, error);
    }
    end(domain);
    return ok;
}

static gboolean
press_power_button(Domain *domain, gboolean reboot, unsigned int other_ways, GError **error)
{
    if (other_ways == 0)
        return powerdown(domain, reboot, error);
    quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "only the ACPI power button can %s this guest",
                     reboot ? "reboot" : "shut down");
    return FALSE;
}

gboolean
lifecycle_shutdown(Domain *domain, unsigned int flags, GError **error)
{
    return press_power_button(domain, FALSE, flags & ~(unsigned int) VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
                              error);
}

gboolean
lifecycle_reboot(Domain *domain, unsigned int flags, GError **error)
{
    return press_power_button(domain, TRUE, flags & ~(unsigned int) VIR_DOMAIN_REBOOT_ACPI_POWER_BTN, error);
}

gboolean
lifecycle_reset(Domain *domain, unsigned int flags, GError **error)
{
    if (!check_flags(flags, 0, "virDomainReset", error) || !begin_active(domain, JOB_MODIFY, error))
        return FALSE;
    gboolean ok = domain_may_run(domain, error) && command(domain, monitor_system_reset, error);
    end(domain);
    return ok;
}

gboolean
lifecycle_suspend(Domain *domain, GError **error)
{
    if (!begin_active(domain, JOB_SUSPEND, error))
        return FALSE;
    // A move that is held up by what the guest writes is helped along by suspending it (virsh's --timeout);
    // it runs again where the move ends.
    const gboolean moving = domain->job.async == ASYNC_MIGRATION_OUT;
    gboolean ok = domain->state == VIR_DOMAIN_PAUSED;
    if (!ok &&
        (ok = process_pause(domain, moving ? VIR_DOMAIN_PAUSED_MIGRATION : VIR_DOMAIN_PAUSED_USER, error)))
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED,
                              moving ? VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
                                     : VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    end(domain);
    return ok;
}

gboolean
lifecycle_resume(Domain *domain, GError **error)
{
    if (!begin_active(domain, JOB_SUSPEND, error))
        return FALSE;
    gboolean ok = FALSE;
    if (!domain_may_run(domain, error)) {
        // The gate's own words say why.
    } else if (domain->state == VIR_DOMAIN_RUNNING) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is already running");
    } else {
        ok = process_continue(domain, VIR_DOMAIN_RUNNING_UNPAUSED, error);
    }
    if (ok)
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
    end(domain);
    return ok;
}

gboolean
lifecycle_set_autostart(Domain *domain, gboolean autostart, GError **error)
{
    if (!begin(domain, JOB_MODIFY, error))
        return FALSE;
    gboolean ok = FALSE;
    if (!domain->persistent)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot set autostart for transient domain");
    else
        ok = store_set_autostart(domain, autostart, error);
    end(domain);
    return ok;
}

// TRUE: a move of it is not settled; its peer is being asked, and then it is to be tried again.
static gboolean
autostart_waits(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (lifecycle_start(domain, 0, NULL, &error))
        return FALSE;
    domain_lock(domain);
    const gboolean waits =
        domain->autostart && !domain->removed && !domain_is_active(domain) && !domain_may_run(domain, NULL);
    domain_unlock(domain);
    if (!waits)
        g_warning("cannot autostart domain '%s': %s", domain->name, error->message);
    return waits;
}

static void autostart_later(Domain *domain);

static void
autostart_again(Driver *driver G_GNUC_UNUSED, gpointer domain)
{
    if (autostart_waits(domain))
        autostart_later(domain);
}

static void
autostart_later(Domain *domain)
{
    driver_defer_later(domain->driver, AUTOSTART_AGAIN_MS, autostart_again, domain_ref(domain),
                       (GDestroyNotify) domain_unref);
}

void
lifecycle_autostart(Driver *driver)
{
    g_autoptr(GPtrArray) domains = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_AUTOSTART |
                                                                           VIR_CONNECT_LIST_DOMAINS_INACTIVE);
    for (guint i = 0; i < domains->len; i++) {
        Domain *domain = g_ptr_array_index(domains, i);
        if (!autostart_waits(domain))
            continue;
        g_message("domain '%s' starts when its migration is settled", domain->name);
        autostart_later(domain);
    }
}

static gboolean
reset_and_continue(Domain *domain, GError **error)
{
    if (!domain_may_run(domain, error) || !command(domain, monitor_system_reset, error))
        return FALSE;
    domain->shutdown_seen = domain->fake_reboot = FALSE;
    return process_continue(domain, VIR_DOMAIN_RUNNING_BOOTED, error);
}

// For what the guest did by itself, which cannot be refused: waits for the job as long as it takes. FALSE: it
// does not run any more.
static gboolean
begin_guests_own(Domain *domain)
{
    domain_lock(domain);
    while (!job_begin(domain, JOB_DESTROY, NULL))
        g_warning("domain '%s': waiting for its job to act on what the guest did", domain->name);
    if (domain_is_active(domain) && !domain->destroying)
        return TRUE;
    end(domain);
    return FALSE;
}

// What cannot be reset is ended; its death is handled where all deaths are.
static void
reset_or_end(Domain *domain, gboolean restart)
{
    g_autoptr(GError) error = NULL;
    if (restart && reset_and_continue(domain, &error))
        return;
    if (error)
        g_warning("domain '%s' cannot be restarted and is ended: %s", domain->name, error->message);
    // A daemon that comes after us must not take this end for a crash.
    if (domain_is_active(domain))
        save_status(domain);
    process_kill(domain, FALSE, NULL);
}

void
lifecycle_guest_shut_down(Domain *domain)
{
    if (!begin_guests_own(domain))
        return;
    DomainLifecycle action = domain->reboot_ended  ? DOMAIN_LIFECYCLE_DESTROY
                             : domain->fake_reboot ? DOMAIN_LIFECYCLE_RESTART
                                                   : domain->live->on_poweroff;
    if (action != DOMAIN_LIFECYCLE_PRESERVE)
        reset_or_end(domain, action == DOMAIN_LIFECYCLE_RESTART);
    end(domain);
}

void
lifecycle_guest_crashed(Domain *domain)
{
    if (!begin_guests_own(domain))
        return;
    DomainLifecycle action = domain->live->on_crash;
    if (action != DOMAIN_LIFECYCLE_PRESERVE)
        reset_or_end(domain, action == DOMAIN_LIFECYCLE_RESTART);
    end(domain);
}

static int
stopped_detail(int reason)
{
    switch (reason) {
    case VIR_DOMAIN_SHUTOFF_DESTROYED:
        return VIR_DOMAIN_EVENT_STOPPED_DESTROYED;
    case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
        return VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN;
    default:
        return VIR_DOMAIN_EVENT_STOPPED_FAILED;
    }
}

void
lifecycle_emulator_ended(Domain *domain, guint64 generation)
{
    domain_lock(domain);
    while (!job_begin(domain, JOB_DESTROY, NULL))
        g_warning("domain '%s': waiting for its job to notice that the emulator has ended", domain->name);
    if (domain->generation == generation && domain_is_active(domain)) {
        int reason = process_end_reason(domain);
        stopped(domain, reason,
                domain->state == VIR_DOMAIN_CRASHED ? VIR_DOMAIN_EVENT_STOPPED_CRASHED
                                                    : stopped_detail(reason));
    }
    job_end(domain);
    domain_unlock(domain);
}
