// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest's quasar-vnet processes.
#include "driver/process_nics.h"

#include "base/error.h"
#include "driver/networks.h"
#include "driver/nic_events.h"
#include "emulator/launch.h"

// Theory of operation: each process is watched by its pidfd. When one ends while its guest runs, a timer on
// the emulator thread waits (longer after each failure), and a worker starts another, to which the emulator's
// listening socket connects it, or which listens for the emulator, as its NIC has it. A run of the guest is
// told from the next by its generation. The new one passes frames only if the guest is this host's: neither
// still on its way here nor released.

#define FIRST_WAIT_MS 100  // the emulator's own end is noticed within this time
#define LAST_WAIT_MS  5000 // a NIC that is not there yet costs one look

// Of names like it the documents that leave this run know nothing (xml/domain_format.c), as with libvirt.
#define GENERATED_PREFIX "vnet"

// One NIC of one run, as its watch and its timer see it. One of them, or a worker, holds it at a time.
typedef struct {
    Domain *domain;
    guint64 generation;
    guint index;
    guint wait_ms;
    EmulatorWatch *watch;
} Nic;

static void
nic_free(gpointer data)
{
    Nic *nic = data;
    g_clear_pointer(&nic->watch, emulator_watch_free);
    domain_unref(nic->domain);
    g_free(nic);
}

void
nics_name(DomainDef *def, int id)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        if (interface->target_dev && !g_str_has_prefix(interface->target_dev, GENERATED_PREFIX))
            continue;
        g_free(interface->target_dev);
        interface->target_dev = g_strdup_printf(GENERATED_PREFIX "%d.%u", id, i);
    }
}

static char *
find_device(Domain *domain, const DomainInterface *interface, GError **error)
{
    if (interface->type == DOMAIN_INTERFACE_DIRECT)
        return g_strdup(interface->source_dev);
    if (domain->driver->networks)
        return network_list_resolve_nic(domain->driver->networks, interface->network, error);
    quasar_set_error(error, VIR_ERR_NO_NETWORK, "no network '%s': this daemon has no networks",
                     interface->network);
    return NULL;
}

static VnetClient *
spawn(Domain *domain, const char *run_dir, const DomainInterface *interface, guint index, pid_t emulator,
      GError **error)
{
    g_autofree char *device = find_device(domain, interface, error);
    if (!device)
        return NULL;
    if (!vnet_check_nic(device, error))
        return NULL;
    g_autofree char *mac = domain_mac_format(interface->mac);
    g_autofree char *data = g_strdup_printf("%s/net%u.sock", run_dir, index);
    g_autofree char *control = g_strdup_printf("%s/net%u.ctl", run_dir, index);
    g_autofree char *log = domain_log_path(domain);
    const VnetSpec spec = {.name = domain->name,
                           .nic = device,
                           .mac = mac,
                           .stream_path = domain_interface_is_vhost(interface) ? NULL : data,
                           .vhost_path = domain_interface_is_vhost(interface) ? data : NULL,
                           .offload = domain_interface_is_vhost(interface) &&
                                      domain_interface_offload(interface) != NULL,
                           .pcap = domain->driver->pcap,
                           .emulator = emulator,
                           .control_path = control,
                           .user = domain->driver->emulator_user,
                           .log_path = log};
    return vnet_client_spawn(&spec, error);
}

static gboolean
is_due(const DomainInterface *interface, NicsMoment moment)
{
    return interface->type != DOMAIN_INTERFACE_USER &&
           domain_interface_is_vhost(interface) == (moment == NICS_BEFORE_EMULATOR);
}

gboolean
nics_spawn(Domain *domain, const DomainDef *def, NicsMoment moment, gboolean armed, GPtrArray *vnets,
           GError **error)
{
    g_ptr_array_set_size(vnets, (gint) def->interfaces->len);
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        if (!is_due(interface, moment))
            continue;
        VnetClient *client = spawn(domain, domain->run_dir, interface, i, 0, error);
        g_ptr_array_index(vnets, i) = client;
        if (!client || (!armed && !vnet_client_activate(client, FALSE, NULL, error)))
            return FALSE;
    }
    return TRUE;
}

void
nics_release(GPtrArray *vnets, gboolean quit)
{
    for (guint i = 0; i < vnets->len; i++) {
        VnetClient *client = g_ptr_array_index(vnets, i);
        if (client && quit)
            vnet_client_quit(client, NULL);
        g_clear_pointer(&client, vnet_client_unref);
    }
    g_ptr_array_set_size(vnets, 0);
}

static void restart(Driver *driver, gpointer data);

static void
vnet_exited(pid_t pid, gpointer data)
{
    Nic *nic = data;
    g_debug("quasar-vnet %d of domain '%s' has ended", (int) pid, nic->domain->name);
    nic->wait_ms = FIRST_WAIT_MS;
    driver_defer_later(nic->domain->driver, nic->wait_ms, restart, nic, NULL);
}

// Locked.
static void
watch(Domain *domain, guint index)
{
    const VnetClient *client = g_ptr_array_index(domain->vnets, index);
    const EmulatorProcess process = {.pid = vnet_client_pid(client),
                                     .start_time = vnet_client_start_time(client)};
    Nic *nic = g_new0(Nic, 1);
    *nic = (Nic){.domain = domain_ref(domain), .generation = domain->generation, .index = index};
    g_autoptr(GError) error = NULL;
    // Whoever frees `nic` first takes the domain's lock, which is held here.
    nic->watch = emulator_watch(&process, domain->driver->emulator, vnet_exited, nic, &error);
    if (nic->watch)
        return;
    g_warning("domain '%s': network interface %u: %s", domain->name, index, error->message);
    nic_free(nic);
}

