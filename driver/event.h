// SPDX-License-Identifier: LGPL-2.1-or-later
// The event bus: what happens to domains and networks, told to whoever subscribed.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct EventBus EventBus;
typedef struct JobStats JobStats;

// Beyond virDomainEventID: what happens to networks goes over the same bus, so that a client hears of both in
// the order in which they happened.
#define EVENT_ID_NETWORK_LIFECYCLE 1000
// What the emulator says, and what we say that libvirt has no event for, as the monitor's events
// (libvirt-qemu.h): `path` its name, `reason` its details as JSON or NULL, `value` the wall clock in us.
#define EVENT_ID_MONITOR 1001

// One event. Which fields beyond the first three hold a value depends on `id`. All strings are borrowed for
// the time of the call.
typedef struct {
    int id; // VIR_DOMAIN_EVENT_ID_* or EVENT_ID_NETWORK_LIFECYCLE
    const char *name;
    guint8 uuid[VIR_UUID_BUFLEN];
    int domain_id; // -1: not running

    int type;   // LIFECYCLE: virDomainEventType (networks: virNetworkEventLifecycleType); WATCHDOG, IO_ERROR:
                // action; MEMORY_FAILURE: recipient; METADATA_CHANGE: virDomainMetadataType
    int detail; // LIFECYCLE: its detail; BLOCK_JOB: virDomainBlockJobType; MIGRATION_ITERATION: iteration;
                // TRAY_CHANGE: reason; MEMORY_FAILURE: action
    int status; // BLOCK_JOB: virConnectDomainEventBlockJobStatus

    const char *path;      // IO_ERROR, BLOCK_JOB: source path; METADATA_CHANGE: namespace or NULL
    const char *target;    // BLOCK_JOB_2: disk target; IO_ERROR, TRAY_CHANGE, DEVICE_*: alias
    const char *reason;    // IO_ERROR_REASON
    long long value;       // RTC_CHANGE: offset in s; BALLOON_CHANGE: KiB; MEMORY_FAILURE: flags
    const JobStats *stats; // JOB_COMPLETED; see driver/job.h
} DomainEvent;

// Called on the emitting thread, which may be the emulator's: must not block and must not emit. A subscriber
// copies what it keeps.
typedef void (*EventCallback)(const DomainEvent *event, gpointer data);

EventBus *event_bus_new(void);
void event_bus_free(EventBus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EventBus, event_bus_free)

// Returns the subscription's number (> 0). Any thread, not from within a callback.
guint event_bus_subscribe(EventBus *bus, EventCallback callback, gpointer data, GDestroyNotify free_data);

// When it returns the callback does not run and will not run any more.
void event_bus_unsubscribe(EventBus *bus, guint subscription);

// Any thread. Events of one domain keep their order when they are emitted under that domain's lock.
void event_bus_emit(EventBus *bus, const DomainEvent *event);
