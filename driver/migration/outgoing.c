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
#include "driver/migration/departure.h"
#include "driver/migration/disks.h"
#include "driver/migration/nics.h"
#include "driver/migration/relay.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"

// Theory of operation: the stages run in this order, each only when the one before it has succeeded; a
// failure before `released` closes the relays first (a frozen peer on direct sockets would hang QEMU's
// monitor), then cancels, and the guest runs on here. After `released` nothing is undone: COMMIT is said
// again until it is answered; only "refused" brings the guest back.

// Whether a client may still call the move back.
typedef enum { CALL_OPEN, CALL_ABORTED, CALL_TOO_LATE } Call;

typedef struct {
    Driver *driver;
    Domain *domain;
    const OutgoingOptions *options;
    Qmp *qmp;
    QmpWaiter *waiter;
    EmulatorProcess process; // the emulator here
    char *run_dir;           // the guest's
    OutgoingEnd *end;
    GPtrArray *relays;  // Relay*; disks, then RAM
    GPtrArray *mirrors; // char*: jobs
    MoveNics *nics;     // NULL: not connected yet
    gint call;          // atomic: Call
    gboolean sent;      // QEMU has said completed, and stands in postmigrate
    gboolean held;      // frames to the guest wait
    gboolean at_switch; // QEMU has come to pre-switchover without our stopping the guest
    gboolean ready_heard;
    gboolean broken;        // what the emulator sends over a relay does not arrive; the destination may say why
    gboolean answered;      // the destination has said why it fails
    gboolean refused;       // the destination has said so, and has it on its disk
    guint64 bandwidth;      // MiB/s that QEMU was told, 0: no limit
    gint64 memory_us;       // monotonic: the memory moves since then
    gint64 stopped_us;      // monotonic, of QEMU's STOP
    gint64 deadline_us;     // monotonic: READY must have come; 0: the guest has not been stopped
    gint64 asked_us;        // monotonic: the statistics are as of then
    gint64 alive_us;        // monotonic: "alive" was said then
    gint64 resumed_wall_us; // as the destination says
} Outgoing;

#define MIRROR_LIMIT_US (3600 * G_TIME_SPAN_SECOND)
// A stopped guest waits for READY max(1 s, 10 x the estimate of the pause); then it runs on here.
#define SWITCH_LEAST_US G_TIME_SPAN_SECOND
#define SWITCH_FACTOR   10
#define SLICE_US        (100 * G_TIME_SPAN_MILLISECOND)
#define ALIVE_US        G_TIME_SPAN_SECOND
#define STATS_US        (500 * G_TIME_SPAN_MILLISECOND)
#define WORDS_MS        200

// How long before the end of the first pass over the memory frames to the guest begin to wait. QEMU may stop
// an idle guest at that very end, and what it reads for a guest that has stopped is lost.
#define HOLD_AHEAD_US (20 * G_TIME_SPAN_MILLISECOND)
// The pass is looked at again after this part of what seems to be left of it.
#define LOOK_FRACTION 4
#define LOOK_LEAST_US (2 * G_TIME_SPAN_MILLISECOND)
#define LOOK_MOST_US  SLICE_US

// The first pass over the memory, as it was when it was looked at last.
typedef struct {
    guint64 remaining; // bytes
    gint64 looked_us;  // monotonic; 0: never
    gint64 next_us;    // monotonic
} Pass;

typedef gboolean (*StageFunc)(Outgoing *out, GError **error);

static gboolean
say(Outgoing *out, const char *type, GError **error)
{
    g_autoptr(json_t) message = json_pack("{s:s}", "type", type);
    out->alive_us = g_get_monotonic_time();
    return frame_send(out->end->control, message, PEER_TIMEOUT_MS, error);
}

