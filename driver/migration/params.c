// SPDX-License-Identifier: LGPL-2.1-or-later
// Flags and parameters of a migration: carried out, refused by name, or logged.
#include "driver/migration/params.h"

#include <gio/gio.h>
#include <libvirt/libvirt.h>
#include <string.h>

#include "base/error.h"

// Everything else is refused by name, so that nobody believes it done.
#define SUPPORTED_FLAGS                                                                                      \
    (VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE |     \
     VIR_MIGRATE_PAUSED | VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_UNSAFE | VIR_MIGRATE_NON_SHARED_DISK | \
     VIR_MIGRATE_NON_SHARED_INC | VIR_MIGRATE_TLS)

static const struct {
    guint flag;
    const char *name;
} unsupported[] = {
    {VIR_MIGRATE_TUNNELLED, "tunnelling (everything travels over the one TLS port anyway)"},
    {VIR_MIGRATE_OFFLINE, "moving a domain that does not run"},
    {VIR_MIGRATE_COMPRESSED, "compression"},
    {VIR_MIGRATE_ABORT_ON_ERROR, "ending the move when the guest meets an I/O error"},
    {VIR_MIGRATE_RDMA_PIN_ALL, "RDMA"},
    {VIR_MIGRATE_POSTCOPY, "post-copy"},
    {VIR_MIGRATE_POSTCOPY_RESUME, "post-copy recovery"},
    {VIR_MIGRATE_AUTO_CONVERGE, "slowing the guest down until it converges"},
    {VIR_MIGRATE_PARALLEL, "parallel connections"},
    {VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES, "synchronous writes to the destination's disks"},
    {VIR_MIGRATE_ZEROCOPY, "zero-copy sending"},
};

// What becomes of a parameter: carried out, no loss if it is not (`text` says why), or refused (`text` says
// what is).
typedef enum { USED, IGNORED, REFUSED } Fate;

static const struct {
    const char *name;
    Fate fate;
    const char *text;
} known_params[] = {
    {VIR_MIGRATE_PARAM_URI, USED, NULL},
    {VIR_MIGRATE_PARAM_DEST_NAME, USED, NULL},
    {VIR_MIGRATE_PARAM_DEST_XML, USED, NULL},
    {VIR_MIGRATE_PARAM_PERSIST_XML, USED, NULL},
    {VIR_MIGRATE_PARAM_BANDWIDTH, USED, NULL},
    {VIR_MIGRATE_PARAM_LISTEN_ADDRESS, USED, NULL},
    {VIR_MIGRATE_PARAM_MIGRATE_DISKS, USED, NULL},
    {VIR_MIGRATE_PARAM_GRAPHICS_URI, IGNORED, "there is no display whose clients could be told"},
    {VIR_MIGRATE_PARAM_TLS_DESTINATION, IGNORED,
     "the one certificate is accepted that the destination has named over its own verified connection"},
    {VIR_MIGRATE_PARAM_DISKS_PORT, IGNORED, "disks travel to the same port as everything else"},
    {VIR_MIGRATE_PARAM_DISKS_URI, REFUSED,
     "a way of their own for disks (they take that of the migration URI)"},
    {VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, REFUSED, "post-copy"},
    {VIR_MIGRATE_PARAM_COMPRESSION, REFUSED, "compression"},
    {VIR_MIGRATE_PARAM_COMPRESSION_MT_LEVEL, REFUSED, "compression"},
    {VIR_MIGRATE_PARAM_COMPRESSION_MT_THREADS, REFUSED, "compression"},
    {VIR_MIGRATE_PARAM_COMPRESSION_MT_DTHREADS, REFUSED, "compression"},
    {VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE, REFUSED, "compression"},
    {VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, REFUSED, "slowing the guest down until it converges"},
    {VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, REFUSED, "slowing the guest down until it converges"},
    {VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, REFUSED, "parallel connections"},
};

void
migration_params_free(MigrationParams *params)
{
    if (!params)
        return;
    g_free(params->uri);
    g_free(params->dname);
    g_free(params->dest_xml);
    g_free(params->persist_xml);
    g_free(params->listen_address);
    g_free(params->ignored);
    g_strfreev(params->migrate_disks);
    g_free(params);
}

static gboolean
refuse(const char *what, GError **error)
{
    quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "not supported in a migration: %s", what);
    return FALSE;
}

gboolean
migration_note_param(MigrationParams *params, const char *name, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(known_params); i++) {
        if (strcmp(known_params[i].name, name) != 0)
            continue;
        if (known_params[i].fate == REFUSED)
            return refuse(known_params[i].text, error);
        if (known_params[i].fate == USED)
            return TRUE;
        g_autofree char *former = g_steal_pointer(&params->ignored);
        params->ignored = g_strdup_printf("%s%s%s has no effect: %s", former ? former : "",
                                          former ? "; " : "", name, known_params[i].text);
        return TRUE;
    }
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' of a migration is not known", name);
    return FALSE;
}

