// SPDX-License-Identifier: LGPL-2.1-or-later
// Orders to the vnets of a guest that moves, and the relays between them.
#include "driver/migration/nics.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/migration/peer.h"
#include "driver/migration/relay.h"
#include "emulator/monitor.h"
#include "vnet/client.h"

// How long the source's vnet passes on what switches still send to it. The destination waits longer, so that
// it never closes first.
#define SOURCE_LINGER_US      (2 * G_TIME_SPAN_SECOND)
#define DESTINATION_LINGER_US (4 * G_TIME_SPAN_SECOND)

// How long an emulator that is busy may take to read what it was sent before its guest is stopped.
#define TAKE_LIMIT_US (200 * G_TIME_SPAN_MILLISECOND)
#define TAKE_SLICE_US 500

// One NIC at the source. The client is the move's own: the domain's ends with its emulator.
typedef struct {
    guint number;
    gboolean exact;
    VnetClient *vnet;
    Relay *relay; // NULL: there is no connection
    int end;      // what the vnet is to be given, -1 once it has it
} MoveNic;

struct MoveNics {
    char *name; // the domain's, for the log
    GPtrArray *list;
    json_t *addresses;
};

static void
free_nic(gpointer data)
{
    MoveNic *nic = data;
    relay_free(nic->relay);
    if (nic->end >= 0)
        close(nic->end);
    vnet_client_unref(nic->vnet);
    g_free(nic);
}

void
move_nics_free(MoveNics *nics)
{
    if (!nics)
        return;
    g_ptr_array_unref(nics->list);
    json_decref(nics->addresses);
    g_free(nics->name);
    g_free(nics);
}

static gboolean
make_pair(int ends[2], GError **error)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0)
        return TRUE;
    quasar_set_system_error(error, errno, "cannot make a pair of sockets");
    return FALSE;
}

static char *
control_path(const char *run_dir, guint number)
{
    return g_strdup_printf("%s/net%u.ctl", run_dir, number);
}

// A connection of the move's own to the vnet that the domain has. The directory is the emulator's user's:
// what listens there now need not be that vnet.
static VnetClient *
attach(Domain *domain, guint number, GError **error)
{
    g_autofree char *control = NULL;
    pid_t pid = -1;
    domain_lock(domain);
    if (domain->run_dir && domain->vnets && number < domain->vnets->len &&
        g_ptr_array_index(domain->vnets, number)) {
        control = control_path(domain->run_dir, number);
        pid = vnet_client_pid(g_ptr_array_index(domain->vnets, number));
    }
    domain_unlock(domain);
    if (!control) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "there is no quasar-vnet for it");
        return NULL;
    }
    g_autoptr(VnetClient) client = vnet_client_attach(control, error);
    if (!client || vnet_client_pid(client) == pid)
        return g_steal_pointer(&client);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s is not served by its quasar-vnet", control);
    return NULL;
}

static gboolean
connect_nic(Domain *domain, MoveNic *nic, const Cookie *destination, TlsCredentials *credentials,
            GError **error)
{
    g_autofree char *number = g_strdup_printf("%u", nic->number);
    int ends[2];
    nic->vnet = attach(domain, nic->number, error);
    if (!nic->vnet)
        return FALSE;
    Channel *peer = peer_connect(destination->way, credentials, destination->token, PEER_NIC, number, error);
    if (!peer || !make_pair(ends, error)) {
        g_clear_pointer(&peer, channel_free);
        return FALSE;
    }
    nic->end = ends[0];
    nic->relay = relay_start("nic", ends[1], peer);
    return TRUE;
}

// Locked.
static gboolean
is_exact(const Domain *domain, guint number)
{
    return domain->live && number < domain->live->interfaces->len &&
           domain_interface_is_vhost(g_ptr_array_index(domain->live->interfaces, number));
}

