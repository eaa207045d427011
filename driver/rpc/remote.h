// SPDX-License-Identifier: LGPL-2.1-or-later
// Building and reading the payloads that many procedures share: errors, typed parameters, optional texts.
#pragma once

#include <glib.h>

#include "driver/rpc/protocol.h"

// A wire error of `error`, to be released with xdr_free(xdr_WireError). The second form names the domain.
void rpc_error_encode(WireError *wire, const GError *error);
void rpc_error_encode_domain(WireError *wire, const GError *error, int domain);

// The other way round: the wire's code, and its message without the code's standing prefix, as our errors
// have it.
GError *rpc_error_decode(const WireError *wire);

// A list that grows; a zeroed one is empty. Move it into a result with rpc_params_take().
typedef struct RpcParams {
    WireParam *list;
    guint n;
    guint allocated;
} RpcParams;

void rpc_params_add_int(RpcParams *params, const char *name, gint32 value);
void rpc_params_add_uint(RpcParams *params, const char *name, guint32 value);
void rpc_params_add_llong(RpcParams *params, const char *name, gint64 value);
void rpc_params_add_ullong(RpcParams *params, const char *name, guint64 value);
void rpc_params_add_double(RpcParams *params, const char *name, double value);
void rpc_params_add_boolean(RpcParams *params, const char *name, gboolean value);
void rpc_params_add_string(RpcParams *params, const char *name, const char *value);
void rpc_params_clear(RpcParams *params);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RpcParams, rpc_params_clear)

// Gives the list to a result's params_len / params_val.
#define rpc_params_take(from, ret)                                                                           \
    ((ret)->params.params_len = (from)->n, (ret)->params.params_val = (from)->list,                          \
     *(from) = (RpcParams){NULL, 0, 0})

// Reading: the named parameter of that type, NULL or FALSE when there is none. A parameter of another type is
// an VIR_ERR_INVALID_ARG error. Strings are borrowed.
const WireParam *rpc_params_find(const WireParam *list, guint n, const char *name);
gboolean rpc_params_get_string(const WireParam *list, guint n, const char *name, const char **value,
                               GError **error);
gboolean rpc_params_get_ullong(const WireParam *list, guint n, const char *name, guint64 *value,
                               GError **error);

// Optional texts: NULL or a copy on the heap; and back.
WireOptionalText rpc_optional_text(const char *text);
const char *rpc_text_or_null(const WireOptionalText text);