static gboolean
check_abort(Outgoing *out, GError **error)
{
    if (g_atomic_int_get(&out->call) == CALL_ABORTED) {
        quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "migration out job: canceled by client");
        return FALSE;
    }
    // Once it has sent all, the destination holds the guest too, and the move goes on without it.
    if (out->sent || qmp_is_connected(out->qmp))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the guest's emulator on this host has ended");
    return FALSE;
}

// What the destination said instead of what was due.
static void
set_answer_error(Outgoing *out, const char *got, json_t *message, GError **error)
{
    const char *text = json_string_value(json_object_get(message, "message"));
    out->refused = g_strcmp0(got, "refused") == 0;
    out->answered = TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination says: %s",
                     text  ? text
                     : got ? got
                           : "nothing");
}

// The destination's next word must be `type`, or it is "refused", which it has on its disk. Until `released`
// an abort or the death of the emulator ends the wait.
static gboolean
hear(Outgoing *out, const char *type, gint64 deadline_us, GError **error)
{
    Channel *control = out->end->control;
    gboolean released = out->options->handoff->state != HANDOFF_SOURCE_INTENT;
    for (;;) {
        if (!released && !check_abort(out, error))
            return FALSE;
        gint64 left = deadline_us - g_get_monotonic_time();
        int ready = channel_wait(control, (int) (CLAMP(left, 0, SLICE_US) / 1000), error);
        if (ready < 0)
            return FALSE;
        if (ready > 0)
            break;
        if (left > 0)
            continue;
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the destination did not say \"%s\" in time",
                         type);
        return FALSE;
    }
    g_autoptr(json_t) message = frame_receive(control, PEER_TIMEOUT_MS, error);
    if (!message)
        return FALSE;
    const char *got = json_string_value(json_object_get(message, "type"));
    if (g_strcmp0(got, type) != 0) {
        set_answer_error(out, got, message, error);
        return FALSE;
    }
    out->resumed_wall_us = json_integer_value(json_object_get(message, "resumed"));
    return TRUE;
}

static gint64
after_ms(int ms)
{
    return g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
}

// A listening socket in the guest's run-time directory, which the emulator may connect to.
static int
listen_local(Outgoing *out, const char *name, char **path, GError **error)
{
    *path = g_build_filename(out->run_dir, name, NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, *path, sizeof(address.sun_path));
    g_unlink(*path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(fd, 1) == 0 &&
        // The directory is the emulator's user's, who could put a link in the socket's place.
        (geteuid() != 0 || lchown(*path, out->driver->emulator_uid, out->driver->emulator_gid) == 0))
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
    out->end->control = peer_connect(out->options->destination->peer, out->driver->client_credentials,
                                     out->options->destination->token, PEER_CONTROL, NULL, error);
    return out->end->control && hear(out, "prepared", after_ms(PEER_TIMEOUT_MS), error) &&
           fault_point("src-prepared", error);
}

static gboolean
stage_nics(Outgoing *out, GError **error G_GNUC_UNUSED)
{
    out->nics = move_nics_open(out->domain, out->options->destination, out->driver->client_credentials);
    return TRUE;
}

static json_int_t
bytes_per_second(guint64 mib)
{
    return mib ? (json_int_t) (mib << 20) : G_MAXINT64;
}

static gboolean
stage_capabilities(Outgoing *out, GError **error)
{
    static const char *const names[] = {"return-path", "events", "pause-before-switchover",
                                        "late-block-activate", NULL};
    out->bandwidth = out->options->bandwidth;
    return monitor_migrate_set_capabilities(out->qmp, names, error) &&
           monitor_migrate_set_parameters(
               out->qmp,
               // It is us who stop the guest. Of a limit of 0 QEMU makes a single pass over the memory.
               json_pack("{s:i, s:I, s:i}", "downtime-limit", 1, "max-bandwidth",
                         bytes_per_second(out->bandwidth), "announce-rounds", 0),
               error);
}

