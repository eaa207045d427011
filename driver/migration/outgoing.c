// SPDX-License-Identifier: LGPL-2.1-or-later
// The source half: stages of a move, in order, each with what undoes it.
#include "driver/migration/outgoing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/frame.h"
#include "driver/migration/relay.h"
#include "emulator/command.h"
#include "emulator/monitor.h"

// Theory of operation: the stages run in this order, each only when the one before it has succeeded; a
// failure before `released` closes the relays first (a frozen peer on direct sockets would hang QEMU's
// monitor), then cancels, and the guest runs on here. After `released` nothing is undone: COMMIT is said
// again until it is answered.
typedef struct {
    Driver *driver;
    Domain *domain;
    const OutgoingOptions *options;
    Qmp *qmp;
    QmpWaiter *waiter;
    Channel *control;
    GPtrArray *relays;  // Relay*
    GPtrArray *mirrors; // char*: targets whose mirror was started
    gboolean ram_started;
    gboolean was_paused;    // before the move; then nothing resumes it
    gint abort;             // atomic
    gint past_return;       // atomic: released
    gint64 stopped_us;      // monotonic, of QEMU's STOP
    gint64 resumed_wall_us; // as the destination says
} Outgoing;

#define MIRROR_LIMIT_US (3600 * G_TIME_SPAN_SECOND)
#define SWITCH_LIMIT_US (10 * G_TIME_SPAN_SECOND)

typedef gboolean (*StageFunc)(Outgoing *out, GError **error);

static gboolean
say(Outgoing *out, const char *type, GError **error)
{
    g_autoptr(json_t) message = json_pack("{s:s}", "type", type);
    return frame_send(out->control, message, PEER_TIMEOUT_MS, error);
}

// The destination's next word must be `type`; "failed" carries its reason.
static gboolean
hear(Outgoing *out, const char *type, int timeout_ms, GError **error)
{
    g_autoptr(json_t) message = frame_receive(out->control, timeout_ms, error);
    if (!message)
        return FALSE;
    const char *got = json_string_value(json_object_get(message, "type"));
    if (g_strcmp0(got, type) == 0) {
        out->resumed_wall_us = json_integer_value(json_object_get(message, "resumed"));
        return TRUE;
    }
    const char *text = json_string_value(json_object_get(message, "message"));
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination says: %s",
                     text  ? text
                     : got ? got
                           : "nothing");
    return FALSE;
}

static gboolean
check_abort(Outgoing *out, GError **error)
{
    if (!g_atomic_int_get(&out->abort))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "migration job: canceled by client");
    return FALSE;
}

// A listening socket in the guest's run-time directory, which the emulator may connect to.
static int
listen_local(Outgoing *out, const char *name, char **path, GError **error)
{
    *path = g_build_filename(out->domain->run_dir, name, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, *path, sizeof(address.sun_path));
    g_unlink(*path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(fd, 1) == 0 &&
        (geteuid() != 0 || chown(*path, out->driver->emulator_uid, out->driver->emulator_gid) == 0))
        return fd;
    quasar_set_system_error(error, errno, "cannot listen on %s", *path);
    if (fd >= 0)
        close(fd);
    return -1;
}

// A relay from a unix socket that the emulator is told to connect to (*path) to a new connection of this
// kind.
static gboolean
open_path(Outgoing *out, const char *name, PeerKind kind, const char *disk, char **path, GError **error)
{
    int listener = listen_local(out, name, path, error);
    if (listener < 0)
        return FALSE;
    const Cookie *destination = out->options->destination;
    Channel *peer = peer_connect(destination->peer, out->driver->client_credentials, destination->token, kind,
                                 disk, error);
    if (!peer) {
        close(listener);
        return FALSE;
    }
    g_ptr_array_add(out->relays, relay_start_listening(name, listener, peer));
    return TRUE;
}

static gboolean
stage_connect(Outgoing *out, GError **error)
{
    out->control = peer_connect(out->options->destination->peer, out->driver->client_credentials,
                                out->options->destination->token, PEER_CONTROL, NULL, error);
    return out->control && hear(out, "prepared", PEER_TIMEOUT_MS, error) &&
           fault_point("src-prepared", error);
}

