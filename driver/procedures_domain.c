// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about domains: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/console.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/migration.h"
#include "driver/node.h"
#include "driver/procedures.h"
#include "driver/stats.h"
#include "xml/metadata.h"

static DomainList *
call_domains(RpcCall *call)
{
    return procedures_driver(call)->domains;
}

// Answers with the domain, whose reference it drops.
static gboolean
answer_domain(void *ret, Domain *domain)
{
    if (!domain)
        return FALSE;
    procedures_encode_domain(&((WireDomainRet *) ret)->dom, domain);
    domain_unref(domain);
    return TRUE;
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
    return answer_domain(ret,
                         domain_list_by_id(call_domains(call), ((const WireIntArgs *) args)->value, error));
}

HANDLER(domain_lookup_name)
{
    return answer_domain(ret,
                         domain_list_by_name(call_domains(call), ((const WireTextArgs *) args)->text, error));
}

HANDLER(domain_lookup_uuid)
{
    const WireUuidArgs *in = args;

    return answer_domain(ret, domain_list_by_uuid(call_domains(call), (const guint8 *) in->uuid, error));
}

HANDLER(domain_define)
{
    return answer_domain(
        ret, lifecycle_define(procedures_driver(call), ((const WireTextArgs *) args)->text, 0, error));
}

HANDLER(domain_define_flags)
{
    const WireTextFlagsArgs *in = args;

    return answer_domain(ret, lifecycle_define(procedures_driver(call), in->text, in->flags, error));
}

HANDLER(domain_create_xml)
{
    const WireTextFlagsArgs *in = args;

    return answer_domain(ret, lifecycle_create_xml(procedures_driver(call), in->text, in->flags, error));
}

// Handlers that only act on a domain: without flags, and with them.
#define ACTION(handler, Args, expression)                                                                    \
    HANDLER(handler)                                                                                         \
    {                                                                                                        \
        const Args *in = args;                                                                               \
        g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);                                 \
                                                                                                             \
        return domain && (expression);                                                                       \
    }

ACTION(domain_create, WireDomainArgs, lifecycle_start(domain, 0, error))
ACTION(domain_undefine, WireDomainArgs, lifecycle_undefine(domain, 0, error))
ACTION(domain_undefine_flags, WireDomainFlagsArgs, lifecycle_undefine(domain, in->flags, error))
ACTION(domain_destroy, WireDomainArgs, lifecycle_destroy(domain, 0, error))
ACTION(domain_destroy_flags, WireDomainFlagsArgs, lifecycle_destroy(domain, in->flags, error))
ACTION(domain_shutdown, WireDomainArgs, lifecycle_shutdown(domain, 0, error))
ACTION(domain_shutdown_flags, WireDomainFlagsArgs, lifecycle_shutdown(domain, in->flags, error))
ACTION(domain_reboot, WireDomainFlagsArgs, lifecycle_reboot(domain, in->flags, error))
ACTION(domain_reset, WireDomainFlagsArgs, lifecycle_reset(domain, in->flags, error))
ACTION(domain_suspend, WireDomainArgs, lifecycle_suspend(domain, error))
ACTION(domain_resume, WireDomainArgs, lifecycle_resume(domain, error))
ACTION(domain_set_autostart, WireDomainIntArgs, lifecycle_set_autostart(domain, in->value != 0, error))
ACTION(domain_abort_job, WireDomainArgs, migration_abort(procedures_driver(call), domain, error))
ACTION(domain_abort_job_flags, WireDomainFlagsArgs, migration_abort(procedures_driver(call), domain, error))

HANDLER(domain_create_flags)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && lifecycle_start(domain, in->flags, error) && answer_domain(ret, domain_ref(domain));
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

// Managed save and snapshots do not exist yet: no domain has any.
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

