// SPDX-License-Identifier: LGPL-2.1-or-later
// The list of all domains: lookup by name, UUID and id, and the filters of virConnectListAllDomains.
#pragma once

#include <glib.h>

#include "driver/domain.h"

DomainList *domain_list_new(void);
void domain_list_free(DomainList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainList, domain_list_free)

// Each returns a reference, unlocked, or NULL and VIR_ERR_NO_DOMAIN. Never takes a domain's lock, so never
// waits.
Domain *domain_list_by_name(DomainList *list, const char *name, GError **error);
Domain *domain_list_by_uuid(DomainList *list, const guint8 uuid[VIR_UUID_BUFLEN], GError **error);
Domain *domain_list_by_id(DomainList *list, int id, GError **error);

// Finds the domain of this definition or adds a new one (*created). Name or UUID of another domain is
// VIR_ERR_OPERATION_FAILED. Returns a reference, unlocked.
Domain *domain_list_add(DomainList *list, Driver *driver, const DomainDef *def, gboolean *created,
                        GError **error);

// Takes it out of the list and marks it removed. With the domain locked.
void domain_list_remove(DomainList *list, Domain *domain);

// Ids: a fresh one for a start, never reused in this daemon's life. Set with the domain locked.
void domain_list_assign_id(DomainList *list, Domain *domain);
void domain_list_restore_id(DomainList *list, Domain *domain, int id);
void domain_list_release_id(DomainList *list, Domain *domain);

// References (Domain*) to those that pass virConnectListAllDomainsFlags `flags` (0: all).
GPtrArray *domain_list_filter(DomainList *list, unsigned int flags);

typedef struct {
    guint active, inactive;
} DomainCounts;
DomainCounts domain_list_count(DomainList *list);
