// SPDX-License-Identifier: LGPL-2.1-or-later
// Errors and typed parameters on the wire.
#include "driver/rpc/remote.h"

#include <libvirt/libvirt.h>
#include <string.h>

#include "base/error.h"

#define ERROR_TEXT_MAX 65536 // bytes

WireOptionalText
rpc_optional_text(const char *text)
{
    if (!text)
        return NULL;
    WireOptionalText copy = g_new0(WireText, 1);
    *copy = g_strdup(text);
    return copy;
}

const char *
rpc_text_or_null(const WireOptionalText text)
{
    return text ? *text : NULL;
}

// A message may quote what a client sent, and an error that is too long for the wire would reach it as none.
static WireOptionalText
bounded_text(const char *text)
{
    g_autofree char *start = g_strndup(text, ERROR_TEXT_MAX);
    return rpc_optional_text(start);
}

void
rpc_error_encode_domain(WireError *wire, const GError *error, int domain)
{
    g_autofree char *text = quasar_error_text(error);
    *wire = (WireError){
        .code = (int) quasar_error_code(error),
        .domain = domain,
        .message = bounded_text(text),
        .level = VIR_ERR_ERROR,
        .str1 = rpc_optional_text("%s"),
        .str2 = bounded_text(error->message),
        .int1 = -1,
        .int2 = -1,
    };
}

void
rpc_error_encode(WireError *wire, const GError *error)
{
    rpc_error_encode_domain(wire, error, (int) quasar_error_domain(quasar_error_code(error)));
}

GError *
rpc_error_decode(const WireError *wire)
{
    const char *message = rpc_text_or_null(wire->message);
    const char *prefix = quasar_error_prefix((virErrorNumber) wire->code);
    if (message && g_str_has_prefix(message, prefix))
        message += strlen(prefix);
    return g_error_new_literal(QUASAR_ERROR, wire->code,
                               message && *message ? message : "the other side named no reason");
}

static WireValue *
add_param(RpcParams *params, const char *name, int type)
{
    if (params->n == params->allocated) {
        params->allocated = MAX(16, params->allocated * 2);
        params->list = g_renew(WireParam, params->list, params->allocated);
    }
    WireParam *param = &params->list[params->n++];
    *param = (WireParam){.field = g_strdup(name), .value = {.type = type}};
    return &param->value;
}

void
rpc_params_add_int(RpcParams *params, const char *name, gint32 value)
{
    add_param(params, name, VIR_TYPED_PARAM_INT)->WireValue_u.i = value;
}

void
rpc_params_add_uint(RpcParams *params, const char *name, guint32 value)
{
    add_param(params, name, VIR_TYPED_PARAM_UINT)->WireValue_u.ui = value;
}

void
rpc_params_add_llong(RpcParams *params, const char *name, gint64 value)
{
    add_param(params, name, VIR_TYPED_PARAM_LLONG)->WireValue_u.l = value;
}

void
rpc_params_add_ullong(RpcParams *params, const char *name, guint64 value)
{
    add_param(params, name, VIR_TYPED_PARAM_ULLONG)->WireValue_u.ul = value;
}

void
rpc_params_add_double(RpcParams *params, const char *name, double value)
{
    add_param(params, name, VIR_TYPED_PARAM_DOUBLE)->WireValue_u.d = value;
}

void
rpc_params_add_boolean(RpcParams *params, const char *name, gboolean value)
{
    add_param(params, name, VIR_TYPED_PARAM_BOOLEAN)->WireValue_u.b = value;
}

void
rpc_params_add_string(RpcParams *params, const char *name, const char *value)
{
    add_param(params, name, VIR_TYPED_PARAM_STRING)->WireValue_u.s = g_strdup(value);
}

void
rpc_params_clear(RpcParams *params)
{
    for (guint i = 0; i < params->n; i++)
        xdr_free((xdrproc_t) xdr_WireParam, (char *) &params->list[i]);
    g_free(params->list);
    *params = (RpcParams){NULL, 0, 0};
}

const WireParam *
rpc_params_find(const WireParam *list, guint n, const char *name)
{
    for (guint i = 0; i < n; i++)
        if (strcmp(list[i].field, name) == 0)
            return &list[i];
    return NULL;
}

static const WireParam *
find_typed(const WireParam *list, guint n, const char *name, int type, const char *type_name, gboolean *ok,
           GError **error)
{
    const WireParam *param = rpc_params_find(list, n, name);
    *ok = !param || param->value.type == type;
    if (!*ok)
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' must be %s", name, type_name);
    return *ok ? param : NULL;
}

gboolean
rpc_params_get_string(const WireParam *list, guint n, const char *name, const char **value, GError **error)
{
    gboolean ok;
    const WireParam *param = find_typed(list, n, name, VIR_TYPED_PARAM_STRING, "a string", &ok, error);
    if (ok)
        *value = param ? param->value.WireValue_u.s : NULL;
    return ok;
}

gboolean
rpc_params_get_ullong(const WireParam *list, guint n, const char *name, guint64 *value, GError **error)
{
    gboolean ok;
    const WireParam *param = find_typed(list, n, name, VIR_TYPED_PARAM_ULLONG, "a 64-bit number", &ok, error);
    if (param)
        *value = param->value.WireValue_u.ul;
    return ok;
}
