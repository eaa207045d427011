// SPDX-License-Identifier: LGPL-2.1-or-later
// The destination half: sessions by token, commit and refusal, and what a restart makes of them.
#include "driver/migration/incoming.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/departure.h"
#include "driver/migration/nics.h"
#include "driver/priority.h"
#include "driver/process.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"

#define DYING_MS 1000

static GMutex sessions_lock;
static GHashTable *sessions; // token -> Incoming; holds a reference

static gboolean
has_uuid(gpointer key, gpointer value, gpointer uuid)
{
    return g_str_equal(((Incoming *) value)->uuid, uuid);
}

static gpointer
reference(Incoming *incoming)
{
    g_atomic_int_inc(&incoming->references);
    return incoming;
}

void
incoming_unref(Incoming *incoming)
{
    if (!g_atomic_int_dec_and_test(&incoming->references))
        return;
    writeback_end(incoming->writeback);
    g_ptr_array_unref(incoming->relays);
    handoff_free(incoming->handoff);
    cookie_free(incoming->source);
    g_clear_pointer(&incoming->domain, domain_unref);
    g_mutex_clear(&incoming->lock);
    g_cond_clear(&incoming->changed);
    g_free(incoming->failure);
    g_free(incoming->token);
    g_free(incoming->uuid);
    g_free(incoming);
}

static void
unref_incoming(gpointer data)
{
    incoming_unref(data);
}

static void
give_up(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    incoming_refuse(data, "nobody came to perform the migration", TRUE, NULL);
}

static gboolean
expire(gpointer data)
{
    Incoming *incoming = data;
    driver_defer(incoming->driver, give_up, reference(incoming), unref_incoming);
    return G_SOURCE_REMOVE;
}

static void
register_session(Incoming *incoming)
{
    g_mutex_lock(&sessions_lock);
    if (!sessions)
        sessions = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, unref_incoming);
    g_hash_table_foreach_remove(sessions, has_uuid, incoming->uuid);
    g_hash_table_insert(sessions, incoming->token, reference(incoming));
    g_mutex_unlock(&sessions_lock);
}

Incoming *
incoming_new(Driver *driver, Domain *domain, Handoff *handoff, Cookie *source, RpcSession *client)
{
    Incoming *incoming = g_new0(Incoming, 1);
    incoming->references = 1;
    incoming->driver = driver;
    incoming->domain = domain ? domain_ref(domain) : NULL;
    incoming->token = g_strdup(handoff->token);
    incoming->uuid = g_strdup(handoff->uuid);
    incoming->state = handoff->claimed ? INCOMING_RUNNING : INCOMING_WAITING;
    incoming->handoff = handoff;
    incoming->source = source;
    incoming->client = client;
    incoming->relays = g_ptr_array_new_with_free_func((GDestroyNotify) relay_free);
    g_mutex_init(&incoming->lock);
    g_cond_init(&incoming->changed);
    register_session(incoming);
    if (incoming->state == INCOMING_WAITING)
        g_timeout_add_seconds_full(G_PRIORITY_DEFAULT, INCOMING_UNCLAIMED_S, expire, reference(incoming),
                                   unref_incoming);
    return incoming;
}

Incoming *
incoming_by_token(const char *token)
{
    g_mutex_lock(&sessions_lock);
    Incoming *found = sessions ? g_hash_table_lookup(sessions, token) : NULL;
    if (found)
        reference(found);
    g_mutex_unlock(&sessions_lock);
    return found;
}

Incoming *
incoming_by_uuid(const char *uuid)
{
    g_mutex_lock(&sessions_lock);
    Incoming *found = sessions ? g_hash_table_find(sessions, has_uuid, (gpointer) uuid) : NULL;
    if (found)
        reference(found);
    g_mutex_unlock(&sessions_lock);
    return found;
}

// The directory is the emulator's user's: a link in the socket's place could lead to any service of this
// host.
static gboolean
is_served_by(int fd, pid_t pid)
{
    struct ucred server;
    socklen_t size = sizeof(server);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &size) == 0 && server.pid == pid;
}

