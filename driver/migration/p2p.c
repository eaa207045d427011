// SPDX-License-Identifier: LGPL-2.1-or-later
// Peer-to-peer migration, through our own half of libvirt's remote protocol.
#include "driver/migration/p2p.h"

#include "base/error.h"
#include "driver/procedures.h"
#include "driver/rpc/client.h"

// Prepare may hash a base image for the first time, and create disks.
#define CALL_LIMIT_MS (30 * 60 * 1000)

struct P2pDestination {
    RpcClient *client;
};

static const RpcProcedure *
procedure(guint number)
{
    return rpc_program_find(&procedures_programs[0], number);
}

P2pDestination *
p2p_connect(Driver *driver, const char *uri, GError **error)
{
    RpcClient *client = rpc_client_connect(uri, driver->client_credentials, error);
    if (!client) {
        // What is said of a URI names it.
        if (error && !g_error_matches(*error, QUASAR_ERROR, VIR_ERR_INVALID_ARG) &&
            !g_error_matches(*error, QUASAR_ERROR, VIR_ERR_NO_CONNECT))
            g_prefix_error(error, "cannot reach the destination %s: ", uri);
        return NULL;
    }
    P2pDestination *destination = g_new0(P2pDestination, 1);
    destination->client = client;
    return destination;
}

void
p2p_free(P2pDestination *destination)
{
    if (!destination)
        return;
    rpc_client_free(destination->client);
    g_free(destination);
}

static void
add_params(RpcParams *params, const char *name, const char *xml)
{
    rpc_params_add_string(params, VIR_MIGRATE_PARAM_DEST_NAME, name);
    rpc_params_add_string(params, VIR_MIGRATE_PARAM_DEST_XML, xml);
}

static gboolean
call(P2pDestination *destination, guint number, gpointer args, gpointer ret, GError **error)
{
    return rpc_client_call(destination->client, procedure(number), args, ret, CALL_LIMIT_MS, error);
}

static GBytes *
cookie_of(const void *data, guint length)
{
    return g_bytes_new(data, length);
}

gboolean
p2p_prepare(P2pDestination *destination, const char *name, const char *xml, const char *listen_address,
            guint flags, GBytes *cookie_in, GBytes **cookie_out, GError **error)
{
    gsize size = 0;
    const void *cookie = g_bytes_get_data(cookie_in, &size);
    g_auto(RpcParams) params = {NULL, 0, 0};
    add_params(&params, name, xml);
    if (listen_address)
        rpc_params_add_string(&params, VIR_MIGRATE_PARAM_LISTEN_ADDRESS, listen_address);
    WireMigratePrepareArgs args = {.flags = flags};
    args.params.params_len = params.n;
    args.params.params_val = params.list;
    args.cookie_in.cookie_in_len = (u_int) size;
    args.cookie_in.cookie_in_val = (char *) cookie;
    WireMigratePrepareRet ret = {0};
    if (!call(destination, WIRE_DOMAIN_MIGRATE_PREPARE3_PARAMS, &args, &ret, error))
        return FALSE;
    *cookie_out = cookie_of(ret.cookie_out.cookie_out_val, ret.cookie_out.cookie_out_len);
    xdr_free((xdrproc_t) xdr_WireMigratePrepareRet, (char *) &ret);
    return TRUE;
}

gboolean
p2p_finish(P2pDestination *destination, const char *name, const char *xml, guint flags, gboolean cancelled,
           GBytes *cookie_in, GError **error)
{
    gsize size = 0;
    const void *cookie = cookie_in ? g_bytes_get_data(cookie_in, &size) : NULL;
    g_auto(RpcParams) params = {NULL, 0, 0};
    add_params(&params, name, xml);
    WireMigrateFinishArgs args = {.flags = flags, .cancelled = cancelled};
    args.params.params_len = params.n;
    args.params.params_val = params.list;
    args.cookie_in.cookie_in_len = (u_int) size;
    args.cookie_in.cookie_in_val = (char *) cookie;
    WireMigrateFinishRet ret = {0};
    g_autoptr(GError) problem = NULL;
    if (call(destination, WIRE_DOMAIN_MIGRATE_FINISH3_PARAMS, &args, &ret, &problem)) {
        xdr_free((xdrproc_t) xdr_WireMigrateFinishRet, (char *) &ret);
        return TRUE;
    }
    if (cancelled && quasar_error_code(problem) == VIR_ERR_MIGRATE_FINISH_OK)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&problem));
    return FALSE;
}