HANDLER(domain_get_xml)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = NULL;
    const guint known = VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_UPDATE_CPU |
                        VIR_DOMAIN_XML_MIGRATABLE;
    guint format = 0;

    if (in->flags & ~known) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "unsupported flags (0x%x) in function virDomainGetXMLDesc", in->flags & ~known);
        return FALSE;
    }
    if ((in->flags & VIR_DOMAIN_XML_SECURE) && rpc_session_read_only(rpc_call_session(call))) {
        quasar_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainGetXMLDesc with secure flag");
        return FALSE;
    }
    domain = procedures_domain(call, &in->dom, error);
    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean inactive = (in->flags & VIR_DOMAIN_XML_INACTIVE) || !domain_is_active(domain);
    const DomainDef *def = inactive && domain->persistent ? domain->persistent : domain_def(domain);
    if (inactive)
        format |= DOMAIN_FORMAT_INACTIVE;
    if (in->flags & VIR_DOMAIN_XML_MIGRATABLE)
        format |= DOMAIN_FORMAT_MIGRATABLE;
    if (in->flags & VIR_DOMAIN_XML_SECURE)
        format |= DOMAIN_FORMAT_SECURE;
    if (def)
        ((WireTextRet *) ret)->text = domain_def_format(def, format, domain->id);
    domain_unlock(domain);
    if (!def)
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "domain '%s' was removed", domain->name);
    return def != NULL;
}

HANDLER(domain_get_messages)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainMessagesRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const guint n = domain->messages ? MIN(domain->messages->len, WIRE_MESSAGES_MAX) : 0;
    out->messages.messages_val = g_new0(char *, n + 1);
    out->messages.messages_len = n;
    for (guint i = 0; i < n; i++)
        out->messages.messages_val[i] = g_strdup(g_ptr_array_index(domain->messages, i));
    domain_unlock(domain);
    return TRUE;
}

HANDLER(domain_get_control_info)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainControlInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    JobStats stats;

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean active = domain_check_active(domain, error);
    if (active && job_stats(domain, FALSE, &stats)) {
        out->state = VIR_DOMAIN_CONTROL_JOB;
        out->state_time = stats.time_elapsed;
    }
    domain_unlock(domain);
    return active;
}

// The text of a kind of metadata, on the heap; NULL: there is none.
static char *
metadata_text(const DomainDef *def, int type, const char *uri)
{
    switch (type) {
    case VIR_DOMAIN_METADATA_DESCRIPTION:
        return g_strdup(def->description);
    case VIR_DOMAIN_METADATA_TITLE:
        return g_strdup(def->title);
    default:
        return uri ? metadata_element(def->metadata, uri) : NULL;
    }
}

// What AFFECT_LIVE and AFFECT_CONFIG choose; borrowed under the domain's lock.
static const DomainDef *
chosen_definition(Domain *domain, guint flags, GError **error)
{
    const DomainDef *def = (flags & VIR_DOMAIN_AFFECT_CONFIG) ? domain->persistent : domain_def(domain);

    if ((flags & VIR_DOMAIN_AFFECT_LIVE) && !domain_check_active(domain, error))
        return NULL;
    if (!def)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "transient domains do not have any persistent config");
    return def;
}

HANDLER(domain_get_vcpus_flags)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    if (in->flags & VIR_DOMAIN_VCPU_GUEST) {
        quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                         "what the guest makes of its vCPUs is not known, as no guest agent is spoken to");
        return FALSE;
    }
    domain_lock(domain);
    const DomainDef *def = chosen_definition(domain, in->flags, error);
    if (def)
        ((WireIntRet *) ret)->value =
            (int) (in->flags & VIR_DOMAIN_VCPU_MAXIMUM ? def->max_vcpus : def->vcpus);
    domain_unlock(domain);
    return def != NULL;
}

HANDLER(domain_get_metadata)
{
    const WireDomainMetadataArgs *in = args;
    WireTextRet *out = ret;
    g_autoptr(Domain) domain = NULL;

    if (in->type < VIR_DOMAIN_METADATA_DESCRIPTION || in->type > VIR_DOMAIN_METADATA_ELEMENT) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "unknown metadata type '%d'", in->type);
        return FALSE;
    }
    domain = procedures_domain(call, &in->dom, error);
    if (!domain)
        return FALSE;
    domain_lock(domain);
    const DomainDef *def = chosen_definition(domain, in->flags, error);
    if (def && !(out->text = metadata_text(def, in->type, rpc_text_or_null(in->uri))))
        quasar_set_error(error, VIR_ERR_NO_DOMAIN_METADATA, "Requested metadata element is not present");
    domain_unlock(domain);
    return out->text != NULL;
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

