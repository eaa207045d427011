// SPDX-License-Identifier: LGPL-2.1-or-later
// Orders to the emulator to write its guest into a file, or to read it, and the wait for that.
#include "driver/save/stream.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fault.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"

#define NAME "quasar-save"

#define SLICE_US (50 * G_TIME_SPAN_MILLISECOND)
#define STATS_US (500 * G_TIME_SPAN_MILLISECOND)
#define LOG_TAIL 1024

gboolean
save_stream_check_abort(const Domain *domain, GError **error)
{
    return !domain->job.abort_requested ||
           quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "domain save job: canceled by client");
}

static gboolean
check_abort(Domain *domain, GError **error)
{
    domain_lock(domain);
    gboolean ok = save_stream_check_abort(domain, error);
    domain_unlock(domain);
    return ok;
}

static void
follow(Domain *domain, Qmp *qmp)
{
    MonitorMigration migration = {.status = ""};
    if (!monitor_query_migrate(qmp, &migration, NULL))
        return;
    domain_lock(domain);
    JobStats *stats = &domain->job.current;
    stats->memory_total = stats->data_total = migration.ram_total;
    stats->memory_processed = stats->data_processed = migration.ram_transferred;
    stats->memory_remaining = stats->data_remaining = migration.ram_remaining;
    stats->memory_bps = migration.ram_bps;
    stats->memory_constant = migration.ram_duplicate;
    stats->memory_normal = migration.ram_normal;
    stats->memory_normal_bytes = migration.ram_normal_bytes;
    stats->memory_page_size = migration.ram_page_size;
    stats->memory_iteration = migration.ram_dirty_sync_count;
    domain_unlock(domain);
}

static const char *
status_of(json_t *event)
{
    const char *status = json_string_value(json_object_get(json_object_get(event, "data"), "status"));
    return status ? status : "";
}

// *over: its migration has ended, well or not.
static gboolean
take_status(json_t *event, gboolean *over)
{
    const char *status = status_of(event);
    gboolean completed = g_str_equal(status, "completed");
    *over = completed || g_str_equal(status, "failed") || g_str_equal(status, "cancelled");
    return completed;
}

static gboolean
set_write_error(Qmp *qmp, const char *path, GError **error)
{
    MonitorMigration migration = {{0}};
    monitor_query_migrate(qmp, &migration, NULL);
    return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                            "the emulator could not write the guest to %s: %s", path,
                            *migration.error_text ? migration.error_text : "it does not say why");
}

static gboolean
set_ended(Domain *domain, const char *doing, const char *why, GError **error)
{
    domain_lock(domain);
    const gboolean destroyed = domain->destroying;
    domain_unlock(domain);
    if (destroyed)
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                                "domain '%s' was destroyed while it was being %s", domain->name, doing);
    return quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                            "the emulator of domain '%s' ended while it was being %s: %s", domain->name,
                            doing, why);
}

static gboolean
await_written(Domain *domain, Qmp *qmp, QmpWaiter *waiter, const char *path, GError **error)
{
    for (gint64 asked_us = 0;;) {
        g_autoptr(GError) problem = NULL;
        const gint64 now = g_get_monotonic_time();
        if (!check_abort(domain, error))
            return FALSE;
        if (now - asked_us >= STATS_US) {
            follow(domain, qmp);
            asked_us = now;
        }
        g_autoptr(json_t) event = qmp_waiter_next(waiter, now + SLICE_US, &problem);
        gboolean over = FALSE;
        if (event && take_status(event, &over)) {
            follow(domain, qmp);
            return TRUE;
        }
        if (over)
            return set_write_error(qmp, path, error);
        if (!event && !g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT))
            return set_ended(domain, "saved", problem->message, error);
    }
}

static gboolean
prepare(Qmp *qmp, int fd, json_t *parameters, GError **error)
{
    static const char *const on[] = {"events", NULL};
    // What an earlier move may have left on.
    static const char *const off[] = {"return-path", "pause-before-switchover", "late-block-activate",
                                      "xbzrle", NULL};
    g_autoptr(json_t) own = parameters;
    return monitor_migrate_clear_capabilities(qmp, off, error) &&
           monitor_migrate_set_capabilities(qmp, on, error) &&
           monitor_migrate_set_parameters(qmp, json_incref(own), error) &&
           monitor_getfd(qmp, NAME, fd, error);
}

gboolean
save_stream_write(Domain *domain, Qmp *qmp, int fd, const char *path, GError **error)
{
    static const char *const events[] = {"MIGRATION", NULL};
    g_autoptr(QmpWaiter) waiter = qmp_waiter_new(qmp, events);
    g_autoptr(GError) problem = NULL;
    if (!prepare(qmp, fd, json_pack("{s:I}", "max-bandwidth", (json_int_t) G_MAXINT64), error))
        return FALSE;
    monitor_tell_translations(qmp, FALSE);
    if (!monitor_migrate(qmp, "fd:" NAME, &problem)) {
        monitor_closefd(qmp, NAME, NULL);
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the emulator cannot save the guest: %s",
                                problem->message);
    }
    return fault_point("save-stream", error) && await_written(domain, qmp, waiter, path, error);
}

// What it complained about before it ended.
static gboolean
set_read_error(Domain *domain, goffset log_start, const char *path, const char *why, GError **error)
{
    g_autofree char *log = domain_log_path(domain);
    g_autofree char *complaint = emulator_log_tail(log, log_start, LOG_TAIL);
    g_autofree char *reason = g_strdup_printf("%s (its log is %s)", *complaint ? complaint : why, log);
    if (!set_ended(domain, "restored", reason, error))
        g_prefix_error(error, "%s: ", path);
    return FALSE;
}

static gboolean
await_read(Domain *domain, QmpWaiter *waiter, goffset log_start, const char *path, GError **error)
{
    for (;;) {
        g_autoptr(GError) problem = NULL;
        // It answers nothing while it reads, and is waited for as long as it lives.
        g_autoptr(json_t) event = qmp_waiter_next(waiter, -1, &problem);
        gboolean over = FALSE;
        if (event && take_status(event, &over))
            return TRUE;
        if (!event || over)
            return set_read_error(domain, log_start, path, problem ? problem->message : status_of(event),
                                  error);
    }
}

gboolean
save_stream_read(Domain *domain, int fd, const char *path, GError **error)
{
    static const char *const events[] = {"MIGRATION", NULL};
    g_autofree char *log = domain_log_path(domain);
    g_autoptr(GError) problem = NULL;
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    domain_unlock(domain);
    if (!qmp)
        return FALSE;
    struct stat st;
    const goffset log_start = stat(log, &st) == 0 ? st.st_size : 0;
    g_autoptr(QmpWaiter) waiter = qmp_waiter_new(qmp, events);
    // One that has begun to read may end before it has said that it has begun.
    if ((!prepare(qmp, fd, json_pack("{s:i}", "announce-rounds", 0), &problem) ||
         !monitor_migrate_incoming(qmp, "fd:" NAME, &problem)) &&
        qmp_is_connected(qmp) && !g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT))
        return quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the emulator cannot read %s: %s", path,
                                problem->message);
    return fault_point("restore-reading", error) && await_read(domain, waiter, log_start, path, error);
}