static gboolean
stage_capabilities(Outgoing *out, GError **error)
{
    static const char *const names[] = {"return-path", "events", "pause-before-switchover",
                                        "late-block-activate", NULL};
    guint64 bandwidth = out->options->bandwidth ? out->options->bandwidth << 20 : G_MAXINT64;
    return monitor_migrate_set_capabilities(out->qmp, names, error) &&
           monitor_migrate_set_parameters(
               out->qmp,
               json_pack("{s:I, s:I, s:i}", "downtime-limit", (json_int_t) out->domain->max_downtime_ms,
                         "max-bandwidth", (json_int_t) bandwidth, "announce-rounds", 0),
               error);
}

static char *
format_node_of(Domain *domain, const char *target)
{
    char *node = NULL;
    domain_lock(domain);
    for (guint i = 0; domain->live && i < domain->live->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(domain->live->disks, i);
        if (g_strcmp0(disk->target, target) == 0)
            node = emulator_format_node(domain->live, i);
    }
    domain_unlock(domain);
    return node;
}

static gboolean
start_mirror(Outgoing *out, const CookieDisk *disk, GError **error)
{
    g_autofree char *socket_name = g_strdup_printf("mirror-%s.sock", disk->target);
    g_autofree char *job = g_strdup_printf("migration-%s", disk->target);
    g_autofree char *source_node = format_node_of(out->domain, disk->target);
    g_autofree char *path = NULL;
    if (!open_path(out, socket_name, PEER_DISK, disk->target, &path, error) ||
        !monitor_blockdev_add_nbd(out->qmp, job, path, disk->target, error))
        return FALSE;
    g_ptr_array_add(out->mirrors, g_strdup(job));
    return monitor_blockdev_mirror(out->qmp, job, source_node, job, disk->full ? "full" : "top", FALSE,
                                   error);
}

// The next event of the emulator, but no later than `deadline`; passes "alive" to the destination meanwhile.
static json_t *
next_event(Outgoing *out, gint64 deadline, GError **error)
{
    for (;;) {
        gint64 slice = MIN(deadline, g_get_monotonic_time() + G_TIME_SPAN_SECOND);
        g_autoptr(GError) problem = NULL;
        json_t *event = qmp_waiter_next(out->waiter, slice, &problem);
        if (event || !g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT) ||
            slice == deadline) {
            if (!event)
                g_propagate_error(error, g_steal_pointer(&problem));
            return event;
        }
        if (!check_abort(out, error) || !say(out, "alive", error))
            return NULL;
    }
}

static const char *
event_field(json_t *event, const char *field)
{
    const char *value = json_string_value(json_object_get(json_object_get(event, "data"), field));
    return value ? value : "";
}

// Waits for `name` of this job, whose other events and failures mean what they say.
static gboolean
wait_job(Outgoing *out, const char *name, const char *job, gint64 limit_us, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + limit_us;
    for (;;) {
        g_autoptr(json_t) event = next_event(out, deadline, error);
        if (!event)
            return FALSE;
        const char *got = json_string_value(json_object_get(event, "event"));
        if (!g_str_equal(event_field(event, "device"), job))
            continue;
        if (*event_field(event, "error")) {
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "copying disk %s failed: %s", job,
                             event_field(event, "error"));
            return FALSE;
        }
        if (g_str_equal(got, name))
            return TRUE;
    }
}

// Waits until QEMU's migration reaches `status`.
static gboolean
wait_migration(Outgoing *out, const char *status, gint64 limit_us, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + limit_us;
    for (;;) {
        g_autoptr(json_t) event = next_event(out, deadline, error);
        if (!event)
            return FALSE;
        const char *got = json_string_value(json_object_get(event, "event"));
        if (g_str_equal(got, "STOP"))
            out->stopped_us = json_integer_value(json_object_get(event, "at"));
        if (!g_str_equal(got, "MIGRATION"))
            continue;
        const char *now = event_field(event, "status");
        if (g_str_equal(now, status))
            return TRUE;
        if (g_str_equal(now, "failed") || g_str_equal(now, "cancelled")) {
            MonitorMigration migration = {{0}};
            monitor_query_migrate(out->qmp, &migration, NULL);
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "migration out job: %s",
                             *migration.error_text ? migration.error_text : now);
            return FALSE;
        }
    }
}

