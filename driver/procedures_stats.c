// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about figures of guests: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/blockinfo.h"
#include "driver/domains.h"
#include "driver/procedures.h"
#include "driver/stats.h"
#include "driver/vcpu.h"

static void
add_param(RpcParams *params, const virTypedParameter *param)
{
    switch (param->type) {
    case VIR_TYPED_PARAM_INT:
        rpc_params_add_int(params, param->field, param->value.i);
        break;
    case VIR_TYPED_PARAM_UINT:
        rpc_params_add_uint(params, param->field, param->value.ui);
        break;
    case VIR_TYPED_PARAM_LLONG:
        rpc_params_add_llong(params, param->field, param->value.l);
        break;
    case VIR_TYPED_PARAM_ULLONG:
        rpc_params_add_ullong(params, param->field, param->value.ul);
        break;
    case VIR_TYPED_PARAM_STRING:
        rpc_params_add_string(params, param->field, param->value.s);
        break;
    case VIR_TYPED_PARAM_DOUBLE:
        rpc_params_add_double(params, param->field, param->value.d);
        break;
    default:
        rpc_params_add_boolean(params, param->field, param->value.b);
    }
}

HANDLER(domain_get_all_stats)
{
    const WireDomainStatsArgs *in = args;
    WireDomainStatsRet *out = ret;
    const guint filter = in->flags & ~(guint) (VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT |
                                               VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING |
                                               VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS);
    g_autoptr(GPtrArray) found = NULL;

    if ((in->flags & VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS) &&
        (in->stats & ~(guint) STATS_GROUPS)) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "statistics 0x%x are not collected here",
                         in->stats & ~(guint) STATS_GROUPS);
        return FALSE;
    }
    if (in->doms.doms_len > 0) {
        found = g_ptr_array_new_with_free_func((GDestroyNotify) domain_unref);
        for (guint i = 0; i < in->doms.doms_len; i++) {
            // One that vanished meanwhile is left out, as it would be from the list of all.
            Domain *domain = procedures_domain(call, &in->doms.doms_val[i], NULL);
            if (domain)
                g_ptr_array_add(found, domain);
        }
    } else {
        found = domain_list_filter(procedures_driver(call)->domains, filter);
    }
    out->records.records_val = g_new0(WireDomainStatsRecord, found->len + 1);
    out->records.records_len = found->len;
    for (guint i = 0; i < found->len; i++) {
        WireDomainStatsRecord *record = &out->records.records_val[i];
        g_autoptr(GArray) stats = stats_collect(g_ptr_array_index(found, i), in->stats);
        RpcParams params = {0};

        procedures_encode_domain(&record->dom, g_ptr_array_index(found, i));
        for (guint p = 0; p < stats->len; p++)
            add_param(&params, &g_array_index(stats, virTypedParameter, p));
        rpc_params_take(&params, record);
    }
    return TRUE;
}

HANDLER(domain_block_stats)
{
    const WireDomainPathArgs *in = args;
    WireDomainBlockStatsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    BlockStats stats;

    if (!domain || !stats_block(domain, in->path, &stats, error))
        return FALSE;
    out->rd_req = (quad_t) stats.read_requests;
    out->rd_bytes = (quad_t) stats.read_bytes;
    out->wr_req = (quad_t) stats.write_requests;
    out->wr_bytes = (quad_t) stats.write_bytes;
    out->errs = -1; // not counted
    return TRUE;
}

// Asked twice: without room for the count of them, then with it.
HANDLER(domain_block_stats_flags)
{
    const WireDomainBlockStatsFlagsArgs *in = args;
    WireDomainBlockStatsFlagsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    RpcParams params = {0};
    BlockStats stats;

    if (!domain || !stats_block(domain, in->path, &stats, error))
        return FALSE;
    const struct {
        const char *name;
        guint64 value;
    } all[] = {
        {VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, stats.write_bytes},
        {VIR_DOMAIN_BLOCK_STATS_WRITE_REQ, stats.write_requests},
        {VIR_DOMAIN_BLOCK_STATS_READ_BYTES, stats.read_bytes},
        {VIR_DOMAIN_BLOCK_STATS_READ_REQ, stats.read_requests},
        {VIR_DOMAIN_BLOCK_STATS_FLUSH_REQ, stats.flush_requests},
        {VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, stats.write_ns},
        {VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, stats.read_ns},
        {VIR_DOMAIN_BLOCK_STATS_FLUSH_TOTAL_TIMES, stats.flush_ns},
    };
    for (int i = 0; i < (int) G_N_ELEMENTS(all) && i < in->nparams; i++)
        rpc_params_add_llong(&params, all[i].name, (gint64) all[i].value);
    out->nparams = in->nparams == 0 ? (int) G_N_ELEMENTS(all) : (int) params.n;
    rpc_params_take(&params, out);
    return TRUE;
}