static gboolean
start_mirror(Outgoing *out, const CookieDisk *disk, GError **error)
{
    g_autofree char *socket_name = g_strdup_printf("mirror-%s.sock", disk->target);
    g_autofree char *job = g_strdup_printf("migration-%s", disk->target);
    g_autofree char *source_node = disks_format_node(out->domain, disk->target, error);
    g_autofree char *path = NULL;
    if (!source_node || !open_path(out, socket_name, PEER_DISK, disk->target, &path, error) ||
        !monitor_blockdev_add_nbd(out->qmp, job, path, disk->target, error))
        return FALSE;
    g_ptr_array_add(out->mirrors, g_strdup(job));
    return monitor_blockdev_mirror(out->qmp, job, source_node, job, disk->full ? "full" : "top", FALSE,
                                   error);
}

static guint64
relay_total(Outgoing *out, guint first)
{
    guint64 bytes = 0;
    for (guint i = first; i < out->relays->len; i++)
        bytes += relay_bytes_out(g_ptr_array_index(out->relays, i));
    return bytes;
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

// What a client is shown while the guest still runs here, and a speed limit that it has set meanwhile.
static void
follow(Outgoing *out)
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
    monitor_migrate_set_parameters(out->qmp, json_pack("{s:I}", "max-bandwidth", bytes_per_second(wanted)),
                                   NULL);
}

// Between two waits for an event.
static gboolean
tick(Outgoing *out, GError **error)
{
    gint64 now = g_get_monotonic_time();
    if (!check_abort(out, error) || (now - out->alive_us >= ALIVE_US && !say(out, "alive", error)))
        return FALSE;
    if (!out->deadline_us && now - out->asked_us >= STATS_US)
        follow(out);
    int ready = channel_wait(out->end->control, 0, error);
    if (ready <= 0)
        return ready == 0;
    g_autoptr(json_t) message = frame_receive(out->end->control, PEER_TIMEOUT_MS, error);
    if (!message)
        return FALSE;
    // It may have loaded all before our own emulator knows that it has sent all. Else it speaks unasked only
    // to say that it fails.
    const char *got = json_string_value(json_object_get(message, "type"));
    out->ready_heard = out->deadline_us && g_strcmp0(got, "ready") == 0;
    if (!out->ready_heard)
        set_answer_error(out, got, message, error);
    return out->ready_heard;
}

// Each event is taken here. STOP may come after "pre-switchover": QEMU's main thread, which stops the guest for
// us, lets its migration thread go on while it waits for the CPUs.
static json_t *
take_event(Outgoing *out, gint64 deadline, GError **error)
{
    json_t *event = qmp_waiter_next(out->waiter, deadline, error);
    if (event && g_str_equal(json_string_value(json_object_get(event, "event")), "STOP"))
        out->stopped_us = json_integer_value(json_object_get(event, "at"));
    return event;
}

// The next event of the emulator, but no later than `deadline`.
static json_t *
next_event(Outgoing *out, gint64 deadline, GError **error)
{
    for (;;) {
        gint64 slice = MIN(deadline, g_get_monotonic_time() + SLICE_US);
        g_autoptr(GError) problem = NULL;
        json_t *event = take_event(out, slice, &problem);
        if (event)
            return event;
        if (!g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT)) {
            check_abort(out, error);
            if (error && !*error)
                g_propagate_error(error, g_steal_pointer(&problem));
            return NULL;
        }
        if (slice == deadline) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                             out->deadline_us ? "the guest would have stood still for too long"
                                              : "the guest's data did not reach the destination in time");
            return NULL;
        }
        if (!tick(out, error))
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
wait_job(Outgoing *out, const char *name, const char *job, gint64 deadline, GError **error)
{
    for (;;) {
        g_autoptr(json_t) event = next_event(out, deadline, error);
        if (!event)
            return FALSE;
        const char *got = json_string_value(json_object_get(event, "event"));
        if (!g_str_equal(event_field(event, "device"), job))
            continue;
        if (*event_field(event, "error")) {
            out->broken = TRUE;
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "copying disk %s failed: %s",
                             job + strlen("migration-"), event_field(event, "error"));
            return FALSE;
        }
        if (g_str_equal(got, name))
            return TRUE;
    }
}

