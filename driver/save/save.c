// SPDX-License-Identifier: LGPL-2.1-or-later
// Saving a guest, step by step.
#include "driver/save/save.h"

#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "driver/migration/anchor_away.h"
#include "driver/process.h"
#include "driver/process_images.h"
#include "driver/save/definition.h"
#include "driver/save/disks.h"
#include "driver/save/file.h"
#include "driver/save/managed.h"
#include "driver/save/pending.h"
#include "driver/save/stream.h"
#include "driver/store.h"
#include "emulator/monitor.h"

#define KNOWN_FLAGS     (VIR_DOMAIN_SAVE_BYPASS_CACHE | VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED)
#define CANCEL_LIMIT_MS 5000

// One save. What it has made is undone by undo().
typedef struct {
    Driver *driver;
    Domain *domain;
    const char *xml; // the user's; NULL: none
    guint flags;
    gboolean managed;
    gboolean ran; // until we stopped it
    Qmp *qmp;
    SaveImage *image;
    SaveFile *file;
    DomainDef *def; // what runs
} Saving;

static void
saving_clear(Saving *saving)
{
    save_file_free(saving->file);
    save_image_free(saving->image);
    qmp_unref(saving->qmp);
    domain_def_free(saving->def);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Saving, saving_clear)

static gboolean
check_flags(guint flags, GError **error)
{
    if (flags & VIR_DOMAIN_SAVE_RESET_NVRAM)
        return quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                                "guests have no NVRAM here that could be reset");
    if (flags & ~(guint) KNOWN_FLAGS)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) of a save",
                                flags & ~(guint) KNOWN_FLAGS);
    const guint both = VIR_DOMAIN_SAVE_RUNNING | VIR_DOMAIN_SAVE_PAUSED;
    return (flags & both) != both ||
           quasar_set_error(error, VIR_ERR_INVALID_ARG, "running and paused exclude each other");
}

// Locked.
static gboolean
check_state(Domain *domain, GError **error)
{
    if (!domain_check_active(domain, error))
        return FALSE;
    if (domain->incoming)
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "domain '%s' is still being moved here; wait until it has arrived",
                                domain->name);
    if (domain->destroying || domain->shutdown_seen ||
        (domain->state != VIR_DOMAIN_RUNNING && domain->state != VIR_DOMAIN_PAUSED))
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "domain '%s' neither runs nor is paused, so there is nothing to save",
                                domain->name);
    return domain_may_run(domain, error);
}

// At once, and in words that say more than those of a move's gate. Locked.
static gboolean
check_not_busy(const Domain *domain, GError **error)
{
    return domain->job.async == ASYNC_NONE ||
           quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is busy with another job: %s",
                            domain->name, async_job_name(domain->job.async));
}

// The async job, and what is to be saved.
static gboolean
begin(Saving *saving, GError **error)
{
    Domain *domain = saving->domain;
    domain_lock(domain);
    gboolean ok = check_not_busy(domain, error) && check_state(domain, error);
    if (ok && saving->managed && !domain->persistent)
        ok = quasar_set_error(
            error, VIR_ERR_OPERATION_INVALID,
            "domain '%s' is transient: there would be nothing to restore it with; save it in a file",
            domain->name);
    ok = ok && job_begin_async(domain, ASYNC_SAVE, VIR_DOMAIN_JOB_OPERATION_SAVE, JOB_MASK_DEFAULT, error);
    if (ok && !(ok = check_state(domain, error)))
        job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    if (ok)
        saving->def = domain_def_copy(domain->live);
    domain_unlock(domain);
    return ok;
}

static gboolean
may_be_aborted(gpointer data G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    // The request itself is noted in the job; as long as it could be noted, it is in time.
    return TRUE;
}