gboolean
migration_check_flags(guint flags, GError **error)
{
    guint unknown = flags & ~SUPPORTED_FLAGS;
    if (unknown == 0)
        return TRUE;
    g_autoptr(GString) names = g_string_new(NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(unsupported); i++)
        if (unknown & unsupported[i].flag)
            g_string_append_printf(names, "%s%s", names->len ? ", " : "", unsupported[i].name);
    if (!names->len)
        g_string_append(names, "flags of a later libvirt");
    g_string_append_printf(names, " (flags 0x%x)", unknown);
    return refuse(names->str, error);
}

gboolean
migration_check_params(const MigrationParams *params, GError **error)
{
    const char *name = params->dest_xml        ? "another domain XML for the destination"
                       : params->persist_xml   ? "another persistent domain XML for the destination"
                       : params->migrate_disks ? "a choice of the disks to move (all of them move)"
                                               : NULL;
    return !name || refuse(name, error);
}

// The numeric addresses of a host; NULL: none.
static char **
resolve(const char *host, GError **error)
{
    g_autoptr(GResolver) resolver = g_resolver_get_default();
    g_autoptr(GError) problem = NULL;
    GList *found = g_resolver_lookup_by_name(resolver, host, NULL, &problem);
    if (!found) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "cannot resolve '%s': %s", host, problem->message);
        return NULL;
    }
    g_autoptr(GStrvBuilder) texts = g_strv_builder_new();
    for (GList *item = found; item; item = item->next) {
        g_autofree char *text = g_inet_address_to_string(item->data);
        g_strv_builder_add(texts, text);
    }
    g_resolver_free_addresses(found);
    return g_strv_builder_end(texts);
}

// virt-manager and Pacemaker leave the slashes out.
static GNetworkAddress *
parse_way(const char *uri, guint16 port, GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (!g_str_has_prefix(uri, "tcp:")) {
        quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                         "migration URI '%s' is not supported: everything travels over TLS to virtquasard's "
                         "port; tcp://HOST chooses the host's address for that",
                         uri);
        return NULL;
    }
    const char *rest = uri + strlen("tcp:");
    rest += g_str_has_prefix(rest, "//") ? 2 : 0;
    g_autofree char *place = g_strndup(rest, strcspn(rest, "/"));
    GSocketConnectable *parsed = *place ? g_network_address_parse(place, port, &problem) : NULL;
    if (!parsed)
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "migration URI '%s' names no host: %s", uri,
                         problem ? problem->message : "it is tcp://HOST");
    return parsed ? G_NETWORK_ADDRESS(parsed) : NULL;
}

gboolean
migration_choose_way(const char *uri, const char *hostname, PeerAddress *peer, GError **error)
{
    if (!uri || g_str_has_prefix(uri, "quasar:"))
        return TRUE;
    g_autoptr(GNetworkAddress) way = parse_way(uri, peer->port, error);
    if (!way)
        return FALSE;
    const char *host = g_network_address_get_hostname(way);
    if (g_network_address_get_port(way) != peer->port)
        g_message("the port of migration URI %s has no effect: everything travels to port %u", uri,
                  peer->port);
    // Which chooses nothing, and need not be a name that is known here.
    if (hostname && g_ascii_strcasecmp(host, hostname) == 0)
        return TRUE;
    char **addresses = resolve(host, error);
    if (!addresses) {
        g_prefix_error(error, "migration URI '%s': ", uri);
        return FALSE;
    }
    g_strfreev(peer->addresses);
    peer->addresses = addresses;
    return TRUE;
}

gboolean
migration_choose_listener(const char *listen_address, PeerAddress *own, GError **error)
{
    if (!listen_address || g_str_equal(listen_address, "0.0.0.0") || g_str_equal(listen_address, "::"))
        return TRUE;
    g_auto(GStrv) wanted = resolve(listen_address, error);
    if (!wanted)
        return FALSE;
    g_autoptr(GStrvBuilder) common = g_strv_builder_new();
    for (char **address = own->addresses; *address; address++)
        if (g_strv_contains((const char *const *) wanted, *address))
            g_strv_builder_add(common, *address);
    g_auto(GStrv) chosen = g_strv_builder_end(common);
    if (!*chosen) {
        g_autofree char *all = g_strjoinv(", ", own->addresses);
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "listen address '%s' is not one of the destination's (%s)", listen_address, all);
        return FALSE;
    }
    g_strfreev(own->addresses);
    own->addresses = g_steal_pointer(&chosen);
    return TRUE;
}
