// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about migration: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/migration/migration.h"
#include "driver/procedures.h"
#include "emulator/monitor.h"

// What fits into 63 bits as bytes: the wire's way of saying that there is no limit.
#define MAX_SPEED_MIB (G_MAXINT64 >> 20)

#define MAX_DOWNTIME_MS 2000000u // QEMU takes no more (qapi/migration.json, downtime-limit)

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
        {VIR_MIGRATE_PARAM_LISTEN_ADDRESS, &params->listen_address},
    };

    for (guint i = 0; i < n; i++)
        if (!migration_note_param(params, list[i].field, error))
            return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        const char *value = NULL;
        if (!rpc_params_get_string(list, n, texts[i].name, &value, error))
            return FALSE;
        *texts[i].field = g_strdup(value);
    }
    if (!rpc_params_get_ullong(list, n, VIR_MIGRATE_PARAM_BANDWIDTH, &params->bandwidth, error))
        return FALSE;
    if (params->bandwidth > MAX_SPEED_MIB) {
        quasar_set_error(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %" G_GINT64_FORMAT,
                         MAX_SPEED_MIB + 1);
        return FALSE;
    }
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
        !migration_begin(procedures_driver(call), rpc_call_session(call), domain, params, in->flags,
                         &out->xml, &cookie, error))
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
    g_autoptr(GError) problem = NULL;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, &problem);
    g_autoptr(MigrationParams) params = NULL;
    g_autoptr(GBytes) cookie_in = COOKIE_IN(in);

    // A transient guest is forgotten here once it has left: there is nothing to confirm.
    if (!domain && quasar_error_code(problem) == VIR_ERR_NO_DOMAIN)
        return TRUE;
    if (!domain) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return FALSE;
    }
    return params_decode(in->params.params_val, in->params.params_len, &params, error) &&
           migration_confirm(procedures_driver(call), domain, params, in->flags, in->cancelled != 0,
                             cookie_in, error);
}

// One of QEMU's parameters, while the guest is being moved away; otherwise the next move will read what was
// set. With the domain locked; drops the lock meanwhile.
static gboolean
set_moving_parameter(Domain *domain, const char *name, guint64 value, GError **error)
{
    g_autoptr(Qmp) qmp = domain->job.async == ASYNC_MIGRATION_OUT ? domain_qmp(domain, NULL) : NULL;

    if (!qmp)
        return TRUE;
    domain_unlock(domain);
    const gboolean ok =
        monitor_migrate_set_parameters(qmp, json_pack("{s:I}", name, (json_int_t) value), error);
    domain_lock(domain);
    return ok;
}

// Flags of the speed calls: what would be about post-copy is refused.
static gboolean
check_speed_flags(guint flags, GError **error)
{
    if (flags)
        quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "there is no post-copy phase to limit");
    return !flags;
}

HANDLER(migrate_set_max_downtime)
{
    const WireDomainHyperFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    // Refused now rather than by the next migration, which would fail of it.
    if (in->value > MAX_DOWNTIME_MS) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "the maximum downtime cannot be above %u ms",
                         MAX_DOWNTIME_MS);
        return FALSE;
    }
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error);
    // A move that is under way looks at it again and again.
    if (ok)
        domain->max_downtime_ms = in->value;
    domain_unlock(domain);
    return ok;
}

HANDLER(migrate_get_max_downtime)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean active = domain_check_active(domain, error);
    ((WireHyperRet *) ret)->value = domain->max_downtime_ms;
    domain_unlock(domain);
    return active;
}

HANDLER(migrate_set_max_speed)
{
    const WireDomainHyperFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain || !check_speed_flags(in->flags, error))
        return FALSE;
    if (in->value > MAX_SPEED_MIB) {
        quasar_set_error(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %" G_GINT64_FORMAT,
                         MAX_SPEED_MIB + 1);
        return FALSE;
    }
    domain_lock(domain);
    domain->max_speed_mib = in->value;
    const gboolean ok = set_moving_parameter(domain, "max-bandwidth",
                                             in->value ? in->value << 20 : MAX_SPEED_MIB << 20, error);
    domain_unlock(domain);
    return ok;
}

HANDLER(migrate_get_max_speed)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain || !check_speed_flags(in->flags, error))
        return FALSE;
    domain_lock(domain);
    ((WireHyperRet *) ret)->value = domain->max_speed_mib ? domain->max_speed_mib : MAX_SPEED_MIB;
    domain_unlock(domain);
    return TRUE;
}