MoveNics *
move_nics_open(Domain *domain, const Cookie *destination, TlsCredentials *credentials)
{
    MoveNics *nics = g_new0(MoveNics, 1);
    nics->name = g_strdup(domain->name);
    nics->list = g_ptr_array_new_with_free_func(free_nic);
    nics->addresses = json_array();
    domain_lock(domain);
    for (guint i = 0; domain->vnets && i < domain->vnets->len; i++) {
        MoveNic *nic = g_new0(MoveNic, 1);
        *nic = (MoveNic){.number = i, .exact = is_exact(domain, i), .end = -1};
        if (g_ptr_array_index(domain->vnets, i))
            g_ptr_array_add(nics->list, nic);
        else
            free_nic(nic);
    }
    domain_unlock(domain);
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        g_autoptr(GError) error = NULL;
        if (!connect_nic(domain, nic, destination, credentials, &error))
            g_warning("migration of %s: NIC %u crosses without a connection: %s", nics->name, nic->number,
                      error->message);
    }
    return nics;
}

static void
note_addresses(MoveNics *nics, const MoveNic *nic)
{
    g_autoptr(json_t) status = vnet_client_status(nic->vnet, NULL);
    json_t *seen = json_object_get(status, "addresses");
    while (json_array_size(nics->addresses) <= nic->number)
        json_array_append_new(nics->addresses, json_array());
    if (json_is_array(seen))
        json_array_set(nics->addresses, nic->number, seen);
}

static gboolean
has_taken(const MoveNic *nic)
{
    g_autoptr(json_t) status = vnet_client_status(nic->vnet, NULL);
    return !json_is_false(json_object_get(json_object_get(status, "port"), "taken"));
}

gboolean
move_nics_are_exact(const MoveNics *nics)
{
    for (guint i = 0; i < nics->list->len; i++)
        if (!((const MoveNic *) g_ptr_array_index(nics->list, i))->exact)
            return FALSE;
    return TRUE;
}

void
move_nics_note_addresses(MoveNics *nics)
{
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        if (nic->vnet)
            note_addresses(nics, nic);
    }
}

void
move_nics_hold(MoveNics *nics)
{
    move_nics_note_addresses(nics);
    // Without a connection too: it may be that the guest stays.
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        g_autoptr(GError) error = NULL;
        if (nic->vnet && !vnet_client_hold(nic->vnet, &error))
            g_warning("migration of %s: NIC %u: %s", nics->name, nic->number, error->message);
    }
}

void
move_nics_await_taken(MoveNics *nics)
{
    gint64 end = g_get_monotonic_time() + TAKE_LIMIT_US;
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        while (nic->vnet && !has_taken(nic) && g_get_monotonic_time() < end)
            g_usleep(TAKE_SLICE_US);
    }
}

void
move_nics_resume(MoveNics *nics)
{
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        g_autoptr(GError) error = NULL;
        if (nic->vnet && !vnet_client_activate(nic->vnet, FALSE, NULL, &error))
            g_warning("migration of %s: NIC %u: %s", nics->name, nic->number, error->message);
    }
}

void
move_nics_hand_over(MoveNics *nics)
{
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        g_autoptr(GError) error = NULL;
        if (!nic->vnet)
            continue;
        gboolean ok = nic->relay ? vnet_client_hand_over(nic->vnet, nic->end, &error)
                                 : vnet_client_standby(nic->vnet, &error);
        if (!ok)
            g_warning("migration of %s: NIC %u: %s", nics->name, nic->number, error->message);
        if (nic->end >= 0)
            close(nic->end);
        nic->end = -1;
    }
}

const json_t *
move_nics_addresses(const MoveNics *nics)
{
    return nics->addresses;
}

static gpointer
depart_main(gpointer data)
{
    g_autoptr(MoveNics) nics = data;
    g_usleep(SOURCE_LINGER_US);
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        if (nic->vnet)
            vnet_client_quit(nic->vnet, NULL);
    }
    return NULL;
}

void
move_nics_depart(MoveNics *nics)
{
    g_thread_unref(g_thread_new("nics", depart_main, nics));
}

