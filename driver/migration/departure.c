// SPDX-License-Identifier: LGPL-2.1-or-later
// The end of a move on one host: leaving, staying, and who may work on the record meanwhile.
#include "driver/migration/departure.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/disks.h"
#include "driver/migration/moved.h"
#include "driver/migration/nics.h"
#include "driver/priority.h"
#include "driver/process.h"
#include "emulator/monitor.h"

// How long a cancelled migration or mirror of QEMU may take to end once its sockets are closed.
#define CANCEL_LIMIT_MS 5000
#define POLL_MS         5

static GMutex claims_lock;
static GCond claims_changed;
static GHashTable *claims; // UUID text; a set

static gboolean
take_claim(const char *uuid)
{
    if (!claims)
        claims = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (g_hash_table_contains(claims, uuid))
        return FALSE;
    g_hash_table_add(claims, g_strdup(uuid));
    return TRUE;
}

gboolean
departure_claim(const char *uuid, int timeout_ms)
{
    gint64 end = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&claims_lock);
    gboolean ok = take_claim(uuid);
    while (!ok) {
        if (timeout_ms < 0)
            g_cond_wait(&claims_changed, &claims_lock);
        else if (!g_cond_wait_until(&claims_changed, &claims_lock, end))
            break;
        ok = take_claim(uuid);
    }
    g_mutex_unlock(&claims_lock);
    return ok;
}

void
departure_unclaim(const char *uuid)
{
    g_mutex_lock(&claims_lock);
    g_hash_table_remove(claims, uuid);
    g_cond_broadcast(&claims_changed);
    g_mutex_unlock(&claims_lock);
}

Domain *
departure_domain(Driver *driver, const Handoff *handoff)
{
    guint8 uuid[VIR_UUID_BUFLEN];
    return domain_uuid_parse(handoff->uuid, uuid) ? domain_list_by_uuid(driver_domains(driver), uuid, NULL)
                                                  : NULL;
}

void
departure_end_emulator(Domain *domain, int reason, int detail)
{
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    domain->destroying = domain_is_active(domain);
    // With the job, so that whoever watches the process does not report the same death in other words.
    gboolean job = job_begin(domain, JOB_DESTROY, &error);
    if (!job)
        g_warning("%s", error->message);
    if (domain_is_active(domain))
        process_kill(domain, FALSE, NULL);
    if (domain_is_active(domain)) {
        if (detail >= 0)
            domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STOPPED, detail);
        process_cleanup(domain, reason);
    }
    if (job)
        job_end(domain);
    domain_unlock(domain);
}

static void
undefine(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    gboolean defined = domain->persistent && !domain->removed;
    domain_unlock(domain);
    if (defined && !lifecycle_undefine(domain, 0, &error))
        g_warning("%s has moved, but its definition stays here: %s", domain->name, error->message);
}

// What holds the guest's place on its segment, here or elsewhere, is not this run's business any more.
static void
leave_segments(Driver *driver, const Handoff *handoff, Domain *domain)
{
    anchor_away_forget(driver, handoff->uuid);
    if (domain) {
        domain_lock(domain);
        move_nics_adopt(domain);
        domain_unlock(domain);
    }
    anchor_home_ensure(driver, handoff->uuid);
}

gboolean
departure_leave(Driver *driver, Handoff *handoff, GError **error)
{
    g_autoptr(Domain) domain = departure_domain(driver, handoff);
    leave_segments(driver, handoff, domain);
    if (domain) {
        departure_end_emulator(domain, VIR_DOMAIN_SHUTOFF_MIGRATED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED);
        domain_lock(domain);
        domain_clear_messages(domain);
        // An emulator that died after the guest was released has left another reason.
        if (!domain_is_active(domain))
            domain_set_state(domain, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_MIGRATED);
        domain_unlock(domain);
    }
    disks_supersede(handoff->images);
    moved_note(driver->state_dir, handoff);
    if (domain && handoff->undefine_source)
        undefine(domain);
    handoff->left = TRUE;
    return handoff_store(handoff, error);
}

static void
end_migration(Qmp *qmp, const char *name)
{
    g_autoptr(GError) error = NULL;
    if (!monitor_migrate_call_off(qmp, CANCEL_LIMIT_MS, &error))
        g_warning("migration of %s: cannot cancel: %s", name, error->message);
}

// A mirror whose peer has gone ends by itself only at its next write.
static void
remove_mirror(Qmp *qmp, const char *target)
{
    g_autofree char *job = g_strdup_printf("migration-%s", target);
    guint64 offset, length;
    gboolean ready;
    for (guint waited = 0; waited < CANCEL_LIMIT_MS; waited += POLL_MS) {
        if (!monitor_query_block_job(qmp, job, &offset, &length, &ready, NULL))
            break;
        if (waited == 0)
            monitor_block_job_cancel(qmp, job, TRUE, NULL);
        g_usleep(POLL_MS * 1000);
    }
    // Fails where there was none.
    monitor_blockdev_del(qmp, job, NULL);
}

static char **
disk_targets(Domain *domain)
{
    g_autoptr(GStrvBuilder) targets = g_strv_builder_new();
    for (guint i = 0; domain->live && i < domain->live->disks->len; i++)
        g_strv_builder_add(targets, ((DomainDisk *) g_ptr_array_index(domain->live->disks, i))->target);
    return g_strv_builder_end(targets);
}

static void
let_run(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (!domain_is_active(domain) || domain->state != VIR_DOMAIN_PAUSED ||
        domain->reason != VIR_DOMAIN_PAUSED_MIGRATION)
        return;
    if (process_continue(domain, VIR_DOMAIN_RUNNING_MIGRATION_CANCELED, &error)) {
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
        return;
    }
    g_autofree char *text = g_strdup_printf("the migration failed and the guest could not be resumed (%s); "
                                            "resume it with virsh resume",
                                            error->message);
    g_warning("%s: %s", domain->name, text);
    domain_add_message(domain, text);
}

static void
call_back(Domain *domain, Qmp *qmp, char **targets)
{
    end_migration(qmp, domain->name);
    // Also where it never began: its guest was watched for it.
    monitor_tell_translations(qmp, FALSE);
    move_nics_stay(domain);
    domain_lock(domain);
    let_run(domain);
    domain_unlock(domain);
    for (char **target = targets; *target; target++)
        remove_mirror(qmp, *target);
}

void
departure_stay(Domain *domain)
{
    domain_lock(domain);
    domain_clear_messages(domain);
    // QEMU resumes a guest by itself when it is called back before its state is complete.
    domain->resume_expected = TRUE;
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    g_auto(GStrv) targets = disk_targets(domain);
    gboolean ended = !domain_is_active(domain);
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    domain_unlock(domain);
    if (ended) {
        g_autofree char *uuid = domain_uuid_format(domain->uuid);
        anchor_home_withdraw(domain->driver, uuid);
        anchor_away_end(domain->driver, uuid);
    }
    if (qmp)
        call_back(domain, qmp, targets);
    if (!ended)
        priority_end(&process);
}