// The guest, its emulator, and the way to its NICs' segments.
static gboolean
describe(Saving *saving, GError **error)
{
    Domain *domain = saving->domain;
    SaveImage *image = saving->image = save_image_new();
    image->uuid = domain_uuid_format(domain->uuid);
    image->name = g_strdup(domain->name);
    image->host = g_strdup(g_get_host_name());
    image->saved_at = g_get_real_time() / G_USEC_PER_SEC;
    g_autofree char *own = save_definition_format(saving->def);
    g_autoptr(DomainDef) changed = NULL;
    if (saving->xml && !(changed = save_definition(saving->driver, own, saving->xml, error)))
        return FALSE;
    image->xml = changed ? save_definition_format(changed) : g_steal_pointer(&own);
    for (guint i = 0; i < saving->def->interfaces->len; i++) {
        g_autoptr(AnchorRecord) anchor = anchor_away_find(saving->driver, image->uuid, i);
        if (anchor)
            json_array_append_new(image->anchors, anchor_record_encode(anchor));
    }
    domain_lock(domain);
    saving->qmp = domain_qmp(domain, error);
    g_autofree char *firmware = g_strdup(domain->firmware);
    domain_unlock(domain);
    if (!saving->qmp || !(image->traits = emulator_traits_query(saving->qmp, error)))
        return FALSE;
    image->traits->firmware = firmware ? json_loads(firmware, 0, NULL) : NULL;
    // Noted again when all is written; until then it says how much room that takes.
    return save_disks_note(image, saving->def, error);
}

// A disk of a guest, for one, must not be lost by a slip of the pen.
static gboolean
check_unused(const Saving *saving, const char *path, GError **error)
{
    g_autofree char *holder = images_find_holder(saving->domain, path);
    return !holder || quasar_set_error(error, VIR_ERR_RESOURCE_BUSY, "'%s' is in use by %s", path, holder);
}

static gboolean
create(Saving *saving, const char *path, GError **error)
{
    if (!saving->managed && !check_unused(saving, path, error))
        return FALSE;
    g_autofree char *managed = saving->managed ? managed_save_prepare(saving->domain, error) : NULL;
    g_autoptr(GBytes) description =
        saving->managed && !managed ? NULL : save_image_encode(saving->image, error);
    if (!description)
        return FALSE;
    saving->file = save_file_create(managed ? managed : path, g_bytes_get_size(description), error);
    return saving->file != NULL;
}

static gboolean
stop_guest(Saving *saving, GError **error)
{
    Domain *domain = saving->domain;
    domain_lock(domain);
    saving->ran = domain->state == VIR_DOMAIN_RUNNING;
    domain_unlock(domain);
    if (!save_pending_store(saving->driver, saving->image, saving->file, saving->ran, saving->managed,
                            error) ||
        !fault_point("save-begun", error))
        return FALSE;
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error);
    if (ok && domain->state == VIR_DOMAIN_RUNNING &&
        (ok = process_pause(domain, VIR_DOMAIN_PAUSED_SAVE, error)))
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    domain_unlock(domain);
    return ok && fault_point("save-stopped", error);
}

static gboolean
write_file(Saving *saving, GError **error)
{
    SaveImage *image = saving->image;
    const gboolean drop_cache = (saving->flags & VIR_DOMAIN_SAVE_BYPASS_CACHE) != 0;
    image->paused = saving->flags & VIR_DOMAIN_SAVE_PAUSED    ? TRUE
                    : saving->flags & VIR_DOMAIN_SAVE_RUNNING ? FALSE
                                                              : !saving->ran;
    return save_stream_write(saving->domain, saving->qmp, saving->file->fd, saving->file->path, error) &&
           save_disks_note(image, saving->def, error) &&
           save_file_finish(saving->file, image, drop_cache, error) && fault_point("save-written", error);
}

// The last moment at which it can be called back.
static gboolean
commit(Saving *saving, GError **error)
{
    Domain *domain = saving->domain;
    domain_lock(domain);
    gboolean ok = save_stream_check_abort(domain, error) && domain_check_active(domain, error);
    if (ok)
        job_set_abort(domain, NULL, NULL);
    domain_unlock(domain);
    return ok && save_file_commit(saving->file, error);
}

// Locked; the emulator stands, and nobody else may have it meanwhile.
static void
end_saved(Domain *domain, gboolean managed)
{
    job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    if (domain_is_active(domain)) {
        domain->destroying = TRUE;
        process_kill(domain, FALSE, NULL);
    }
    if (managed)
        domain->managed_save = TRUE;
    // It may have ended by itself; it is saved all the same.
    if (!domain_is_active(domain)) {
        domain_set_state(domain, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_SAVED);
        return;
    }
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_SAVED);
    process_cleanup(domain, VIR_DOMAIN_SHUTOFF_SAVED);
}