static void
set_stream_error(Outgoing *out, const char *status, GError **error)
{
    MonitorMigration migration = {{0}};
    monitor_query_migrate(out->qmp, &migration, NULL);
    out->broken = TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                     "the memory did not reach it (%s); check the link between the hosts",
                     *migration.error_text ? migration.error_text : status);
}

// Waits until QEMU's migration reaches `status`.
static gboolean
wait_migration(Outgoing *out, const char *status, gint64 deadline, GError **error)
{
    for (;;) {
        g_autoptr(json_t) event = next_event(out, deadline, error);
        if (!event)
            return FALSE;
        if (!g_str_equal(json_string_value(json_object_get(event, "event")), "MIGRATION"))
            continue;
        const char *now = event_field(event, "status");
        if (g_str_equal(now, status))
            return TRUE;
        if (g_str_equal(now, "failed") || g_str_equal(now, "cancelled")) {
            set_stream_error(out, now, error);
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
    gint64 deadline = g_get_monotonic_time() + MIRROR_LIMIT_US;
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!wait_job(out, "BLOCK_JOB_READY", g_ptr_array_index(out->mirrors, i), deadline, error))
            return FALSE;
    return TRUE;
}

// A guest that did not run when it was stopped arrives as it was.
static gboolean
decide_run_state(Outgoing *out, GError **error)
{
    Handoff *handoff = out->options->handoff;
    Domain *domain = out->domain;
    domain_lock(domain);
    gboolean ran = domain->state == VIR_DOMAIN_RUNNING ||
                   (domain->state == VIR_DOMAIN_PAUSED && domain->reason == VIR_DOMAIN_PAUSED_MIGRATION);
    gboolean ended = domain->shutdown_seen || !domain_is_active(domain);
    handoff->run_state = ran && !out->options->paused ? VIR_DOMAIN_RUNNING : VIR_DOMAIN_PAUSED;
    domain_unlock(domain);
    if (!ended)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the guest has powered off");
    return FALSE;
}

// Whether what is left of the memory can follow within the pause that the user allows.
static gboolean
is_nearly_there(Outgoing *out)
{
    MonitorMigration migration;
    if (!monitor_query_migrate(out->qmp, &migration, NULL))
        return FALSE;
    guint64 elapsed_us = (guint64) MAX(g_get_monotonic_time() - out->memory_us, 1);
    double rate = (double) relay_total(out, out->mirrors->len) * G_USEC_PER_SEC / (double) elapsed_us;
    domain_lock(out->domain);
    guint64 allowed_ms = out->domain->max_downtime_ms;
    domain_unlock(out->domain);
    return (double) migration.ram_remaining * 1000 <= MAX(rate, migration.ram_bps) * (double) allowed_ms;
}

static void
hold_nics(Outgoing *out)
{
    if (!out->held)
        move_nics_hold(out->nics);
    out->held = TRUE;
}

// Holds the NICs when the first pass over the memory is about to end, and gives the time of the next look.
static gint64
watch_pass(Outgoing *out, Pass *pass)
{
    MonitorMigration migration;
    gboolean known = monitor_query_migrate(out->qmp, &migration, NULL) && migration.ram_dirty_sync_count == 1;
    gint64 now = g_get_monotonic_time(), left_us = LOOK_MOST_US * LOOK_FRACTION;
    if (known && migration.ram_remaining < pass->remaining) {
        double done = (double) (pass->remaining - migration.ram_remaining);
        left_us = (gint64) MIN((double) migration.ram_remaining * (double) (now - pass->looked_us) / done,
                               (double) left_us);
        if (pass->looked_us && left_us <= HOLD_AHEAD_US)
            hold_nics(out);
    }
    if (known) {
        pass->remaining = migration.ram_remaining;
        pass->looked_us = now;
    }
    return now + CLAMP(left_us / LOOK_FRACTION, LOOK_LEAST_US, LOOK_MOST_US);
}

// The next event; meanwhile the first pass is watched.
static json_t *
next_of_pass(Outgoing *out, Pass *pass, gint64 deadline, GError **error)
{
    while (!out->held) {
        g_autoptr(GError) problem = NULL;
        json_t *event = take_event(out, MIN(pass->next_us, deadline), &problem);
        if (event)
            return event;
        if (!g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT) ||
            g_get_monotonic_time() >= deadline)
            break;
        if (!tick(out, error))
            return NULL;
        pass->next_us = watch_pass(out, pass);
    }
    return next_event(out, deadline, error);
}