// Those that the domain has now, by interface; NULL where there is none.
static GPtrArray *
vnets_of(Domain *domain)
{
    GPtrArray *vnets = g_ptr_array_new_with_free_func((GDestroyNotify) vnet_client_unref);
    domain_lock(domain);
    for (guint i = 0; domain->vnets && i < domain->vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(domain->vnets, i);
        g_ptr_array_add(vnets, vnet ? vnet_client_ref(vnet) : NULL);
    }
    domain_unlock(domain);
    return vnets;
}

void
move_nics_stay(Domain *domain)
{
    g_autoptr(GPtrArray) vnets = vnets_of(domain);
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(vnets, i);
        g_autoptr(GError) error = NULL;
        if (vnet && !vnet_client_activate(vnet, FALSE, NULL, &error))
            g_warning("NIC %u of %s: %s", i, domain->name, error->message);
    }
}

// With the session's lock: a guest that has arrived must not be cut off by a connection that comes late.
static gboolean
join(Incoming *incoming, guint number, Channel *channel, GError **error)
{
    int ends[2];
    if (incoming->ready_sent || incoming->state == INCOMING_ARRIVED || incoming->state == INCOMING_REFUSED) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the connection of a NIC came too late");
        return FALSE;
    }
    g_autoptr(VnetClient) vnet = attach(incoming->domain, number, error);
    if (!vnet || !make_pair(ends, error))
        return FALSE;
    gboolean ok = vnet_client_receive(vnet, ends[0], error);
    close(ends[0]);
    if (ok)
        g_ptr_array_add(incoming->nics, relay_start("nic", ends[1], channel));
    else
        close(ends[1]);
    return ok;
}

void
move_nics_receive(Incoming *incoming, const char *name, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    guint64 number;
    gboolean ok = incoming->domain && g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT16, &number, &error);
    g_mutex_lock(&incoming->lock);
    ok = ok && join(incoming, (guint) number, channel, &error);
    g_mutex_unlock(&incoming->lock);
    if (ok)
        return;
    g_warning("migration of %s: NIC %s crosses without a connection: %s", incoming->uuid, name,
              error ? error->message : "no emulator waits");
    channel_free(channel);
}

// Those of one NIC. The array is the caller's, the texts are not.
static const char **
addresses_of(const json_t *addresses, guint number)
{
    const json_t *own = json_array_get(addresses, number);
    const char **texts = g_new0(const char *, json_array_size(own) + 1);
    guint n = 0;
    for (gsize i = 0; i < json_array_size(own); i++)
        if (json_is_string(json_array_get(own, i)))
            texts[n++] = json_string_value(json_array_get(own, i));
    return texts;
}

void
move_nics_arrive(Domain *domain, const json_t *addresses)
{
    g_autoptr(GPtrArray) vnets = vnets_of(domain);
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(vnets, i);
        g_autofree const char **texts = addresses_of(addresses, i);
        g_autoptr(GError) error = NULL;
        // The other host's words may be such as our vnet refuses.
        if (vnet && !vnet_client_activate(vnet, TRUE, texts, &error) &&
            !vnet_client_activate(vnet, TRUE, NULL, NULL))
            g_warning("NIC %u of %s: %s", i, domain->name, error->message);
    }
}

void
move_nics_mend(Domain *domain)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    for (guint i = 0; domain->live && i < domain->live->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(domain->live->interfaces, i);
        if (domain_interface_is_vhost(interface) && interface->link != TRISTATE_OFF)
            g_ptr_array_add(names, g_strdup(interface->info.alias));
    }
    domain_unlock(domain);
    for (guint i = 0; qmp && i < names->len; i++)
        monitor_set_link(qmp, g_ptr_array_index(names, i), TRUE, NULL);
}

static gpointer
linger_main(gpointer data)
{
    g_usleep(DESTINATION_LINGER_US);
    g_ptr_array_unref(data);
    return NULL;
}

void
move_nics_linger(GPtrArray *relays)
{
    if (relays->len == 0)
        g_ptr_array_unref(relays);
    else
        g_thread_unref(g_thread_new("nics", linger_main, relays));
}