static int
connect_local(const char *path, pid_t pid, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0) {
        if (is_served_by(fd, pid))
            return fd;
        errno = EPERM;
    }
    quasar_set_system_error(error, errno, "cannot reach the emulator's socket %s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

void
incoming_relay(Incoming *incoming, const char *name, const char *socket, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = NULL;
    pid_t pid = 0;
    if (incoming->domain) {
        domain_lock(incoming->domain);
        pid = incoming->domain->pid;
        path = incoming->domain->run_dir ? g_build_filename(incoming->domain->run_dir, socket, NULL) : NULL;
        domain_unlock(incoming->domain);
    }
    int fd = path ? connect_local(path, pid, &error) : -1;
    if (fd < 0) {
        g_warning("migration of %s: %s", incoming->uuid, error ? error->message : "no emulator waits");
        channel_free(channel);
        return;
    }
    g_mutex_lock(&incoming->lock);
    g_ptr_array_add(incoming->relays, relay_start(name, fd, channel));
    g_mutex_unlock(&incoming->lock);
}

void
incoming_begin_writeback(Incoming *incoming)
{
    g_mutex_lock(&incoming->lock);
    if (incoming->domain && incoming->state == INCOMING_RUNNING && !incoming->writeback &&
        !incoming->disks_done)
        incoming->writeback = writeback_begin(incoming->domain);
    g_mutex_unlock(&incoming->lock);
}

void
incoming_end_writeback(Incoming *incoming)
{
    g_mutex_lock(&incoming->lock);
    incoming->disks_done = TRUE;
    g_clear_pointer(&incoming->writeback, writeback_end);
    g_mutex_unlock(&incoming->lock);
}

// What stands behind the record.
typedef enum {
    HELD,   // an emulator with the whole guest
    GONE,   // no emulator, or one that has not got it all
    UNSURE, // an emulator that does not answer
} Held;

static Held
look(Incoming *incoming, gboolean *started)
{
    g_autoptr(Qmp) qmp = NULL;
    EmulatorProcess process = {0, 0};
    if (incoming->domain) {
        domain_lock(incoming->domain);
        qmp = domain_qmp(incoming->domain, NULL);
        process = (EmulatorProcess){.pid = incoming->domain->pid, .start_time = incoming->domain->pid_start};
        domain_unlock(incoming->domain);
    }
    if (process.pid <= 0 || !emulator_is_alive(&process))
        return GONE;
    // One that has closed its monitor is dying, if it takes its time over that.
    if (qmp && !qmp_is_connected(qmp) && emulator_wait(&process, DYING_MS))
        return GONE;
    *started = FALSE;
    if (incoming->ready_sent)
        return HELD;
    g_autofree char *status = NULL;
    if (!qmp || !monitor_query_status(qmp, NULL, &status, NULL))
        return emulator_is_alive(&process) ? UNSURE : GONE;
    // Anything that a loaded guest which was never let run cannot be.
    *started = !g_str_equal(status, "paused") && !g_str_equal(status, "inmigrate");
    return g_str_equal(status, "inmigrate") ? GONE : HELD;
}

gboolean
incoming_holds_guest(Incoming *incoming)
{
    gboolean started = FALSE;
    return look(incoming, &started) == HELD && !started;
}

static void
remove_images(Handoff *handoff)
{
    for (char **path = handoff->images; path && *path; path++)
        if (unlink(*path) < 0 && errno != ENOENT)
            g_warning("cannot remove %s: %s", *path, g_strerror(errno));
    // A file that is put there later is not ours to remove.
    g_clear_pointer(&handoff->images, g_strfreev);
    handoff_store(handoff, NULL);
}

// After "refused" is on the disk: ends the emulator that waited for the guest, and what Prepare made.
static void
discard(Incoming *incoming)
{
    incoming_end_writeback(incoming);
    if (incoming->domain) {
        // At once: it has nothing to save, and may be what does not answer.
        domain_lock(incoming->domain);
        const EmulatorProcess process = {.pid = incoming->domain->pid,
                                         .start_time = incoming->domain->pid_start};
        incoming->domain->destroying = domain_is_active(incoming->domain);
        domain_unlock(incoming->domain);
        if (process.pid > 0)
            emulator_kill(&process, 0, NULL);
        departure_end_emulator(incoming->domain, VIR_DOMAIN_SHUTOFF_FAILED, -1);
        domain_lock(incoming->domain);
        domain_clear_messages(incoming->domain);
        if (incoming->domain->job.async == ASYNC_MIGRATION_IN)
            job_end_async(incoming->domain, VIR_DOMAIN_JOB_FAILED);
        domain_unlock(incoming->domain);
    }
    anchor_away_forget(incoming->driver, incoming->uuid);
    fault_point("dst-discard", NULL);
    g_mutex_lock(&incoming->lock);
    for (guint i = 0; i < incoming->relays->len; i++)
        relay_cut(g_ptr_array_index(incoming->relays, i));
    gboolean unknown_to_source = FALSE;
    if (incoming->handoff) {
        remove_images(incoming->handoff);
        unknown_to_source = !incoming->handoff->claimed;
    }
    incoming->discarding = FALSE;
    g_cond_broadcast(&incoming->changed);
    g_mutex_unlock(&incoming->lock);
    // READY was never said, so nothing will ever be committed.
    if (unknown_to_source)
        incoming_close(incoming, NULL);
}

// With the lock. The rest is discard()'s, without it.
static gboolean
set_refused(Incoming *incoming, const char *why, GError **error)
{
    if (!handoff_transition(incoming->handoff, HANDOFF_DESTINATION_REFUSED, error))
        return FALSE;
    incoming->state = INCOMING_REFUSED;
    incoming->discarding = TRUE;
    incoming->failure = g_strdup(why);
    g_cond_broadcast(&incoming->changed);
    g_message("the migration of %s is refused here: %s",
              incoming->handoff->name ? incoming->handoff->name : incoming->uuid, why);
    return TRUE;
}

gboolean
incoming_refuse(Incoming *incoming, const char *why, gboolean if_unclaimed, GError **error)
{
    g_mutex_lock(&incoming->lock);
    gboolean already = incoming->state == INCOMING_REFUSED;
    gboolean late =
        incoming->state == INCOMING_ARRIVED || (if_unclaimed && incoming->state == INCOMING_RUNNING);
    if (late)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         incoming->state == INCOMING_ARRIVED ? "the guest has arrived and is ours"
                                                             : "the guest is on its way");
    gboolean ok = already || (!late && set_refused(incoming, why, error));
    g_mutex_unlock(&incoming->lock);
    if (ok && !already)
        discard(incoming);
    return ok;
}