static gboolean
is_later_pass(json_t *event)
{
    json_t *pass = json_object_get(json_object_get(event, "data"), "pass");
    return json_integer_value(pass) >= 2;
}

// A pass after the first begins, and the guest may be stopped now. It is held before that is looked at, since
// a short pass may be the last one; but it is not to be without its frames for a long one.
static gboolean
is_last_pass(Outgoing *out)
{
    hold_nics(out);
    if (is_nearly_there(out))
        return TRUE;
    move_nics_resume(out->nics);
    out->held = FALSE;
    return FALSE;
}

// Waits until little of a running guest's memory is left, or until QEMU stops the guest by itself, since next
// to none is left.
static gboolean
wait_nearly_there(Outgoing *out, gint64 deadline, GError **error)
{
    Pass pass = {.next_us = out->memory_us + LOOK_LEAST_US};
    for (;;) {
        g_autoptr(json_t) event = next_of_pass(out, &pass, deadline, error);
        if (!event)
            return FALSE;
        const char *status = event_field(event, "status");
        if (g_str_equal(status, "failed") || g_str_equal(status, "cancelled")) {
            set_stream_error(out, status, error);
            return FALSE;
        }
        out->at_switch |= g_str_equal(status, "pre-switchover");
        if (out->at_switch || (is_later_pass(event) && is_last_pass(out)))
            return TRUE;
    }
}

static void
set_deadline(Outgoing *out)
{
    gint64 estimate = (gint64) out->domain->max_downtime_ms * G_TIME_SPAN_MILLISECOND;
    out->deadline_us = g_get_monotonic_time() + MAX(SWITCH_LEAST_US, SWITCH_FACTOR * estimate);
}

// QEMU's own stop would come unannounced, and frames that it reads after that are lost with it.
static gboolean
stop_guest(Outgoing *out, gint64 deadline, GError **error)
{
    if (!wait_nearly_there(out, deadline, error))
        return FALSE;
    if (out->bandwidth && !out->at_switch)
        monitor_migrate_set_parameters(out->qmp, json_pack("{s:I}", "max-bandwidth", bytes_per_second(0)),
                                       NULL);
    hold_nics(out);
    if (!out->at_switch)
        move_nics_await_taken(out->nics);
    set_deadline(out);
    return out->at_switch ||
           (monitor_stop(out->qmp, error) && wait_migration(out, "pre-switchover", out->deadline_us, error));
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
    out->memory_us = g_get_monotonic_time();
    gint64 deadline = out->memory_us + MIRROR_LIMIT_US;
    if (!monitor_migrate(out->qmp, uri, error) || !fault_point("src-ram", error) ||
        !stop_guest(out, deadline, error))
        return FALSE;
    return decide_run_state(out, error) && fault_point("src-stopped", error);
}

