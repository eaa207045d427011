// SPDX-License-Identifier: LGPL-2.1-or-later
// Event subscriptions of clients, and the way from the event bus to their messages.
#include <string.h>

#include "base/error.h"
#include "driver/procedures.h"

#define EVENT_IDS 27 // VIR_DOMAIN_EVENT_ID_LIFECYCLE .. MEMORY_DEVICE_SIZE_CHANGE

typedef struct {
    int callback, event;
    gboolean filtered;
    guint8 uuid[VIR_UUID_BUFLEN];
} EventRegistration;

static void
event_send(RpcSession *session, int callback, const DomainEvent *event)
{
    WireDomain dom = {.name = (char *) event->name, .id = event->domain_id};
    memcpy(dom.uuid, event->uuid, sizeof(dom.uuid));

    switch (event->id) {
    case VIR_DOMAIN_EVENT_ID_LIFECYCLE: {
        const WireEventLifecycle message = {callback, dom, event->type, event->detail};
        rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_LIFECYCLE,
                               (xdrproc_t) xdr_WireEventLifecycle, &message);
        break;
    }
    case VIR_DOMAIN_EVENT_ID_REBOOT: {
        const WireEventDomain message = {callback, dom};
        rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_REBOOT, (xdrproc_t) xdr_WireEventDomain,
                               &message);
        break;
    }
    case VIR_DOMAIN_EVENT_ID_RTC_CHANGE: {
        const WireEventRtcChange message = {callback, dom, event->value};
        rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_RTC_CHANGE,
                               (xdrproc_t) xdr_WireEventRtcChange, &message);
        break;
    }
    case VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION: {
        const WireEventInt message = {callback, dom, event->detail};
        rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION,
                               (xdrproc_t) xdr_WireEventInt, &message);
        break;
    }
    case VIR_DOMAIN_EVENT_ID_JOB_COMPLETED: {
        g_auto(RpcParams) params = {0};
        WireEventJobCompleted message = {.callback_id = callback, .dom = dom};
        procedures_job_params(event->stats, &params);
        message.params.params_len = params.n;
        message.params.params_val = params.list;
        rpc_session_send_event(session, WIRE_DOMAIN_EVENT_CALLBACK_JOB_COMPLETED,
                               (xdrproc_t) xdr_WireEventJobCompleted, &message);
        break;
    }
    default:
        break; // accepted by registration, and not sent yet
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

HANDLER(event_register)
{
    const WireDomainEventRegisterArgs *in = args;
    Client *client = procedures_client(call);
    EventRegistration *registration = NULL;

    if (in->event_id < 0 || in->event_id >= EVENT_IDS) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "unsupported event ID %d", in->event_id);
        return FALSE;
    }
    registration = g_new0(EventRegistration, 1);
    registration->event = in->event_id;
    registration->filtered = in->dom != NULL;
    if (in->dom)
        memcpy(registration->uuid, in->dom->uuid, VIR_UUID_BUFLEN);
    g_mutex_lock(&client->lock);
    ((WireIntRet *) ret)->value = registration->callback = client->next_callback++;
    g_ptr_array_add(client->callbacks, registration);
    const gboolean started = client->subscription != 0;
    g_mutex_unlock(&client->lock);
    if (!started)
        events_start(client, rpc_call_session(call));
    return TRUE;
}

HANDLER(event_deregister)
{
    const WireIntArgs *in = args;
    Client *client = procedures_client(call);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);

    for (guint i = 0; i < client->callbacks->len; i++) {
        if (((EventRegistration *) g_ptr_array_index(client->callbacks, i))->callback == in->value) {
            g_ptr_array_remove_index(client->callbacks, i);
            return TRUE;
        }
    }
    quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "domain event callback %d not registered", in->value);
    return FALSE;
}
