// SPDX-License-Identifier: LGPL-2.1-or-later
// Event subscriptions of clients, and the way from the event bus to their messages.
#include <string.h>

#include "base/error.h"
#include "driver/procedures.h"

#include <libvirt/libvirt-qemu.h>

#define EVENT_IDS         27 // VIR_DOMAIN_EVENT_ID_LIFECYCLE .. MEMORY_DEVICE_SIZE_CHANGE
#define NETWORK_EVENT_IDS 1  // VIR_NETWORK_EVENT_ID_LIFECYCLE

typedef struct {
    int callback, event;
    gboolean filtered;
    guint8 uuid[VIR_UUID_BUFLEN];
    GRegex *pattern; // of the monitor's events' names; NULL: all
} EventRegistration;

void
procedures_registration_free(gpointer data)
{
    EventRegistration *registration = data;

    g_clear_pointer(&registration->pattern, g_regex_unref);
    g_free(registration);
}

// Any message; all begin with the callback's id.
typedef union {
    int callback_id;
    WireEventDomain domain;
    WireEventLifecycle lifecycle;
    WireEventRtcChange rtc;
    WireEventInt number;
    WireEventIoError io_error;
    WireEventIoErrorReason io_error_reason;
    WireEventBlockJob block_job;
    WireEventBalloon balloon;
    WireEventDevice device;
    WireEventTray tray;
    WireEventPm pm;
    WireEventMetadata metadata;
    WireEventMemoryFailure memory_failure;
    WireEventJobCompleted job_completed;
    WireEventNetwork network;
} EventMessage;

// Fillers set everything but the callback's id; texts stay the event's.
#define FILLER(name) static void name(EventMessage *message, const DomainEvent *event, const WireDomain *dom)

FILLER(fill_domain)
{
    message->domain.dom = *dom;
}

FILLER(fill_lifecycle)
{
    message->lifecycle = (WireEventLifecycle){.dom = *dom, .event = event->type, .detail = event->detail};
}

FILLER(fill_rtc)
{
    message->rtc = (WireEventRtcChange){.dom = *dom, .offset = event->value};
}

FILLER(fill_watchdog)
{
    message->number = (WireEventInt){.dom = *dom, .value = event->type};
}

FILLER(fill_iteration)
{
    message->number = (WireEventInt){.dom = *dom, .value = event->detail};
}

FILLER(fill_io_error)
{
    message->io_error = (WireEventIoError){.dom = *dom,
                                           .src_path = (char *) event->path,
                                           .alias = (char *) event->target,
                                           .action = event->type};
}

FILLER(fill_io_error_reason)
{
    message->io_error_reason = (WireEventIoErrorReason){.dom = *dom,
                                                        .src_path = (char *) event->path,
                                                        .alias = (char *) event->target,
                                                        .action = event->type,
                                                        .reason = (char *) event->reason};
}

FILLER(fill_block_job)
{
    const char *disk = event->id == VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2 ? event->target : event->path;

    message->block_job = (WireEventBlockJob){
        .dom = *dom, .disk = (char *) disk, .type = event->detail, .status = event->status};
}

FILLER(fill_balloon)
{
    message->balloon = (WireEventBalloon){.dom = *dom, .actual = (guint64) event->value};
}

FILLER(fill_device)
{
    message->device = (WireEventDevice){.dom = *dom, .alias = (char *) event->target};
}

FILLER(fill_tray)
{
    message->tray = (WireEventTray){.dom = *dom, .alias = (char *) event->target, .reason = event->detail};
}

FILLER(fill_pm)
{
    message->pm = (WireEventPm){.dom = *dom};
}

FILLER(fill_metadata)
{
    message->metadata = (WireEventMetadata){
        .dom = *dom, .type = event->type, .nsuri = event->path ? (WireText *) &event->path : NULL};
}

FILLER(fill_memory_failure)
{
    message->memory_failure = (WireEventMemoryFailure){
        .dom = *dom, .recipient = event->type, .action = event->detail, .flags = (guint) event->value};
}

