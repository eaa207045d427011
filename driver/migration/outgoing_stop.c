// SPDX-License-Identifier: LGPL-2.1-or-later
// When a guest that moves is stopped: its memory is nearly there, and its frames wait.
#include "driver/migration/outgoing_internal.h"

#include "base/error.h"

// A stopped guest waits for READY max(1 s, 10 x the estimate of the pause); then it runs on here.
#define SWITCH_LEAST_US G_TIME_SPAN_SECOND
#define SWITCH_FACTOR   10

// How long before the end of the first pass over the memory frames to the guest begin to wait. QEMU may stop
// an idle guest at that very end, and what it reads for a guest that has stopped is lost.
#define HOLD_AHEAD_US (20 * G_TIME_SPAN_MILLISECOND)
// How long a guest, once its memory has gone, runs on here for the destination to translate what it runs. It
// is looked at when a pass begins; the emulator makes pass after pass meanwhile.
#define TRANSLATE_LIMIT_US (1500 * G_TIME_SPAN_MILLISECOND)
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

// Whether what is left of the memory can follow within the pause that the user allows.
static gboolean
is_nearly_there(Outgoing *out)
{
    MonitorMigration migration;
    if (!monitor_query_migrate(out->qmp, &migration, NULL))
        return FALSE;
    guint64 elapsed_us = (guint64) MAX(g_get_monotonic_time() - out->memory_us, 1);
    double rate =
        (double) outgoing_relay_bytes(out, out->mirrors->len) * G_USEC_PER_SEC / (double) elapsed_us;
    domain_lock(out->domain);
    guint64 allowed_ms = out->domain->max_downtime_ms;
    domain_unlock(out->domain);
    // The best so far: while the guest only stays for its translating, next to nothing is sent.
    out->rate = MAX(out->rate, MAX(rate, migration.ram_bps));
    return (double) migration.ram_remaining * 1000 <= out->rate * (double) allowed_ms;
}

static void
hold_nics(Outgoing *out)
{
    if (!out->held)
        move_nics_hold(out->nics);
    out->held = TRUE;
}

void
outgoing_hold_early(Outgoing *out)
{
    if (move_nics_are_exact(out->nics))
        hold_nics(out);
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
        json_t *event = outgoing_take_event(out, MIN(pass->next_us, deadline), &problem);
        if (event)
            return event;
        if (!g_error_matches(problem, QUASAR_ERROR, VIR_ERR_OPERATION_TIMEOUT) ||
            g_get_monotonic_time() >= deadline)
            break;
        if (!outgoing_tick(out, error))
            return NULL;
        pass->next_us = watch_pass(out, pass);
    }
    return outgoing_next_event(out, deadline, error);
}

static gboolean
is_later_pass(json_t *event)
{
    json_t *pass = json_object_get(json_object_get(event, "data"), "pass");
    return json_integer_value(pass) >= 2;
}

// Whether the guest may stay for its translating, pass after pass: not with NICs that have to be held and let
// go at each of them.
static gboolean
may_stay(const Outgoing *out)
{
    return out->tells && move_nics_are_exact(out->nics) &&
           g_get_monotonic_time() - out->passed_us <= TRANSLATE_LIMIT_US;
}

// A pass after the first begins, and the guest may be stopped now. It is held before that is looked at, since
// a short pass may be the last one; but it is not to be without its frames for a long one.
static gboolean
is_last_pass(Outgoing *out)
{
    hold_nics(out);
    if ((out->translated || !may_stay(out)) && is_nearly_there(out))
        return TRUE;
    if (move_nics_are_exact(out->nics))
        return FALSE;
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
        const char *status = outgoing_event_field(event, "status");
        if (g_str_equal(status, "failed") || g_str_equal(status, "cancelled")) {
            outgoing_set_stream_error(out, status, error);
            return FALSE;
        }
        out->at_switch |= g_str_equal(status, "pre-switchover");
        if (out->at_switch)
            return TRUE;
        if (!is_later_pass(event))
            continue;
        out->passed_us = out->passed_us ? out->passed_us : g_get_monotonic_time();
        // Passes may follow each other faster than a wait for the next one ends without it.
        if (!outgoing_tick(out, error))
            return FALSE;
        // On a busy host translating takes longer than the memory does; the answer is for the next pass.
        if (may_stay(out) && !outgoing_ask_translated(out, error))
            return FALSE;
        if (is_last_pass(out))
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
gboolean
outgoing_stop_guest(Outgoing *out, gint64 deadline, GError **error)
{
    if (!wait_nearly_there(out, deadline, error))
        return FALSE;
    g_clear_pointer(&out->writeback, writeback_end);
    if (out->bandwidth && !out->at_switch)
        outgoing_set_bandwidth(out, 0, NULL);
    hold_nics(out);
    if (!out->at_switch && move_nics_are_exact(out->nics))
        move_nics_note_addresses(out->nics);
    else if (!out->at_switch)
        move_nics_await_taken(out->nics);
    set_deadline(out);
    return out->at_switch || (monitor_stop(out->qmp, error) &&
                              outgoing_wait_migration(out, "pre-switchover", out->deadline_us, error));
}
