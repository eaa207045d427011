// SPDX-License-Identifier: LGPL-2.1-or-later
// Errors: creation, and the mapping to what libvirt's clients expect of each code.
#include "base/error.h"

#include <string.h>

// Scripts match these beginnings ("Domain not found: "), so they are part of the interface.
static const struct {
    virErrorNumber code;
    virErrorDomain domain;
    const char *prefix;
} error_table[] = {
    {VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU, "internal error: "},
    {VIR_ERR_NO_MEMORY, VIR_FROM_NONE, "out of memory: "},
    {VIR_ERR_NO_SUPPORT, VIR_FROM_RPC, "this function is not supported by the connection driver: "},
    {VIR_ERR_NO_CONNECT, VIR_FROM_NONE, "no connection driver available for "},
    {VIR_ERR_INVALID_CONN, VIR_FROM_RPC, "invalid connection pointer in "},
    {VIR_ERR_INVALID_ARG, VIR_FROM_QEMU, "invalid argument: "},
    {VIR_ERR_OPERATION_FAILED, VIR_FROM_QEMU, "operation failed: "},
    {VIR_ERR_OPERATION_DENIED, VIR_FROM_DOM, "operation forbidden: "},
    {VIR_ERR_RPC, VIR_FROM_RPC, ""},
    {VIR_ERR_AUTH_FAILED, VIR_FROM_RPC, "authentication failed: "},
    {VIR_ERR_GNUTLS_ERROR, VIR_FROM_RPC, ""},
    {VIR_ERR_SYSTEM_ERROR, VIR_FROM_QEMU, ""},
    {VIR_ERR_XML_ERROR, VIR_FROM_DOMAIN, "XML error: "},
    {VIR_ERR_XML_DETAIL, VIR_FROM_DOMAIN, ""},
    {VIR_ERR_OS_TYPE, VIR_FROM_DOMAIN, "unknown OS type "},
    {VIR_ERR_NO_DOMAIN, VIR_FROM_QEMU, "Domain not found: "},
    {VIR_ERR_DOM_EXIST, VIR_FROM_QEMU, "domain already exists with "},
    {VIR_ERR_NO_NETWORK, VIR_FROM_NETWORK, "Network not found: "},
    {VIR_ERR_OPERATION_INVALID, VIR_FROM_QEMU, "Requested operation is not valid: "},
    {VIR_ERR_OVERFLOW, VIR_FROM_QEMU, "numerical overflow: "},
    {VIR_ERR_OPERATION_TIMEOUT, VIR_FROM_QEMU, "Timed out during operation: "},
    {VIR_ERR_OPERATION_ABORTED, VIR_FROM_QEMU, "operation aborted: "},
    {VIR_ERR_OPERATION_UNSUPPORTED, VIR_FROM_QEMU, "Operation not supported: "},
    {VIR_ERR_CONFIG_UNSUPPORTED, VIR_FROM_QEMU, "unsupported configuration: "},
    {VIR_ERR_ARGUMENT_UNSUPPORTED, VIR_FROM_QEMU, "argument unsupported: "},
    {VIR_ERR_CONF_SYNTAX, VIR_FROM_CONF, "configuration file syntax error: "},
    {VIR_ERR_MIGRATE_UNSAFE, VIR_FROM_QEMU, "Unsafe migration: "},
    {VIR_ERR_MIGRATE_PERSIST_FAILED, VIR_FROM_QEMU, "Failed to make domain persistent after migration: "},
    {VIR_ERR_MIGRATE_FINISH_OK, VIR_FROM_QEMU, "migration successfully aborted: "},
    {VIR_ERR_NO_DOMAIN_METADATA, VIR_FROM_QEMU, "metadata not found: "},
};

G_DEFINE_QUARK(quasar - error - quark, quasar_error)

static void
set_error(GError **error, virErrorNumber code, char *message)
{
    if (error && !*error)
        *error = g_error_new_literal(QUASAR_ERROR, (int) code, message);
    g_free(message);
}

gboolean
quasar_set_error(GError **error, virErrorNumber code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_error(error, code, g_strdup_vprintf(format, args));
    va_end(args);
    return FALSE;
}

gboolean
quasar_set_system_error(GError **error, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    set_error(error, VIR_ERR_SYSTEM_ERROR, g_strdup_printf("%s: %s", what, g_strerror(errnum)));
    return FALSE;
}

virErrorNumber
quasar_error_code(const GError *error)
{
    return error->domain == QUASAR_ERROR ? (virErrorNumber) error->code : VIR_ERR_INTERNAL_ERROR;
}

virErrorDomain
quasar_error_domain(virErrorNumber code)
{
    for (size_t i = 0; i < G_N_ELEMENTS(error_table); i++)
        if (error_table[i].code == code)
            return error_table[i].domain;
    return VIR_FROM_QEMU;
}

const char *
quasar_error_prefix(virErrorNumber code)
{
    for (size_t i = 0; i < G_N_ELEMENTS(error_table); i++)
        if (error_table[i].code == code)
            return error_table[i].prefix;
    return "";
}

char *
quasar_error_text(const GError *error)
{
    return g_strconcat(quasar_error_prefix(quasar_error_code(error)), error->message, NULL);
}
