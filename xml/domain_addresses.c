// SPDX-License-Identifier: LGPL-2.1-or-later
// Where each device of a guest is: controllers, PCI places, drives.
#include "xml/domain_addresses.h"

#include <string.h>

#include "base/error.h"

// Theory of operation. Addresses that the document gives are entered into a map first, and collisions
// refused; what is left gets the lowest free place in a fixed order of devices. As everything given is kept,
// a second assignment finds nothing to do. On q35 each device sits alone behind a root port, and some ports
// stay free for hotplug.

enum {
    FREE_ROOT_PORTS = 4,
    FIRST_ROOT_PORT_SLOT = 2,
    LAST_ROOT_PORT_SLOT = 0x1d,
    FIRST_PCI_SLOT = 3, // after what an i440fx has, and a display
    FIRST_PSERIES_SLOT = 1,
    FIRST_VTY = 0x30000000,
    VIO_STEP = 0x1000,
    LAST_CONTROLLER = 255,
};

typedef struct Assignment Assignment;
struct Assignment {
    DomainDef *def;
    DomainBoard board;
    gboolean pcie;
    guint8 used[256][32];   // bus, slot: a bit for each function
    gboolean port_slot[32]; // a slot of bus 0 whose functions are root ports
};

guint
domain_disk_index(const char *target)
{
    guint index = 0;
    for (const char *at = target + 2; *at; at++)
        index = index * 26 + (guint) (*at - 'a') + 1;
    return index - 1;
}

static DomainController *
find_controller(const DomainDef *def, DomainControllerType type, int index)
{
    for (guint i = 0; i < def->controllers->len; i++) {
        DomainController *controller = def->controllers->pdata[i];
        if (controller->type == type && controller->index == index)
            return controller;
    }
    return NULL;
}

static DomainController *
ensure_controller(DomainDef *def, DomainControllerType type, int index, const char *model)
{
    DomainController *controller = find_controller(def, type, index);
    if (controller)
        return controller;
    controller = g_new0(DomainController, 1);
    controller->type = type;
    controller->index = index;
    controller->model = g_strdup(model);
    controller->chassis = controller->port = controller->target_index = -1;
    g_ptr_array_add(def->controllers, controller);
    return controller;
}

static gboolean
number_controllers(DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->controllers->len; i++) {
        DomainController *controller = def->controllers->pdata[i];
        int index = 0;
        if (controller->index < 0) {
            while (find_controller(def, controller->type, index))
                index++;
            controller->index = index;
        }
        if (controller->index > LAST_CONTROLLER)
            return quasar_set_error(error, VIR_ERR_XML_ERROR,
                                    "element <controller>: there are too many of type '%s'",
                                    domain_controller_type_name(controller->type));
        if (find_controller(def, controller->type, controller->index) != controller)
            return quasar_set_error(error, VIR_ERR_XML_ERROR,
                                    "element <controller>: an index of type '%s' is used twice",
                                    domain_controller_type_name(controller->type));
    }
    return TRUE;
}

static void
set_pci(DomainAddress *address, guint bus, guint slot, guint function)
{
    address->type = DOMAIN_ADDRESS_PCI;
    address->bus = bus;
    address->slot = slot;
    address->function = function;
}

static void
add_host_bridge(DomainDef *def)
{
    DomainController *bridge = ensure_controller(def, DOMAIN_CONTROLLER_PCI, 0, "pci-root");
    if (!bridge->model_name)
        bridge->model_name = g_strdup("spapr-pci-host-bridge");
    if (bridge->target_index < 0)
        bridge->target_index = 0;
}

