// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known of a guest that leaves: how far it is, its speed limit, the figures at the end.
#include "driver/migration/outgoing_internal.h"

#include "driver/migration/relay.h"

guint64
outgoing_relay_bytes(Outgoing *out, guint first)
{
    guint64 bytes = 0;
    for (guint i = first; i < out->relays->len; i++)
        bytes += relay_bytes_out(g_ptr_array_index(out->relays, i));
    return bytes;
}

gboolean
outgoing_set_bandwidth(Outgoing *out, guint64 mib_per_second, GError **error)
{
    json_int_t bytes = mib_per_second ? (json_int_t) (mib_per_second << 20) : G_MAXINT64;
    return monitor_migrate_set_parameters(out->qmp, json_pack("{s:I}", "max-bandwidth", bytes), error);
}

static void
disk_progress(Outgoing *out, guint64 *total, guint64 *done)
{
    for (guint i = 0; i < out->mirrors->len; i++) {
        guint64 offset = 0, length = 0;
        gboolean ready;
        monitor_query_block_job(out->qmp, g_ptr_array_index(out->mirrors, i), &offset, &length, &ready, NULL);
        *total += length;
        *done += offset;
    }
}

void
outgoing_follow(Outgoing *out)
{
    MonitorMigration migration = {.status = ""};
    guint64 disk_total = 0, disk_done = 0;
    out->asked_us = g_get_monotonic_time();
    disk_progress(out, &disk_total, &disk_done);
    if (!monitor_query_migrate(out->qmp, &migration, NULL))
        return;
    domain_lock(out->domain);
    JobStats *stats = &out->domain->job.current;
    stats->disk_total = disk_total;
    stats->disk_processed = disk_done;
    stats->disk_remaining = disk_total - disk_done;
    stats->memory_total = migration.ram_total;
    stats->memory_processed = migration.ram_transferred;
    stats->memory_remaining = migration.ram_remaining;
    stats->memory_bps = migration.ram_bps;
    stats->memory_dirty_rate = migration.ram_dirty_pages_rate;
    stats->memory_iteration = migration.ram_dirty_sync_count;
    stats->memory_page_size = migration.ram_page_size;
    stats->data_total = stats->memory_total + disk_total;
    stats->data_processed = stats->memory_processed + disk_done;
    stats->data_remaining = stats->memory_remaining + stats->disk_remaining;
    guint64 wanted = out->options->bandwidth ? out->bandwidth : out->domain->max_speed_mib;
    domain_unlock(out->domain);
    if (wanted == out->bandwidth)
        return;
    out->bandwidth = wanted;
    outgoing_set_bandwidth(out, wanted, NULL);
}

json_t *
outgoing_figures(Outgoing *out)
{
    MonitorMigration migration = {.status = ""};
    monitor_query_migrate(out->qmp, &migration, NULL);
    guint64 all = outgoing_relay_bytes(out, 0), ram = outgoing_relay_bytes(out, out->mirrors->len);
    gint64 stopped_wall_us = out->stopped_us + (g_get_real_time() - g_get_monotonic_time());
    gint64 pause_us = MAX(out->resumed_wall_us - stopped_wall_us, 0);
    domain_lock(out->domain);
    JobStats *stats = &out->domain->job.current;
    stats->stopped_us = stopped_wall_us;
    stats->resumed_us = out->resumed_wall_us;
    stats->downtime = (guint64) (pause_us + 500) / 1000;
    stats->downtime_set = out->stopped_us != 0 && out->resumed_wall_us != 0;
    stats->memory_total = migration.ram_total;
    stats->memory_processed = ram;
    stats->memory_remaining = stats->disk_remaining = stats->data_remaining = 0;
    stats->memory_constant = migration.ram_duplicate;
    stats->memory_normal = migration.ram_normal;
    stats->memory_normal_bytes = migration.ram_normal_bytes;
    stats->memory_iteration = migration.ram_dirty_sync_count;
    stats->memory_page_size = migration.ram_page_size;
    stats->disk_total = stats->disk_processed = all - ram;
    stats->data_total = stats->data_processed = all;
    json_t *figures = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "type", "done", "stopped",
                                (json_int_t) stats->stopped_us, "resumed", (json_int_t) stats->resumed_us,
                                "downtime", (json_int_t) stats->downtime, "memory-total",
                                (json_int_t) stats->memory_total, "memory", (json_int_t) ram, "disk",
                                (json_int_t) (all - ram), "iteration", (json_int_t) stats->memory_iteration);
    domain_unlock(out->domain);
    return figures;
}