void
save_conclude(Driver *driver, Domain *domain, const char *uuid, gboolean managed)
{
    g_autoptr(GError) error = NULL;
    anchor_away_rest(driver, uuid);
    if (!domain)
        return;
    domain_lock(domain);
    // With the job, so that whoever watches the process does not report its death in other words.
    gboolean job = job_begin_nested(domain, &error);
    if (!job)
        g_warning("%s", error->message);
    end_saved(domain, managed);
    if (job)
        job_end(domain);
    domain_unlock(domain);
}

// Locked.
static void
let_run(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (!domain_is_active(domain) || domain->destroying || domain->state != VIR_DOMAIN_PAUSED)
        return;
    if (process_continue(domain, VIR_DOMAIN_RUNNING_SAVE_CANCELED, &error)) {
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        return;
    }
    g_autofree char *text =
        g_strdup_printf("the guest was not saved and could not be resumed (%s); resume it with "
                        "virsh resume",
                        error->message);
    g_warning("domain '%s': %s", domain->name, text);
    domain_add_message(domain, text);
}

// The emulator is to have forgotten that it was to write.
static void
call_off(Domain *domain, Qmp *qmp)
{
    g_autoptr(GError) error = NULL;
    if (!monitor_migrate_call_off(qmp, CANCEL_LIMIT_MS, &error))
        g_warning("saving domain '%s' cannot be called off: %s", domain->name, error->message);
}

void
save_call_back(Domain *domain, gboolean ran)
{
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    if (!job_begin(domain, JOB_MODIFY, &error)) {
        g_warning("%s", error->message);
        domain_unlock(domain);
        return;
    }
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    domain_unlock(domain);
    if (qmp)
        call_off(domain, qmp);
    domain_lock(domain);
    if (qmp && ran)
        let_run(domain);
    job_end(domain);
    domain_unlock(domain);
}

static void
undo(Saving *saving, const GError *error)
{
    Domain *domain = saving->domain;
    const gboolean aborted = g_error_matches(error, QUASAR_ERROR, VIR_ERR_OPERATION_ABORTED);
    if (saving->qmp && qmp_is_connected(saving->qmp))
        call_off(domain, saving->qmp);
    g_clear_pointer(&saving->file, save_file_free);
    domain_lock(domain);
    if (saving->ran)
        let_run(domain);
    g_strlcpy(domain->job.current.error, error->message, sizeof(domain->job.current.error));
    job_end_async(domain, aborted ? VIR_DOMAIN_JOB_CANCELLED : VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
    if (saving->image)
        save_pending_remove(saving->driver, saving->image->uuid);
}

static gboolean
save(Saving *saving, const char *path, GError **error)
{
    domain_lock(saving->domain);
    job_set_abort(saving->domain, may_be_aborted, NULL);
    domain_unlock(saving->domain);
    return describe(saving, error) && create(saving, path, error) && stop_guest(saving, error) &&
           write_file(saving, error) && commit(saving, error);
}

gboolean
save_domain(Domain *domain, const char *path, const char *xml, guint flags, GError **error)
{
    g_auto(Saving)
        saving = {.driver = domain->driver, .domain = domain, .xml = xml, .flags = flags, .managed = !path};
    g_autoptr(GError) problem = NULL;
    if (!check_flags(flags, error) || !begin(&saving, error))
        return FALSE;
    if (!save(&saving, path, &problem)) {
        undo(&saving, problem);
        g_message("domain '%s' is not saved: %s", domain->name, problem->message);
        g_propagate_error(error, g_steal_pointer(&problem));
        return FALSE;
    }
    // Nothing can fail any more, but this process.
    fault_point("save-named", NULL);
    save_conclude(domain->driver, domain, saving.image->uuid, saving.managed);
    save_pending_remove(domain->driver, saving.image->uuid);
    g_message("domain '%s' is saved in %s", domain->name, saving.file->path);
    return TRUE;
}