// The guest stands still from here.
static gboolean
stage_last_sectors(Outgoing *out, GError **error)
{
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!monitor_block_job_cancel(out->qmp, g_ptr_array_index(out->mirrors, i), FALSE, error))
            return FALSE;
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!wait_job(out, "BLOCK_JOB_COMPLETED", g_ptr_array_index(out->mirrors, i), out->deadline_us,
                      error))
            return FALSE;
    return say(out, "disks-done", error);
}

static gboolean
stage_last_pages(Outgoing *out, GError **error)
{
    out->sent = monitor_migrate_continue(out->qmp, "pre-switchover", error) &&
                wait_migration(out, "completed", out->deadline_us, error);
    return out->sent && (out->ready_heard || hear(out, "ready", out->deadline_us, error)) &&
           fault_point("src-ready", error);
}

static gboolean
stage_release(Outgoing *out, GError **error)
{
    // The last moment at which a client or a refusal can call the guest back.
    if (!tick(out, error))
        return FALSE;
    if (!g_atomic_int_compare_and_exchange(&out->call, CALL_OPEN, CALL_TOO_LATE))
        return check_abort(out, error);
    return handoff_transition(out->options->handoff, HANDOFF_SOURCE_RELEASED, error);
}

static const struct {
    const char *name;
    StageFunc run;
} stages[] = {
    {"connect", stage_connect},       {"connect NICs", stage_nics},  {"capabilities", stage_capabilities},
    {"copy disks", stage_disks},      {"copy memory", stage_memory}, {"last sectors", stage_last_sectors},
    {"last pages", stage_last_pages}, {"release", stage_release},
};

// When the destination fails, the ends of its sockets are seen before its own words, which are clearer. They are
// waited for only then, since the guest may stand still meanwhile.
static void
prefer_its_words(Outgoing *out, GError **error)
{
    g_autoptr(GError) lost = NULL;
    if (!out->end->control || out->answered || g_atomic_int_get(&out->call) == CALL_ABORTED ||
        !emulator_is_alive(&out->process) ||
        channel_wait(out->end->control, out->broken ? WORDS_MS : 0, NULL) == 0)
        return;
    g_autoptr(json_t) message = frame_receive(out->end->control, PEER_TIMEOUT_MS, &lost);
    const char *got = json_string_value(json_object_get(message, "type"));
    if (message && g_strcmp0(got, "refused") != 0)
        return;
    g_clear_error(error);
    if (message)
        set_answer_error(out, got, message, error);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "the connection to it was lost; is its virtquasard running?");
}

// The way back: the record first, then relays and QEMU; then the guest runs on here.
static void
take_back(Outgoing *out)
{
    g_autoptr(GError) problem = NULL;
    for (guint i = 0; i < out->relays->len; i++)
        relay_cut(g_ptr_array_index(out->relays, i));
    out->options->handoff->peer_refused |= out->refused;
    if (!handoff_transition(out->options->handoff, HANDOFF_SOURCE_ABORTED, &problem)) {
        g_critical("migration of %s: %s", out->domain->name, problem->message);
        // `released` may be on the disk: whether the guest may run is decided when the record is read again.
        if (g_atomic_int_get(&out->call) == CALL_TOO_LATE)
            return;
    }
    departure_stay(out->domain);
    if (out->end->control)
        out->end->closed = say(out, "abort", NULL) && hear(out, "closed", after_ms(PEER_TIMEOUT_MS), NULL);
}

static gboolean
commit(Outgoing *out, GError **error)
{
    const Handoff *handoff = out->options->handoff;
    if (!fault_point("src-released", error))
        return FALSE;
    move_nics_hand_over(out->nics);
    g_autoptr(json_t) message =
        json_pack("{s:s, s:i, s:b, s:b, s:O}", "type", "commit", "run-state", handoff->run_state,
                  "persist-dest", handoff->persist_dest, "ram", emulator_is_alive(&out->process), "nics",
                  move_nics_addresses(out->nics));
    if (!frame_send(out->end->control, message, PEER_TIMEOUT_MS, error) ||
        !fault_point("src-committed", error))
        return FALSE;
    if (hear(out, "running", after_ms(PEER_TIMEOUT_MS), error))
        return fault_point("src-running", error);
    if (out->refused)
        take_back(out);
    return FALSE;
}

