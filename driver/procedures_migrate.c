// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about migration: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/migration/migration.h"
#include "driver/procedures.h"

static gboolean
params_decode(const WireParam *list, guint n, MigrationParams **out, GError **error)
{
    g_autoptr(MigrationParams) params = g_new0(MigrationParams, 1);
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(g_free);
    const struct {
        const char *name;
        char **field;
    } texts[] = {
        {VIR_MIGRATE_PARAM_URI, &params->uri},
        {VIR_MIGRATE_PARAM_DEST_NAME, &params->dname},
        {VIR_MIGRATE_PARAM_DEST_XML, &params->dest_xml},
        {VIR_MIGRATE_PARAM_PERSIST_XML, &params->persist_xml},
        {VIR_MIGRATE_PARAM_GRAPHICS_URI, &params->graphics_uri},
        {VIR_MIGRATE_PARAM_LISTEN_ADDRESS, &params->listen_address},
        {VIR_MIGRATE_PARAM_TLS_DESTINATION, &params->tls_destination},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *value = NULL;
        if (!rpc_params_get_string(list, n, texts[i].name, &value, error) && error && *error)
            return FALSE;
        *texts[i].field = g_strdup(value);
    }
    if (!rpc_params_get_ullong(list, n, VIR_MIGRATE_PARAM_BANDWIDTH, &params->bandwidth, error) && error &&
        *error)
        return FALSE;
    for (guint i = 0; i < n; i++) {
        if (strcmp(list[i].field, VIR_MIGRATE_PARAM_MIGRATE_DISKS) == 0 &&
            list[i].value.type == VIR_TYPED_PARAM_STRING)
            g_ptr_array_add(disks, g_strdup(list[i].value.WireValue_u.s));
    }
    if (disks->len > 0) {
        g_ptr_array_add(disks, NULL);
        params->migrate_disks = (char **) g_ptr_array_free(g_steal_pointer(&disks), FALSE);
    }
    *out = g_steal_pointer(&params);
    return TRUE;
}

static void
cookie_encode(GBytes *cookie, u_int *length, char **data)
{
    gsize size = 0;
    const void *bytes = cookie ? g_bytes_get_data(cookie, &size) : NULL;

    *data = g_memdup2(bytes, size);
    *length = (u_int) size;
}

#define COOKIE_IN(in) g_bytes_new((in)->cookie_in.cookie_in_val, (in)->cookie_in.cookie_in_len)
#define COOKIE_OUT(cookie, out)                                                                              \
    cookie_encode((cookie), &(out)->cookie_out.cookie_out_len, &(out)->cookie_out.cookie_out_val)

HANDLER(migrate_begin)
{
    const WireMigrateBeginArgs *in = args;
    WireMigrateBeginRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie = NULL;

    if (!domain || !params_decode(in->params.params_val, in->params.params_len, &params, error) ||
        !migration_begin(procedures_driver(call), domain, params, in->flags, &out->xml, &cookie, error))
        return FALSE;
    COOKIE_OUT(cookie, out);
    return TRUE;
}

HANDLER(migrate_prepare)
{
    const WireMigratePrepareArgs *in = args;
    WireMigratePrepareRet *out = ret;
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie_in = COOKIE_IN(in), cookie = NULL;
    g_autofree char *uri = NULL;

    if (!params_decode(in->params.params_val, in->params.params_len, &params, error) ||
        !migration_prepare(procedures_driver(call), rpc_call_session(call), params, in->flags, cookie_in,
                           &cookie, &uri, error))
        return FALSE;
    COOKIE_OUT(cookie, out);
    out->uri_out = rpc_optional_text(uri);
    return TRUE;
}

HANDLER(migrate_perform)
{
    const WireMigratePerformArgs *in = args;
    WireMigratePerformRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie_in = COOKIE_IN(in), cookie = NULL;

    if (!domain || !params_decode(in->params.params_val, in->params.params_len, &params, error) ||
        !migration_perform(procedures_driver(call), domain, rpc_text_or_null(in->dconnuri), params, in->flags,
                           cookie_in, &cookie, error))
        return FALSE;
    COOKIE_OUT(cookie, out);
    return TRUE;
}

HANDLER(migrate_finish)
{
    const WireMigrateFinishArgs *in = args;
    WireMigrateFinishRet *out = ret;
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie_in = COOKIE_IN(in), cookie = NULL;
    g_autoptr(Domain) domain = NULL;

    if (!params_decode(in->params.params_val, in->params.params_len, &params, error) ||
        !migration_finish(procedures_driver(call), params, in->flags, in->cancelled != 0, cookie_in, &cookie,
                          &domain, error))
        return FALSE;
    procedures_encode_domain(&out->dom, domain);
    COOKIE_OUT(cookie, out);
    return TRUE;
}

HANDLER(migrate_confirm)
{
    const WireMigrateConfirmArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie_in = COOKIE_IN(in);

    return domain && params_decode(in->params.params_val, in->params.params_len, &params, error) &&
           migration_confirm(procedures_driver(call), domain, params, in->flags, in->cancelled != 0,
                             cookie_in, error);
}

HANDLER(migrate_set_max_downtime)
{
    const WireDomainHyperFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    domain->max_downtime_ms = in->value;
    domain_unlock(domain);
    return TRUE;
}

HANDLER(migrate_get_max_downtime)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    ((WireHyperRet *) ret)->value = domain->max_downtime_ms;
    domain_unlock(domain);
    return TRUE;
}

HANDLER(migrate_set_max_speed)
{
    const WireDomainHyperFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    domain->max_speed_mib = in->value;
    domain_unlock(domain);
    return TRUE;
}

HANDLER(migrate_get_max_speed)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    ((WireHyperRet *) ret)->value = domain->max_speed_mib;
    domain_unlock(domain);
    return TRUE;
}
