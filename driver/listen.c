// SPDX-License-Identifier: LGPL-2.1-or-later
// The sockets that virtquasard serves, and the limits of serving, as virtquasard.conf asks for them.
#include "driver/listen.h"

#include <grp.h>

#include "base/error.h"
#include "base/file.h"

#define LIMIT_MAX 1000000

gboolean
listen_limits(const Config *config, RpcServerLimits *limits, GError **error)
{
    const struct {
        const char *key;
        guint *field;
    } keys[] = {
        {"max_clients", &limits->max_clients},
        {"max_client_requests", &limits->max_client_requests},
        {"max_workers", &limits->max_workers},
        {"prio_workers", &limits->priority_workers},
        {"keepalive_interval", &limits->keepalive_interval},
        {"keepalive_count", &limits->keepalive_count},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        gint64 value = *keys[i].field;
        if (!config_number(config, keys[i].key, &value, error))
            return FALSE;
        if (value < 0 || value > LIMIT_MAX) {
            quasar_set_error(error, VIR_ERR_CONF_SYNTAX, "%s must be between 0 (the default) and %d",
                             keys[i].key, LIMIT_MAX);
            return FALSE;
        }
        *keys[i].field = (guint) value;
    }
    return TRUE;
}

// A mode as a string of octal digits, as in libvirtd.conf.
static gboolean
listen_mode(const Config *config, const char *key, mode_t *mode, GError **error)
{
    const char *text = NULL;
    char *end = NULL;

    if (!config_string(config, key, &text, error))
        return FALSE;
    if (!text)
        return TRUE;
    const guint64 value = g_ascii_strtoull(text, &end, 8);
    if (end == text || *end || value > 0777) {
        quasar_set_error(error, VIR_ERR_CONF_SYNTAX, "%s must be an octal mode like \"0770\", not \"%s\"",
                         key, text);
        return FALSE;
    }
    *mode = (mode_t) value;
    return TRUE;
}

// The group that may use the sockets: a named one has to exist, `libvirt` is taken when it does.
static gboolean
listen_group(const Config *config, gid_t *gid, GError **error)
{
    const char *name = NULL;

    if (!config_string(config, "unix_sock_group", &name, error))
        return FALSE;
    const struct group *entry = getgrnam(name ? name : "libvirt");
    if (!entry && name) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "unix_sock_group names group '%s', which does not exist", name);
        return FALSE;
    }
    *gid = entry ? entry->gr_gid : (gid_t) -1;
    return TRUE;
}

static gboolean
listen_unix(RpcServer *server, const Config *config, GError **error)
{
    const char *directory = "/run/libvirt";
    gid_t gid = (gid_t) -1;

    if (!config_string(config, "unix_sock_dir", &directory, error) || !listen_group(config, &gid, error))
        return FALSE;
    mode_t full_mode = gid == (gid_t) -1 ? 0700 : 0770, read_only_mode = 0777;
    if (!listen_mode(config, "unix_sock_rw_perms", &full_mode, error) ||
        !listen_mode(config, "unix_sock_ro_perms", &read_only_mode, error))
        return FALSE;

    g_autofree char *full = g_build_filename(directory, "virtquasard-sock", NULL);
    g_autofree char *read_only = g_build_filename(directory, "virtquasard-sock-ro", NULL);
    return file_make_directory(directory, 0755, error) &&
           rpc_server_listen_unix(server, full, full_mode, gid, FALSE, error) &&
           rpc_server_listen_unix(server, read_only, read_only_mode, gid, TRUE, error);
}

// libvirtd.conf has the port as a string; a number is understood too.
static gboolean
listen_port(const Config *config, guint16 *port, GError **error)
{
    const char *text = NULL;
    gint64 number = *port;

    if (!config_string(config, "tls_port", &text, NULL) && !config_number(config, "tls_port", &number, error))
        return FALSE;
    const gboolean given = !text || g_ascii_string_to_signed(text, 10, 1, G_MAXUINT16, &number, NULL);
    if (!given || number < 1 || number > G_MAXUINT16) {
        quasar_set_error(error, VIR_ERR_CONF_SYNTAX, "tls_port must be between 1 and %d", G_MAXUINT16);
        return FALSE;
    }
    *port = (guint16) number;
    return TRUE;
}

static gboolean
listen_tls(RpcServer *server, Driver *driver, GError **error)
{
    const char *const *allowed = NULL;
    const char *address = NULL;

    driver->tls_port = RPC_TLS_PORT;
    if (!driver->credentials)
        return TRUE;
    if (!config_string(driver->config, "listen_addr", &address, error) ||
        !listen_port(driver->config, &driver->tls_port, error) ||
        !config_list(driver->config, "tls_allowed_dn_list", &allowed, error))
        return FALSE;
    return rpc_server_listen_tls(server, address, driver->tls_port, driver->credentials, allowed, error);
}

gboolean
listen_all(RpcServer *server, Driver *driver, GError **error)
{
    return listen_unix(server, driver->config, error) && listen_tls(server, driver, error);
}