FILLER(fill_network)
{
    message->network =
        (WireEventNetwork){.net = {.name = dom->name}, .event = event->type, .detail = event->detail};
    memcpy(message->network.net.uuid, dom->uuid, sizeof(dom->uuid));
}

typedef struct {
    int event;
    guint procedure;
    xdrproc_t filter;
    void (*fill)(EventMessage *message, const DomainEvent *event, const WireDomain *dom);
} EventForm;

#define FORM(id, number, Type, function)                                                                     \
    {                                                                                                        \
        (id), (number), (xdrproc_t) xdr_##Type, (function)                                                   \
    }
#define DOMAIN_FORM(event, Type, function)                                                                   \
    FORM(VIR_DOMAIN_EVENT_ID_##event, WIRE_DOMAIN_EVENT_CALLBACK_##event, Type, function)

// Events that are not here can be waited for but cannot happen yet: nothing of ours causes them.
static const EventForm forms[] = {
    DOMAIN_FORM(LIFECYCLE, WireEventLifecycle, fill_lifecycle),
    DOMAIN_FORM(REBOOT, WireEventDomain, fill_domain),
    DOMAIN_FORM(RTC_CHANGE, WireEventRtcChange, fill_rtc),
    DOMAIN_FORM(WATCHDOG, WireEventInt, fill_watchdog),
    DOMAIN_FORM(IO_ERROR, WireEventIoError, fill_io_error),
    DOMAIN_FORM(IO_ERROR_REASON, WireEventIoErrorReason, fill_io_error_reason),
    DOMAIN_FORM(CONTROL_ERROR, WireEventDomain, fill_domain),
    DOMAIN_FORM(BLOCK_JOB, WireEventBlockJob, fill_block_job),
    DOMAIN_FORM(TRAY_CHANGE, WireEventTray, fill_tray),
    DOMAIN_FORM(PMWAKEUP, WireEventPm, fill_pm),
    DOMAIN_FORM(PMSUSPEND, WireEventPm, fill_pm),
    DOMAIN_FORM(PMSUSPEND_DISK, WireEventPm, fill_pm),
    DOMAIN_FORM(BALLOON_CHANGE, WireEventBalloon, fill_balloon),
    DOMAIN_FORM(DEVICE_REMOVED, WireEventDevice, fill_device),
    FORM(VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, WIRE_DOMAIN_EVENT_BLOCK_JOB_2, WireEventBlockJob, fill_block_job),
    DOMAIN_FORM(DEVICE_ADDED, WireEventDevice, fill_device),
    DOMAIN_FORM(MIGRATION_ITERATION, WireEventInt, fill_iteration),
    DOMAIN_FORM(DEVICE_REMOVAL_FAILED, WireEventDevice, fill_device),
    DOMAIN_FORM(METADATA_CHANGE, WireEventMetadata, fill_metadata),
    FORM(VIR_DOMAIN_EVENT_ID_MEMORY_FAILURE, WIRE_DOMAIN_EVENT_MEMORY_FAILURE, WireEventMemoryFailure,
         fill_memory_failure),
    FORM(EVENT_ID_NETWORK_LIFECYCLE, WIRE_NETWORK_EVENT_LIFECYCLE, WireEventNetwork, fill_network),
};

static void
event_send_job_completed(RpcSession *session, int callback, const DomainEvent *event, const WireDomain *dom)
{
    g_auto(RpcParams) params = {0};
    WireEventJobCompleted message = {.callback_id = callback, .dom = *dom};

    procedures_job_params(event->stats, &params);
    message.params.params_len = params.n;
    message.params.params_val = params.list;
    rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_JOB_COMPLETED,
                           (xdrproc_t) xdr_WireEventJobCompleted, &message);
}

static void
event_send_monitor(RpcSession *session, int callback, const DomainEvent *event, const WireDomain *dom)
{
    WireEventMonitor message = {.callback_id = callback,
                                .dom = *dom,
                                .event = (char *) event->path,
                                .seconds = event->value / G_USEC_PER_SEC,
                                .micros = (guint) (event->value % G_USEC_PER_SEC),
                                .details = event->reason ? (WireText *) &event->reason : NULL};

    rpc_session_send_program_event(session, RPC_PROGRAM_QEMU, WIRE_QEMU_MONITOR_EVENT,
                                   (xdrproc_t) xdr_WireEventMonitor, &message);
}