// The chipset's own controllers, at the places where the machine has them.
static void
add_builtin_controllers(Assignment *a)
{
    DomainController *storage;
    if (a->board == DOMAIN_BOARD_PSERIES) {
        add_host_bridge(a->def);
    } else if (a->pcie) {
        ensure_controller(a->def, DOMAIN_CONTROLLER_PCI, 0, "pcie-root");
        storage = ensure_controller(a->def, DOMAIN_CONTROLLER_SATA, 0, NULL);
        if (storage->info.address.type == DOMAIN_ADDRESS_NONE)
            set_pci(&storage->info.address, 0, 0x1f, 2);
    } else {
        ensure_controller(a->def, DOMAIN_CONTROLLER_PCI, 0, "pci-root");
        storage = ensure_controller(a->def, DOMAIN_CONTROLLER_IDE, 0, NULL);
        if (storage->info.address.type == DOMAIN_ADDRESS_NONE)
            set_pci(&storage->info.address, 0, 1, 1);
    }
    for (guint i = 0; i < a->def->consoles->len; i++)
        if (strcmp(((DomainChardev *) a->def->consoles->pdata[i])->target_type, "virtio") == 0)
            ensure_controller(a->def, DOMAIN_CONTROLLER_VIRTIO_SERIAL, 0, NULL);
}

static gboolean
is_root_port(const DomainController *controller)
{
    return g_strcmp0(controller->model, "pcie-root-port") == 0;
}

static gboolean
controller_needs_pci(const DomainController *controller)
{
    return controller->type != DOMAIN_CONTROLLER_PCI && g_strcmp0(controller->model, "none") != 0;
}

// Devices that take a PCI address, in the order in which they get one. Root ports are not among them.
static GPtrArray *
pci_devices(DomainDef *def)
{
    GPtrArray *infos = g_ptr_array_new();
    for (guint i = 0; i < def->interfaces->len; i++)
        g_ptr_array_add(infos, &((DomainInterface *) def->interfaces->pdata[i])->info);
    for (guint i = 0; i < def->controllers->len; i++)
        if (controller_needs_pci(def->controllers->pdata[i]))
            g_ptr_array_add(infos, &((DomainController *) def->controllers->pdata[i])->info);
    for (guint i = 0; i < def->disks->len; i++)
        if (((DomainDisk *) def->disks->pdata[i])->bus == DOMAIN_BUS_VIRTIO)
            g_ptr_array_add(infos, &((DomainDisk *) def->disks->pdata[i])->info);
    if (g_strcmp0(def->memballoon.model, "virtio") == 0)
        g_ptr_array_add(infos, &def->memballoon.info);
    for (guint i = 0; i < def->rngs->len; i++)
        g_ptr_array_add(infos, &((DomainRng *) def->rngs->pdata[i])->info);
    return infos;
}

static gboolean
reserve(Assignment *a, const DomainAddress *address, GError **error)
{
    if (address->type == DOMAIN_ADDRESS_NONE)
        return TRUE;
    g_autofree char *text = g_strdup_printf("%02x:%02x.%x", address->bus, address->slot, address->function);
    if (address->type != DOMAIN_ADDRESS_PCI)
        return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s",
                                "element <address>: type='pci' is needed for a PCI device");
    if (!find_controller(a->def, DOMAIN_CONTROLLER_PCI, (int) address->bus))
        return quasar_set_error(error, VIR_ERR_XML_ERROR, "element <address>: there is no PCI bus for %s",
                                text);
    if (a->pcie && address->bus > 0 && address->slot > 0)
        return quasar_set_error(error, VIR_ERR_XML_ERROR,
                                "element <address>: a root port has slot 0 only, not %s", text);
    guint8 bit = (guint8) (1 << address->function);
    if (a->used[address->bus][address->slot] & bit)
        return quasar_set_error(error, VIR_ERR_XML_ERROR, "element <address>: PCI address %s is used twice",
                                text);
    a->used[address->bus][address->slot] |= bit;
    return TRUE;
}

static gboolean
reserve_given(Assignment *a, GPtrArray *devices, GError **error)
{
    a->used[0][0] = 1;
    if (a->pcie)
        a->used[0][0x1f] |= 1 | 1 << 3; // the LPC bridge and the SMBus of the chipset
    else if (a->board == DOMAIN_BOARD_I440FX)
        a->used[0][1] |= 1 | 1 << 2 | 1 << 3; // the ISA bridge, its USB and its power management
    for (guint i = 0; i < a->def->controllers->len; i++) {
        DomainController *controller = a->def->controllers->pdata[i];
        if (controller->type != DOMAIN_CONTROLLER_PCI)
            continue;
        if (controller->index > 0 && !(a->pcie && is_root_port(controller)))
            return quasar_set_error(
                error, VIR_ERR_CONFIG_UNSUPPORTED,
                "element <controller>: model '%s' is not supported with this index on this machine",
                controller->model);
        const DomainAddress *address = &controller->info.address;
        if (!reserve(a, address, error))
            return FALSE;
        if (address->type == DOMAIN_ADDRESS_PCI && address->function == 0 &&
            address->multifunction == TRISTATE_ON)
            a->port_slot[address->slot] = address->bus == 0;
    }
    for (guint i = 0; i < devices->len; i++)
        if (!reserve(a, &((DomainDeviceInfo *) devices->pdata[i])->address, error))
            return FALSE;
    return TRUE;
}

