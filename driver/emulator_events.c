// SPDX-License-Identifier: LGPL-2.1-or-later
// What the emulator says by itself: events of QMP become states and events of the domain.
#include "driver/lifecycle.h"
#include "driver/process.h"
#include "emulator/blockdev.h"
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
    {"suspended", VIR_DOMAIN_PMSUSPENDED, VIR_DOMAIN_PMSUSPENDED_UNKNOWN},
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
on_stop(Domain *domain, gint64 received_us)
{
    domain->stopped_us = received_us;
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
on_resume(Domain *domain, gint64 received_us)
{
    domain->resumed_us = received_us;
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
    // So it is reported only when <on_reboot> has made the emulator treat a reboot as a shutdown.
    domain->reboot_ended = g_strcmp0(json_string_value(json_object_get(data, "reason")), "guest-reset") == 0;
    if (!domain->fake_reboot && !domain->destroying) {
        domain_set_state(domain, VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_USER);
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SHUTDOWN,
                              domain->shutdown_by_guest ? VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
                                                        : VIR_DOMAIN_EVENT_SHUTDOWN_HOST);
    }
    driver_defer(domain->driver, finish_shutdown, domain_ref(domain), (GDestroyNotify) domain_unref);
}

static void
finish_panic(Driver *driver G_GNUC_UNUSED, gpointer data)
{
    lifecycle_guest_crashed(data);
}

static void
on_panic(Domain *domain)
{
    domain_set_state(domain, VIR_DOMAIN_CRASHED, VIR_DOMAIN_CRASHED_PANICKED);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
    driver_defer(domain->driver, finish_panic, domain_ref(domain), (GDestroyNotify) domain_unref);
}

static void
emit_value(Domain *domain, int id, json_t *value)
{
    DomainEvent event;
    domain_event_init(domain, &event, id);
    event.value = json_integer_value(value);
    event_bus_emit(domain->driver->events, &event);
}

// The guest took pages or gave them back. What the emulator has in excess of the definition (command.c says
// why) is not the guest's.
static void
on_balloon_change(Domain *domain, json_t *data)
{
    const guint64 actual = (guint64) json_integer_value(json_object_get(data, "actual")) / 1024;
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE);
    domain->live->current_memory_kib = MIN(actual, domain->live->memory_kib);
    event.value = (long long) domain->live->current_memory_kib;
    event_bus_emit(domain->driver->events, &event);
}

// The disk that a block event is about: QEMU names the device, the node, or both.
static const DomainDisk *
event_disk(Domain *domain, json_t *data)
{
    const char *device = json_string_value(json_object_get(data, "device"));
    const char *node = json_string_value(json_object_get(data, "node-name"));

    for (guint i = 0; i < domain->live->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(domain->live->disks, i);
        g_autofree char *own = emulator_format_node(domain->live, i);

        if ((device && g_strcmp0(device, disk->info.alias) == 0) || g_strcmp0(node, own) == 0)
            return disk;
    }
    return NULL;
}

static void
pause_and_tell(Domain *domain, int reason, int detail)
{
    if (domain->state != VIR_DOMAIN_RUNNING)
        return;
    domain_set_state(domain, VIR_DOMAIN_PAUSED, reason);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_SUSPENDED, detail);
}

static void
on_io_error(Domain *domain, json_t *data)
{
    const char *action = json_string_value(json_object_get(data, "action"));
    const DomainDisk *disk = event_disk(domain, data);
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_IO_ERROR);
    event.type = g_strcmp0(action, "stop") == 0     ? VIR_DOMAIN_EVENT_IO_ERROR_PAUSE
                 : g_strcmp0(action, "report") == 0 ? VIR_DOMAIN_EVENT_IO_ERROR_REPORT
                                                    : VIR_DOMAIN_EVENT_IO_ERROR_NONE;
    event.path = disk && disk->image.path ? disk->image.path : "";
    event.target = disk && disk->info.alias ? disk->info.alias : "";
    event.reason = json_is_true(json_object_get(data, "nospace")) ? "enospc" : "";
    event_bus_emit(domain->driver->events, &event);
    event.id = VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON;
    event_bus_emit(domain->driver->events, &event);
    if (event.type == VIR_DOMAIN_EVENT_IO_ERROR_PAUSE)
        pause_and_tell(domain, VIR_DOMAIN_PAUSED_IOERROR, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR);
}

// The index of `name` in a NULL-terminated list; -1 when it is not there.
static int
name_index(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (g_strcmp0(names[i], name) == 0)
            return i;
    return -1;
}

static void
on_watchdog(Domain *domain, json_t *data)
{
    // In the order of virDomainEventWatchdogAction.
    static const char *const actions[] = {"none",     "pause", "reset",      "poweroff",
                                          "shutdown", "debug", "inject-nmi", NULL};
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_WATCHDOG);
    event.type = MAX(name_index(actions, json_string_value(json_object_get(data, "action"))), 0);
    event_bus_emit(domain->driver->events, &event);
    if (event.type == VIR_DOMAIN_EVENT_WATCHDOG_PAUSE)
        pause_and_tell(domain, VIR_DOMAIN_PAUSED_WATCHDOG, VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG);
}

