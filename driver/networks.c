// SPDX-License-Identifier: LGPL-2.1-or-later
// The networks that guests' NICs name: `default`, and what administrators define.
#include "driver/networks.h"

#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "vnet/client.h"
#include "xml/domain.h"

// Fixed, so that the network is the same one on every host and after every restart.
static const char default_uuid[] = "71756173-6172-4e65-8064-656661756c74";

struct NetworkList {
    GMutex lock;
    char *directory;
    GHashTable *networks; // name -> Network
};

void
network_free(Network *network)
{
    if (!network)
        return;
    network_def_free(network->def);
    g_free(network);
}

static Network *
network_copy(const Network *network)
{
    Network *copy = g_new0(Network, 1);

    *copy = *network;
    copy->def = network_def_copy(network->def);
    return copy;
}

static char *
network_path(NetworkList *list, const char *name)
{
    g_autofree char *file = g_strdup_printf("%s.xml", name);

    return g_build_filename(list->directory, file, NULL);
}

static void
network_list_insert(NetworkList *list, NetworkDef *def, gboolean active)
{
    Network *network = g_new0(Network, 1);

    network->def = def;
    network->active = active;
    network->autostart = TRUE;
    g_hash_table_replace(list->networks, network->def->name, network);
}

static void
network_list_load_file(NetworkList *list, const char *path)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(NetworkDef) def = NULL;

    if (g_file_get_contents(path, &xml, NULL, &error))
        def = network_def_parse(xml, &error);
    if (!def) {
        g_warning("network file %s is not used: %s", path, error->message);
        return;
    }
    network_def_assign(def);
    network_list_insert(list, g_steal_pointer(&def), TRUE);
}

static void
network_list_load(NetworkList *list)
{
    g_autoptr(GDir) dir = g_dir_open(list->directory, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        if (!g_str_has_suffix(name, ".xml"))
            continue;
        g_autofree char *path = g_build_filename(list->directory, name, NULL);
        network_list_load_file(list, path);
    }
}

NetworkList *
network_list_new(const char *directory)
{
    NetworkList *list = g_new0(NetworkList, 1);

    g_mutex_init(&list->lock);
    list->directory = g_strdup(directory);
    // The key is the network's own name, which goes with it.
    list->networks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) network_free);
    if (directory)
        network_list_load(list);
    if (!g_hash_table_contains(list->networks, "default")) {
        NetworkDef *def = network_def_new("default", NULL);
        if (!def->uuid) {
            def->uuid = g_strdup(default_uuid);
            domain_uuid_parse(default_uuid, def->uuid_bytes);
        }
        network_list_insert(list, def, TRUE);
    }
    return list;
}

void
network_list_free(NetworkList *list)
{
    if (!list)
        return;
    g_hash_table_unref(list->networks);
    g_free(list->directory);
    g_mutex_clear(&list->lock);
    g_free(list);
}

// With the lock held; borrowed.
static Network *
network_list_find(NetworkList *list, const char *name, GError **error)
{
    Network *network = g_hash_table_lookup(list->networks, name);

    if (!network)
        quasar_set_error(error, VIR_ERR_NO_NETWORK, "no network with matching name '%s'", name);
    return network;
}

Network *
network_list_by_name(NetworkList *list, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    Network *network = network_list_find(list, name, error);

    return network ? network_copy(network) : NULL;
}

Network *
network_list_by_uuid(NetworkList *list, const guint8 uuid[16], GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    g_autofree char *text = NULL;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, list->networks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (memcmp(((Network *) value)->def->uuid_bytes, uuid, 16) == 0)
            return network_copy(value);
    }
    text = domain_uuid_format(uuid);
    quasar_set_error(error, VIR_ERR_NO_NETWORK, "no network with matching uuid '%s'", text);
    return NULL;
}

static gint
network_compare(gconstpointer a, gconstpointer b)
{
    return strcmp((*(Network *const *) a)->def->name, (*(Network *const *) b)->def->name);
}

GPtrArray *
network_list_all(NetworkList *list)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify) network_free);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, list->networks);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        g_ptr_array_add(all, network_copy(value));
    g_ptr_array_sort(all, network_compare);
    return all;
}

static gboolean
network_list_store(NetworkList *list, const NetworkDef *def, GError **error)
{
    g_autofree char *path = NULL, *xml = NULL;

    if (!list->directory)
        return TRUE;
    path = network_path(list, def->name);
    xml = network_def_format(def, 0);
    return file_make_directory(list->directory, 0700, error) &&
           file_replace(path, xml, strlen(xml), 0600, error);
}

Network *
network_list_define(NetworkList *list, const char *xml, GError **error)
{
    g_autoptr(NetworkDef) def = network_def_parse(xml, error);

    if (!def)
        return NULL;
    if (!domain_name_is_valid(def->name)) {
        quasar_set_error(error, VIR_ERR_XML_ERROR, "network name '%s' cannot be a file name", def->name);
        return NULL;
    }

    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    const Network *old = g_hash_table_lookup(list->networks, def->name);
    const gboolean active = old && old->active;

    if (old && def->uuid && strcmp(old->def->uuid, def->uuid) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "network '%s' is already defined with uuid %s",
                         def->name, old->def->uuid);
        return NULL;
    }
    if (old && !def->uuid) {
        def->uuid = g_strdup(old->def->uuid);
        memcpy(def->uuid_bytes, old->def->uuid_bytes, sizeof(def->uuid_bytes));
    }
    network_def_assign(def);
    if (!network_list_store(list, def, error))
        return NULL;
    const char *name = def->name;
    network_list_insert(list, g_steal_pointer(&def), active);
    return network_copy(g_hash_table_lookup(list->networks, name));
}

gboolean
network_list_undefine(NetworkList *list, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);

    if (!network_list_find(list, name, error))
        return FALSE;
    if (list->directory) {
        g_autofree char *path = network_path(list, name);
        if (!file_remove(path, error))
            return FALSE;
    }
    g_hash_table_remove(list->networks, name);
    return TRUE;
}

gboolean
network_list_set_active(NetworkList *list, const char *name, gboolean active, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    Network *network = network_list_find(list, name, error);

    if (!network)
        return FALSE;
    if (network->active == active) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "network '%s' is %s active", name,
                         active ? "already" : "not");
        return FALSE;
    }
    network->active = active;
    return TRUE;
}

char *
network_list_resolve_nic(NetworkList *list, const char *name, GError **error)
{
    g_autoptr(Network) network = network_list_by_name(list, name, error);

    if (!network)
        return NULL;
    if (!network->active) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "network '%s' is not active", name);
        return NULL;
    }
    if (network->def->interface)
        return g_strdup(network->def->interface);
    if (network->def->bridge)
        return g_strdup(network->def->bridge);
    return vnet_default_nic(error);
}
