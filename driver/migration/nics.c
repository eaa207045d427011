// SPDX-License-Identifier: LGPL-2.1-or-later
// Orders to the vnets of a guest that moves, and the tunnels between them.
#include "driver/migration/nics.h"

#include <unistd.h>

#include "base/error.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/peer.h"
#include "driver/migration/phases.h"
#include "emulator/monitor.h"
#include "vnet/client.h"

// How long the vnets may take to find out whether they are on one segment.
#define PLACE_LIMIT_US (1 * G_TIME_SPAN_SECOND)
#define PLACE_SLICE_US 5000

// How long an emulator that is busy may take to read what it was sent before its guest is stopped.
#define TAKE_LIMIT_US (200 * G_TIME_SPAN_MILLISECOND)
#define TAKE_SLICE_US 500

// One NIC at the source. The client is the move's own: the domain's ends with its emulator.
typedef struct {
    guint number;
    gboolean exact;
    VnetClient *vnet; // NULL: there is none
    gboolean paired;  // it has a tunnel
} MoveNic;

struct MoveNics {
    char *name; // the domain's
    char *uuid; // ... as text
    Driver *driver;
    GPtrArray *list;
    json_t *addresses;
};

static void
free_nic(gpointer data)
{
    MoveNic *nic = data;
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
    g_free(nics->uuid);
    g_free(nics);
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

// The connection of a NIC goes over to the vnets when the destination has agreed.
static gboolean
connect_nic(Domain *domain, MoveNic *nic, const Cookie *destination, TlsCredentials *credentials,
            GError **error)
{
    g_autofree char *number = g_strdup_printf("%u", nic->number);
    VnetTunnel tunnel;
    nic->vnet = attach(domain, nic->number, error);
    if (!nic->vnet)
        return FALSE;
    g_autoptr(Channel) peer =
        peer_connect(destination->way, credentials, destination->token, PEER_NIC, number, error);
    g_autoptr(json_t) answer = peer ? frame_receive(peer, PEER_TIMEOUT_MS, error) : NULL;
    const char *problem = json_string_value(json_object_get(answer, "error"));
    if (problem)
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination says: %s", problem);
    if (!answer || problem || !peer_to_tunnel(g_steal_pointer(&peer), FALSE, &tunnel, error))
        return FALSE;
    nic->paired = vnet_client_pair(nic->vnet, &tunnel, error);
    close(tunnel.fd);
    return nic->paired;
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
    nics->uuid = domain_uuid_format(domain->uuid);
    nics->driver = domain->driver;
    nics->list = g_ptr_array_new_with_free_func(free_nic);
    nics->addresses = json_array();
    domain_lock(domain);
    for (guint i = 0; domain->vnets && i < domain->vnets->len; i++) {
        MoveNic *nic = g_new0(MoveNic, 1);
        *nic = (MoveNic){.number = i, .exact = is_exact(domain, i)};
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
            g_warning("migration of %s: NIC %u crosses without a tunnel: %s", nics->name, nic->number,
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

// Waits until the vnets know. *away: the NIC's segment is not the destination's, as far as is known.
static json_t *
await_place(const MoveNic *nic, gint64 deadline, gboolean *away)
{
    for (;;) {
        json_t *status = vnet_client_status(nic->vnet, NULL);
        const char *place = json_string_value(json_object_get(status, "place"));
        *away = g_strcmp0(place, "here") != 0;
        if (g_strcmp0(place, "unknown") != 0 || g_get_monotonic_time() >= deadline)
            return status;
        json_decref(status);
        g_usleep(PLACE_SLICE_US);
    }
}

// This host will be the NIC's home.
static AnchorRecord *
new_home(const MoveNics *nics, const MoveNic *nic, const Cookie *destination, json_t *status)
{
    const char *mac = json_string_value(json_object_get(status, "mac"));
    const char *device = json_string_value(json_object_get(status, "nic"));
    const AnchorRecord record = {.role = ANCHOR_HOME,
                                 .state = ANCHOR_OFFERED,
                                 .uuid = nics->uuid,
                                 .name = nics->name,
                                 .nic = nic->number,
                                 .mac = (char *) mac,
                                 .device = (char *) device,
                                 .turn = 1,
                                 .host = destination->hostname,
                                 .peer = destination->peer};
    if (!mac || !device)
        return NULL;
    AnchorRecord *home = anchor_record_copy(&record);
    home->link = anchor_link_new();
    return home;
}

// The other end's record of a home that is here.
static json_t *
offer_of_home(const MoveNics *nics, const AnchorRecord *home, GError **error)
{
    g_autoptr(AnchorRecord) offer = anchor_record_copy(home);
    offer->role = ANCHOR_AWAY;
    g_free(offer->host);
    offer->host = g_strdup(g_get_host_name());
    peer_address_free(offer->peer);
    offer->peer = migration_own_address(nics->driver, error);
    return offer->peer ? anchor_record_encode(offer) : NULL;
}

// A NIC that is away is so at the destination too, until that finds out that it is at home.
static json_t *
offer_nic(MoveNics *nics, MoveNic *nic, const Cookie *destination, GError **error)
{
    gboolean away;
    g_autoptr(json_t) status = await_place(nic, g_get_monotonic_time() + PLACE_LIMIT_US, &away);
    g_autoptr(AnchorRecord) known = anchor_away_find(nics->driver, nics->uuid, nic->number);
    if (known) {
        known->turn++;
        known->state = ANCHOR_OFFERED;
        json_t *offer = anchor_record_encode(known);
        json_object_set_new(offer, "relayed", json_true());
        return offer;
    }
    g_autoptr(AnchorRecord) home = away ? new_home(nics, nic, destination, status) : NULL;
    if (!home)
        return json_null();
    json_t *offer = offer_of_home(nics, home, error);
    if (offer && anchor_home_offer(nics->driver, home, error))
        return offer;
    json_decref(offer);
    return NULL;
}

json_t *
move_nics_offer(MoveNics *nics, const Cookie *destination, GError **error)
{
    g_autoptr(json_t) list = json_array();
    for (guint i = 0; i < nics->list->len; i++) {
        MoveNic *nic = g_ptr_array_index(nics->list, i);
        json_t *offer = nic->paired ? offer_nic(nics, nic, destination, error) : json_null();
        if (!offer)
            return NULL;
        if (json_is_null(offer))
            json_decref(offer);
        else
            json_array_append_new(list, offer);
    }
    return g_steal_pointer(&list);
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
        if (nic->paired && vnet_client_hand_over(nic->vnet, &error))
            continue;
        if (error)
            g_warning("migration of %s: NIC %u: %s", nics->name, nic->number, error->message);
        vnet_client_standby(nic->vnet, NULL);
    }
}

const json_t *
move_nics_addresses(const MoveNics *nics)
{
    return nics->addresses;
}

void
move_nics_adopt(Domain *domain)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    for (guint i = 0; domain->run_dir && domain->live && i < domain->live->interfaces->len; i++) {
        g_autofree char *control = control_path(domain->run_dir, i);
        anchor_home_adopt(domain->driver, uuid, i, control);
    }
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
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(GPtrArray) vnets = vnets_of(domain);
    anchor_home_withdraw(domain->driver, uuid);
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(vnets, i);
        g_autoptr(GError) error = NULL;
        if (vnet && !vnet_client_activate(vnet, FALSE, NULL, &error))
            g_warning("NIC %u of %s: %s", i, domain->name, error->message);
    }
}

// With the session's lock: a guest that has arrived must not be cut off by a connection that comes late.
static VnetClient *
find_vnet(Incoming *incoming, const char *name, GError **error)
{
    guint64 number;
    if (!incoming->domain || incoming->ready_sent || incoming->state == INCOMING_ARRIVED ||
        incoming->state == INCOMING_REFUSED) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the connection of a NIC came too late");
        return NULL;
    }
    if (!g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT16, &number, error))
        return NULL;
    return attach(incoming->domain, (guint) number, error);
}

