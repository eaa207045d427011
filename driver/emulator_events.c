// SPDX-License-Identifier: LGPL-2.1-or-later
// What the emulator says by itself: events of QMP become states and events of the domain.
#include "driver/lifecycle.h"
#include "driver/process.h"
#include "emulator/qmp.h"

typedef struct {
    const char *name; // QEMU's RunState
    int state, reason;
} RunState;

static const RunState run_states[] = {
    {"running", VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNKNOWN},
    {"paused", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER},
    {"prelaunch", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_STARTING_UP},
    {"inmigrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION},
    {"postmigrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION},
    {"finish-migrate", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION},
    {"io-error", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR},
    {"watchdog", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_WATCHDOG},
    {"shutdown", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_SHUTTING_DOWN},
    {"guest-panicked", VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED},
};

void
emulator_state_from_runstate(const char *runstate, int *state, int *reason)
{
    *state = VIR_DOMAIN_PAUSED;
    *reason = VIR_DOMAIN_PAUSED_UNKNOWN;
    for (gsize i = 0; i < G_N_ELEMENTS(run_states); i++) {
        if (!g_str_equal(run_states[i].name, runstate))
            continue;
        *state = run_states[i].state;
        *reason = run_states[i].reason;
    }
}

static void
on_stop(Domain *domain)
{
    domain->resume_expected = FALSE;
    if (domain->stop_expected) {
        domain->stop_expected = FALSE;
        return;
    }
    if (domain->state != VIR_DOMAIN_RUNNING)
        return;
    gboolean migrating = domain->job.async == ASYNC_MIGRATION_OUT;
    domain_set_state(domain, VIR_DOMAIN_PAUSED,
                     migrating ? VIR_DOMAIN_PAUSED_MIGRATION : VIR_DOMAIN_PAUSED_UNKNOWN);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED,
                          migrating ? VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
                                    : VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
}

static void
on_resume(Domain *domain)
{
    if (domain->resume_expected)
        domain->resume_expected = FALSE;
    else
        domain_call_resumed_hook(domain);
}

static void
finish_shutdown(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    lifecycle_guest_shut_down(data);
}

static void
on_shutdown(Domain *domain, json_t *data)
{
    if (domain->shutdown_seen)
        return;
    domain->shutdown_seen = TRUE;
    domain->shutdown_by_guest = json_is_true(json_object_get(data, "guest"));
    if (!domain->fake_reboot && !domain->destroying) {
        domain_set_state(domain, VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_USER);
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SHUTDOWN,
                              domain->shutdown_by_guest ? VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
                                                        : VIR_DOMAIN_EVENT_SHUTDOWN_HOST);
    }
    driver_defer(domain->driver, finish_shutdown, domain_ref(domain), (GDestroyNotify) domain_unref);
}

static void
on_panic(Domain *domain)
{
    domain_set_state(domain, VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
}

static void
emit_value(Domain *domain, int id, json_t *value, json_int_t divisor)
{
    DomainEvent event;
    domain_event_init(domain, &event, id);
    event.value = json_integer_value(value) / divisor;
    event_bus_emit(domain->driver->events, &event);
}

static void
on_io_error(Domain *domain, json_t *data)
{
    const char *action = json_string_value(json_object_get(data, "action"));
    const char *device = json_string_value(json_object_get(data, "device"));
    gboolean nospace = json_is_true(json_object_get(data, "nospace"));
    DomainEvent event;
    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON);
    event.type = g_strcmp0(action, "stop") == 0     ? VIR_DOMAIN_EVENT_IO_ERROR_PAUSE
                 : g_strcmp0(action, "report") == 0 ? VIR_DOMAIN_EVENT_IO_ERROR_REPORT
                                                    : VIR_DOMAIN_EVENT_IO_ERROR_NONE;
    event.path = "";
    event.target = device ? device : "";
    event.reason = nospace ? "enospc" : "";
    event_bus_emit(domain->driver->events, &event);
    event.id = VIR_DOMAIN_EVENT_ID_IO_ERROR;
    event_bus_emit(domain->driver->events, &event);
    if (event.type == VIR_DOMAIN_EVENT_IO_ERROR_PAUSE && domain->state == VIR_DOMAIN_RUNNING) {
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR);
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR);
    }
}

static void
dispatch(Domain *domain, const char *name, json_t *data)
{
    if (g_str_equal(name, "STOP"))
        on_stop(domain);
    else if (g_str_equal(name, "RESUME"))
        on_resume(domain);
    else if (g_str_equal(name, "SHUTDOWN"))
        on_shutdown(domain, data);
    else if (g_str_equal(name, "RESET"))
        emit_value(domain, VIR_DOMAIN_EVENT_ID_REBOOT, NULL, 1);
    else if (g_str_equal(name, "GUEST_PANICKED"))
        on_panic(domain);
    else if (g_str_equal(name, "RTC_CHANGE"))
        emit_value(domain, VIR_DOMAIN_EVENT_ID_RTC_CHANGE, json_object_get(data, "offset"), 1);
    else if (g_str_equal(name, "BALLOON_CHANGE"))
        emit_value(domain, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, json_object_get(data, "actual"), 1024);
    else if (g_str_equal(name, "BLOCK_IO_ERROR"))
        on_io_error(domain, data);
}

void
emulator_event(Qmp *qmp, const char *name, json_t *data, gint64 received_us G_GNUC_UNUSED, gpointer opaque)
{
    Domain *domain = opaque;
    domain_lock(domain);
    // Events of the time before the start is complete (domain->qmp not set) count; those of an earlier run do
    // not.
    if (domain_is_active(domain) && (!domain->qmp || domain->qmp == qmp))
        dispatch(domain, name, data);
    domain_unlock(domain);
}
