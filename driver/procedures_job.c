// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about the jobs of domains: decode, call, encode.
#include "driver/job.h"
#include "driver/migration/migration.h"
#include "driver/procedures.h"

void
procedures_job_params(const JobStats *stats, RpcParams *params)
{
    rpc_params_add_int(params, VIR_DOMAIN_JOB_OPERATION, stats->operation);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_TIME_ELAPSED, stats->time_elapsed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_TIME_REMAINING, stats->time_remaining);
    if (stats->downtime_set)
        rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DOWNTIME, stats->downtime);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_SETUP_TIME, stats->setup_time);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_TOTAL, stats->data_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_PROCESSED, stats->data_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_REMAINING, stats->data_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_TOTAL, stats->memory_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_PROCESSED, stats->memory_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_REMAINING, stats->memory_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_BPS, stats->memory_bps);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, stats->memory_dirty_rate);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_ITERATION, stats->memory_iteration);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_CONSTANT, stats->memory_constant);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_NORMAL, stats->memory_normal);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, stats->memory_normal_bytes);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, stats->memory_page_size);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_TOTAL, stats->disk_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_PROCESSED, stats->disk_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_REMAINING, stats->disk_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_BPS, stats->disk_bps);
    if (stats->error[0])
        rpc_params_add_string(params, VIR_DOMAIN_JOB_ERRMSG, stats->error);
}

HANDLER(domain_get_job_info)
{
    const WireDomainArgs *in = args;
    WireDomainJobInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    JobStats stats = {0};
    virDomainJobInfo info = {0};

    if (!domain)
        return FALSE;
    domain_lock(domain);
    if (job_stats(domain, FALSE, &stats))
        job_stats_to_info(&stats, &info);
    domain_unlock(domain);
    out->type = info.type;
    out->time_elapsed = info.timeElapsed;
    out->time_remaining = info.timeRemaining;
    out->data_total = info.dataTotal;
    out->data_processed = info.dataProcessed;
    out->data_remaining = info.dataRemaining;
    out->mem_total = info.memTotal;
    out->mem_processed = info.memProcessed;
    out->mem_remaining = info.memRemaining;
    out->file_total = info.fileTotal;
    out->file_processed = info.fileProcessed;
    out->file_remaining = info.fileRemaining;
    return TRUE;
}

HANDLER(domain_get_job_stats)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainJobStatsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    const gboolean completed = (in->flags & VIR_DOMAIN_JOB_STATS_COMPLETED) != 0;
    // Who may only look takes nothing away from others.
    const gboolean keep =
        (in->flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED) || rpc_session_read_only(rpc_call_session(call));
    g_auto(RpcParams) params = {0};
    JobStats stats = {0};

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean found = job_stats(domain, completed, &stats);
    if (found && completed && !keep)
        job_forget_completed(domain);
    domain_unlock(domain);
    out->type = stats.type;
    if (found)
        procedures_job_params(&stats, &params);
    rpc_params_take(&params, out);
    return TRUE;
}

HANDLER(domain_get_control_info)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainControlInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    JobStats stats;

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean active = domain_check_active(domain, error);
    if (active && job_stats(domain, FALSE, &stats)) {
        out->state = VIR_DOMAIN_CONTROL_JOB;
        out->state_time = stats.time_elapsed;
    }
    domain_unlock(domain);
    return active;
}

HANDLER(domain_abort_job)
{
    const WireDomainArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && migration_abort(procedures_driver(call), domain, error);
}

HANDLER(domain_abort_job_flags)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && migration_abort(procedures_driver(call), domain, error);
}