static gboolean
receive(Incoming *incoming, const char *name, Channel *channel, GError **error)
{
    g_autoptr(Channel) own = channel;
    VnetTunnel tunnel;
    g_mutex_lock(&incoming->lock);
    g_autoptr(VnetClient) vnet = find_vnet(incoming, name, error);
    g_mutex_unlock(&incoming->lock);
    g_autoptr(json_t) answer =
        vnet ? json_pack("{s:b}", "ok", 1) : json_pack("{s:s}", "error", (*error)->message);
    if (!frame_send(own, answer, PEER_TIMEOUT_MS, error) || !vnet ||
        !peer_to_tunnel(g_steal_pointer(&own), TRUE, &tunnel, error))
        return FALSE;
    g_mutex_lock(&incoming->lock);
    g_autoptr(VnetClient) still = find_vnet(incoming, name, error);
    gboolean ok = still && vnet_client_receive(vnet, &tunnel, error);
    g_mutex_unlock(&incoming->lock);
    close(tunnel.fd);
    return ok;
}

void
move_nics_receive(Incoming *incoming, const char *name, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    if (!receive(incoming, name, channel, &error))
        g_warning("migration of %s: NIC %s crosses without a tunnel: %s", incoming->uuid, name,
                  error->message);
}

// A guest that comes home to its anchor.
static void
share(Incoming *incoming, const AnchorRecord *record)
{
    if (!anchor_home_share(incoming->driver, record->link))
        return;
    g_autoptr(VnetClient) vnet = attach(incoming->domain, record->nic, NULL);
    if (vnet)
        vnet_client_share(vnet, NULL);
}

gboolean
move_nics_take_offer(Incoming *incoming, json_t *list, GError **error)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        g_autoptr(AnchorRecord) record = anchor_record_decode(item);
        if (!record || record->role != ANCHOR_AWAY || !g_str_equal(record->uuid, incoming->uuid))
            return quasar_set_error(error, VIR_ERR_RPC, "the source offers an anchor that is none");
        if (!anchor_away_offer(incoming->driver, record, json_is_true(json_object_get(item, "relayed")),
                               error))
            return FALSE;
        share(incoming, record);
    }
    return TRUE;
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
move_nics_restore(Domain *domain)
{
    g_autoptr(GPtrArray) vnets = vnets_of(domain);
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *vnet = g_ptr_array_index(vnets, i);
        g_autoptr(GError) error = NULL;
        domain_lock(domain);
        g_autofree char *home = domain_nic_home(domain, i);
        domain_unlock(domain);
        if (vnet && home && !vnet_client_away(vnet, &error))
            g_warning("NIC %u of %s, whose home is %s: %s", i, domain->name, home, error->message);
    }
    move_nics_arrive(domain, NULL);
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