static void
event_send(RpcSession *session, int callback, const DomainEvent *event)
{
    WireDomain dom = {.name = (char *) event->name, .id = event->domain_id};

    memcpy(dom.uuid, event->uuid, sizeof(dom.uuid));
    if (event->id == VIR_DOMAIN_EVENT_ID_JOB_COMPLETED)
        event_send_job_completed(session, callback, event, &dom);
    if (event->id == EVENT_ID_MONITOR)
        event_send_monitor(session, callback, event, &dom);
    for (gsize i = 0; i < G_N_ELEMENTS(forms); i++) {
        EventMessage message;

        if (forms[i].event != event->id)
            continue;
        memset(&message, 0, sizeof(message));
        forms[i].fill(&message, event, &dom);
        message.callback_id = callback;
        rpc_session_send_event(session, forms[i].procedure, forms[i].filter, &message);
    }
}

static void
event_deliver(const DomainEvent *event, gpointer session)
{
    Client *client = rpc_session_data(session);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);

    for (guint i = 0; i < client->callbacks->len; i++) {
        const EventRegistration *registration = g_ptr_array_index(client->callbacks, i);

        if (registration->event == event->id &&
            (!registration->pattern || g_regex_match(registration->pattern, event->path, 0, NULL)) &&
            (!registration->filtered || memcmp(registration->uuid, event->uuid, VIR_UUID_BUFLEN) == 0))
            event_send(session, registration->callback, event);
    }
}

void
procedures_events_stop(Client *client)
{
    g_mutex_lock(&client->lock);
    const guint subscription = client->subscription;
    client->subscription = 0;
    g_mutex_unlock(&client->lock);
    if (subscription)
        event_bus_unsubscribe(client->driver->events, subscription);
}

// The bus is joined without the client's lock, which its callback takes.
static void
events_start(Client *client, RpcSession *session)
{
    const guint subscription = event_bus_subscribe(
        client->driver->events, event_deliver, rpc_session_ref(session), (GDestroyNotify) rpc_session_unref);
    guint surplus = subscription;

    g_mutex_lock(&client->lock);
    if (client->subscription == 0) {
        client->subscription = subscription;
        surplus = 0;
    }
    g_mutex_unlock(&client->lock);
    if (surplus)
        event_bus_unsubscribe(client->driver->events, surplus);
    if (rpc_session_closed(session))
        procedures_events_stop(client);
}

// With the client's lock held. The client library asks once for each event and object and tells its users
// apart by itself, so a second time is a client's mistake.
static gboolean
event_is_tracked(const Client *client, const EventRegistration *wanted)
{
    for (guint i = 0; i < client->callbacks->len; i++) {
        const EventRegistration *known = g_ptr_array_index(client->callbacks, i);

        if (known->event == wanted->event && known->filtered == wanted->filtered &&
            memcmp(known->uuid, wanted->uuid, VIR_UUID_BUFLEN) == 0)
            return TRUE;
    }
    return FALSE;
}

// With the client's lock held. Gives *wanted its number.
static gboolean
event_track(Client *client, EventRegistration *wanted, GError **error)
{
    // Of the monitor's it asks once for each pattern too.
    if (wanted->event != EVENT_ID_MONITOR && event_is_tracked(client, wanted)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "event callback already tracked");
        return FALSE;
    }
    // Nobody checks that the objects exist, so a client could name new ones without end.
    if (client->callbacks->len >= WIRE_LIST_MAX) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "a connection can have %d event callbacks at most: deregister some", WIRE_LIST_MAX);
        return FALSE;
    }
    wanted->callback = client->next_callback++;
    g_ptr_array_add(client->callbacks, g_memdup2(wanted, sizeof(*wanted)));
    return TRUE;
}

