// SPDX-License-Identifier: LGPL-2.1-or-later
// The list of domains: three indexes under one lock.
#include "driver/domains.h"

#include <string.h>

#include "base/error.h"

// Lock order: a domain's lock before the list's. So whoever walks the list copies references first and locks
// the domains after.
struct DomainList {
    GMutex lock;
    GHashTable *by_uuid; // guint8[16] -> Domain, owns a reference
    GHashTable *by_name; // borrowed
    GHashTable *by_id;   // borrowed
    int last_id;
};

static guint
uuid_hash(gconstpointer key)
{
    guint hash;
    memcpy(&hash, key, sizeof(hash));
    return hash;
}

static gboolean
uuid_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, VIR_UUID_BUFLEN) == 0;
}

DomainList *
domain_list_new(void)
{
    DomainList *list = g_new0(DomainList, 1);
    g_mutex_init(&list->lock);
    list->by_uuid = g_hash_table_new_full(uuid_hash, uuid_equal, NULL, (GDestroyNotify) domain_unref);
    list->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    list->by_id = g_hash_table_new(NULL, NULL);
    return list;
}

void
domain_list_free(DomainList *list)
{
    g_hash_table_unref(list->by_id);
    g_hash_table_unref(list->by_name);
    g_hash_table_unref(list->by_uuid);
    g_mutex_clear(&list->lock);
    g_free(list);
}

static Domain *
lookup(DomainList *list, GHashTable *table, gconstpointer key)
{
    g_mutex_lock(&list->lock);
    Domain *domain = g_hash_table_lookup(table, key);
    if (domain)
        domain_ref(domain);
    g_mutex_unlock(&list->lock);
    return domain;
}

Domain *
domain_list_by_name(DomainList *list, const char *name, GError **error)
{
    Domain *domain = lookup(list, list->by_name, name);
    if (!domain)
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", name);
    return domain;
}

Domain *
domain_list_by_uuid(DomainList *list, const guint8 uuid[VIR_UUID_BUFLEN], GError **error)
{
    Domain *domain = lookup(list, list->by_uuid, uuid);
    if (!domain) {
        g_autofree char *text = domain_uuid_format(uuid);
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s'", text);
    }
    return domain;
}

Domain *
domain_list_by_id(DomainList *list, int id, GError **error)
{
    Domain *domain = lookup(list, list->by_id, GINT_TO_POINTER(id));
    if (!domain)
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching id %d", id);
    return domain;
}

static gboolean
check_identity(DomainList *list, const DomainDef *def, Domain **found, GError **error)
{
    Domain *by_uuid = g_hash_table_lookup(list->by_uuid, def->uuid_bytes);
    Domain *by_name = g_hash_table_lookup(list->by_name, def->name);
    *found = by_uuid;
    if (by_uuid == by_name)
        return TRUE;
    Domain *other = by_name ? by_name : by_uuid;
    g_autofree char *uuid = domain_uuid_format(other->uuid);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "domain '%s' already exists with uuid %s", other->name,
                     uuid);
    return FALSE;
}

Domain *
domain_list_add(DomainList *list, Driver *driver, const DomainDef *def, gboolean *created, GError **error)
{
    g_mutex_lock(&list->lock);
    Domain *domain = NULL;
    *created = FALSE;
    if (!check_identity(list, def, &domain, error)) {
        g_mutex_unlock(&list->lock);
        return NULL;
    }
    if (!domain) {
        domain = domain_new(driver, def);
        g_hash_table_insert(list->by_uuid, domain->uuid, domain);
        g_hash_table_insert(list->by_name, domain->name, domain);
        *created = TRUE;
    }
    domain_ref(domain);
    g_mutex_unlock(&list->lock);
    return domain;
}

void
domain_list_remove(DomainList *list, Domain *domain)
{
    domain_ref(domain);
    g_mutex_lock(&list->lock);
    if (domain->id >= 0)
        g_hash_table_remove(list->by_id, GINT_TO_POINTER(domain->id));
    if (!domain->removed) {
        g_hash_table_remove(list->by_name, domain->name);
        g_hash_table_remove(list->by_uuid, domain->uuid);
    }
    domain->removed = TRUE;
    g_mutex_unlock(&list->lock);
    // The caller holds a reference of its own, so this is not the last.
    domain_unref(domain);
}