// The stream brings why a guest stands, if the emulator itself had stopped it.
static int
paused_reason(Domain *domain)
{
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    domain_unlock(domain);
    g_autofree char *status = NULL;
    int state = VIR_DOMAIN_PAUSED, reason = VIR_DOMAIN_PAUSED_USER;
    if (qmp && monitor_query_status(qmp, NULL, &status, NULL))
        emulator_state_from_runstate(status, &state, &reason);
    gboolean by_itself = reason == VIR_DOMAIN_PAUSED_IOERROR || reason == VIR_DOMAIN_PAUSED_WATCHDOG;
    return state == VIR_DOMAIN_PAUSED && by_itself ? reason : VIR_DOMAIN_PAUSED_USER;
}

static gboolean
let_run(Incoming *incoming, const IncomingCommit *commit, gboolean started, GError **error)
{
    Domain *domain = incoming->domain;
    const gboolean run = incoming->handoff->run_state == VIR_DOMAIN_RUNNING;
    const int reason = run ? 0 : paused_reason(domain);
    domain_lock(domain);
    domain->incoming = FALSE;
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    domain_unlock(domain);
    move_nics_arrive(domain, commit->addresses);
    if (run && !started)
        priority_arrive(&process);
    domain_lock(domain);
    gboolean ok = TRUE;
    if (run && !started)
        ok = process_continue(domain, VIR_DOMAIN_RUNNING_MIGRATED, error);
    else if (!run)
        domain_set_state(domain, VIR_DOMAIN_PAUSED, reason);
    domain_unlock(domain);
    incoming->resumed_wall_us = g_get_real_time();
    return ok;
}

