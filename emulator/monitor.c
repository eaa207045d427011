// SPDX-License-Identifier: LGPL-2.1-or-later
// QMP commands as typed calls.
#include "emulator/monitor.h"

#include <string.h>

#include "base/error.h"

#define CANCEL_POLL_US 5000

static gboolean
run(Qmp *qmp, const char *command, json_t *arguments, GError **error)
{
    return qmp_run(qmp, command, arguments, MONITOR_TIMEOUT_MS, error);
}

static json_t *
query(Qmp *qmp, const char *command, GError **error)
{
    return qmp_execute(qmp, command, NULL, MONITOR_TIMEOUT_MS, error);
}

static guint64
number(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    if (json_is_real(value))
        return json_real_value(value) > 0 ? (guint64) json_real_value(value) : 0;
    return json_integer_value(value);
}

static gboolean
same(json_t *object, const char *key, const char *text)
{
    return g_strcmp0(json_string_value(json_object_get(object, key)), text) == 0;
}

gboolean
monitor_cont(Qmp *qmp, GError **error)
{
    return run(qmp, "cont", NULL, error);
}

gboolean
monitor_stop(Qmp *qmp, GError **error)
{
    return run(qmp, "stop", NULL, error);
}

gboolean
monitor_system_powerdown(Qmp *qmp, GError **error)
{
    return run(qmp, "system_powerdown", NULL, error);
}

gboolean
monitor_system_reset(Qmp *qmp, GError **error)
{
    return run(qmp, "system_reset", NULL, error);
}

gboolean
monitor_quit(Qmp *qmp, GError **error)
{
    return run(qmp, "quit", NULL, error);
}

gboolean
monitor_query_status(Qmp *qmp, gboolean *running, char **status, GError **error)
{
    g_autoptr(json_t) reply = query(qmp, "query-status", error);
    const char *name = json_string_value(json_object_get(reply, "status"));
    if (!reply)
        return FALSE;
    // Callers compare it; an emulator that a guest has taken over may leave it out.
    if (!name) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator does not say what state it is in");
        return FALSE;
    }
    if (running)
        *running = json_is_true(json_object_get(reply, "running"));
    if (status)
        *status = g_strdup(name);
    return TRUE;
}

// The emulator may be in its guest's hands: what it names is opened by us, and written into documents.
static gboolean
is_pty_path(const char *path)
{
    const char *number = path + strlen("/dev/pts/");
    return g_str_has_prefix(path, "/dev/pts/") && *number && strlen(number) < 10 &&
           strspn(number, G_CSET_DIGITS) == strlen(number);
}

char *
monitor_query_pty(Qmp *qmp, const char *chardev, GError **error)
{
    g_autoptr(json_t) reply = query(qmp, "query-chardev", error);
    if (!reply)
        return NULL;
    size_t i;
    json_t *item;
    json_array_foreach(reply, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "filename"));
        if (same(item, "label", chardev) && name && g_str_has_prefix(name, "pty:") &&
            is_pty_path(name + strlen("pty:")))
            return g_strdup(name + strlen("pty:"));
    }
    quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator has no pty for '%s'", chardev);
    return NULL;
}

// Reports of -device disks carry the device's path in the machine, whose components include the id.
static gboolean
is_disk(json_t *item, const char *alias)
{
    const char *path = json_string_value(json_object_get(item, "qdev"));
    if (!path)
        return FALSE;
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    return g_strv_contains((const char *const *) parts, alias);
}

gboolean
monitor_query_block_stats(Qmp *qmp, const char *alias, MonitorBlockStats *stats, GError **error)
{
    g_autoptr(json_t) reply = monitor_query_blockstats(qmp, error);
    if (!reply)
        return FALSE;
    size_t i;
    json_t *item;
    json_array_foreach(reply, i, item)
    {
        if (!is_disk(item, alias))
            continue;
        json_t *from = json_object_get(item, "stats");
        *stats = (MonitorBlockStats){
            .read_bytes = number(from, "rd_bytes"),
            .read_requests = number(from, "rd_operations"),
            .read_ns = number(from, "rd_total_time_ns"),
            .write_bytes = number(from, "wr_bytes"),
            .write_requests = number(from, "wr_operations"),
            .write_ns = number(from, "wr_total_time_ns"),
            .flush_requests = number(from, "flush_operations"),
            .flush_ns = number(from, "flush_total_time_ns"),
            .highest_offset = number(from, "wr_highest_offset"),
        };
        return TRUE;
    }
    quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the emulator has no statistics of disk '%s'", alias);
    return FALSE;
}

json_t *
monitor_query_block(Qmp *qmp, GError **error)
{
    return query(qmp, "query-block", error);
}

json_t *
monitor_query_blockstats(Qmp *qmp, GError **error)
{
    return query(qmp, "query-blockstats", error);
}