static gboolean
place_root_port(Assignment *a, DomainController *port, GError **error)
{
    for (guint slot = FIRST_ROOT_PORT_SLOT; slot <= LAST_ROOT_PORT_SLOT; slot++) {
        for (guint function = 0; function < 8; function++) {
            gboolean fits = function == 0 ? a->used[0][slot] == 0
                                          : a->port_slot[slot] && !(a->used[0][slot] & 1 << function);
            if (!fits)
                continue;
            set_pci(&port->info.address, 0, slot, function);
            if (function == 0)
                port->info.address.multifunction = TRISTATE_ON;
            a->port_slot[slot] = TRUE;
            a->used[0][slot] |= (guint8) (1 << function);
            return TRUE;
        }
    }
    return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s", "there is no free place for another root port");
}

static gboolean
complete_root_port(Assignment *a, DomainController *port, GError **error)
{
    DomainAddress *address = &port->info.address;
    if (address->type == DOMAIN_ADDRESS_NONE && !place_root_port(a, port, error))
        return FALSE;
    if (port->model_name == NULL)
        port->model_name = g_strdup("pcie-root-port");
    if (port->chassis < 0)
        port->chassis = port->index;
    if (port->port < 0)
        port->port = (int) (address->slot << 3 | address->function);
    return TRUE;
}

static guint
free_root_ports(const Assignment *a)
{
    guint count = 0;
    for (guint i = 0; i < a->def->controllers->len; i++) {
        const DomainController *controller = a->def->controllers->pdata[i];
        count += is_root_port(controller) && a->used[controller->index][0] == 0;
    }
    return count;
}