static gboolean
silent(GError **error)
{
    quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                     "the emulator that holds the guest does not answer; the move stays undecided");
    return FALSE;
}

static gboolean
refuse_dead(Incoming *incoming, GError **error)
{
    const char *why = "the emulator that held the guest there has ended";
    if (set_refused(incoming, why, error))
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s", why);
    return FALSE;
}

static gboolean
take(Incoming *incoming, const IncomingCommit *commit, GError **error)
{
    Handoff *handoff = incoming->handoff;
    gboolean started;
    Held held = look(incoming, &started);
    if (held == UNSURE)
        return silent(error);
    // With both emulators gone the disk is ours: the guest arrives, and has crashed.
    if (held == GONE && commit->source_has_ram)
        return refuse_dead(incoming, error);
    handoff->run_state = commit->run_state;
    handoff->persist_dest = commit->persist_dest;
    return handoff_transition(handoff, HANDOFF_DESTINATION_OWNED, error) && fault_point("dst-owned", error);
}

static gboolean
prepare_start(Incoming *incoming, const IncomingCommit *commit, GError **error)
{
    gboolean started;
    Held held = look(incoming, &started);
    if (held == UNSURE)
        return silent(error);
    if (held == GONE && commit->source_has_ram)
        return refuse_dead(incoming, error);
    return handoff_transition(incoming->handoff, HANDOFF_DESTINATION_STARTING, error) &&
           fault_point("dst-starting", error);
}

static gboolean
start(Incoming *incoming, const IncomingCommit *commit, GError **error)
{
    gboolean started = FALSE;
    Held held = look(incoming, &started);
    if (held == UNSURE)
        return silent(error);
    g_autoptr(GError) problem = NULL;
    incoming->crashed = held == GONE;
    if (held == HELD && !let_run(incoming, commit, started, &problem)) {
        incoming->crashed = look(incoming, &started) == GONE;
        if (!incoming->crashed) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return FALSE;
        }
    }
    return handoff_transition(incoming->handoff, HANDOFF_DESTINATION_RUNNING, error);
}

gboolean
incoming_commit(Incoming *incoming, const IncomingCommit *commit, GError **error)
{
    g_mutex_lock(&incoming->lock);
    gboolean ok = TRUE;
    if (incoming->state == INCOMING_REFUSED) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the move was refused here: %s",
                         incoming->failure);
        ok = FALSE;
    }
    const gboolean undecided = ok && incoming->state != INCOMING_ARRIVED;
    if (undecided && incoming->handoff->state == HANDOFF_DESTINATION_PREPARED)
        ok = take(incoming, commit, error);
    if (undecided && ok && incoming->handoff->state == HANDOFF_DESTINATION_OWNED)
        ok = prepare_start(incoming, commit, error);
    if (undecided && ok && incoming->handoff->state == HANDOFF_DESTINATION_STARTING)
        ok = start(incoming, commit, error);
    if (undecided && ok)
        incoming->state = INCOMING_ARRIVED;
    gboolean refused_now = undecided && incoming->state == INCOMING_REFUSED;
    g_cond_broadcast(&incoming->changed);
    g_mutex_unlock(&incoming->lock);
    if (refused_now)
        discard(incoming);
    return ok;
}