static gboolean
stage_disks(Outgoing *out, GError **error)
{
    const GPtrArray *disks = out->options->destination->disks;
    for (guint i = 0; i < disks->len; i++)
        if (!start_mirror(out, g_ptr_array_index(disks, i), error))
            return FALSE;
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!wait_job(out, "BLOCK_JOB_READY", g_ptr_array_index(out->mirrors, i), MIRROR_LIMIT_US, error))
            return FALSE;
    return TRUE;
}

static gboolean
stage_memory(Outgoing *out, GError **error)
{
    g_autofree char *path = NULL;
    if (!open_path(out, "ram.sock", PEER_RAM, NULL, &path, error))
        return FALSE;
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    if (!out->options->live && !monitor_stop(out->qmp, error))
        return FALSE;
    out->ram_started = TRUE;
    return monitor_migrate(out->qmp, uri, error) && fault_point("src-ram", error) &&
           wait_migration(out, "pre-switchover", MIRROR_LIMIT_US, error) && fault_point("src-stopped", error);
}

// The guest stands still from here.
static gboolean
stage_last_sectors(Outgoing *out, GError **error)
{
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!monitor_block_job_cancel(out->qmp, g_ptr_array_index(out->mirrors, i), FALSE, error))
            return FALSE;
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!wait_job(out, "BLOCK_JOB_COMPLETED", g_ptr_array_index(out->mirrors, i), SWITCH_LIMIT_US, error))
            return FALSE;
    return say(out, "disks-done", error);
}

static gboolean
stage_last_pages(Outgoing *out, GError **error)
{
    return monitor_migrate_continue(out->qmp, "pre-switchover", error) &&
           wait_migration(out, "completed", SWITCH_LIMIT_US, error) &&
           hear(out, "ready", SWITCH_LIMIT_US / 1000, error) && fault_point("src-ready", error);
}

static gboolean
stage_release(Outgoing *out, GError **error)
{
    if (!check_abort(out, error))
        return FALSE;
    g_atomic_int_set(&out->past_return, 1);
    return handoff_transition(out->options->handoff, HANDOFF_SOURCE_RELEASED, error);
}

static const struct {
    const char *name;
    StageFunc run;
} stages[] = {
    {"connect", stage_connect},    {"capabilities", stage_capabilities}, {"copy disks", stage_disks},
    {"copy memory", stage_memory}, {"last sectors", stage_last_sectors}, {"last pages", stage_last_pages},
    {"release", stage_release},
};

// The way back, before released: relays first, then cancel; then the guest runs on here.
static void
take_back(Outgoing *out)
{
    g_autoptr(GError) problem = NULL;
    for (guint i = 0; i < out->relays->len; i++)
        relay_cut(g_ptr_array_index(out->relays, i));
    if (out->ram_started && !monitor_migrate_cancel(out->qmp, &problem))
        g_warning("migration of %s: cannot cancel: %s", out->domain->name, problem->message);
    if (!handoff_transition(out->options->handoff, HANDOFF_SOURCE_ABORTED, &problem))
        g_warning("migration of %s: %s", out->domain->name, problem->message);
    gboolean running = FALSE;
    if (!out->was_paused && monitor_query_status(out->qmp, &running, NULL, NULL) && !running) {
        domain_lock(out->domain);
        out->domain->resume_expected = TRUE;
        domain_unlock(out->domain);
        monitor_cont(out->qmp, NULL);
    }
    for (guint i = 0; i < out->mirrors->len; i++) {
        monitor_block_job_cancel(out->qmp, g_ptr_array_index(out->mirrors, i), TRUE, NULL);
        wait_job(out, "BLOCK_JOB_CANCELLED", g_ptr_array_index(out->mirrors, i), G_TIME_SPAN_SECOND, NULL);
        monitor_blockdev_del(out->qmp, g_ptr_array_index(out->mirrors, i), NULL);
    }
    if (out->control)
        say(out, "abort", NULL);
}

static gboolean
commit(Outgoing *out, GError **error)
{
    g_autoptr(json_t) message = json_pack("{s:s, s:i, s:b}", "type", "commit", "run-state",
                                          out->options->paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING,
                                          "persist-dest", out->options->persist_dest);
    return fault_point("src-released", error) && frame_send(out->control, message, PEER_TIMEOUT_MS, error) &&
           fault_point("src-committed", error) && hear(out, "running", PEER_TIMEOUT_MS, error) &&
           fault_point("src-running", error);
}