HANDLER(domain_interface_stats)
{
    const WireDomainPathArgs *in = args;
    WireDomainInterfaceStatsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    NicCounters stats;

    if (!domain || !stats_interface(domain, in->path, &stats, error))
        return FALSE;
    out->rx_bytes = (quad_t) stats.rx_bytes;
    out->rx_packets = (quad_t) stats.rx_packets;
    out->rx_drop = (quad_t) stats.rx_dropped;
    out->tx_bytes = (quad_t) stats.tx_bytes;
    out->tx_packets = (quad_t) stats.tx_packets;
    out->tx_drop = (quad_t) stats.tx_dropped;
    return TRUE;
}

// A copy of the image that `path` (target or source) names; NULL and VIR_ERR_INVALID_ARG.
static DomainDef *
definition_with_disk(Domain *domain, const char *path, const DomainDisk **disk, GError **error)
{
    domain_lock(domain);
    const DomainDef *def = domain_def(domain);
    g_autoptr(DomainDef) copy = def ? domain_def_copy(def) : NULL;
    domain_unlock(domain);

    for (guint i = 0; copy && i < copy->disks->len; i++) {
        const DomainDisk *one = g_ptr_array_index(copy->disks, i);
        if (strcmp(path, one->target) != 0 && g_strcmp0(path, one->image.path) != 0)
            continue;
        *disk = one;
        return g_steal_pointer(&copy);
    }
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "invalid path %s not assigned to domain", path);
    return NULL;
}

HANDLER(domain_get_block_info)
{
    const WireDomainBlockInfoArgs *in = args;
    WireDomainBlockInfoRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    const DomainDisk *disk = NULL;
    g_autoptr(DomainDef) def = domain ? definition_with_disk(domain, in->path, &disk, error) : NULL;
    BlockInfo info;

    if (!def || !block_info(&disk->image, &info, error))
        return FALSE;
    out->allocation = info.allocation;
    out->capacity = info.capacity;
    out->physical = info.physical;
    return TRUE;
}

HANDLER(domain_memory_stats)
{
    const WireDomainMemoryStatsArgs *in = args;
    WireDomainMemoryStatsRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    guint64 balloon, rss;

    if (!domain || !stats_memory(domain, &balloon, &rss, error))
        return FALSE;
    const WireDomainMemoryStat all[] = {
        {.tag = VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON, .value = balloon},
        {.tag = VIR_DOMAIN_MEMORY_STAT_RSS, .value = rss},
    };
    out->stats.stats_val = g_memdup2(all, sizeof(all));
    out->stats.stats_len = MIN(in->max_stats, (guint) G_N_ELEMENTS(all));
    return TRUE;
}

HANDLER(domain_get_vcpus)
{
    const WireDomainVcpusArgs *in = args;
    WireDomainVcpusRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    g_autofree guint8 *maps = NULL;

    if (!domain)
        return FALSE;
    if (in->maxinfo < 0 || in->maxinfo > WIRE_LIST_MAX || in->maplen < 0 ||
        (gint64) in->maxinfo * in->maplen > WIRE_CPUMAP_MAX) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "%d vCPUs with %d bytes for the map of each are too many", in->maxinfo, in->maplen);
        return FALSE;
    }
    g_autoptr(GArray) infos = vcpu_collect(domain, (guint) in->maxinfo, (gsize) in->maplen, &maps, error);
    if (!infos)
        return FALSE;
    out->info.info_val = g_new0(WireVcpuInfo, infos->len);
    out->info.info_len = infos->len;
    for (guint i = 0; i < infos->len; i++) {
        const virVcpuInfo *info = &g_array_index(infos, virVcpuInfo, i);
        out->info.info_val[i] = (WireVcpuInfo){
            .number = info->number, .state = info->state, .cpu_time = info->cpuTime, .cpu = info->cpu};
    }
    out->cpumaps.cpumaps_len = maps ? infos->len * (u_int) in->maplen : 0;
    out->cpumaps.cpumaps_val = (char *) g_steal_pointer(&maps);
    return TRUE;
}
