// SPDX-License-Identifier: LGPL-2.1-or-later
// The destination half: sessions by token, the conversation with the source, commit and refusal.
#include "driver/migration/incoming.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/peer.h"
#include "driver/process.h"
#include "driver/store.h"
#include "emulator/monitor.h"

// The source speaks within this time while the guest is stopped; before that it sends "alive" every second.
#define CONTROL_SILENCE_MS 10000

static GMutex sessions_lock;
static GHashTable *sessions; // token -> Incoming (no reference: removed by the last unref)

Incoming *
incoming_new(Driver *driver, Domain *domain, Handoff *handoff, Cookie *source, GPtrArray *created,
             guint flags)
{
    Incoming *incoming = g_new0(Incoming, 1);
    incoming->references = 1;
    incoming->driver = driver;
    incoming->domain = domain_ref(domain);
    incoming->token = g_strdup(handoff->token);
    incoming->source_uuid = g_strdup(handoff->uuid);
    incoming->handoff = handoff;
    incoming->source = source;
    incoming->created = created;
    incoming->flags = flags;
    incoming->relays = g_ptr_array_new_with_free_func((GDestroyNotify) relay_free);
    g_mutex_init(&incoming->lock);
    g_cond_init(&incoming->changed);
    g_mutex_lock(&sessions_lock);
    if (!sessions)
        sessions = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_insert(sessions, incoming->token, incoming);
    g_mutex_unlock(&sessions_lock);
    return incoming;
}

void
incoming_unref(Incoming *incoming)
{
    g_mutex_lock(&sessions_lock);
    gboolean last = --incoming->references == 0;
    if (last)
        g_hash_table_remove(sessions, incoming->token);
    g_mutex_unlock(&sessions_lock);
    if (!last)
        return;
    g_ptr_array_unref(incoming->relays);
    handoff_free(incoming->handoff);
    cookie_free(incoming->source);
    g_ptr_array_unref(incoming->created);
    domain_unref(incoming->domain);
    g_mutex_clear(&incoming->lock);
    g_cond_clear(&incoming->changed);
    g_free(incoming->failure);
    g_free(incoming->token);
    g_free(incoming->source_uuid);
    g_free(incoming);
}

static Incoming *
find_session(GHRFunc matches, gpointer data)
{
    g_mutex_lock(&sessions_lock);
    Incoming *found = sessions ? g_hash_table_find(sessions, matches, data) : NULL;
    if (found)
        found->references++;
    g_mutex_unlock(&sessions_lock);
    return found;
}

static gboolean
has_token(gpointer key, gpointer value, gpointer token)
{
    return g_str_equal(key, token);
}

static gboolean
has_uuid(gpointer key, gpointer value, gpointer uuid)
{
    return g_str_equal(((Incoming *) value)->source_uuid, uuid);
}

Incoming *
incoming_by_token(const char *token)
{
    return find_session(has_token, (gpointer) token);
}

Incoming *
incoming_by_uuid(const char *uuid)
{
    return find_session(has_uuid, (gpointer) uuid);
}

static int
connect_local(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
        return fd;
    quasar_set_system_error(error, errno, "cannot reach the emulator's socket %s", path);
    if (fd >= 0)
        close(fd);
    return -1;
}

void
incoming_relay(Incoming *incoming, const char *name, const char *path, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    int fd = connect_local(path, &error);
    if (fd < 0) {
        g_warning("migration of %s: %s", incoming->domain->name, error->message);
        channel_free(channel);
        return;
    }
    g_mutex_lock(&incoming->lock);
    g_ptr_array_add(incoming->relays, relay_start(name, fd, channel));
    g_mutex_unlock(&incoming->lock);
}

// With the lock held.
static void
cut_relays(Incoming *incoming)
{
    for (guint i = 0; i < incoming->relays->len; i++)
        relay_cut(g_ptr_array_index(incoming->relays, i));
}