void
domain_list_assign_id(DomainList *list, Domain *domain)
{
    g_mutex_lock(&list->lock);
    domain->id = ++list->last_id;
    g_hash_table_insert(list->by_id, GINT_TO_POINTER(domain->id), domain);
    g_mutex_unlock(&list->lock);
}

void
domain_list_restore_id(DomainList *list, Domain *domain, int id)
{
    g_mutex_lock(&list->lock);
    domain->id = id;
    list->last_id = MAX(list->last_id, id);
    g_hash_table_insert(list->by_id, GINT_TO_POINTER(id), domain);
    g_mutex_unlock(&list->lock);
}

void
domain_list_release_id(DomainList *list, Domain *domain)
{
    g_mutex_lock(&list->lock);
    if (domain->id >= 0)
        g_hash_table_remove(list->by_id, GINT_TO_POINTER(domain->id));
    domain->id = -1;
    g_mutex_unlock(&list->lock);
}

// A pair of opposite flags: none or both of them set filters nothing.
static gboolean
pair_passes(unsigned int flags, unsigned int yes, unsigned int no, gboolean value)
{
    if (!(flags & (yes | no)))
        return TRUE;
    return (flags & (value ? yes : no)) != 0;
}

static unsigned int
state_flag(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
        return VIR_CONNECT_LIST_DOMAINS_RUNNING;
    case VIR_DOMAIN_PAUSED:
        return VIR_CONNECT_LIST_DOMAINS_PAUSED;
    case VIR_DOMAIN_SHUTOFF:
        return VIR_CONNECT_LIST_DOMAINS_SHUTOFF;
    default:
        return VIR_CONNECT_LIST_DOMAINS_OTHER;
    }
}

static gboolean
passes(const Domain *domain, unsigned int flags)
{
    const unsigned int states = VIR_CONNECT_LIST_DOMAINS_RUNNING | VIR_CONNECT_LIST_DOMAINS_PAUSED |
                                VIR_CONNECT_LIST_DOMAINS_SHUTOFF | VIR_CONNECT_LIST_DOMAINS_OTHER;
    if ((flags & states) && !(flags & state_flag(domain->state)))
        return FALSE;
    // Nothing has managed saves, snapshots or checkpoints yet.
    return !domain->removed &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_ACTIVE, VIR_CONNECT_LIST_DOMAINS_INACTIVE,
                       domain->id >= 0) &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_PERSISTENT, VIR_CONNECT_LIST_DOMAINS_TRANSIENT,
                       domain->persistent != NULL) &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_AUTOSTART, VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART,
                       domain->autostart) &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE,
                       domain->managed_save) &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT,
                       FALSE) &&
           pair_passes(flags, VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT, VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT,
                       FALSE);
}

static GPtrArray *
all_domains(DomainList *list)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify) domain_unref);
    GHashTableIter iter;
    gpointer domain;
    g_mutex_lock(&list->lock);
    g_hash_table_iter_init(&iter, list->by_uuid);
    while (g_hash_table_iter_next(&iter, NULL, &domain))
        g_ptr_array_add(all, domain_ref(domain));
    g_mutex_unlock(&list->lock);
    return all;
}

GPtrArray *
domain_list_filter(DomainList *list, unsigned int flags)
{
    g_autoptr(GPtrArray) all = all_domains(list);
    GPtrArray *passed = g_ptr_array_new_with_free_func((GDestroyNotify) domain_unref);
    for (guint i = 0; i < all->len; i++) {
        Domain *domain = g_ptr_array_index(all, i);
        domain_lock(domain);
        if (passes(domain, flags))
            g_ptr_array_add(passed, domain_ref(domain));
        domain_unlock(domain);
    }
    return passed;
}

DomainCounts
domain_list_count(DomainList *list)
{
    g_autoptr(GPtrArray) all = all_domains(list);
    DomainCounts counts = {0};
    for (guint i = 0; i < all->len; i++) {
        Domain *domain = g_ptr_array_index(all, i);
        domain_lock(domain);
        if (domain->id >= 0)
            counts.active++;
        else if (!domain->removed)
            counts.inactive++;
        domain_unlock(domain);
    }
    return counts;
}
