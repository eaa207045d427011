// SPDX-License-Identifier: LGPL-2.1-or-later
// The event bus: a locked list of callbacks.
#include "driver/event.h"

typedef struct {
    guint number;
    EventCallback callback;
    gpointer data;
    GDestroyNotify free_data;
} Subscription;

struct EventBus {
    GMutex lock; // held while callbacks run, so that unsubscribing waits for them
    GPtrArray *subscriptions;
    guint last;
};

static void
subscription_free(gpointer data)
{
    Subscription *subscription = data;
    if (subscription->free_data)
        subscription->free_data(subscription->data);
    g_free(subscription);
}

EventBus *
event_bus_new(void)
{
    EventBus *bus = g_new0(EventBus, 1);
    g_mutex_init(&bus->lock);
    bus->subscriptions = g_ptr_array_new_with_free_func(subscription_free);
    return bus;
}

void
event_bus_free(EventBus *bus)
{
    g_ptr_array_unref(bus->subscriptions);
    g_mutex_clear(&bus->lock);
    g_free(bus);
}

guint
event_bus_subscribe(EventBus *bus, EventCallback callback, gpointer data, GDestroyNotify free_data)
{
    Subscription *subscription = g_new0(Subscription, 1);
    subscription->callback = callback;
    subscription->data = data;
    subscription->free_data = free_data;

    g_mutex_lock(&bus->lock);
    guint number = subscription->number = ++bus->last;
    g_ptr_array_add(bus->subscriptions, subscription);
    g_mutex_unlock(&bus->lock);
    return number;
}

static Subscription *
take(EventBus *bus, guint number)
{
    for (guint i = 0; i < bus->subscriptions->len; i++) {
        Subscription *subscription = g_ptr_array_index(bus->subscriptions, i);
        if (subscription->number == number)
            return g_ptr_array_steal_index(bus->subscriptions, i);
    }
    return NULL;
}

void
event_bus_unsubscribe(EventBus *bus, guint subscription)
{
    g_mutex_lock(&bus->lock);
    Subscription *taken = take(bus, subscription);
    g_mutex_unlock(&bus->lock);
    if (taken)
        subscription_free(taken);
}

void
event_bus_emit(EventBus *bus, const DomainEvent *event)
{
    g_mutex_lock(&bus->lock);
    for (guint i = 0; i < bus->subscriptions->len; i++) {
        Subscription *subscription = g_ptr_array_index(bus->subscriptions, i);
        subscription->callback(event, subscription->data);
    }
    g_mutex_unlock(&bus->lock);
}
