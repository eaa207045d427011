// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain object: its life, state, hooks and paths.
#include "driver/domain.h"

#include <string.h>

#include "base/error.h"
#include "driver/nic_status.h"

static const DomainHooks no_hooks, *hooks = &no_hooks;

Domain *
domain_new(Driver *driver, const DomainDef *def)
{
    Domain *domain = g_new0(Domain, 1);
    domain->references = 1;
    domain->driver = driver;
    domain->name = g_strdup(def->name);
    memcpy(domain->uuid, def->uuid_bytes, VIR_UUID_BUFLEN);
    g_mutex_init(&domain->lock);
    g_mutex_init(&domain->files);
    job_init(&domain->job);
    domain->id = -1;
    domain->state = VIR_DOMAIN_SHUTOFF;
    domain->reason = VIR_DOMAIN_SHUTOFF_UNKNOWN;
    domain->max_downtime_ms = DOMAIN_MAX_DOWNTIME_MS;
    domain->messages = g_ptr_array_new_with_free_func(g_free);
    domain->vnets = g_ptr_array_new();
    return domain;
}

Domain *
domain_ref(Domain *domain)
{
    g_atomic_int_inc(&domain->references);
    return domain;
}

void
domain_unref(Domain *domain)
{
    if (!g_atomic_int_dec_and_test(&domain->references))
        return;
    domain_def_free(domain->persistent);
    domain_def_free(domain->live);
    for (guint i = 0; i < domain->vnets->len; i++)
        if (g_ptr_array_index(domain->vnets, i))
            vnet_client_unref(g_ptr_array_index(domain->vnets, i));
    g_ptr_array_unref(domain->vnets);
    g_ptr_array_unref(domain->messages);
    g_clear_pointer(&domain->consoles, g_hash_table_unref);
    json_decref(domain->last_known);
    nic_status_forget(domain);
    g_free(domain->run_dir);
    g_free(domain->firmware);
    g_free(domain->name);
    job_clear(&domain->job);
    g_mutex_clear(&domain->files);
    g_mutex_clear(&domain->lock);
    g_free(domain);
}

void
domain_lock(Domain *domain)
{
    g_mutex_lock(&domain->lock);
}

void
domain_unlock(Domain *domain)
{
    g_mutex_unlock(&domain->lock);
}

gboolean
domain_is_active(const Domain *domain)
{
    return domain->id >= 0;
}

DomainDef *
domain_def(Domain *domain)
{
    return domain->live ? domain->live : domain->persistent;
}

gboolean
domain_check_active(const Domain *domain, GError **error)
{
    if (domain_is_active(domain))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return FALSE;
}

void
domain_set_state(Domain *domain, int state, int reason)
{
    domain->state = state;
    domain->reason = reason;
}

void
domain_event_init(Domain *domain, DomainEvent *event, int id)
{
    *event = (DomainEvent){.id = id, .name = domain->name, .domain_id = domain->id};
    memcpy(event->uuid, domain->uuid, VIR_UUID_BUFLEN);
}

void
domain_emit_lifecycle(Domain *domain, int type, int detail)
{
    DomainEvent event;
    domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_LIFECYCLE);
    event.type = type;
    event.detail = detail;
    event_bus_emit(domain->driver->events, &event);
}

void
domain_event_emit_monitor(Driver *driver, DomainEvent *event, const char *name, const json_t *details)
{
    g_autofree char *text = details ? json_dumps(details, JSON_COMPACT) : NULL;
    event->path = name;
    event->reason = text;
    event->value = g_get_real_time();
    event_bus_emit(driver->events, event);
    event->reason = NULL;
}

void
domain_emit_monitor(Domain *domain, const char *name, const json_t *details)
{
    DomainEvent event;
    domain_event_init(domain, &event, EVENT_ID_MONITOR);
    domain_event_emit_monitor(domain->driver, &event, name, details);
}

void
domain_add_message(Domain *domain, const char *message)
{
    g_ptr_array_add(domain->messages, g_strdup(message));
}

void
domain_clear_messages(Domain *domain)
{
    g_ptr_array_set_size(domain->messages, 0);
}

void
domain_set_hooks(const DomainHooks *set)
{
    hooks = set;
}

gboolean
domain_may_run(Domain *domain, GError **error)
{
    return !hooks->may_run || hooks->may_run(domain, error);
}

void
domain_call_stopped_hook(Domain *domain, int reason)
{
    if (hooks->stopped)
        hooks->stopped(domain, reason);
}

void
domain_call_resumed_hook(Domain *domain)
{
    if (hooks->resumed)
        hooks->resumed(domain);
}

gboolean
domain_call_destroy_hook(Domain *domain, GError **error)
{
    return !hooks->destroy || hooks->destroy(domain, error);
}

void
domain_call_started_hook(Domain *domain)
{
    if (hooks->started)
        hooks->started(domain);
}

void
domain_call_forgotten_hook(Domain *domain)
{
    if (hooks->forgotten)
        hooks->forgotten(domain);
}

char *
domain_nic_home(Domain *domain, guint nic)
{
    return hooks->home ? hooks->home(domain, nic) : NULL;
}

char *
domain_definition_path(Domain *domain)
{
    return g_strdup_printf("%s/%s.xml", domain->driver->definition_dir, domain->name);
}

char *
domain_autostart_path(Domain *domain)
{
    return g_strdup_printf("%s/%s.xml", domain->driver->autostart_dir, domain->name);
}

char *
domain_status_path(Domain *domain)
{
    return g_strdup_printf("%s/%s.xml", domain->driver->run_dir, domain->name);
}

char *
domain_log_path(Domain *domain)
{
    return g_strdup_printf("%s/%s.log", domain->driver->log_dir, domain->name);
}
