// SPDX-License-Identifier: LGPL-2.1-or-later
// The source half: stages of a move, in order, each with what undoes it.
#include "driver/migration/outgoing_internal.h"

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
#include "driver/migration/relay.h"
#include "driver/priority.h"

// Theory of operation: the stages run in this order, each only when the one before it has succeeded; a
// failure before `released` closes the relays first (a frozen peer on direct sockets would hang QEMU's
// monitor), then cancels, and the guest runs on here. After `released` nothing is undone: COMMIT is said
// again until it is answered; only "refused" brings the guest back.

#define MIRROR_LIMIT_US (3600 * G_TIME_SPAN_SECOND)

typedef gboolean (*StageFunc)(Outgoing *out, GError **error);

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
    Channel *peer = peer_connect(destination->way, out->driver->client_credentials, destination->token, kind,
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
    out->end->control = peer_connect(out->options->destination->way, out->driver->client_credentials,
                                     out->options->destination->token, PEER_CONTROL, NULL, error);
    return out->end->control && outgoing_hear(out, "prepared", after_ms(PEER_TIMEOUT_MS), error) &&
           fault_point("src-prepared", error);
}

static gboolean
stage_nics(Outgoing *out, GError **error G_GNUC_UNUSED)
{
    out->nics = move_nics_open(out->domain, out->options->destination, out->driver->client_credentials);
    return TRUE;
}

// Whether the destination translates ahead of the guest.
static gboolean
translates_ahead(const Outgoing *out)
{
    const EmulatorTraits *there = out->options->destination->traits;
    return there && emulator_traits_has_patch(there, "translate-ahead");
}

static gboolean
stage_capabilities(Outgoing *out, GError **error)
{
    // A page that goes again is told by what has changed of it (XBZRLE): little of most, and those that
    // change all the time are the last that a guest which stands waits for.
    static const char *const names[] = {"return-path",         "events", "pause-before-switchover",
                                        "late-block-activate", "xbzrle", NULL};
    out->bandwidth = out->options->bandwidth;
    out->tells = monitor_tell_translations(out->qmp, translates_ahead(out));
    return monitor_migrate_set_capabilities(out->qmp, names, error) &&
           // It is us who stop the guest. Of a limit of 0 QEMU makes a single pass over the memory.
           monitor_migrate_set_parameters(
               out->qmp, json_pack("{s:i, s:i}", "downtime-limit", 1, "announce-rounds", 0), error) &&
           outgoing_set_bandwidth(out, out->bandwidth, error);
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

static gboolean
stage_disks(Outgoing *out, GError **error)
{
    priority_copy(&out->process);
    const GPtrArray *disks = out->options->destination->disks;
    for (guint i = 0; i < disks->len; i++)
        if (!start_mirror(out, g_ptr_array_index(disks, i), error))
            return FALSE;
    gint64 deadline = g_get_monotonic_time() + MIRROR_LIMIT_US;
    for (guint i = 0; i < out->mirrors->len; i++)
        if (!outgoing_wait_job(out, "BLOCK_JOB_READY", g_ptr_array_index(out->mirrors, i), deadline, error))
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

// The destination has it on its disk before it hears of anything that comes later.
static gboolean
stage_anchors(Outgoing *out, GError **error)
{
    g_autoptr(json_t) list = move_nics_offer(out->nics, out->options->destination, error);
    if (!list || json_array_size(list) == 0)
        return list != NULL;
    g_autoptr(json_t) message = json_pack("{s:s, s:O}", "type", "anchors", "list", list);
    return frame_send(out->end->control, message, PEER_TIMEOUT_MS, error);
}

static gboolean
stage_memory(Outgoing *out, GError **error)
{
    g_autofree char *path = NULL;
    if (!open_path(out, "ram.sock", PEER_RAM, NULL, &path, error))
        return FALSE;
    g_autofree char *uri = g_strconcat("unix:", path, NULL);
    outgoing_hold_early(out);
    if (out->options->live)
        out->writeback = writeback_begin(out->domain);
    else if (!monitor_stop(out->qmp, error))
        return FALSE;
    out->memory_us = g_get_monotonic_time();
    gint64 deadline = out->memory_us + MIRROR_LIMIT_US;
    if (!monitor_migrate(out->qmp, uri, error) || !fault_point("src-ram", error) ||
        !outgoing_stop_guest(out, deadline, error))
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
        if (!outgoing_wait_job(out, "BLOCK_JOB_COMPLETED", g_ptr_array_index(out->mirrors, i),
                               out->deadline_us, error))
            return FALSE;
    return outgoing_say(out, "disks-done", error);
}

static gboolean
stage_last_pages(Outgoing *out, GError **error)
{
    out->sent = monitor_migrate_continue(out->qmp, "pre-switchover", error) &&
                outgoing_wait_migration(out, "completed", out->deadline_us, error);
    return out->sent && (out->ready_heard || outgoing_hear(out, "ready", out->deadline_us, error)) &&
           fault_point("src-ready", error);
}

static gboolean
stage_release(Outgoing *out, GError **error)
{
    // The last moment at which a client or a refusal can call the guest back.
    if (!outgoing_tick(out, error))
        return FALSE;
    if (!g_atomic_int_compare_and_exchange(&out->call, CALL_OPEN, CALL_TOO_LATE))
        return outgoing_check_abort(out, error);
    return handoff_transition(out->options->handoff, HANDOFF_SOURCE_RELEASED, error);
}

static const struct {
    const char *name;
    StageFunc run;
} stages[] = {
    {"connect", stage_connect},           {"connect NICs", stage_nics},
    {"capabilities", stage_capabilities}, {"copy disks", stage_disks},
    {"anchors", stage_anchors},           {"copy memory", stage_memory},
    {"last sectors", stage_last_sectors}, {"last pages", stage_last_pages},
    {"release", stage_release},
};

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
        out->end->closed =
            outgoing_say(out, "abort", NULL) && outgoing_hear(out, "closed", after_ms(PEER_TIMEOUT_MS), NULL);
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
    if (outgoing_hear(out, "running", after_ms(PEER_TIMEOUT_MS), error))
        return fault_point("src-running", error);
    if (out->refused)
        take_back(out);
    return FALSE;
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
        if (outgoing_check_abort(out, error) && stages[i].run(out, error))
            continue;
        g_message("migration of %s: failed at \"%s\"", out->domain->name, stages[i].name);
        outgoing_explain_end(out, error);
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
    g_clear_pointer(&out.nics, move_nics_free);
    g_clear_pointer(&out.writeback, writeback_end);
    if (ok)
        end->figures = outgoing_figures(&out);
    return ok;
}