// The figures of a finished move: into our own job, and for the destination, as libvirt's daemons do.
static json_t *
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

void
outgoing_farewell(OutgoingEnd *end)
{
    if (!frame_send(end->control, end->figures, PEER_TIMEOUT_MS, NULL))
        return;
    g_autoptr(json_t) answer = frame_receive(end->control, PEER_TIMEOUT_MS, NULL);
    end->closed = g_strcmp0(json_string_value(json_object_get(answer, "type")), "closed") == 0;
}

void
outgoing_end_clear(OutgoingEnd *end)
{
    g_clear_pointer(&end->control, channel_free);
    g_clear_pointer(&end->figures, json_decref);
}

static gboolean
run_stages(Outgoing *out, GError **error)
{
    for (guint i = 0; i < G_N_ELEMENTS(stages); i++) {
        g_debug("migration of %s: %s", out->domain->name, stages[i].name);
        if (check_abort(out, error) && stages[i].run(out, error))
            continue;
        g_message("migration of %s: failed at \"%s\"", out->domain->name, stages[i].name);
        prefer_its_words(out, error);
        take_back(out);
        return FALSE;
    }
    return commit(out, error);
}

// Moves that run, by number: an abort may come while its move is just ending.
static GMutex moves_lock;
static GHashTable *moves;

static gpointer
enter_move(Outgoing *out)
{
    static gsize last;
    g_mutex_lock(&moves_lock);
    if (!moves)
        moves = g_hash_table_new(NULL, NULL);
    gpointer number = GSIZE_TO_POINTER(++last);
    g_hash_table_insert(moves, number, out);
    g_mutex_unlock(&moves_lock);
    return number;
}

static void
leave_move(gpointer number)
{
    g_mutex_lock(&moves_lock);
    g_hash_table_remove(moves, number);
    g_mutex_unlock(&moves_lock);
}

// Asks a running move to end.
static gboolean
outgoing_abort(gpointer number, GError **error)
{
    g_mutex_lock(&moves_lock);
    Outgoing *out = g_hash_table_lookup(moves, number);
    gboolean ok = out && (g_atomic_int_compare_and_exchange(&out->call, CALL_OPEN, CALL_ABORTED) ||
                          g_atomic_int_get(&out->call) == CALL_ABORTED);
    g_mutex_unlock(&moves_lock);
    if (!ok)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "the guest has been handed to the destination; it can no longer be called back");
    return ok;
}

gboolean
outgoing_run(Driver *driver, Domain *domain, const OutgoingOptions *options, OutgoingEnd *end, GError **error)
{
    static const char *const events[] = {"STOP",
                                         "MIGRATION",
                                         "MIGRATION_PASS",
                                         "BLOCK_JOB_READY",
                                         "BLOCK_JOB_COMPLETED",
                                         "BLOCK_JOB_CANCELLED",
                                         "BLOCK_JOB_ERROR",
                                         NULL};
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    g_autofree char *run_dir = g_strdup(domain->run_dir);
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
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
                    .process = process,
                    .run_dir = run_dir,
                    .end = end,
                    .relays = relays,
                    .mirrors = mirrors};
    gpointer number = enter_move(&out);
    domain_lock(domain);
    job_set_abort(domain, outgoing_abort, number);
    domain_unlock(domain);
    gboolean ok = run_stages(&out, error);
    domain_lock(domain);
    job_set_abort(domain, NULL, NULL);
    domain_unlock(domain);
    leave_move(number);
    if (ok)
        move_nics_depart(g_steal_pointer(&out.nics));
    g_clear_pointer(&out.nics, move_nics_free);
    if (ok)
        end->figures = finish_stats(&out);
    return ok;
}