json_t *
monitor_query_named_block_nodes(Qmp *qmp, GError **error)
{
    return query(qmp, "query-named-block-nodes", error);
}

gboolean
monitor_query_balloon(Qmp *qmp, guint64 *actual_kib, GError **error)
{
    g_autoptr(json_t) reply = query(qmp, "query-balloon", error);
    if (!reply)
        return FALSE;
    *actual_kib = number(reply, "actual") / 1024;
    return TRUE;
}

gboolean
monitor_balloon(Qmp *qmp, guint64 kib, GError **error)
{
    return run(qmp, "balloon", json_pack("{s:I}", "value", (json_int_t) (kib * 1024)), error);
}

gboolean
monitor_set_link(Qmp *qmp, const char *alias, gboolean up, GError **error)
{
    return run(qmp, "set_link", json_pack("{s:s, s:b}", "name", alias, "up", up), error);
}

GArray *
monitor_query_cpus(Qmp *qmp, GError **error)
{
    g_autoptr(json_t) reply = query(qmp, "query-cpus-fast", error);
    if (!reply)
        return NULL;
    GArray *threads = g_array_new(FALSE, TRUE, sizeof(int));
    size_t i;
    json_t *item;
    json_array_foreach(reply, i, item)
    {
        int thread = number(item, "thread-id");
        g_array_append_val(threads, thread);
    }
    return threads;
}

static gboolean
switch_capabilities(Qmp *qmp, const char *const *names, gboolean on, GError **error)
{
    json_t *list = json_array();
    for (; *names; names++)
        json_array_append_new(list, json_pack("{s:s, s:b}", "capability", *names, "state", on));
    return run(qmp, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list), error);
}

gboolean
monitor_migrate_set_capabilities(Qmp *qmp, const char *const *names, GError **error)
{
    return switch_capabilities(qmp, names, TRUE, error);
}

gboolean
monitor_migrate_clear_capabilities(Qmp *qmp, const char *const *names, GError **error)
{
    return switch_capabilities(qmp, names, FALSE, error);
}

gboolean
monitor_migrate_set_parameters(Qmp *qmp, json_t *parameters, GError **error)
{
    return run(qmp, "migrate-set-parameters", parameters, error);
}

static gboolean
set_ahead(Qmp *qmp, const char *property, gboolean value, GError **error)
{
    return run(
        qmp, "qom-set",
        json_pack("{s:s, s:s, s:b}", "path", "/quasar-translate-ahead", "property", property, "value", value),
        error);
}

gboolean
monitor_tell_translations(Qmp *qmp, gboolean tell)
{
    g_autoptr(GError) problem = NULL;
    gboolean ok = set_ahead(qmp, "tell", tell, &problem);
    if (!ok && tell)
        g_debug("nothing will be translated ahead of the guest: %s", problem->message);
    // One that was started before it was made does not know of this.
    if (ok)
        set_ahead(qmp, "linger", tell, NULL);
    return ok && tell;
}

gboolean
monitor_is_translating(Qmp *qmp)
{
    json_t *arguments = json_pack("{s:s, s:s}", "path", "/quasar-translate-ahead", "property", "translating");
    g_autoptr(json_t) reply = qmp_execute(qmp, "qom-get", arguments, MONITOR_TIMEOUT_MS, NULL);
    return json_is_true(reply);
}

gboolean
monitor_migrate(Qmp *qmp, const char *uri, GError **error)
{
    return run(qmp, "migrate", json_pack("{s:s}", "uri", uri), error);
}

gboolean
monitor_migrate_incoming(Qmp *qmp, const char *uri, GError **error)
{
    return run(qmp, "migrate-incoming", json_pack("{s:s}", "uri", uri), error);
}

gboolean
monitor_migrate_cancel(Qmp *qmp, GError **error)
{
    return run(qmp, "migrate_cancel", NULL, error);
}

gboolean
monitor_migrate_call_off(Qmp *qmp, int limit_ms, GError **error)
{
    static const char *const ended[] = {"", "none", "cancelled", "failed", "completed", NULL};
    const gint64 end = g_get_monotonic_time() + limit_ms * G_TIME_SPAN_MILLISECOND;
    if (!monitor_migrate_cancel(qmp, error))
        return FALSE;
    for (;;) {
        MonitorMigration migration = {{0}};
        if (!monitor_query_migrate(qmp, &migration, NULL) || g_strv_contains(ended, migration.status))
            return TRUE;
        if (g_get_monotonic_time() >= end)
            return quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the emulator is slow to cancel");
        g_usleep(CANCEL_POLL_US);
    }
}

gboolean
monitor_getfd(Qmp *qmp, const char *name, int fd, GError **error)
{
    g_autoptr(json_t) reply =
        qmp_execute_with_fd(qmp, "getfd", json_pack("{s:s}", "fdname", name), fd, MONITOR_TIMEOUT_MS, error);
    return reply != NULL;
}

