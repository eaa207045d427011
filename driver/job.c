// SPDX-License-Identifier: LGPL-2.1-or-later
// Jobs: the wait for one's turn, and an async job's statistics.
#include "driver/job.h"

#include "base/error.h"
#include "driver/domain.h"
#include "driver/store.h"

static const char *const job_names[] = {"none", "modify", "suspend", "destroy", "abort"};
static const char *const async_names[] = {"none", "start", "migration out", "migration in", "save"};

const char *
async_job_name(AsyncJob async)
{
    return async_names[async];
}

void
job_init(Job *job)
{
    g_cond_init(&job->changed);
}

void
job_clear(Job *job)
{
    g_cond_clear(&job->changed);
}

static gboolean
admits(const Job *job, JobType type, gboolean nested)
{
    if (job->active != JOB_NONE)
        return FALSE;
    return nested || job->async == ASYNC_NONE || (job->async_mask & JOB_MASK(type)) != 0;
}

static gboolean
wait_turn(Domain *domain, JobType type, gboolean nested, GError **error)
{
    Job *job = &domain->job;
    gint64 deadline = g_get_monotonic_time() + JOB_WAIT_MS * (gint64) 1000;
    while (!admits(job, type, nested)) {
        job->waiting++;
        gboolean in_time = g_cond_wait_until(&job->changed, &domain->lock, deadline);
        job->waiting--;
        if (in_time || admits(job, type, nested))
            continue;
        quasar_set_error(
            error, VIR_ERR_OPERATION_TIMEOUT,
            "cannot acquire state change lock of domain '%s' for %s (held by job %s, async job %s)",
            domain->name, job_names[type], job_names[job->active], async_job_name(job->async));
        return FALSE;
    }
    return TRUE;
}

static gboolean
begin(Domain *domain, JobType type, gboolean nested, GError **error)
{
    if (!wait_turn(domain, type, nested, error))
        return FALSE;
    domain->job.active = type;
    domain->job.owner = g_thread_self();
    return TRUE;
}

gboolean
job_begin(Domain *domain, JobType type, GError **error)
{
    return begin(domain, type, FALSE, error);
}

gboolean
job_begin_nested(Domain *domain, GError **error)
{
    return begin(domain, JOB_MODIFY, TRUE, error);
}

void
job_end(Domain *domain)
{
    domain->job.active = JOB_NONE;
    domain->job.owner = NULL;
    g_cond_broadcast(&domain->job.changed);
}

gboolean
job_begin_async(Domain *domain, AsyncJob async, int operation, guint mask, GError **error)
{
    Job *job = &domain->job;
    if (job->async != ASYNC_NONE) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is busy with another job: %s",
                         domain->name, async_job_name(job->async));
        return FALSE;
    }
    if (!wait_turn(domain, JOB_MODIFY, FALSE, error))
        return FALSE;
    job->async = async;
    job->async_owner = g_thread_self();
    job->async_mask = mask | JOB_MASK_DEFAULT;
    job->abort_requested = FALSE;
    job->abort = NULL;
    job->abort_data = NULL;
    job->current = (JobStats){
        .type = VIR_DOMAIN_JOB_UNBOUNDED, .operation = operation, .started_us = g_get_monotonic_time()};
    store_save_status_soon(domain);
    return TRUE;
}

void
job_inherit(Domain *domain, AsyncJob async, int operation, gint64 started_us)
{
    Job *job = &domain->job;
    if (async <= ASYNC_NONE || async > ASYNC_SAVE)
        return;
    job->async = async;
    job->async_owner = NULL;
    job->async_mask = JOB_MASK_DEFAULT;
    job->current = (JobStats){.type = VIR_DOMAIN_JOB_UNBOUNDED,
                              .operation = operation,
                              .started_us = started_us - g_get_real_time() + g_get_monotonic_time()};
}

void
job_end_inherited(Domain *domain, int result)
{
    if (domain->job.async != ASYNC_NONE && !domain->job.async_owner)
        job_end_async(domain, result);
}

gint64
job_started_wall_us(const Job *job)
{
    return job->current.started_us + g_get_real_time() - g_get_monotonic_time();
}

void
job_set_abort(Domain *domain, gboolean (*abort)(gpointer data, GError **error), gpointer data)
{
    domain->job.abort = abort;
    domain->job.abort_data = data;
}

void
job_end_async(Domain *domain, int result)
{
    Job *job = &domain->job;
    if (job->async == ASYNC_NONE)
        return;
    job->current.time_elapsed = (guint64) (g_get_monotonic_time() - job->current.started_us) / 1000;
    job->current.type = result;
    job->completed = job->current;
    job->current = (JobStats){0};
    job->async = ASYNC_NONE;
    job->async_owner = NULL;
    job->abort = NULL;
    job->abort_data = NULL;
    g_cond_broadcast(&job->changed);
    store_save_status_soon(domain);
    if (result != VIR_DOMAIN_JOB_COMPLETED)
        return;
    DomainEvent event;
    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_JOB_COMPLETED);
    event.stats = &job->completed;
    event_bus_emit(domain->driver->events, &event);
}

gboolean
job_abort(Domain *domain, GError **error)
{
    Job *job = &domain->job;
    if (job->async == ASYNC_NONE) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "no job is active on the domain");
        return FALSE;
    }
    if (!job->abort) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot abort the job '%s'",
                         async_job_name(job->async));
        return FALSE;
    }
    gboolean (*abort)(gpointer data, GError * *error) = job->abort;
    gpointer data = job->abort_data;
    job->abort_requested = TRUE;
    domain_unlock(domain);
    gboolean ok = abort(data, error);
    domain_lock(domain);
    if (!ok)
        job->abort_requested = FALSE;
    return ok;
}

gboolean
job_stats(Domain *domain, gboolean completed, JobStats *out)
{
    const Job *job = &domain->job;
    *out = completed ? job->completed : job->current;
    if (!completed && job->async != ASYNC_NONE)
        out->time_elapsed = (guint64) (g_get_monotonic_time() - out->started_us) / 1000;
    return out->type != VIR_DOMAIN_JOB_NONE;
}

void
job_forget_completed(Domain *domain)
{
    domain->job.completed = (JobStats){0};
}

void
job_stats_to_info(const JobStats *stats, virDomainJobInfo *info)
{
    *info = (virDomainJobInfo){
        .type = stats->type,
        .timeElapsed = stats->time_elapsed,
        .timeRemaining = stats->time_remaining,
        .memTotal = stats->memory_total,
        .memProcessed = stats->memory_processed,
        .memRemaining = stats->memory_remaining,
        .fileTotal = stats->disk_total,
        .fileProcessed = stats->disk_processed,
        .fileRemaining = stats->disk_remaining,
    };
    info->dataTotal = stats->data_total ? stats->data_total : info->memTotal + info->fileTotal;
    info->dataProcessed =
        stats->data_processed ? stats->data_processed : info->memProcessed + info->fileProcessed;
    info->dataRemaining =
        stats->data_remaining ? stats->data_remaining : info->memRemaining + info->fileRemaining;
}
