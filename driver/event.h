// SPDX-License-Identifier: LGPL-2.1-or-later
// The event bus: what happens to domains, told to whoever subscribed.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

typedef struct EventBus EventBus;
typedef struct JobStats JobStats;

// One event. `id` is a virDomainEventID; which other fields hold a value depends on it. All strings are
// borrowed for the time of the call.
typedef struct {
    int id; // VIR_DOMAIN_EVENT_ID_*
    const char *name;
    guint8 uuid[VIR_UUID_BUFLEN];
    int domain_id; // -1: not running

    int type;   // LIFECYCLE: virDomainEventType; WATCHDOG, IO_ERROR: action; JOB events: see below
    int detail; // LIFECYCLE: its detail; BLOCK_JOB: virDomainBlockJobType; MIGRATION_ITERATION: iteration
    int status; // BLOCK_JOB: virConnectDomainEventBlockJobStatus

    const char *path;      // IO_ERROR, BLOCK_JOB: source path; TRAY_CHANGE: alias
    const char *target;    // BLOCK_JOB_2: disk target; IO_ERROR: alias
    const char *reason;    // IO_ERROR_REASON
    long long value;       // RTC_CHANGE: offset in s; BALLOON_CHANGE: KiB
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
