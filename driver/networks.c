// SPDX-License-Identifier: LGPL-2.1-or-later
// The networks that guests' NICs name: `default`, and what administrators define.
#include "driver/networks.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "vnet/client.h"
#include "xml/domain.h"

// Fixed, so that the network is the same one on every host and after every restart.
static const char default_uuid[] = "71756173-6172-4e65-8064-656661756c74";

struct NetworkList {
    GMutex lock;
    char *directory, *status_directory; // NULL: nothing is stored
    EventBus *events;                   // NULL: nobody is told
    GHashTable *networks;               // name -> Network
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
network_path(const char *directory, const char *name, const char *suffix)
{
    g_autofree char *file = g_strconcat(name, suffix, NULL);

    return g_build_filename(directory, file, NULL);
}

static char *
network_autostart_path(NetworkList *list, const char *name)
{
    g_autofree char *directory = g_build_filename(list->directory, "autostart", NULL);

    return network_path(directory, name, ".xml");
}

static Network *
network_list_insert(NetworkList *list, NetworkDef *def)
{
    Network *network = g_new0(Network, 1);

    network->def = def;
    g_hash_table_replace(list->networks, network->def->name, network);
    return network;
}

static NetworkDef *
network_load(const char *path)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(NetworkDef) def = NULL;

    if (g_file_get_contents(path, &xml, NULL, &error))
        def = network_def_parse(xml, &error);
    if (!def) {
        g_warning("network file %s is not used: %s", path, error->message);
        return NULL;
    }
    network_def_assign(def);
    return g_steal_pointer(&def);
}

static void
network_list_load_definition(NetworkList *list, const char *path)
{
    NetworkDef *def = network_load(path);

    if (!def)
        return;
    Network *network = network_list_insert(list, def);
    g_autofree char *link = network_autostart_path(list, def->name);
    network->persistent = TRUE;
    network->autostart = g_file_test(link, G_FILE_TEST_EXISTS);
}

static void
network_list_load_status(NetworkList *list, const char *path)
{
    g_autoptr(NetworkDef) def = network_load(path);

    if (!def)
        return;
    Network *network = g_hash_table_lookup(list->networks, def->name);
    if (!network)
        network = network_list_insert(list, g_steal_pointer(&def));
    network->active = TRUE;
}

static void
network_list_load(NetworkList *list, const char *directory, void (*load)(NetworkList *list, const char *path))
{
    g_autoptr(GDir) dir = directory ? g_dir_open(directory, 0, NULL) : NULL;
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        if (g_str_has_suffix(name, ".xml"))
            load(list, path);
    }
}

// The network that nobody had to define, unless somebody undefined it.
static void
network_list_add_default(NetworkList *list)
{
    g_autofree char *mark = list->directory ? network_path(list->directory, "default", ".undefined") : NULL;

    if (g_hash_table_contains(list->networks, "default") || (mark && g_file_test(mark, G_FILE_TEST_EXISTS)))
        return;
    NetworkDef *def = network_def_new("default", NULL);
    def->uuid = g_strdup(default_uuid);
    domain_uuid_parse(default_uuid, def->uuid_bytes);
    Network *network = network_list_insert(list, def);
    network->persistent = network->autostart = TRUE;
}

// Written when a network starts, gone when it stops. A failure costs no more than a network that is to be
// started again after a restart of ours.
static void
network_list_store_status(NetworkList *list, const Network *network)
{
    g_autofree char *path = NULL, *xml = NULL;
    g_autoptr(GError) error = NULL;

    if (!list->status_directory)
        return;
    path = network_path(list->status_directory, network->def->name, ".xml");
    xml = network_def_format(network->def, 0);
    if (network->active ? !file_make_directory(list->status_directory, 0700, &error) ||
                              !file_replace(path, xml, strlen(xml), 0600, &error)
                        : !file_remove(path, &error))
        g_warning("the state of network '%s' is not recorded: %s", network->def->name, error->message);
}

// Once a boot, as a later start of ours finds networks that were stopped on purpose.
static void
network_list_autostart(NetworkList *list)
{
    g_autofree char *mark =
        list->status_directory ? g_build_filename(list->status_directory, "autostarted", NULL) : NULL;
    g_autoptr(GError) error = NULL;
    GHashTableIter iter;
    gpointer value;

    if (mark && g_file_test(mark, G_FILE_TEST_EXISTS))
        return;
    g_hash_table_iter_init(&iter, list->networks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Network *network = value;
        if (!network->autostart || network->active)
            continue;
        network->active = TRUE;
        network_list_store_status(list, network);
    }
    if (mark && (!file_make_directory(list->status_directory, 0700, &error) ||
                 !file_replace(mark, "", 0, 0600, &error)))
        g_warning("networks will be started again by the next start of the daemon: %s", error->message);
}

NetworkList *
network_list_new(const char *directory, const char *status_directory, EventBus *events)
{
    NetworkList *list = g_new0(NetworkList, 1);

    g_mutex_init(&list->lock);
    list->directory = g_strdup(directory);
    list->status_directory = g_strdup(status_directory);
    list->events = events;
    // The key is the network's own name, which goes with it.
    list->networks = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) network_free);
    network_list_load(list, directory, network_list_load_definition);
    network_list_add_default(list);
    network_list_load(list, status_directory, network_list_load_status);
    network_list_autostart(list);
    return list;
}