static gboolean
add_root_ports(Assignment *a, guint wanted, GError **error)
{
    for (guint i = 0; i < a->def->controllers->len; i++)
        if (is_root_port(a->def->controllers->pdata[i]) &&
            !complete_root_port(a, a->def->controllers->pdata[i], error))
            return FALSE;
    int index = 1;
    for (guint count = free_root_ports(a); count < wanted; count++) {
        while (find_controller(a->def, DOMAIN_CONTROLLER_PCI, index))
            index++;
        if (index > 255)
            return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s", "there are too many PCI devices");
        DomainController *port = ensure_controller(a->def, DOMAIN_CONTROLLER_PCI, index, "pcie-root-port");
        if (!complete_root_port(a, port, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
place_device(Assignment *a, DomainDeviceInfo *info, GError **error)
{
    for (guint bus = 1; a->pcie && bus < 256; bus++) {
        if (a->used[bus][0] || !find_controller(a->def, DOMAIN_CONTROLLER_PCI, (int) bus))
            continue;
        set_pci(&info->address, bus, 0, 0);
        a->used[bus][0] = 1;
        return TRUE;
    }
    guint first = a->board == DOMAIN_BOARD_PSERIES ? FIRST_PSERIES_SLOT : FIRST_PCI_SLOT;
    for (guint slot = first; !a->pcie && slot < 32; slot++) {
        if (a->used[0][slot])
            continue;
        set_pci(&info->address, 0, slot, 0);
        a->used[0][slot] = 1;
        return TRUE;
    }
    return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s", "there is no free PCI slot for another device");
}

static gboolean
assign_pci(Assignment *a, GError **error)
{
    g_autoptr(GPtrArray) devices = pci_devices(a->def);
    guint open = 0;
    if (!reserve_given(a, devices, error))
        return FALSE;
    for (guint i = 0; i < devices->len; i++)
        open += ((DomainDeviceInfo *) devices->pdata[i])->address.type == DOMAIN_ADDRESS_NONE;
    if (a->pcie && !add_root_ports(a, open + FREE_ROOT_PORTS, error))
        return FALSE;
    for (guint i = 0; i < devices->len; i++) {
        DomainDeviceInfo *info = devices->pdata[i];
        if (info->address.type == DOMAIN_ADDRESS_NONE && !place_device(a, info, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
assign_drives(Assignment *a, GError **error)
{
    for (guint i = 0; i < a->def->disks->len; i++) {
        DomainDisk *disk = a->def->disks->pdata[i];
        DomainAddress *address = &disk->info.address;
        if (disk->device == DOMAIN_DISK_CDROM)
            disk->readonly = TRUE;
        if (disk->bus == DOMAIN_BUS_VIRTIO)
            continue;
        guint index = domain_disk_index(disk->target), limit = a->pcie ? 6 : 4;
        if (a->board == DOMAIN_BOARD_PSERIES || disk->bus != (a->pcie ? DOMAIN_BUS_SATA : DOMAIN_BUS_IDE))
            return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                    "element <target>: this machine has no bus '%s'",
                                    domain_disk_bus_name(disk->bus));
        if (address->type != DOMAIN_ADDRESS_NONE)
            continue;
        if (index >= limit)
            return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                    "element <target>: no place on the bus for '%s'", disk->target);
        address->type = DOMAIN_ADDRESS_DRIVE;
        address->bus = a->pcie ? 0 : index / 2;
        address->unit = a->pcie ? index : index % 2;
    }
    return TRUE;
}

static gint
compare_controllers(gconstpointer left, gconstpointer right)
{
    const DomainController *a = *(DomainController *const *) left, *b = *(DomainController *const *) right;
    return a->type != b->type ? (gint) a->type - (gint) b->type : a->index - b->index;
}

static gboolean
vio_is_used(const DomainDef *def, const DomainChardev *by_other, guint reg)
{
    for (guint i = 0; i < def->serials->len; i++) {
        const DomainChardev *serial = def->serials->pdata[i];
        if (serial != by_other && serial->info.address.type == DOMAIN_ADDRESS_SPAPR_VIO &&
            serial->info.address.reg == reg)
            return TRUE;
    }
    return FALSE;
}

// Virtual terminals are on a bus of their own. The first console is the first one's other name.
static gboolean
assign_terminals(Assignment *a, GError **error)
{
    for (guint i = 0; i < a->def->serials->len; i++) {
        DomainChardev *serial = a->def->serials->pdata[i];
        DomainAddress *address = &serial->info.address;
        guint reg = FIRST_VTY;
        if (strcmp(serial->target_type, "spapr-vio-serial") != 0)
            return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                    "element <serial>: machine '%s' has no %s, only spapr-vio-serial",
                                    a->def->machine, serial->target_type);
        while (vio_is_used(a->def, serial, reg))
            reg += VIO_STEP;
        if (address->type == DOMAIN_ADDRESS_NONE)
            *address = (DomainAddress){.type = DOMAIN_ADDRESS_SPAPR_VIO, .reg = reg};
        if (address->type != DOMAIN_ADDRESS_SPAPR_VIO || vio_is_used(a->def, serial, address->reg))
            return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s",
                                    "element <address>: a <serial> of this machine needs type='spapr-vio' "
                                    "and a reg of its own");
    }
    DomainChardev *console = a->def->consoles->len > 0 ? a->def->consoles->pdata[0] : NULL;
    if (console && a->def->serials->len > 0 && strcmp(console->target_type, "serial") == 0)
        console->info.address = ((DomainChardev *) a->def->serials->pdata[0])->info.address;
    return TRUE;
}

gboolean
domain_assign_addresses(DomainDef *def, DomainBoard board, GError **error)
{
    g_autofree Assignment *a = g_new0(Assignment, 1);
    a->def = def;
    a->board = board;
    a->pcie = board == DOMAIN_BOARD_Q35;
    if (!number_controllers(def, error))
        return FALSE;
    add_builtin_controllers(a);
    if (!assign_pci(a, error) || !assign_drives(a, error) ||
        (board == DOMAIN_BOARD_PSERIES && !assign_terminals(a, error)))
        return FALSE;
    g_ptr_array_sort(def->controllers, compare_controllers);
    return TRUE;
}