// The place at a console, as long as its stream lives.
typedef struct {
    Domain *domain;
    guint64 token;
} ConsolePlace;

static void
console_lost(gpointer stream)
{
    g_autoptr(GError) error = NULL;
    quasar_set_error(&error, VIR_ERR_OPERATION_ABORTED, "another session took over this console");
    rpc_stream_abort(stream, error);
}

static void
console_ended(gpointer data)
{
    g_autofree ConsolePlace *place = data;
    console_close(place->domain, place->token);
    domain_unref(place->domain);
}

HANDLER(domain_open_console)
{
    const WireDomainOpenConsoleArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    guint64 token;

    if (!domain)
        return FALSE;
    g_autoptr(RpcStream) stream = rpc_stream_new(call);
    const int fd = console_open(domain, rpc_text_or_null(in->device), in->flags, console_lost,
                                rpc_stream_ref(stream), (GDestroyNotify) rpc_stream_unref, &token, error);
    if (fd < 0)
        return FALSE;
    ConsolePlace *place = g_new(ConsolePlace, 1);
    *place = (ConsolePlace){g_steal_pointer(&domain), token};
    rpc_call_open_stream(call, stream, fd, console_ended, place);
    return TRUE;
}

void
procedures_job_params(const JobStats *stats, RpcParams *params)
{
    rpc_params_add_int(params, VIR_DOMAIN_JOB_OPERATION, stats->operation);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_TIME_ELAPSED, stats->time_elapsed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_TIME_REMAINING, stats->time_remaining);
    if (stats->downtime_set)
        rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DOWNTIME, stats->downtime);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_SETUP_TIME, stats->setup_time);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_TOTAL, stats->data_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_PROCESSED, stats->data_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DATA_REMAINING, stats->data_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_TOTAL, stats->memory_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_PROCESSED, stats->memory_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_REMAINING, stats->memory_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_BPS, stats->memory_bps);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, stats->memory_dirty_rate);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_ITERATION, stats->memory_iteration);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_CONSTANT, stats->memory_constant);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_NORMAL, stats->memory_normal);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, stats->memory_normal_bytes);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, stats->memory_page_size);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_TOTAL, stats->disk_total);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_PROCESSED, stats->disk_processed);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_REMAINING, stats->disk_remaining);
    rpc_params_add_ullong(params, VIR_DOMAIN_JOB_DISK_BPS, stats->disk_bps);
    if (stats->error[0])
        rpc_params_add_string(params, VIR_DOMAIN_JOB_ERRMSG, stats->error);
}

HANDLER(domain_get_job_info)
{
    const WireDomainArgs *in = args;
    WireDomainJobInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    JobStats stats = {0};
    virDomainJobInfo info = {0};

    if (!domain)
        return FALSE;
    domain_lock(domain);
    if (job_stats(domain, FALSE, &stats))
        job_stats_to_info(&stats, &info);
    domain_unlock(domain);
    out->type = info.type;
    out->time_elapsed = info.timeElapsed;
    out->time_remaining = info.timeRemaining;
    out->data_total = info.dataTotal;
    out->data_processed = info.dataProcessed;
    out->data_remaining = info.dataRemaining;
    out->mem_total = info.memTotal;
    out->mem_processed = info.memProcessed;
    out->mem_remaining = info.memRemaining;
    out->file_total = info.fileTotal;
    out->file_processed = info.fileProcessed;
    out->file_remaining = info.fileRemaining;
    return TRUE;
}

HANDLER(domain_get_job_stats)
{
    const WireDomainFlagsArgs *in = args;
    WireDomainJobStatsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    const gboolean completed = (in->flags & VIR_DOMAIN_JOB_STATS_COMPLETED) != 0;
    // Who may only look takes nothing away from others.
    const gboolean keep =
        (in->flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED) || rpc_session_read_only(rpc_call_session(call));
    g_auto(RpcParams) params = {0};
    JobStats stats = {0};

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean found = job_stats(domain, completed, &stats);
    if (found && completed && !keep)
        job_forget_completed(domain);
    domain_unlock(domain);
    out->type = stats.type;
    if (found)
        procedures_job_params(&stats, &params);
    rpc_params_take(&params, out);
    return TRUE;
}