gboolean
incoming_close(Incoming *incoming, GError **error)
{
    g_mutex_lock(&incoming->lock);
    // The record names what is still to be removed.
    while (incoming->discarding)
        g_cond_wait(&incoming->changed, &incoming->lock);
    gboolean ok = !incoming->handoff || handoff_close(incoming->handoff, error);
    if (ok)
        incoming->handoff = NULL;
    g_mutex_unlock(&incoming->lock);
    if (!ok)
        return FALSE;
    g_mutex_lock(&sessions_lock);
    if (g_hash_table_lookup(sessions, incoming->token) == incoming)
        g_hash_table_remove(sessions, incoming->token);
    g_mutex_unlock(&sessions_lock);
    return TRUE;
}

gboolean
incoming_wait_arrived(Incoming *incoming, int timeout_ms)
{
    gint64 end = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&incoming->lock);
    while (incoming->talking && incoming->state != INCOMING_REFUSED &&
           g_cond_wait_until(&incoming->changed, &incoming->lock, end))
        continue;
    gboolean arrived = incoming->state == INCOMING_ARRIVED;
    g_mutex_unlock(&incoming->lock);
    return arrived;
}

static void
client_gone(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    incoming_refuse(data, "the client that prepared the migration has gone", TRUE, NULL);
}

void
incoming_client_closed(Driver *driver, RpcSession *client)
{
    GHashTableIter iter;
    gpointer token, incoming;
    g_mutex_lock(&sessions_lock);
    if (sessions)
        g_hash_table_iter_init(&iter, sessions);
    while (sessions && g_hash_table_iter_next(&iter, &token, &incoming))
        if (((Incoming *) incoming)->client == client)
            driver_defer(driver, client_gone, reference(incoming), unref_incoming);
    g_mutex_unlock(&sessions_lock);
}

static void
emulator_gone(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    Incoming *incoming = data;
    g_mutex_lock(&incoming->lock);
    gboolean ok = incoming->handoff && incoming->handoff->state == HANDOFF_DESTINATION_PREPARED &&
                  set_refused(incoming, "the emulator that waited for the guest there has ended", NULL);
    g_mutex_unlock(&incoming->lock);
    if (ok)
        discard(incoming);
}

void
incoming_emulator_ended(Domain *domain)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    Incoming *incoming = incoming_by_uuid(uuid);
    if (incoming)
        driver_defer(domain->driver, emulator_gone, incoming, unref_incoming);
}

// The daemon died while Prepare was at work: the source was told nothing.
static void
undo_prepare(Domain *domain, Handoff *handoff)
{
    if (domain && domain->incoming)
        departure_end_emulator(domain, VIR_DOMAIN_SHUTOFF_FAILED, -1);
    remove_images(handoff);
    handoff_close(handoff, NULL);
}

void
incoming_restart(Driver *driver, Handoff *handoff)
{
    g_autoptr(Domain) domain = departure_domain(driver, handoff);
    if (handoff->state == HANDOFF_DESTINATION_NONE) {
        undo_prepare(domain, handoff);
        return;
    }
    const IncomingCommit words = {
        .run_state = handoff->run_state, .persist_dest = handoff->persist_dest, .source_has_ram = TRUE};
    const HandoffState state = handoff->state;
    g_autoptr(Incoming) incoming = incoming_new(driver, domain, handoff, cookie_new(), NULL);
    gboolean started = FALSE;
    Held held = look(incoming, &started);
    if (state == HANDOFF_DESTINATION_PREPARED && held == GONE) {
        incoming_refuse(incoming, "virtquasard was restarted while the guest was on its way", FALSE, NULL);
    } else if (state == HANDOFF_DESTINATION_REFUSED) {
        incoming->state = INCOMING_REFUSED;
        incoming->failure = g_strdup("the move was refused before virtquasard was restarted");
        discard(incoming);
    } else if (state == HANDOFF_DESTINATION_RUNNING) {
        incoming->state = INCOMING_ARRIVED;
        incoming->crashed = held == GONE;
        incoming_book(incoming);
    } else if (state == HANDOFF_DESTINATION_STARTING ||
               (state == HANDOFF_DESTINATION_OWNED && held == HELD)) {
        // Without the guest, an owned record waits for the source to say whether it still has it.
        if (incoming_commit(incoming, &words, NULL))
            incoming_book(incoming);
    }
}