void
network_list_free(NetworkList *list)
{
    if (!list)
        return;
    g_hash_table_unref(list->networks);
    g_free(list->directory);
    g_free(list->status_directory);
    g_mutex_clear(&list->lock);
    g_free(list);
}

// With the lock held, so that the events keep the order of what they tell.
static void
network_list_emit(NetworkList *list, const Network *network, int type)
{
    DomainEvent event = {
        .id = EVENT_ID_NETWORK_LIFECYCLE, .name = network->def->name, .domain_id = -1, .type = type};

    memcpy(event.uuid, network->def->uuid_bytes, sizeof(event.uuid));
    if (list->events)
        event_bus_emit(list->events, &event);
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
    g_autofree char *path = NULL, *xml = NULL, *mark = NULL;

    if (!list->directory)
        return TRUE;
    path = network_path(list->directory, def->name, ".xml");
    mark = network_path(list->directory, def->name, ".undefined");
    xml = network_def_format(def, 0);
    return file_make_directory(list->directory, 0700, error) &&
           file_replace(path, xml, strlen(xml), 0600, error) && file_remove(mark, error);
}

// The other network that has the new one's name or its UUID, as an error.
static gboolean
network_list_check_identity(NetworkList *list, const NetworkDef *def, GError **error)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, list->networks);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const NetworkDef *other = ((Network *) value)->def;
        const gboolean same_name = strcmp(other->name, def->name) == 0;

        if (!def->uuid || same_name == (strcmp(other->uuid, def->uuid) == 0))
            continue;
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "network '%s' is already defined with uuid %s",
                         other->name, other->uuid);
        return FALSE;
    }
    return TRUE;
}

Network *
network_list_define(NetworkList *list, const char *xml, GError **error)
{
    g_autoptr(NetworkDef) def = network_def_parse(xml, error);

    if (!def)
        return NULL;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    if (!network_list_check_identity(list, def, error))
        return NULL;
    const Network *old = g_hash_table_lookup(list->networks, def->name);
    const gboolean active = old && old->active, autostart = old && old->autostart;
    if (old && !def->uuid) {
        def->uuid = g_strdup(old->def->uuid);
        memcpy(def->uuid_bytes, old->def->uuid_bytes, sizeof(def->uuid_bytes));
    }
    network_def_assign(def);
    if (!network_list_store(list, def, error))
        return NULL;
    Network *network = network_list_insert(list, g_steal_pointer(&def));
    network->active = active;
    network->autostart = autostart;
    network->persistent = TRUE;
    network_list_emit(list, network, VIR_NETWORK_EVENT_DEFINED);
    return network_copy(network);
}

// Autostart is a link beside the definition.
static gboolean
network_list_store_autostart(NetworkList *list, const char *name, gboolean autostart, GError **error)
{
    g_autofree char *link = NULL, *directory = NULL, *path = NULL;

    if (!list->directory)
        return TRUE;
    link = network_autostart_path(list, name);
    if (!autostart)
        return file_remove(link, error);
    directory = g_path_get_dirname(link);
    path = network_path(list->directory, name, ".xml");
    if (!file_make_directory(directory, 0755, error))
        return FALSE;
    if (symlink(path, link) < 0 && errno != EEXIST) {
        quasar_set_system_error(error, errno, "cannot make the link %s", link);
        return FALSE;
    }
    return file_sync_directory(link, error);
}

gboolean
network_list_set_autostart(NetworkList *list, const char *name, gboolean autostart, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    Network *network = network_list_find(list, name, error);

    if (!network)
        return FALSE;
    if (!network->persistent) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot set autostart for transient network");
        return FALSE;
    }
    // `default` may have no file yet, and what a file says about it has to be complete.
    if (!network_list_store(list, network->def, error) ||
        !network_list_store_autostart(list, name, autostart, error))
        return FALSE;
    network->autostart = autostart;
    return TRUE;
}

static gboolean
network_list_forget(NetworkList *list, const char *name, GError **error)
{
    g_autofree char *path = NULL, *mark = NULL;

    if (!list->directory)
        return TRUE;
    path = network_path(list->directory, name, ".xml");
    mark = network_path(list->directory, name, ".undefined");
    // The mark comes first: between the two steps there must be no `default` that comes back.
    if (strcmp(name, "default") == 0 &&
        (!file_make_directory(list->directory, 0700, error) || !file_replace(mark, "", 0, 0600, error)))
        return FALSE;
    return network_list_store_autostart(list, name, FALSE, error) && file_remove(path, error);
}

gboolean
network_list_undefine(NetworkList *list, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&list->lock);
    Network *network = network_list_find(list, name, error);

    if (!network)
        return FALSE;
    if (!network->persistent) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient network");
        return FALSE;
    }
    if (!network_list_forget(list, name, error))
        return FALSE;
    network->persistent = network->autostart = FALSE;
    network_list_emit(list, network, VIR_NETWORK_EVENT_UNDEFINED);
    if (!network->active)
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
    network_list_store_status(list, network);
    network_list_emit(list, network, active ? VIR_NETWORK_EVENT_STARTED : VIR_NETWORK_EVENT_STOPPED);
    if (!active && !network->persistent)
        g_hash_table_remove(list->networks, name);
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