static guint64
relay_total(Outgoing *out, guint first)
{
    guint64 bytes = 0;
    for (guint i = first; i < out->relays->len; i++)
        bytes += relay_bytes_out(g_ptr_array_index(out->relays, i));
    return bytes;
}

// The figures of a finished move: into our own job, and to the destination with "done", as libvirt's daemons
// do. Relays stand in the order disks, RAM.
static void
finish_stats(Outgoing *out)
{
    MonitorMigration migration = {.status = ""};
    monitor_query_migrate(out->qmp, &migration, NULL);
    guint64 all = relay_total(out, 0), ram = relay_total(out, out->mirrors->len);
    gint64 stopped_wall_us = out->stopped_us + (g_get_real_time() - g_get_monotonic_time());
    gint64 pause_us = MAX(out->resumed_wall_us - stopped_wall_us, 0);
    domain_lock(out->domain);
    JobStats *stats = &out->domain->job.current;
    stats->stopped_us = stopped_wall_us;
    stats->resumed_us = out->resumed_wall_us;
    stats->downtime = (guint64) (pause_us + 500) / 1000;
    stats->downtime_set = out->resumed_wall_us != 0;
    stats->memory_total = migration.ram_total;
    stats->memory_processed = ram;
    stats->memory_constant = migration.ram_duplicate;
    stats->memory_normal = migration.ram_normal;
    stats->memory_normal_bytes = migration.ram_normal_bytes;
    stats->memory_iteration = migration.ram_dirty_sync_count;
    stats->memory_page_size = migration.ram_page_size;
    stats->disk_total = stats->disk_processed = all - ram;
    stats->data_total = stats->data_processed = all;
    g_autoptr(json_t) done = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "type", "done", "stopped", (json_int_t) stats->stopped_us,
        "resumed", (json_int_t) stats->resumed_us, "downtime", (json_int_t) stats->downtime, "memory-total",
        (json_int_t) stats->memory_total, "memory", (json_int_t) ram, "disk", (json_int_t) (all - ram),
        "iteration", (json_int_t) stats->memory_iteration);
    domain_unlock(out->domain);
    frame_send(out->control, done, PEER_TIMEOUT_MS, NULL);
}

static gboolean
run_stages(Outgoing *out, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(stages); i++) {
        g_debug("migration of %s: %s", out->domain->name, stages[i].name);
        if (check_abort(out, error) && stages[i].run(out, error))
            continue;
        g_prefix_error(error, "%s: ", stages[i].name);
        take_back(out);
        return FALSE;
    }
    return commit(out, error);
}

gboolean
outgoing_abort(gpointer data, GError **error)
{
    Outgoing *out = data;
    if (g_atomic_int_get(&out->past_return)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "the guest has been handed to the destination; it can no longer be called back");
        return FALSE;
    }
    g_atomic_int_set(&out->abort, 1);
    return TRUE;
}

gboolean
outgoing_run(Driver *driver, Domain *domain, const OutgoingOptions *options, GError **error)
{
    static const char *const events[] = {"STOP",
                                         "MIGRATION",
                                         "BLOCK_JOB_READY",
                                         "BLOCK_JOB_COMPLETED",
                                         "BLOCK_JOB_CANCELLED",
                                         "BLOCK_JOB_ERROR",
                                         NULL};
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    domain_unlock(domain);
    if (!qmp)
        return FALSE;
    g_autoptr(QmpWaiter) waiter = qmp_waiter_new(qmp, events);
    g_autoptr(GPtrArray) relays = g_ptr_array_new_with_free_func((GDestroyNotify) relay_free);
    g_autoptr(GPtrArray) mirrors = g_ptr_array_new_with_free_func(g_free);
    Outgoing out = {.driver = driver,
                    .domain = domain,
                    .options = options,
                    .qmp = qmp,
                    .waiter = waiter,
                    .relays = relays,
                    .mirrors = mirrors};
    domain_lock(domain);
    out.was_paused = domain->state == VIR_DOMAIN_PAUSED;
    job_set_abort(domain, outgoing_abort, &out);
    domain_unlock(domain);
    gboolean ok = run_stages(&out, error);
    if (ok)
        finish_stats(&out);
    domain_lock(domain);
    job_set_abort(domain, NULL, NULL);
    domain_unlock(domain);
    channel_free(out.control);
    return ok;
}