static void
remove_created(Incoming *incoming)
{
    for (guint i = 0; i < incoming->created->len; i++)
        if (unlink(g_ptr_array_index(incoming->created, i)) < 0)
            g_warning("cannot remove %s: %s", (char *) g_ptr_array_index(incoming->created, i),
                      g_strerror(errno));
    g_ptr_array_set_size(incoming->created, 0);
}

// Ends the emulator that waited for the guest, and what Prepare made on disk.
static void
discard(Incoming *incoming)
{
    Domain *domain = incoming->domain;
    domain_lock(domain);
    domain->destroying = TRUE;
    if (domain_is_active(domain)) {
        process_kill(domain, FALSE, NULL);
        process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
    }
    if (domain->job.async == ASYNC_MIGRATION_IN)
        job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
    remove_created(incoming);
}

gboolean
incoming_refuse(Incoming *incoming, const char *why, GError **error)
{
    g_mutex_lock(&incoming->lock);
    gboolean already = incoming->state == INCOMING_REFUSED;
    if (incoming->state == INCOMING_ARRIVED)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the guest has arrived and is ours");
    gboolean ok = already || (incoming->state != INCOMING_ARRIVED &&
                              handoff_transition(incoming->handoff, HANDOFF_DESTINATION_REFUSED, error));
    if (ok && !already) {
        incoming->state = INCOMING_REFUSED;
        incoming->failure = g_strdup(why);
        cut_relays(incoming);
        if (incoming->control)
            channel_shutdown(incoming->control);
        g_cond_broadcast(&incoming->changed);
    }
    g_mutex_unlock(&incoming->lock);
    if (!ok || already)
        return ok;
    g_message("migration of %s is refused here: %s", incoming->domain->name, why);
    discard(incoming);
    return TRUE;
}

static gboolean
let_run(Incoming *incoming, int run_state, GError **error)
{
    Domain *domain = incoming->domain;
    domain_lock(domain);
    for (guint i = 0; domain->vnets && i < domain->vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(domain->vnets, i);
        g_autoptr(GError) problem = NULL;
        if (vnet && !vnet_client_activate(vnet, TRUE, NULL, &problem))
            g_warning("NIC %u of %s: %s", i, domain->name, problem->message);
    }
    domain->incoming = FALSE;
    gboolean ok = TRUE;
    if (run_state == VIR_DOMAIN_RUNNING)
        ok = process_continue(domain, VIR_DOMAIN_RUNNING_MIGRATED, error);
    else
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
    domain_unlock(domain);
    return ok;
}

gboolean
incoming_commit(Incoming *incoming, int run_state, GError **error)
{
    g_mutex_lock(&incoming->lock);
    gboolean ok = incoming->state == INCOMING_ARRIVED;
    if (!ok && incoming->handoff && incoming->handoff->state == HANDOFF_DESTINATION_PREPARED) {
        incoming->handoff->run_state = run_state;
        ok = handoff_transition(incoming->handoff, HANDOFF_DESTINATION_OWNED, error) &&
             fault_point("dst-owned", error) &&
             handoff_transition(incoming->handoff, HANDOFF_DESTINATION_STARTING, error) &&
             fault_point("dst-starting", error) && let_run(incoming, run_state, error);
        incoming->resumed_wall_us = g_get_real_time();
        ok = ok && handoff_transition(incoming->handoff, HANDOFF_DESTINATION_RUNNING, error);
        if (ok)
            incoming->state = INCOMING_ARRIVED;
        g_cond_broadcast(&incoming->changed);
    } else if (!ok) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the move was refused here: %s",
                         incoming->failure ? incoming->failure : "unknown");
    }
    g_mutex_unlock(&incoming->lock);
    return ok;
}

