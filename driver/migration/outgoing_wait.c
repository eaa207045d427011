// SPDX-License-Identifier: LGPL-2.1-or-later
// The source half's waits: for the destination's words, for the emulator's events.
#include "driver/migration/outgoing_internal.h"

#include <string.h>

#include "base/error.h"
#include "driver/migration/peer.h"

#define ALIVE_US         G_TIME_SPAN_SECOND
#define STATS_US         (500 * G_TIME_SPAN_MILLISECOND)
#define WORDS_MS         200
#define RUNNING_WORDS_MS 2000

gboolean
outgoing_say(Outgoing *out, const char *type, GError **error)
{
    g_autoptr(json_t) message = json_pack("{s:s}", "type", type);
    out->alive_us = g_get_monotonic_time();
    return frame_send(out->end->control, message, PEER_TIMEOUT_MS, error);
}

gboolean
outgoing_check_abort(Outgoing *out, GError **error)
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

// The answer to outgoing_ask_translated(), which may come between any others.
static gboolean
take_answer(Outgoing *out, json_t *message)
{
    if (g_strcmp0(json_string_value(json_object_get(message, "type")), "translated") != 0)
        return FALSE;
    out->translated = json_is_true(json_object_get(message, "all"));
    out->question_open = FALSE;
    return TRUE;
}

// The next word that is no such answer. Until `released` an abort or the death of the emulator ends the wait.
static json_t *
await_word(Outgoing *out, const char *type, gint64 deadline_us, GError **error)
{
    Channel *control = out->end->control;
    gboolean released = out->options->handoff->state != HANDOFF_SOURCE_INTENT;
    for (;;) {
        if (!released && !outgoing_check_abort(out, error))
            return NULL;
        gint64 left = deadline_us - g_get_monotonic_time();
        int ready = channel_wait(control, (int) (CLAMP(left, 0, SLICE_US) / 1000), error);
        if (ready < 0)
            return NULL;
        if (ready > 0) {
            g_autoptr(json_t) message = frame_receive(control, PEER_TIMEOUT_MS, error);
            if (!message || !take_answer(out, message))
                return g_steal_pointer(&message);
        } else if (left <= 0) {
            quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the destination did not say \"%s\" in time",
                             type);
            return NULL;
        }
    }
}

gboolean
outgoing_hear(Outgoing *out, const char *type, gint64 deadline_us, GError **error)
{
    g_autoptr(json_t) message = await_word(out, type, deadline_us, error);
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

// What the destination has said meanwhile.
static gboolean
listen_aside(Outgoing *out, GError **error)
{
    int ready = channel_wait(out->end->control, 0, error);
    if (ready <= 0)
        return ready == 0;
    g_autoptr(json_t) message = frame_receive(out->end->control, PEER_TIMEOUT_MS, error);
    if (!message)
        return FALSE;
    if (take_answer(out, message))
        return TRUE;
    // It may have loaded all before our own emulator knows that it has sent all. Else it speaks unasked only
    // to say that it fails.
    const char *got = json_string_value(json_object_get(message, "type"));
    out->ready_heard = out->deadline_us && g_strcmp0(got, "ready") == 0;
    if (!out->ready_heard)
        set_answer_error(out, got, message, error);
    return out->ready_heard;
}

gboolean
outgoing_ask_translated(Outgoing *out, GError **error)
{
    // Not a second time before it has answered: it may be busy, and reads what comes next after that.
    gboolean due = !out->question_open;
    out->question_open = TRUE;
    return !due || outgoing_say(out, "translated?", error);
}

// Between two waits for an event.
gboolean
outgoing_tick(Outgoing *out, GError **error)
{
    gint64 now = g_get_monotonic_time();
    if (!outgoing_check_abort(out, error) ||
        (now - out->alive_us >= ALIVE_US && !outgoing_say(out, "alive", error)))
        return FALSE;
    if (!out->deadline_us && now - out->asked_us >= STATS_US)
        outgoing_follow(out);
    return listen_aside(out, error);
}

// Each event is taken here. STOP may come after "pre-switchover": QEMU's main thread, which stops the guest
// for us, lets its migration thread go on while it waits for the CPUs.
json_t *
outgoing_take_event(Outgoing *out, gint64 deadline, GError **error)
{
    json_t *event = qmp_waiter_next(out->waiter, deadline, error);
    if (event && g_str_equal(json_string_value(json_object_get(event, "event")), "STOP"))
        out->stopped_us = json_integer_value(json_object_get(event, "at"));
    return event;
}

// The next event of the emulator, but no later than `deadline`.
json_t *
outgoing_next_event(Outgoing *out, gint64 deadline, GError **error)
{
    for (;;) {
        gint64 slice = MIN(deadline, g_get_monotonic_time() + SLICE_US);
        g_autoptr(GError) problem = NULL;
        json_t *event = outgoing_take_event(out, slice, &problem);
        if (event)
            return event;
        if (!g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT)) {
            outgoing_check_abort(out, error);
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
        if (!outgoing_tick(out, error))
            return NULL;
    }
}

const char *
outgoing_event_field(json_t *event, const char *field)
{
    const char *value = json_string_value(json_object_get(json_object_get(event, "data"), field));
    return value ? value : "";
}

// Waits for `name` of this job, whose other events and failures mean what they say.
gboolean
outgoing_wait_job(Outgoing *out, const char *name, const char *job, gint64 deadline, GError **error)
{
    for (;;) {
        g_autoptr(json_t) event = outgoing_next_event(out, deadline, error);
        if (!event)
            return FALSE;
        const char *got = json_string_value(json_object_get(event, "event"));
        if (!g_str_equal(outgoing_event_field(event, "device"), job))
            continue;
        if (*outgoing_event_field(event, "error")) {
            out->broken = TRUE;
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "copying disk %s failed: %s",
                             job + strlen("migration-"), outgoing_event_field(event, "error"));
            return FALSE;
        }
        if (g_str_equal(got, name))
            return TRUE;
    }
}