// Locked: whether the run that the NIC belongs to goes on.
static gboolean
run_goes_on(const Nic *nic)
{
    const Domain *domain = nic->domain;
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    return domain_is_active(domain) && domain->generation == nic->generation && !domain->destroying &&
           nic->index < domain->vnets->len && emulator_is_alive(&process);
}

// Locked; takes the client. It announces the guest as if it had arrived: the former one may have ended before
// it could, or the NIC may be another, and frames wait until the emulator's end is there.
static gboolean
install(Nic *nic, VnetClient *client, GError **error)
{
    Domain *domain = nic->domain;
    g_autoptr(VnetClient) own = client;
    const DomainInterface *interface = g_ptr_array_index(domain->live->interfaces, nic->index);
    // The emulator plugs the cable of a vhost-user NIC in when it finds the new one.
    gboolean unplugged = interface->link == TRISTATE_OFF;
    gboolean passes = !unplugged && !domain->incoming && domain_may_run(domain, NULL);
    g_autofree char *home = domain_nic_home(domain, nic->index);
    if ((home && !vnet_client_away(own, error)) ||
        (passes && !vnet_client_activate(own, TRUE, NULL, error))) {
        vnet_client_quit(own, NULL);
        return FALSE;
    }
    g_autoptr(VnetClient) former = g_ptr_array_index(domain->vnets, nic->index);
    g_ptr_array_index(domain->vnets, nic->index) = g_steal_pointer(&own);
    watch(domain, nic->index);
    domain_network_event(domain, nic->index, NIC_LOST, NULL);
    return TRUE;
}

static VnetClient *
spawn_again(Nic *nic, GError **error)
{
    Domain *domain = nic->domain;
    g_autofree char *run_dir = NULL;
    g_autoptr(DomainDef) def = NULL;
    domain_lock(domain);
    pid_t emulator = domain->pid;
    g_clear_pointer(&nic->watch, emulator_watch_free);
    if (run_goes_on(nic)) {
        run_dir = g_strdup(domain->run_dir);
        def = domain_def_copy(domain->live);
    }
    domain_unlock(domain);
    if (def)
        return spawn(domain, run_dir, g_ptr_array_index(def->interfaces, nic->index), nic->index, emulator,
                     error);
    return NULL;
}

// Locked: once for each loss, whether or not another could be started at once.
static void
tell_lost(const Nic *nic, const GError *error)
{
    g_autofree char *problem =
        error ? g_strdup_printf("it has lost its place on the network, which will be tried again: %s",
                                error->message)
              : g_strdup("its quasar-vnet has ended, and another is started");
    domain_network_event(nic->domain, nic->index, NIC_LOST, problem);
}

// On a worker; keeps `nic` for the next try or frees it.
static void
restart(Driver *driver, gpointer data)
{
    Nic *nic = data;
    Domain *domain = nic->domain;
    g_autoptr(GError) error = NULL;
    VnetClient *client = spawn_again(nic, &error);
    domain_lock(domain);
    gboolean goes_on = run_goes_on(nic);
    if (client && !goes_on) {
        vnet_client_quit(client, NULL);
        vnet_client_unref(client);
    }
    if (goes_on)
        tell_lost(nic, error);
    gboolean done = !goes_on || (client && install(nic, client, &error));
    domain_unlock(domain);
    if (done && goes_on)
        nic_events_look(domain, nic->index); // it may be another NIC, or down
    if (done) {
        nic_free(nic);
        return;
    }
    g_debug("domain '%s': network interface %u: %s", domain->name, nic->index,
            error ? error->message : "no quasar-vnet yet");
    nic->wait_ms = MIN(nic->wait_ms * 2, LAST_WAIT_MS);
    driver_defer_later(driver, nic->wait_ms, restart, nic, NULL);
}

void
nics_watch(Domain *domain)
{
    for (guint i = 0; i < domain->vnets->len; i++)
        if (g_ptr_array_index(domain->vnets, i))
            watch(domain, i);
}

void
nics_attach(Domain *domain)
{
    for (guint i = 0; i < domain->live->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(domain->live->interfaces, i);
        g_autofree char *control = g_strdup_printf("%s/net%u.ctl", domain->run_dir, i);
        g_autoptr(GError) error = NULL;
        gboolean needed = interface->type != DOMAIN_INTERFACE_USER;
        VnetClient *client = needed ? vnet_client_attach(control, &error) : NULL;
        g_ptr_array_add(domain->vnets, client);
        if (client) {
            watch(domain, i);
        } else if (needed) {
            g_message("domain '%s': network interface %u has lost its quasar-vnet: %s", domain->name, i,
                      error->message);
            Nic *nic = g_new0(Nic, 1);
            *nic = (Nic){.domain = domain_ref(domain),
                         .generation = domain->generation,
                         .index = i,
                         .wait_ms = FIRST_WAIT_MS};
            driver_defer_later(domain->driver, nic->wait_ms, restart, nic, NULL);
        }
    }
}

void
nics_end_unfinished(Domain *domain)
{
    g_autoptr(GPtrArray) vnets = g_ptr_array_new();
    for (guint i = 0; domain->run_dir && i < domain->live->interfaces->len; i++) {
        g_autofree char *control = g_strdup_printf("%s/net%u.ctl", domain->run_dir, i);
        g_ptr_array_add(vnets, vnet_client_attach(control, NULL));
    }
    nics_release(vnets, TRUE);
}
