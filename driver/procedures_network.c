// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about networks: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/procedures.h"

static void
encode_network(WireNetwork *wire, const Network *network)
{
    wire->name = g_strdup(network->def->name);
    memcpy(wire->uuid, network->def->uuid_bytes, sizeof(wire->uuid));
}

static NetworkList *
call_networks(RpcCall *call)
{
    return procedures_driver(call)->networks;
}

static Network *
call_network(RpcCall *call, const WireNetwork *wire, GError **error)
{
    return network_list_by_uuid(call_networks(call), (const guint8 *) wire->uuid, error);
}

static gboolean
answer_network(void *ret, Network *network)
{
    if (!network)
        return FALSE;
    encode_network(&((WireNetworkRet *) ret)->net, network);
    network_free(network);
    return TRUE;
}

// A pair of opposite flags: none or both of them set filters nothing.
static gboolean
flags_admit(guint flags, guint yes, guint no, gboolean value)
{
    return !(flags & (yes | no)) || (flags & (value ? yes : no));
}

HANDLER(network_list_all_wire)
{
    const WireListArgs *in = args;
    WireListAllNetworksRet *out = ret;
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    out->nets.nets_val = g_new0(WireNetwork, all->len + 1);
    for (guint i = 0; i < all->len; i++) {
        const Network *network = g_ptr_array_index(all, i);

        if (!flags_admit(in->flags, VIR_CONNECT_LIST_NETWORKS_ACTIVE, VIR_CONNECT_LIST_NETWORKS_INACTIVE,
                         network->active) ||
            !flags_admit(in->flags, VIR_CONNECT_LIST_NETWORKS_PERSISTENT, VIR_CONNECT_LIST_NETWORKS_TRANSIENT,
                         network->persistent) ||
            !flags_admit(in->flags, VIR_CONNECT_LIST_NETWORKS_AUTOSTART,
                         VIR_CONNECT_LIST_NETWORKS_NO_AUTOSTART, network->autostart))
            continue;
        if (in->need_results)
            encode_network(&out->nets.nets_val[out->nets.nets_len++], network);
        out->ret++;
    }
    return TRUE;
}

static gboolean
answer_count(RpcCall *call, gboolean active, WireIntRet *out)
{
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    for (guint i = 0; i < all->len; i++)
        out->value += ((Network *) g_ptr_array_index(all, i))->active == active;
    return TRUE;
}

static gboolean
answer_names(RpcCall *call, gboolean active, int most, WireNamesRet *out)
{
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    out->names.names_val = g_new0(char *, all->len + 1);
    for (guint i = 0; i < all->len && (int) out->names.names_len < most; i++) {
        const Network *network = g_ptr_array_index(all, i);
        if (network->active == active)
            out->names.names_val[out->names.names_len++] = g_strdup(network->def->name);
    }
    return TRUE;
}

HANDLER(network_num)
{
    return answer_count(call, TRUE, ret);
}

HANDLER(network_num_defined)
{
    return answer_count(call, FALSE, ret);
}

HANDLER(network_names)
{
    return answer_names(call, TRUE, ((const WireIntArgs *) args)->value, ret);
}

HANDLER(network_names_defined)
{
    return answer_names(call, FALSE, ((const WireIntArgs *) args)->value, ret);
}

HANDLER(network_lookup_name)
{
    return answer_network(
        ret, network_list_by_name(call_networks(call), ((const WireTextArgs *) args)->text, error));
}

HANDLER(network_lookup_uuid)
{
    const WireUuidArgs *in = args;

    return answer_network(ret, network_list_by_uuid(call_networks(call), (const guint8 *) in->uuid, error));
}

HANDLER(network_define)
{
    return answer_network(
        ret, network_list_define(call_networks(call), ((const WireTextArgs *) args)->text, error));
}

HANDLER(network_get_xml)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkFlagsArgs *) args)->net, error);

    if (network)
        ((WireTextRet *) ret)->text = network_def_format(network->def, 0);
    return network != NULL;
}

HANDLER(network_undefine)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    return network && network_list_undefine(call_networks(call), network->def->name, error);
}

HANDLER(network_create)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    return network && network_list_set_active(call_networks(call), network->def->name, TRUE, error);
}

HANDLER(network_destroy)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    return network && network_list_set_active(call_networks(call), network->def->name, FALSE, error);
}

HANDLER(network_get_autostart)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    if (network)
        ((WireIntRet *) ret)->value = network->autostart;
    return network != NULL;
}

HANDLER(network_get_active)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    if (network)
        ((WireIntRet *) ret)->value = network->active;
    return network != NULL;
}

HANDLER(network_get_persistent)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    if (network)
        ((WireIntRet *) ret)->value = network->persistent;
    return network != NULL;
}

HANDLER(network_set_autostart)
{
    const WireNetworkIntArgs *in = args;
    g_autoptr(Network) network = call_network(call, &in->net, error);

    return network &&
           network_list_set_autostart(call_networks(call), network->def->name, in->value != 0, error);
}

HANDLER(network_get_bridge_name)
{
    g_autoptr(Network) network = call_network(call, &((const WireNetworkArgs *) args)->net, error);

    if (!network)
        return FALSE;
    if (network->def->bridge)
        ((WireTextRet *) ret)->text = g_strdup(network->def->bridge);
    else
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "network '%s' does not have a bridge name.",
                         network->def->name);
    return network->def->bridge != NULL;
}
