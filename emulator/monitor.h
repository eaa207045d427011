// SPDX-License-Identifier: LGPL-2.1-or-later
// QMP commands as typed calls; errors and thread rules are those of qmp_execute().
#pragma once

#include "emulator/qmp.h"

// How long a command may take that does no I/O of its own.
#define MONITOR_TIMEOUT_MS 10000

gboolean monitor_cont(Qmp *qmp, GError **error);
gboolean monitor_stop(Qmp *qmp, GError **error);
gboolean monitor_system_powerdown(Qmp *qmp, GError **error);
gboolean monitor_system_reset(Qmp *qmp, GError **error);
gboolean monitor_quit(Qmp *qmp, GError **error);

// query-status. *status (QMP's RunState, "paused", "running", "inmigrate" ...) may be NULL; caller frees.
gboolean monitor_query_status(Qmp *qmp, gboolean *running, char **status, GError **error);

// The pty of a character device ("charserial0" for alias serial0), e.g. "/dev/pts/3"; caller frees.
char *monitor_query_pty(Qmp *qmp, const char *chardev, GError **error);

typedef struct MonitorBlockStats MonitorBlockStats;
struct MonitorBlockStats {
    guint64 read_bytes, read_requests, read_ns;
    guint64 write_bytes, write_requests, write_ns;
    guint64 flush_requests, flush_ns;
    guint64 highest_offset; // "allocation" of a growing image
};
// Of the disk with this alias ("virtio-disk0").
gboolean monitor_query_block_stats(Qmp *qmp, const char *alias, MonitorBlockStats *stats, GError **error);
// Raw replies, owned by the caller.
json_t *monitor_query_block(Qmp *qmp, GError **error);
json_t *monitor_query_blockstats(Qmp *qmp, GError **error);
json_t *monitor_query_named_block_nodes(Qmp *qmp, GError **error);

// The balloon's actual size in KiB.
gboolean monitor_query_balloon(Qmp *qmp, guint64 *actual_kib, GError **error);

// Asks the guest to give back what it has above this.
gboolean monitor_balloon(Qmp *qmp, guint64 kib, GError **error);

// The carrier of the NIC with this alias ("net0"), as the guest sees it.
gboolean monitor_set_link(Qmp *qmp, const char *alias, gboolean up, GError **error);

// Thread ids of the vCPUs in order, as GArray of int; caller frees.
GArray *monitor_query_cpus(Qmp *qmp, GError **error);

// names: NULL-terminated, all switched on. Others stay.
gboolean monitor_migrate_set_capabilities(Qmp *qmp, const char *const *names, GError **error);
// The same, all switched off.
gboolean monitor_migrate_clear_capabilities(Qmp *qmp, const char *const *names, GError **error);
// `parameters` is stolen: an object for migrate-set-parameters.
gboolean monitor_migrate_set_parameters(Qmp *qmp, json_t *parameters, GError **error);
// Whether the next migration tells what code to translate before the guest comes, which its reader must know
// of (emulator/patches/translate-ahead); the guest is watched from now on until that has ended, and the
// migration makes pass after pass until somebody stops the guest. To be said each time: it stays when a
// migration is refused. Emulators that do not know of it, or whose guest is not emulated, never tell. Returns
// whether it will be told.
gboolean monitor_tell_translations(Qmp *qmp, gboolean tell);

// Whether the emulator, which a guest comes to, has at this moment something to translate of what it was
// told; it is not when it cannot be asked.
gboolean monitor_is_translating(Qmp *qmp);
gboolean monitor_migrate(Qmp *qmp, const char *uri, GError **error);
gboolean monitor_migrate_incoming(Qmp *qmp, const char *uri, GError **error);
gboolean monitor_migrate_cancel(Qmp *qmp, GError **error);
// Cancels, which returns before it is done (the emulator may resume its guest by itself in between), and
// waits for that. VIR_ERR_OPERATION_TIMEOUT after limit_ms. One that is not under way is no error.
gboolean monitor_migrate_call_off(Qmp *qmp, int limit_ms, GError **error);
// Gives the emulator a copy of a descriptor, which "fd:NAME" is then for migrate and migrate-incoming.
gboolean monitor_getfd(Qmp *qmp, const char *name, int fd, GError **error);
// Of one that was not used after all.
gboolean monitor_closefd(Qmp *qmp, const char *name, GError **error);
// `state`: the state to leave, "pre-switchover".
gboolean monitor_migrate_continue(Qmp *qmp, const char *state, GError **error);

typedef struct MonitorMigration MonitorMigration;
struct MonitorMigration {
    char status[32]; // QMP's MigrationStatus, "" when there was none
    char error_text[256];
    guint64 total_ms, downtime_ms, expected_downtime_ms, setup_ms;
    guint64 ram_transferred, ram_remaining, ram_total; // bytes
    guint64 ram_duplicate, ram_normal, ram_normal_bytes, ram_dirty_pages_rate;
    guint64 ram_dirty_sync_count, ram_page_size;
    guint64 ram_bps; // bytes per second
};
gboolean monitor_query_migrate(Qmp *qmp, MonitorMigration *migration, GError **error);

// An NBD client node `node` on a unix socket.
gboolean monitor_blockdev_add_nbd(Qmp *qmp, const char *node, const char *socket, const char *export_name,
                                  GError **error);
// Any other node; `options` is stolen.
gboolean monitor_blockdev_add(Qmp *qmp, json_t *options, GError **error);
gboolean monitor_blockdev_del(Qmp *qmp, const char *node, GError **error);
// `sync`: "top" or "full"; `device`: node name of the source; write_blocking: copy-mode.
gboolean monitor_blockdev_mirror(Qmp *qmp, const char *job, const char *device, const char *target,
                                 const char *sync, gboolean write_blocking, GError **error);
gboolean monitor_block_job_cancel(Qmp *qmp, const char *job, gboolean force, GError **error);
// query-block-jobs; offset and length of `job` (bytes). FALSE without error: no such job.
gboolean monitor_query_block_job(Qmp *qmp, const char *job, guint64 *offset, guint64 *length, gboolean *ready,
                                 GError **error);
gboolean monitor_nbd_server_start(Qmp *qmp, const char *socket, GError **error);
gboolean monitor_nbd_server_stop(Qmp *qmp, GError **error);
// A writable NBD export `id` of `node` under `name`.
gboolean monitor_block_export_add(Qmp *qmp, const char *id, const char *node, const char *name,
                                  GError **error);
// mode "safe" or "hard".
gboolean monitor_block_export_del(Qmp *qmp, const char *id, gboolean hard, GError **error);
