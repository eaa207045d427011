// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures that find domains and tell how they are: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/nic_events.h"
#include "driver/node.h"
#include "driver/procedures.h"
#include "driver/stats.h"

static DomainList *
call_domains(RpcCall *call)
{
    return procedures_driver(call)->domains;
}

HANDLER(domain_num_of_active)
{
    ((WireIntRet *) ret)->value = (int) domain_list_count(call_domains(call)).active;
    return TRUE;
}

HANDLER(domain_num_of_defined)
{
    ((WireIntRet *) ret)->value = (int) domain_list_count(call_domains(call)).inactive;
    return TRUE;
}

HANDLER(domain_list_ids)
{
    const WireIntArgs *in = args;
    WireListDomainsRet *out = ret;
    g_autoptr(GPtrArray) found = domain_list_filter(call_domains(call), VIR_CONNECT_LIST_DOMAINS_ACTIVE);

    out->ids.ids_val = g_new0(int, found->len + 1);
    for (guint i = 0; i < found->len && (int) i < in->value; i++) {
        WireDomain wire;

        procedures_encode_domain(&wire, g_ptr_array_index(found, i));
        out->ids.ids_val[out->ids.ids_len++] = wire.id;
        g_free(wire.name);
    }
    return TRUE;
}

HANDLER(domain_list_defined)
{
    const WireIntArgs *in = args;
    WireNamesRet *out = ret;
    g_autoptr(GPtrArray) found = domain_list_filter(call_domains(call), VIR_CONNECT_LIST_DOMAINS_INACTIVE);

    out->names.names_val = g_new0(char *, found->len + 1);
    for (guint i = 0; i < found->len && (int) i < in->value; i++)
        out->names.names_val[out->names.names_len++] =
            g_strdup(((Domain *) g_ptr_array_index(found, i))->name);
    return TRUE;
}

HANDLER(domain_list_all)
{
    const WireListArgs *in = args;
    WireListAllDomainsRet *out = ret;
    g_autoptr(GPtrArray) found = domain_list_filter(call_domains(call), in->flags);

    if (found->len > WIRE_LIST_MAX) {
        quasar_set_error(error, VIR_ERR_RPC, "%u domains are more than a reply can hold (%d)", found->len,
                         WIRE_LIST_MAX);
        return FALSE;
    }
    out->ret = found->len;
    if (!in->need_results)
        return TRUE;
    out->domains.domains_len = found->len;
    out->domains.domains_val = g_new0(WireDomain, found->len + 1);
    for (guint i = 0; i < found->len; i++)
        procedures_encode_domain(&out->domains.domains_val[i], g_ptr_array_index(found, i));
    return TRUE;
}

HANDLER(domain_lookup_id)
{
    return procedures_answer_domain(
        ret, domain_list_by_id(call_domains(call), ((const WireIntArgs *) args)->value, error));
}

HANDLER(domain_lookup_name)
{
    return procedures_answer_domain(
        ret, domain_list_by_name(call_domains(call), ((const WireTextArgs *) args)->text, error));
}

HANDLER(domain_lookup_uuid)
{
    const WireUuidArgs *in = args;

    return procedures_answer_domain(
        ret, domain_list_by_uuid(call_domains(call), (const guint8 *) in->uuid, error));
}

// A number that is read under the domain's lock; the definition may be needed for it.
#define QUERY(handler, Ret, expression)                                                                      \
    HANDLER(handler)                                                                                         \
    {                                                                                                        \
        const WireDomainArgs *in = args;                                                                     \
        g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);                                 \
                                                                                                             \
        if (!domain)                                                                                         \
            return FALSE;                                                                                    \
        domain_lock(domain);                                                                                 \
        const DomainDef *def = domain_def(domain);                                                           \
        ((Ret *) ret)->value = def ? (expression) : 0;                                                       \
        domain_unlock(domain);                                                                               \
        return TRUE;                                                                                         \
    }

QUERY(domain_get_max_memory, WireHyperRet, def->memory_kib)
QUERY(domain_get_max_vcpus, WireIntRet, (int) def->max_vcpus)
QUERY(domain_get_autostart, WireIntRet, domain->autostart)
QUERY(domain_get_active, WireIntRet, domain_is_active(domain))
QUERY(domain_get_persistent, WireIntRet, domain->persistent != NULL)
QUERY(domain_get_updated, WireIntRet, domain->updated)

HANDLER(domain_get_managed_save)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    ((WireIntRet *) ret)->value = domain->managed_save;
    domain_unlock(domain);
    return TRUE;
}

// Snapshots do not exist yet: no domain has any.
HANDLER(domain_answer_none)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain != NULL;
}

HANDLER(domain_get_os_type)
{
    const WireDomainArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (domain)
        ((WireTextRet *) ret)->text = g_strdup("hvm");
    return domain != NULL;
}

HANDLER(domain_get_state)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainStateRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    out->state = domain->state;
    out->reason = domain->reason;
    domain_unlock(domain);
    return TRUE;
}

HANDLER(domain_get_info)
{
    const WireDomainArgs *in = args;
    WireDomainInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    guint64 user = 0, system = 0;

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const DomainDef *def = domain_def(domain);
    const pid_t pid = domain->pid;
    out->state = (u_char) domain->state;
    if (def) {
        out->max_memory = def->memory_kib;
        out->memory = def->current_memory_kib ? def->current_memory_kib : def->memory_kib;
        out->vcpus = (u_short) def->vcpus;
    }
    domain_unlock(domain);
    if (pid > 0 && stats_process_times(pid, 0, &user, &system))
        out->cpu_time = user + system;
    return TRUE;
}

HANDLER(domain_get_messages)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainMessagesRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    g_autoptr(GPtrArray) all =
        g_ptr_array_copy(domain->messages, (GCopyFunc) (void (*)(void)) g_strdup, NULL);
    domain_network_problems(domain, all);
    domain_unlock(domain);
    const guint n = MIN(all->len, WIRE_MESSAGES_MAX);
    out->messages.messages_val = g_new0(char *, n + 1);
    out->messages.messages_len = n;
    for (guint i = 0; i < n; i++)
        out->messages.messages_val[i] = g_strdup(g_ptr_array_index(all, i));
    return TRUE;
}

// Of guests that do not run there is no label, as libvirt has it.
HANDLER(domain_get_security_label)
{
    const WireDomainArgs *in = args;
    WireDomainSecurityLabelRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    if (domain_is_active(domain)) {
        out->label.label_val = node_security_label(procedures_driver(call));
        out->label.label_len = (u_int) strlen(out->label.label_val) + 1;
        out->enforcing = 1;
    }
    domain_unlock(domain);
    return TRUE;
}