// Bookkeeping once the guest runs: definition, status, events. Outside the pause.
static void
settle(Incoming *incoming)
{
    Domain *domain = incoming->domain;
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    if (incoming->handoff->persist_dest && !domain->persistent) {
        domain->persistent = domain_def_copy(domain->live);
        if (!store_save_definition(domain, domain->persistent, &error))
            g_warning("definition of %s: %s", domain->name, error->message);
    }
    g_clear_error(&error);
    if (!store_save_status(domain, &error))
        g_warning("status of %s: %s", domain->name, error->message);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_MIGRATED);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
    domain_unlock(domain);
}

// The figures that came with "done" (NULL: the source's last word is missing); the job ends.
static void
finish_job(Incoming *incoming, json_t *done)
{
    Domain *domain = incoming->domain;
    domain_lock(domain);
    if (domain->job.async == ASYNC_MIGRATION_IN) {
        JobStats *stats = &domain->job.current;
        stats->stopped_us = json_integer_value(json_object_get(done, "stopped"));
        stats->resumed_us = json_integer_value(json_object_get(done, "resumed"));
        stats->downtime = (guint64) json_integer_value(json_object_get(done, "downtime"));
        stats->downtime_set = stats->resumed_us != 0;
        stats->memory_total = (guint64) json_integer_value(json_object_get(done, "memory-total"));
        stats->memory_processed = (guint64) json_integer_value(json_object_get(done, "memory"));
        stats->memory_iteration = (guint64) json_integer_value(json_object_get(done, "iteration"));
        stats->disk_total = stats->disk_processed =
            (guint64) json_integer_value(json_object_get(done, "disk"));
        stats->data_total = stats->data_processed = stats->memory_processed + stats->disk_processed;
        job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    }
    domain_unlock(domain);
}

static gboolean
send_simple(Channel *control, const char *type, const char *message, GError **error)
{
    g_autoptr(json_t) object = json_pack("{s:s, s:s*}", "type", type, "message", message);
    return frame_send(control, object, PEER_TIMEOUT_MS, error);
}

static const char *
message_type(json_t *message)
{
    const char *type = json_string_value(json_object_get(message, "type"));
    return type ? type : "";
}

// Waits for a message of one of the two types; "alive" is passed over. *other is set when it was the second.
static json_t *
expect(Channel *control, const char *type, const char *other, GError **error)
{
    for (;;) {
        g_autoptr(json_t) message = frame_receive(control, CONTROL_SILENCE_MS, error);
        if (!message)
            return NULL;
        if (g_str_equal(message_type(message), "alive"))
            continue;
        if (g_str_equal(message_type(message), type) || g_str_equal(message_type(message), other))
            return g_steal_pointer(&message);
        quasar_set_error(error, VIR_ERR_RPC, "the source sent '%s' where '%s' was due", message_type(message),
                         type);
        return NULL;
    }
}

static gboolean
remove_exports(Incoming *incoming, Qmp *qmp, GError **error)
{
    if (incoming->source->disks->len == 0)
        return TRUE;
    for (guint i = 0; i < incoming->source->disks->len; i++) {
        CookieDisk *disk = g_ptr_array_index(incoming->source->disks, i);
        if (!monitor_block_export_del(qmp, disk->target, TRUE, error))
            return FALSE;
    }
    return monitor_nbd_server_stop(qmp, error);
}

static gboolean
wait_loaded(Qmp *qmp, QmpWaiter *waiter, GError **error)
{
    for (;;) {
        g_autoptr(json_t) event =
            qmp_waiter_next(waiter, g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND, error);
        if (!event)
            return FALSE;
        const char *status = json_string_value(json_object_get(json_object_get(event, "data"), "status"));
        if (g_strcmp0(status, "completed") == 0)
            // QMP's stop flushes every disk, which makes what the mirror wrote durable before we say READY.
            return monitor_stop(qmp, error);
        if (g_strcmp0(status, "failed") == 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                             "the emulator could not load the guest; see its log");
            return FALSE;
        }
    }
}