gboolean
monitor_closefd(Qmp *qmp, const char *name, GError **error)
{
    return run(qmp, "closefd", json_pack("{s:s}", "fdname", name), error);
}

gboolean
monitor_migrate_continue(Qmp *qmp, const char *state, GError **error)
{
    return run(qmp, "migrate-continue", json_pack("{s:s}", "state", state), error);
}

gboolean
monitor_query_migrate(Qmp *qmp, MonitorMigration *migration, GError **error)
{
    memset(migration, 0, sizeof(*migration));
    g_autoptr(json_t) reply = query(qmp, "query-migrate", error);
    if (!reply)
        return FALSE;
    const char *status = json_string_value(json_object_get(reply, "status"));
    const char *text = json_string_value(json_object_get(reply, "error-desc"));
    g_strlcpy(migration->status, status ? status : "", sizeof(migration->status));
    g_strlcpy(migration->error_text, text ? text : "", sizeof(migration->error_text));
    migration->total_ms = number(reply, "total-time");
    migration->downtime_ms = number(reply, "downtime");
    migration->expected_downtime_ms = number(reply, "expected-downtime");
    migration->setup_ms = number(reply, "setup-time");
    json_t *ram = json_object_get(reply, "ram");
    migration->ram_transferred = number(ram, "transferred");
    migration->ram_remaining = number(ram, "remaining");
    migration->ram_total = number(ram, "total");
    migration->ram_duplicate = number(ram, "duplicate");
    migration->ram_normal = number(ram, "normal");
    migration->ram_normal_bytes = number(ram, "normal-bytes");
    migration->ram_dirty_pages_rate = number(ram, "dirty-pages-rate");
    migration->ram_dirty_sync_count = number(ram, "dirty-sync-count");
    migration->ram_page_size = number(ram, "page-size");
    // QMP counts megabits a second.
    migration->ram_bps = json_number_value(json_object_get(ram, "mbps")) * 1e6 / 8;
    return TRUE;
}

gboolean
monitor_blockdev_add(Qmp *qmp, json_t *options, GError **error)
{
    return run(qmp, "blockdev-add", options, error);
}

gboolean
monitor_blockdev_add_nbd(Qmp *qmp, const char *node, const char *socket, const char *export_name,
                         GError **error)
{
    return run(qmp, "blockdev-add",
               json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "driver", "nbd", "node-name", node, "export",
                         export_name, "server", "type", "unix", "path", socket),
               error);
}

gboolean
monitor_blockdev_del(Qmp *qmp, const char *node, GError **error)
{
    return run(qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), error);
}

gboolean
monitor_blockdev_mirror(Qmp *qmp, const char *job, const char *device, const char *target, const char *sync,
                        gboolean write_blocking, GError **error)
{
    return run(qmp, "blockdev-mirror",
               json_pack("{s:s, s:s, s:s, s:s, s:s}", "job-id", job, "device", device, "target", target,
                         "sync", sync, "copy-mode", write_blocking ? "write-blocking" : "background"),
               error);
}

gboolean
monitor_block_job_cancel(Qmp *qmp, const char *job, gboolean force, GError **error)
{
    return run(qmp, "block-job-cancel", json_pack("{s:s, s:b}", "device", job, "force", force), error);
}

gboolean
monitor_query_block_job(Qmp *qmp, const char *job, guint64 *offset, guint64 *length, gboolean *ready,
                        GError **error)
{
    g_autoptr(json_t) reply = query(qmp, "query-block-jobs", error);
    size_t i;
    json_t *item;
    json_array_foreach(reply, i, item)
    {
        if (!same(item, "device", job))
            continue;
        *offset = number(item, "offset");
        *length = number(item, "len");
        *ready = json_is_true(json_object_get(item, "ready"));
        return TRUE;
    }
    return FALSE;
}

gboolean
monitor_nbd_server_start(Qmp *qmp, const char *socket, GError **error)
{
    return run(qmp, "nbd-server-start",
               json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data", "path", socket), error);
}

gboolean
monitor_nbd_server_stop(Qmp *qmp, GError **error)
{
    return run(qmp, "nbd-server-stop", NULL, error);
}

gboolean
monitor_block_export_add(Qmp *qmp, const char *id, const char *node, const char *name, GError **error)
{
    return run(qmp, "block-export-add",
               json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", id, "node-name", node, "name",
                         name, "writable", 1),
               error);
}

gboolean
monitor_block_export_del(Qmp *qmp, const char *id, gboolean hard, GError **error)
{
    return run(qmp, "block-export-del", json_pack("{s:s, s:s}", "id", id, "mode", hard ? "hard" : "safe"),
               error);
}