static void
on_memory_failure(Domain *domain, json_t *data)
{
    // In the order of virDomainMemoryFailureRecipientType and virDomainMemoryFailureActionType.
    static const char *const recipients[] = {"hypervisor", "guest", NULL};
    static const char *const actions[] = {"ignore", "inject", "fatal", "reset", NULL};
    json_t *flags = json_object_get(data, "flags");
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE);
    event.type = name_index(recipients, json_string_value(json_object_get(data, "recipient")));
    event.detail = name_index(actions, json_string_value(json_object_get(data, "action")));
    if (json_is_true(json_object_get(flags, "action-required")))
        event.value |= VIR_DOMAIN_MEMORY_FAILURE_ACTION_REQUIRED;
    if (json_is_true(json_object_get(flags, "recursive")))
        event.value |= VIR_DOMAIN_MEMORY_FAILURE_RECURSIVE;
    if (event.type >= 0 && event.detail >= 0)
        event_bus_emit(domain->driver->events, &event);
}

static void
on_tray_moved(Domain *domain, json_t *data)
{
    const char *alias = json_string_value(json_object_get(data, "id"));
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_TRAY_CHANGE);
    event.target = alias ? alias : "";
    event.detail = json_is_true(json_object_get(data, "tray-open")) ? VIR_DOMAIN_EVENT_TRAY_CHANGE_OPEN
                                                                    : VIR_DOMAIN_EVENT_TRAY_CHANGE_CLOSE;
    event_bus_emit(domain->driver->events, &event);
}

// DEVICE_DELETED and the failures to delete. A device's parts, which have no id, are not told.
static void
emit_device(Domain *domain, int id, json_t *data)
{
    DomainEvent event;

    domain_event_init(domain, &event, id);
    event.target = json_string_value(json_object_get(data, "device"));
    if (event.target)
        event_bus_emit(domain->driver->events, &event);
}

static void
on_sleep(Domain *domain, int id, int detail)
{
    emit_value(domain, id, NULL);
    if (domain->state != VIR_DOMAIN_RUNNING)
        return;
    domain_set_state(domain, VIR_DOMAIN_PMSUSPENDED, VIR_DOMAIN_PMSUSPENDED_UNKNOWN);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_PMSUSPENDED, detail);
}

static void
on_wakeup(Domain *domain)
{
    emit_value(domain, VIR_DOMAIN_EVENT_ID_PMWAKEUP, NULL);
    if (domain->state != VIR_DOMAIN_PMSUSPENDED)
        return;
    domain_set_state(domain, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_WAKEUP);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STARTED, VIR_DOMAIN_EVENT_STARTED_WAKEUP);
}

static void
on_migration_pass(Domain *domain, json_t *data)
{
    DomainEvent event;

    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION);
    event.detail = (int) json_integer_value(json_object_get(data, "pass"));
    event_bus_emit(domain->driver->events, &event);
}

static void
dispatch(Domain *domain, const char *name, json_t *data, gint64 received_us)
{
    if (g_str_equal(name, "STOP"))
        on_stop(domain, received_us);
    else if (g_str_equal(name, "RESUME"))
        on_resume(domain, received_us);
    else if (g_str_equal(name, "SHUTDOWN"))
        on_shutdown(domain, data);
    else if (g_str_equal(name, "RESET"))
        emit_value(domain, VIR_DOMAIN_EVENT_ID_REBOOT, NULL);
    else if (g_str_equal(name, "GUEST_PANICKED"))
        on_panic(domain);
    else if (g_str_equal(name, "RTC_CHANGE"))
        emit_value(domain, VIR_DOMAIN_EVENT_ID_RTC_CHANGE, json_object_get(data, "offset"));
    else if (g_str_equal(name, "BALLOON_CHANGE"))
        on_balloon_change(domain, data);
    else if (g_str_equal(name, "BLOCK_IO_ERROR"))
        on_io_error(domain, data);
    else if (g_str_equal(name, "WATCHDOG"))
        on_watchdog(domain, data);
    else if (g_str_equal(name, "MEMORY_FAILURE"))
        on_memory_failure(domain, data);
    else if (g_str_equal(name, "DEVICE_TRAY_MOVED"))
        on_tray_moved(domain, data);
    else if (g_str_equal(name, "DEVICE_DELETED"))
        emit_device(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, data);
    else if (g_str_equal(name, "DEVICE_UNPLUG_GUEST_ERROR"))
        emit_device(domain, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, data);
    else if (g_str_equal(name, "SUSPEND"))
        on_sleep(domain, VIR_DOMAIN_EVENT_ID_PMSUSPEND, VIR_DOMAIN_EVENT_PMSUSPENDED_MEMORY);
    else if (g_str_equal(name, "SUSPEND_DISK"))
        on_sleep(domain, VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK, VIR_DOMAIN_EVENT_PMSUSPENDED_DISK);
    else if (g_str_equal(name, "WAKEUP"))
        on_wakeup(domain);
    else if (g_str_equal(name, "MIGRATION_PASS"))
        on_migration_pass(domain, data);
}

void
emulator_event(Qmp *qmp, const char *name, json_t *data, gint64 received_us, gpointer opaque)
{
    Domain *domain = opaque;
    domain_lock(domain);
    // Events of the time before the start is complete (domain->qmp not set) count; those of an earlier run do
    // not.
    if (domain_is_active(domain) && domain->live && (!domain->qmp || domain->qmp == qmp)) {
        dispatch(domain, name, data, received_us);
        domain_emit_monitor(domain, name, data);
    }
    domain_unlock(domain);
}
