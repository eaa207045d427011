// SPDX-License-Identifier: LGPL-2.1-or-later
// The control connection as the destination sees it: prepared, loaded, READY, the verdict, the last word.
#include "driver/migration/conversation.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/frame.h"
#include "driver/migration/nics.h"
#include "driver/migration/peer.h"
#include "emulator/monitor.h"

// The source speaks within this time while the guest is stopped; before that it sends "alive" every second.
#define CONTROL_SILENCE_MS 10000
// How soon a vote against the move, or the death of the emulator, is noticed.
#define SLICE_MS      100
#define LOAD_LIMIT_US (60 * G_TIME_SPAN_SECOND)

static gboolean
say(Channel *control, const char *type, const char *text)
{
    g_autoptr(json_t) object = json_pack("{s:s, s:s*}", "type", type, "message", text);
    return frame_send(control, object, PEER_TIMEOUT_MS, NULL);
}

static const char *
message_type(json_t *message)
{
    const char *type = json_string_value(json_object_get(message, "type"));
    return type ? type : "";
}

static gboolean
is_refused(Incoming *incoming, GError **error)
{
    g_mutex_lock(&incoming->lock);
    gboolean refused = incoming->state == INCOMING_REFUSED;
    if (refused)
        quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "%s", incoming->failure);
    g_mutex_unlock(&incoming->lock);
    return refused;
}

// Whether what the guest runs is translated here, as far as its code has come.
static gboolean
say_translated(Incoming *incoming, Channel *control, GError **error)
{
    domain_lock(incoming->domain);
    g_autoptr(Qmp) qmp = domain_qmp(incoming->domain, NULL);
    domain_unlock(incoming->domain);
    gboolean all = !qmp || !monitor_is_translating(qmp);
    if (!fault_point("dst-translated", error))
        return FALSE;
    g_autoptr(json_t) answer = json_pack("{s:s, s:b}", "type", "translated", "all", all);
    return frame_send(control, answer, PEER_TIMEOUT_MS, error);
}

// What the source may say besides. It does not know when its emulator stops the guest by itself.
static gboolean
take_aside(Incoming *incoming, Channel *control, json_t *message, const char *due, GError **error)
{
    const char *type = message_type(message);
    if (g_str_equal(type, "alive"))
        return TRUE;
    if (g_str_equal(type, "anchors"))
        return move_nics_take_offer(incoming, json_object_get(message, "list"), error);
    if (g_str_equal(type, "translated?"))
        return say_translated(incoming, control, error);
    quasar_set_error(error, VIR_ERR_RPC, "the source sent '%s' where '%s' was due", type, due);
    return FALSE;
}

// Waits for a message of one of the two types; others are taken aside. A refusal ends the wait.
static json_t *
expect(Incoming *incoming, Channel *control, const char *type, const char *other, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + CONTROL_SILENCE_MS * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        int ready = is_refused(incoming, error) ? -1 : channel_wait(control, SLICE_MS, error);
        if (ready < 0)
            return NULL;
        if (ready == 0 && g_get_monotonic_time() < deadline)
            continue;
        if (ready == 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the source has been silent for %d s",
                             CONTROL_SILENCE_MS / 1000);
            return NULL;
        }
        g_autoptr(json_t) message = frame_receive(control, PEER_TIMEOUT_MS, error);
        if (!message)
            return NULL;
        if (g_str_equal(message_type(message), type) || g_str_equal(message_type(message), other))
            return g_steal_pointer(&message);
        if (!take_aside(incoming, control, message, type, error))
            return NULL;
        deadline = g_get_monotonic_time() + CONTROL_SILENCE_MS * G_TIME_SPAN_MILLISECOND;
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

static json_t *
next_event(Incoming *incoming, QmpWaiter *waiter, gint64 deadline, GError **error)
{
    for (;;) {
        g_autoptr(GError) problem = NULL;
        gint64 slice = g_get_monotonic_time() + SLICE_MS * G_TIME_SPAN_MILLISECOND;
        json_t *event = qmp_waiter_next(waiter, MIN(slice, deadline), &problem);
        if (event)
            return event;
        if (is_refused(incoming, error))
            return NULL;
        if (slice < deadline && g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT))
            continue;
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
}

static gboolean
wait_loaded(Incoming *incoming, Qmp *qmp, QmpWaiter *waiter, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + LOAD_LIMIT_US;
    for (;;) {
        g_autoptr(json_t) event = next_event(incoming, waiter, deadline, error);
        if (!event)
            return FALSE;
        const char *status = json_string_value(json_object_get(json_object_get(event, "data"), "status"));
        if (g_strcmp0(status, "completed") == 0)
            // QMP's stop flushes every disk, which makes what the mirror wrote durable before we say READY.
            return monitor_stop(qmp, error);
        if (g_strcmp0(status, "failed") == 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                             "the emulator could not load the guest; its log says why");
            return FALSE;
        }
    }
}

