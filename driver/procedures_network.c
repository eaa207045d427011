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

HANDLER(network_list_all_wire)
{
    const WireListArgs *in = args;
    WireListAllNetworksRet *out = ret;
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    out->nets.nets_val = g_new0(WireNetwork, all->len + 1);
    for (guint i = 0; i < all->len; i++) {
        const Network *network = g_ptr_array_index(all, i);

        if ((in->flags & (VIR_CONNECT_LIST_NETWORKS_ACTIVE | VIR_CONNECT_LIST_NETWORKS_INACTIVE)) &&
            !(in->flags &
              (network->active ? VIR_CONNECT_LIST_NETWORKS_ACTIVE : VIR_CONNECT_LIST_NETWORKS_INACTIVE)))
            continue;
        if (in->need_results)
            encode_network(&out->nets.nets_val[out->nets.nets_len++], network);
        out->ret++;
    }
    return TRUE;
}

HANDLER(network_num)
{
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    for (guint i = 0; i < all->len; i++)
        ((WireIntRet *) ret)->value += ((Network *) g_ptr_array_index(all, i))->active;
    return TRUE;
}

HANDLER(network_names)
{
    const WireIntArgs *in = args;
    WireNamesRet *out = ret;
    g_autoptr(GPtrArray) all = network_list_all(call_networks(call));

    out->names.names_val = g_new0(char *, all->len + 1);
    for (guint i = 0; i < all->len && (int) out->names.names_len < in->value; i++) {
        const Network *network = g_ptr_array_index(all, i);
        if (network->active)
            out->names.names_val[out->names.names_len++] = g_strdup(network->def->name);
    }
    return TRUE;
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

    ((WireIntRet *) ret)->value = network != NULL;
    return network != NULL;
}