void
outgoing_set_stream_error(Outgoing *out, const char *status, GError **error)
{
    MonitorMigration migration = {{0}};
    monitor_query_migrate(out->qmp, &migration, NULL);
    out->broken = TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                     "the memory did not reach it (%s); check the link between the hosts",
                     *migration.error_text ? migration.error_text : status);
}

// Waits until QEMU's migration reaches `status`.
gboolean
outgoing_wait_migration(Outgoing *out, const char *status, gint64 deadline, GError **error)
{
    for (;;) {
        g_autoptr(json_t) event = outgoing_next_event(out, deadline, error);
        if (!event)
            return FALSE;
        if (!g_str_equal(json_string_value(json_object_get(event, "event")), "MIGRATION"))
            continue;
        const char *now = outgoing_event_field(event, "status");
        if (g_str_equal(now, status))
            return TRUE;
        if (g_str_equal(now, "failed") || g_str_equal(now, "cancelled")) {
            outgoing_set_stream_error(out, now, error);
            return FALSE;
        }
    }
}

static gboolean
was_destroyed(Outgoing *out)
{
    domain_lock(out->domain);
    gboolean destroyed = out->domain->destroying;
    domain_unlock(out->domain);
    return destroyed;
}

// They are waited for only when a stream broke, and not long if the guest stands still meanwhile.
static int
words_limit_ms(const Outgoing *out)
{
    if (!out->broken)
        return 0;
    return out->deadline_us || !out->options->live ? WORDS_MS : RUNNING_WORDS_MS;
}

// NULL without an error: it says nothing.
static json_t *
await_last_word(Outgoing *out, GError **error)
{
    Channel *control = out->end->control;
    gint64 deadline = g_get_monotonic_time() + words_limit_ms(out) * G_TIME_SPAN_MILLISECOND;
    for (;;) {
        gint64 left = deadline - g_get_monotonic_time();
        if (channel_wait(control, (int) (MAX(left, 0) / 1000), NULL) == 0)
            return NULL;
        g_autoptr(json_t) message = frame_receive(control, PEER_TIMEOUT_MS, error);
        if (!message || !take_answer(out, message))
            return g_steal_pointer(&message);
    }
}

// When the destination fails, the ends of its sockets are seen before its own words, which are clearer; when
// the guest is destroyed here, so are the ends of its emulator's.
void
outgoing_explain_end(Outgoing *out, GError **error)
{
    g_autoptr(GError) lost = NULL;
    if (out->answered || g_atomic_int_get(&out->call) == CALL_ABORTED)
        return;
    if (was_destroyed(out)) {
        g_clear_error(error);
        quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "domain '%s' was destroyed during its migration",
                         out->domain->name);
        return;
    }
    if (!out->end->control || !emulator_is_alive(&out->process))
        return;
    g_autoptr(json_t) message = await_last_word(out, &lost);
    const char *got = json_string_value(json_object_get(message, "type"));
    if (message ? g_strcmp0(got, "refused") != 0 : !lost)
        return;
    g_clear_error(error);
    if (message)
        set_answer_error(out, got, message, error);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "the connection to it was lost; is its virtquasard running?");
}