static gboolean
await_disks(Incoming *incoming, Channel *control, GError **error)
{
    g_autoptr(json_t) message = expect(incoming, control, "disks-done", "abort", error);
    incoming_end_writeback(incoming);
    if (!message)
        return FALSE;
    if (g_str_equal(message_type(message), "disks-done"))
        return TRUE;
    incoming_refuse(incoming, "the source gave the move up", FALSE, NULL);
    return FALSE;
}

// Until READY is sent.
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
    if (!fault_point("dst-prepared", error) || !say(control, "prepared", NULL) ||
        !await_disks(incoming, control, error))
        return FALSE;
    if (!remove_exports(incoming, qmp, error) || !wait_loaded(incoming, qmp, waiter, error) ||
        !fault_point("dst-loaded", error))
        return FALSE;
    g_mutex_lock(&incoming->lock);
    incoming->ready_sent = TRUE;
    g_mutex_unlock(&incoming->lock);
    return say(control, "ready", NULL) && fault_point("dst-ready", error);
}

static gboolean
commit(Incoming *incoming, Channel *control, json_t *message)
{
    g_autoptr(GError) error = NULL;
    const IncomingCommit words = {
        .run_state = (int) json_integer_value(json_object_get(message, "run-state")),
        .persist_dest = json_is_true(json_object_get(message, "persist-dest")),
        .source_has_ram = !json_is_false(json_object_get(message, "ram")),
        .addresses = json_object_get(message, "nics"),
    };
    if (!incoming_commit(incoming, &words, &error)) {
        g_warning("migration of %s: %s", incoming->domain->name, error->message);
        return FALSE;
    }
    g_autoptr(json_t) running =
        json_pack("{s:s, s:I}", "type", "running", "resumed", (json_int_t) incoming->resumed_wall_us);
    frame_send(control, running, PEER_TIMEOUT_MS, NULL);
    return TRUE;
}

static void
show_undecided(Incoming *incoming, const char *why)
{
    g_warning("migration of %s: undecided: %s", incoming->domain->name, why);
    domain_lock(incoming->domain);
    domain_add_message(incoming->domain,
                       "migration undecided: the guest is loaded here and waits for the source host's word; "
                       "restore the link between the hosts, and they will settle it");
    domain_unlock(incoming->domain);
}

// After READY only the source's word counts, or a vote against the move; when the connection breaks, the
// guest waits here, loaded, until the source asks again (resolve.h).
static void
await_verdict(Incoming *incoming, Channel *control)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) message = expect(incoming, control, "commit", "abort", &error);
    if (!message) {
        g_mutex_lock(&incoming->lock);
        gboolean undecided = incoming->state == INCOMING_RUNNING;
        g_mutex_unlock(&incoming->lock);
        if (undecided)
            show_undecided(incoming, error->message);
        return;
    }
    if (g_str_equal(message_type(message), "abort")) {
        incoming_refuse(incoming, "the source gave the move up", FALSE, NULL);
        if (incoming_close(incoming, NULL))
            say(control, "closed", NULL);
        return;
    }
    if (!commit(incoming, control, message))
        return;
    fault_point("dst-running", NULL);
    incoming_book(incoming);
    g_autoptr(json_t) done = expect(incoming, control, "done", "done", NULL);
    incoming_finish_job(incoming, done);
    if (done && incoming_close(incoming, NULL))
        say(control, "closed", NULL);
}

// Tells the source that it must keep the guest, and hears that it does.
static void
await_abort(Incoming *incoming, Channel *control)
{
    g_autofree char *why = NULL;
    g_mutex_lock(&incoming->lock);
    why = g_strdup(incoming->failure);
    g_mutex_unlock(&incoming->lock);
    gboolean heard = say(control, "refused", why);
    while (heard) {
        g_autoptr(json_t) message = frame_receive(control, PEER_TIMEOUT_MS, NULL);
        if (message && !g_str_equal(message_type(message), "abort"))
            continue; // said before it knew
        if (message && incoming_close(incoming, NULL))
            say(control, "closed", NULL);
        return;
    }
}

static gboolean
begin(Incoming *incoming)
{
    g_mutex_lock(&incoming->lock);
    gboolean first = incoming->state == INCOMING_WAITING;
    if (first) {
        incoming->state = INCOMING_RUNNING;
        incoming->handoff->claimed = TRUE;
        // Unsaved, a restart would take the record for one that the source does not know of.
        first = incoming->talking = handoff_store(incoming->handoff, NULL);
    }
    g_mutex_unlock(&incoming->lock);
    return first;
}

void
conversation_hold(Incoming *incoming, Channel *control)
{
    g_autoptr(Channel) channel = control;
    g_autoptr(GError) error = NULL;
    if (!begin(incoming))
        return;
    if (load(incoming, channel, &error))
        await_verdict(incoming, channel);
    else
        incoming_refuse(incoming, error ? error->message : "the source cannot be reached", FALSE, NULL);
    if (is_refused(incoming, NULL))
        await_abort(incoming, channel);
    g_mutex_lock(&incoming->lock);
    incoming->talking = FALSE;
    g_cond_broadcast(&incoming->changed);
    g_mutex_unlock(&incoming->lock);
}