// `uuid` NULL: of all objects. Takes the pattern, which may be NULL.
static gboolean
event_add(RpcCall *call, int event, const char *uuid, GRegex *pattern, int *callback, GError **error)
{
    Client *client = procedures_client(call);
    EventRegistration wanted = {.event = event, .filtered = uuid != NULL, .pattern = pattern};

    if (uuid)
        memcpy(wanted.uuid, uuid, VIR_UUID_BUFLEN);
    g_mutex_lock(&client->lock);
    const gboolean added = event_track(client, &wanted, error);
    const gboolean started = client->subscription != 0;
    g_mutex_unlock(&client->lock);
    if (!added) {
        g_clear_pointer(&wanted.pattern, g_regex_unref);
        return FALSE;
    }
    *callback = wanted.callback;
    if (!started)
        events_start(client, rpc_call_session(call));
    return TRUE;
}

// `family` tells the three kinds of numbers apart: 0, of domains, or the id that the others have.
static gboolean
event_remove(RpcCall *call, int callback, int family, GError **error)
{
    Client *client = procedures_client(call);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);

    for (guint i = 0; i < client->callbacks->len; i++) {
        const EventRegistration *registration = g_ptr_array_index(client->callbacks, i);

        const int event = registration->event;

        if (registration->callback == callback &&
            (event == EVENT_ID_NETWORK_LIFECYCLE || event == EVENT_ID_MONITOR ? event : 0) == family) {
            g_ptr_array_remove_index(client->callbacks, i);
            return TRUE;
        }
    }
    quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s event callback %d not registered",
                     family == EVENT_ID_NETWORK_LIFECYCLE ? "network" : "domain", callback);
    return FALSE;
}

HANDLER(event_register)
{
    const WireDomainEventRegisterArgs *in = args;

    if (in->event_id < 0 || in->event_id >= EVENT_IDS) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "unsupported event ID %d", in->event_id);
        return FALSE;
    }
    return event_add(call, in->event_id, in->dom ? in->dom->uuid : NULL, NULL, &((WireIntRet *) ret)->value,
                     error);
}

HANDLER(event_deregister)
{
    return event_remove(call, ((const WireIntArgs *) args)->value, 0, error);
}

HANDLER(event_register_network)
{
    const WireNetworkEventRegisterArgs *in = args;

    if (in->event_id < 0 || in->event_id >= NETWORK_EVENT_IDS) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "unsupported network event ID %d", in->event_id);
        return FALSE;
    }
    return event_add(call, EVENT_ID_NETWORK_LIFECYCLE, in->net ? in->net->uuid : NULL, NULL,
                     &((WireIntRet *) ret)->value, error);
}

HANDLER(event_deregister_network)
{
    return event_remove(call, ((const WireIntArgs *) args)->value, EVENT_ID_NETWORK_LIFECYCLE, error);
}

// The name, or a pattern anywhere in it. *pattern is NULL for all names.
static gboolean
compile_pattern(const char *name, guint flags, GRegex **pattern, GError **error)
{
    const guint known = VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX |
                        VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE;
    const gboolean regex = (flags & VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX) != 0;
    g_autofree char *escaped = name ? g_regex_escape_string(name, -1) : NULL;
    g_autofree char *whole = escaped ? g_strdup_printf("^%s$", escaped) : NULL;
    g_autoptr(GError) cause = NULL;

    if (flags & ~known) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x)", flags & ~known);
        return FALSE;
    }
    if (!name)
        return TRUE;
    *pattern = g_regex_new(
        regex ? name : whole,
        flags & VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_NOCASE ? G_REGEX_CASELESS : 0, 0, &cause);
    if (!*pattern)
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "failed to compile the pattern '%s': %s", name,
                         cause->message);
    return *pattern != NULL;
}

HANDLER(event_register_monitor)
{
    const WireMonitorEventRegisterArgs *in = args;
    GRegex *pattern = NULL;

    return compile_pattern(rpc_text_or_null(in->event), in->flags, &pattern, error) &&
           event_add(call, EVENT_ID_MONITOR, in->dom ? in->dom->uuid : NULL, pattern,
                     &((WireIntRet *) ret)->value, error);
}

HANDLER(event_deregister_monitor)
{
    return event_remove(call, ((const WireIntArgs *) args)->value, EVENT_ID_MONITOR, error);
}