// From "disks-done" to READY sent.
static gboolean
load(Incoming *incoming, Channel *control, GError **error)
{
    static const char *const events[] = {"MIGRATION", NULL};
    domain_lock(incoming->domain);
    g_autoptr(Qmp) qmp = domain_qmp(incoming->domain, error);
    domain_unlock(incoming->domain);
    if (!qmp)
        return FALSE;
    g_autoptr(QmpWaiter) waiter = qmp_waiter_new(qmp, events);
    if (!fault_point("dst-prepared", error) || !send_simple(control, "prepared", NULL, error))
        return FALSE;
    g_autoptr(json_t) message = expect(control, "disks-done", "abort", error);
    if (!message)
        return FALSE;
    if (g_str_equal(message_type(message), "abort")) {
        quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "the source gave the move up");
        return FALSE;
    }
    if (!remove_exports(incoming, qmp, error) || !wait_loaded(qmp, waiter, error) ||
        !fault_point("dst-loaded", error))
        return FALSE;
    g_mutex_lock(&incoming->lock);
    incoming->ready_sent = TRUE;
    g_mutex_unlock(&incoming->lock);
    return send_simple(control, "ready", NULL, error) && fault_point("dst-ready", error);
}

// After READY only the source's word counts; when the connection breaks, the guest waits here, loaded, until
// the source asks again (incoming_resolve).
static void
await_verdict(Incoming *incoming, Channel *control)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = expect(control, "commit", "abort", &error);
    if (!message) {
        g_warning("migration of %s: undecided, the source is silent: %s", incoming->domain->name,
                  error->message);
        domain_lock(incoming->domain);
        domain_add_message(
            incoming->domain,
            "migration undecided: the guest is loaded here and waits for the source host's word");
        domain_unlock(incoming->domain);
        return;
    }
    if (g_str_equal(message_type(message), "abort")) {
        incoming_refuse(incoming, "the source gave the move up", NULL);
        return;
    }
    int run_state = (int) json_integer_value(json_object_get(message, "run-state"));
    incoming->handoff->persist_dest = json_is_true(json_object_get(message, "persist-dest"));
    if (!incoming_commit(incoming, run_state, &error)) {
        g_warning("migration of %s: %s", incoming->domain->name, error->message);
        return;
    }
    g_autoptr(json_t) running =
        json_pack("{s:s, s:I}", "type", "running", "resumed", (json_int_t) incoming->resumed_wall_us);
    frame_send(control, running, PEER_TIMEOUT_MS, NULL);
    fault_point("dst-running", NULL);
    settle(incoming);
    g_autoptr(json_t) done = expect(control, "done", "done", NULL);
    finish_job(incoming, done);
    if (done && handoff_close(incoming->handoff, NULL))
        incoming->handoff = NULL;
}

void
incoming_converse(Incoming *incoming, Channel *control)
{
    g_autoptr(Channel) channel = control;
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&incoming->lock);
    gboolean first = incoming->state == INCOMING_WAITING;
    if (first) {
        incoming->state = INCOMING_RUNNING;
        incoming->control = channel;
    }
    g_mutex_unlock(&incoming->lock);
    if (!first)
        return;
    if (load(incoming, channel, &error)) {
        await_verdict(incoming, channel);
    } else {
        send_simple(channel, "failed", error->message, NULL);
        incoming_refuse(incoming, error->message, NULL);
    }
    g_mutex_lock(&incoming->lock);
    incoming->control = NULL;
    g_cond_broadcast(&incoming->changed);
    g_mutex_unlock(&incoming->lock);
}

gboolean
incoming_wait_arrived(Incoming *incoming, int timeout_ms)
{
    gint64 end = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&incoming->lock);
    while (incoming->control && g_cond_wait_until(&incoming->changed, &incoming->lock, end))
        continue;
    gboolean arrived = incoming->state == INCOMING_ARRIVED;
    g_mutex_unlock(&incoming->lock);
    return arrived;
}
