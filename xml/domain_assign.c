// SPDX-License-Identifier: LGPL-2.1-or-later
// What the document left open becomes fixed here, once: machine version, CPU, controllers, addresses, names.
#include "xml/domain.h"

#include <stdarg.h>
#include <string.h>

#include "base/error.h"
#include "xml/node.h"

// Theory of operation. Addresses that the document gives are entered into a map first, and collisions
// refused; what is left gets the lowest free place in a fixed order of devices. As everything given is kept,
// a second assignment finds nothing to do. On q35 each device sits alone behind a root port, and some ports
// stay free for hotplug.

enum {
    FREE_ROOT_PORTS = 4,
    FIRST_ROOT_PORT_SLOT = 2,
    LAST_ROOT_PORT_SLOT = 0x1d,
    FIRST_PCI_SLOT = 3,
    LAST_CONTROLLER = 255,
};

typedef struct Assignment Assignment;
struct Assignment {
    DomainDef *def;
    const DomainDefaults *defaults;
    gboolean pcie;
    guint8 used[256][32];   // bus, slot: a bit for each function
    gboolean port_slot[32]; // a slot of bus 0 whose functions are root ports
};

static gboolean G_GNUC_PRINTF(3, 4) failed(GError **error, virErrorNumber code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *message = g_strdup_vprintf(format, ap);
    va_end(ap);
    quasar_set_error(error, code, "%s", message);
    return FALSE;
}

static void
random_bytes(const DomainDefaults *defaults, guint8 *bytes, gsize size)
{
    if (defaults->random_bytes) {
        defaults->random_bytes(bytes, size, defaults->opaque);
        return;
    }
    for (gsize i = 0; i < size; i++)
        bytes[i] = (guint8) g_random_int_range(0, 256);
}

static void
assign_uuid(DomainDef *def, const DomainDefaults *defaults)
{
    if (def->uuid)
        return;
    random_bytes(defaults, def->uuid_bytes, sizeof def->uuid_bytes);
    def->uuid_bytes[6] = (def->uuid_bytes[6] & 0x0f) | 0x40;
    def->uuid_bytes[8] = (def->uuid_bytes[8] & 0x3f) | 0x80;
    def->uuid = domain_uuid_format(def->uuid_bytes);
}

static gboolean
assign_machine(DomainDef *def, const DomainDefaults *defaults, GError **error)
{
    if (def->arch == NULL)
        def->arch = g_strdup(defaults->arch);
    if (defaults->archs ? !g_strv_contains(defaults->archs, def->arch)
                        : strcmp(def->arch, defaults->arch) != 0)
        return failed(error, VIR_ERR_CONFIG_UNSUPPORTED, "no emulator for arch '%s' in <os><type>",
                      def->arch);
    if (def->machine == NULL)
        def->machine = g_strdup(defaults->default_machine ? defaults->default_machine : "q35");
    if (defaults->canonical_machine) {
        char *canonical = defaults->canonical_machine(def->arch, def->machine, defaults->opaque);
        if (canonical == NULL)
            return failed(error, VIR_ERR_CONFIG_UNSUPPORTED,
                          "the emulator does not have machine '%s' of <os><type>", def->machine);
        g_free(def->machine);
        def->machine = canonical;
    }
    if (def->emulator == NULL)
        def->emulator = g_strdup(defaults->emulator);
    return TRUE;
}

// No part can be more than the whole; so bounded, the product cannot overflow.
static gboolean
topology_fits(const DomainCpu *cpu, guint vcpus)
{
    const guint parts[] = {cpu->sockets, cpu->dies, cpu->cores, cpu->threads};
    guint64 count = 1;
    gboolean given = FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(parts); i++) {
        given = given || parts[i] > 0;
        count *= CLAMP(parts[i], 1, vcpus + 1);
    }
    return !given || count == vcpus;
}

static gboolean
assign_cpu(DomainDef *def, GError **error)
{
    DomainCpu *cpu = &def->cpu;
    if (def->virt_type == DOMAIN_VIRT_QEMU && cpu->mode > DOMAIN_CPU_CUSTOM)
        return failed(
            error, VIR_ERR_CONFIG_UNSUPPORTED, "%s",
            "element <cpu>: an emulated guest needs a named model, such as qemu64, that every host can give");
    if (cpu->mode == DOMAIN_CPU_ABSENT && strcmp(def->arch, "x86_64") == 0) {
        cpu->mode = DOMAIN_CPU_CUSTOM;
        cpu->model = g_strdup("qemu64");
        g_free(cpu->fallback);
        cpu->fallback = g_strdup("forbid");
    }
    if (cpu->mode == DOMAIN_CPU_CUSTOM && cpu->match == NULL)
        cpu->match = g_strdup("exact");
    if (cpu->mode == DOMAIN_CPU_CUSTOM && cpu->check == NULL)
        cpu->check = g_strdup("none");
    if (cpu->mode == DOMAIN_CPU_CUSTOM && cpu->fallback == NULL)
        cpu->fallback = g_strdup("forbid");
    if (!topology_fits(cpu, def->max_vcpus))
        return failed(error, VIR_ERR_XML_ERROR, "%s",
                      "element <topology>: it does not give the number in <vcpu>");
    return TRUE;
}

static gboolean
has_boot_order(const DomainDef *def)
{
    for (guint i = 0; i < def->disks->len; i++)
        if (((DomainDisk *) def->disks->pdata[i])->info.boot_order > 0)
            return TRUE;
    for (guint i = 0; i < def->interfaces->len; i++)
        if (((DomainInterface *) def->interfaces->pdata[i])->info.boot_order > 0)
            return TRUE;
    return FALSE;
}

static gboolean
assign_rest(DomainDef *def, GError **error)
{
    if (def->current_memory_kib == 0)
        def->current_memory_kib = def->memory_kib;
    if (def->on_poweroff == DOMAIN_LIFECYCLE_DEFAULT)
        def->on_poweroff = DOMAIN_LIFECYCLE_DESTROY;
    if (def->on_reboot == DOMAIN_LIFECYCLE_DEFAULT)
        def->on_reboot = DOMAIN_LIFECYCLE_RESTART;
    if (def->on_crash == DOMAIN_LIFECYCLE_DEFAULT)
        def->on_crash = DOMAIN_LIFECYCLE_DESTROY;
    if (has_boot_order(def)) {
        if (def->boot_devices->len > 0)
            return failed(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s",
                          "element <boot>: per-device order cannot be used together with <os><boot>");
    } else if (def->boot_devices->len == 0) {
        g_ptr_array_add(def->boot_devices, g_strdup("hd"));
    }
    return TRUE;
}

static guint
target_index(const char *target)
{
    guint index = 0;
    for (const char *at = target + 2; *at; at++)
        index = index * 26 + (guint) (*at - 'a') + 1;
    return index - 1;
}

static void
assign_features_off(DomainNicFeatures *features)
{
    Tristate *all[] = {&features->host_csum,  &features->host_gso,   &features->host_tso4,
                       &features->host_tso6,  &features->host_ecn,   &features->host_ufo,
                       &features->guest_csum, &features->guest_tso4, &features->guest_tso6,
                       &features->guest_ecn,  &features->guest_ufo};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (*all[i] == TRISTATE_ABSENT)
            *all[i] = TRISTATE_OFF;
}

static gboolean
mac_taken(const DomainDef *def, const DomainInterface *of)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *other = def->interfaces->pdata[i];
        if (other != of && other->has_mac && memcmp(other->mac, of->mac, sizeof of->mac) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean
assign_interfaces(DomainDef *def, const DomainDefaults *defaults, GError **error)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        DomainInterface *interface = def->interfaces->pdata[i];
        g_autofree char *mac = domain_mac_format(interface->mac);
        if (interface->has_mac && mac_taken(def, interface))
            return failed(error, VIR_ERR_XML_ERROR, "element <mac>: %s is used twice", mac);
        for (guint tries = 0; !interface->has_mac && tries < 64; tries++) {
            memcpy(interface->mac, "\x52\x54\x00", 3);
            random_bytes(defaults, interface->mac + 3, 3);
            interface->has_mac = !mac_taken(def, interface);
        }
        if (interface->model == NULL)
            interface->model = g_strdup("virtio");
        if (interface->type == DOMAIN_INTERFACE_NETWORK && interface->network == NULL)
            interface->network = g_strdup("default");
        if (interface->type == DOMAIN_INTERFACE_DIRECT && interface->source_mode == NULL)
            interface->source_mode = g_strdup("bridge");
        if (strcmp(interface->model, "virtio") == 0)
            assign_features_off(&interface->features);
    }
    return TRUE;
}

static DomainChardev *
add_chardev(GPtrArray *array, gboolean console, const char *type, int port)
{
    DomainChardev *chardev = g_new0(DomainChardev, 1);
    chardev->console = console;
    chardev->target_type = g_strdup(type);
    chardev->target_port = port;
    g_ptr_array_add(array, chardev);
    return chardev;
}

// The first serial port and the first console are two names of one thing: each brings the other.
static void
assign_chardevs(DomainDef *def)
{
    if (def->consoles->len > 0 && def->serials->len == 0) {
        DomainChardev *console = def->consoles->pdata[0];
        if (console->target_type == NULL || strcmp(console->target_type, "serial") == 0)
            add_chardev(def->serials, FALSE, "isa-serial", 0);
    }
    if (def->serials->len > 0 && def->consoles->len == 0)
        add_chardev(def->consoles, TRUE, "serial", 0);
    for (guint i = 0; i < def->serials->len; i++) {
        DomainChardev *serial = def->serials->pdata[i];
        if (serial->target_type == NULL)
            serial->target_type = g_strdup("isa-serial");
        if (serial->target_model == NULL)
            serial->target_model = g_strdup("isa-serial");
        if (serial->target_port < 0)
            serial->target_port = (int) i;
    }
    for (guint i = 0; i < def->consoles->len; i++) {
        DomainChardev *console = def->consoles->pdata[i];
        if (console->target_type == NULL)
            console->target_type = g_strdup(i == 0 ? "serial" : "virtio");
        if (console->target_port < 0)
            console->target_port = (int) i;
    }
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
    controller->chassis = controller->port = -1;
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
            return failed(error, VIR_ERR_XML_ERROR, "element <controller>: there are too many of type '%s'",
                          domain_controller_type_name(controller->type));
        if (find_controller(def, controller->type, controller->index) != controller)
            return failed(error, VIR_ERR_XML_ERROR,
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

// The chipset's own controllers, at the places where the machine has them.
static void
add_builtin_controllers(Assignment *a)
{
    DomainController *storage;
    if (a->pcie) {
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
        return failed(error, VIR_ERR_XML_ERROR, "%s",
                      "element <address>: type='pci' is needed for a PCI device");
    if (!find_controller(a->def, DOMAIN_CONTROLLER_PCI, (int) address->bus))
        return failed(error, VIR_ERR_XML_ERROR, "element <address>: there is no PCI bus for %s", text);
    if (a->pcie && address->bus > 0 && address->slot > 0)
        return failed(error, VIR_ERR_XML_ERROR, "element <address>: a root port has slot 0 only, not %s",
                      text);
    guint8 bit = (guint8) (1 << address->function);
    if (a->used[address->bus][address->slot] & bit)
        return failed(error, VIR_ERR_XML_ERROR, "element <address>: PCI address %s is used twice", text);
    a->used[address->bus][address->slot] |= bit;
    return TRUE;
}

static gboolean
reserve_given(Assignment *a, GPtrArray *devices, GError **error)
{
    a->used[0][0] = 1;
    if (a->pcie)
        a->used[0][0x1f] |= 1 | 1 << 3; // the LPC bridge and the SMBus of the chipset
    else
        a->used[0][1] |= 1 | 1 << 2 | 1 << 3; // the ISA bridge, its USB and its power management
    for (guint i = 0; i < a->def->controllers->len; i++) {
        DomainController *controller = a->def->controllers->pdata[i];
        if (controller->type != DOMAIN_CONTROLLER_PCI)
            continue;
        if (controller->index > 0 && !(a->pcie && is_root_port(controller)))
            return failed(error, VIR_ERR_CONFIG_UNSUPPORTED,
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
    return failed(error, VIR_ERR_XML_ERROR, "%s", "there is no free place for another root port");
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
            return failed(error, VIR_ERR_XML_ERROR, "%s", "there are too many PCI devices");
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
    for (guint slot = FIRST_PCI_SLOT; !a->pcie && slot < 32; slot++) {
        if (a->used[0][slot])
            continue;
        set_pci(&info->address, 0, slot, 0);
        a->used[0][slot] = 1;
        return TRUE;
    }
    return failed(error, VIR_ERR_XML_ERROR, "%s", "there is no free PCI slot for another device");
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
        guint index = target_index(disk->target), limit = a->pcie ? 6 : 4;
        if (disk->bus != (a->pcie ? DOMAIN_BUS_SATA : DOMAIN_BUS_IDE))
            return failed(error, VIR_ERR_CONFIG_UNSUPPORTED, "element <target>: this machine has no bus '%s'",
                          domain_disk_bus_name(disk->bus));
        if (address->type != DOMAIN_ADDRESS_NONE)
            continue;
        if (index >= limit)
            return failed(error, VIR_ERR_CONFIG_UNSUPPORTED, "element <target>: no place on the bus for '%s'",
                          disk->target);
        address->type = DOMAIN_ADDRESS_DRIVE;
        address->bus = a->pcie ? 0 : index / 2;
        address->unit = a->pcie ? index : index % 2;
    }
    return TRUE;
}

static void
set_alias(DomainDeviceInfo *info, char *alias)
{
    if (info->alias)
        g_free(alias);
    else
        info->alias = alias;
}

static char *
controller_alias(const Assignment *a, const DomainController *controller)
{
    const char *type = domain_controller_type_name(controller->type);
    if (controller->type == DOMAIN_CONTROLLER_PCI)
        return g_strdup_printf(a->pcie && controller->index == 0 ? "pcie.%d" : "pci.%d", controller->index);
    gboolean storage =
        controller->type == DOMAIN_CONTROLLER_SATA || controller->type == DOMAIN_CONTROLLER_IDE;
    if (storage && controller->index == 0)
        return g_strdup("ide");
    if (controller->type == DOMAIN_CONTROLLER_USB && controller->index == 0)
        return g_strdup("usb");
    return g_strdup_printf("%s%d", type, controller->index);
}

static char *
disk_alias(const DomainDisk *disk)
{
    const DomainAddress *address = &disk->info.address;
    if (disk->bus == DOMAIN_BUS_VIRTIO)
        return g_strdup_printf("virtio-disk%u", target_index(disk->target));
    return g_strdup_printf("%s%u-%u-%u", domain_disk_bus_name(disk->bus), address->controller, address->bus,
                           address->unit);
}

static void
assign_aliases(Assignment *a)
{
    DomainDef *def = a->def;
    for (guint i = 0; i < def->disks->len; i++)
        set_alias(&((DomainDisk *) def->disks->pdata[i])->info, disk_alias(def->disks->pdata[i]));
    for (guint i = 0; i < def->controllers->len; i++)
        set_alias(&((DomainController *) def->controllers->pdata[i])->info,
                  controller_alias(a, def->controllers->pdata[i]));
    for (guint i = 0; i < def->interfaces->len; i++)
        set_alias(&((DomainInterface *) def->interfaces->pdata[i])->info, g_strdup_printf("net%u", i));
    for (guint i = 0; i < def->serials->len; i++)
        set_alias(&((DomainChardev *) def->serials->pdata[i])->info, g_strdup_printf("serial%u", i));
    for (guint i = 0; i < def->consoles->len; i++) {
        DomainChardev *console = def->consoles->pdata[i];
        gboolean serial = strcmp(console->target_type, "serial") == 0;
        set_alias(&console->info, g_strdup_printf(serial ? "serial%u" : "console%u", i));
    }
    if (g_strcmp0(def->memballoon.model, "virtio") == 0)
        set_alias(&def->memballoon.info, g_strdup("balloon0"));
    for (guint i = 0; i < def->rngs->len; i++)
        set_alias(&((DomainRng *) def->rngs->pdata[i])->info, g_strdup_printf("rng%u", i));
}

static gint
compare_controllers(gconstpointer left, gconstpointer right)
{
    const DomainController *a = *(DomainController *const *) left, *b = *(DomainController *const *) right;
    return a->type != b->type ? (gint) a->type - (gint) b->type : a->index - b->index;
}

static gboolean
find_chipset(Assignment *a, GError **error)
{
    const char *machine = a->def->machine;
    a->pcie = strstr(machine, "q35") != NULL;
    if (a->pcie || strstr(machine, "i440fx") || strcmp(machine, "pc") == 0)
        return TRUE;
    return failed(error, VIR_ERR_CONFIG_UNSUPPORTED, "machine '%s' of <os><type> is not supported yet",
                  machine);
}

// A definition is written to files and to other hosts, and read back with what a run adds to it: images of
// chains, names of terminals.
static gboolean
check_size(const DomainDef *def, GError **error)
{
    g_autofree char *xml = domain_def_format(def, 0, -1);
    gsize size = strlen(xml);
    return size <= NODE_DOCUMENT_LIMIT / 4 ||
           failed(error, VIR_ERR_XML_ERROR,
                  "the whole definition has %zu bytes, the limit is %d: shorten <metadata> and <description>",
                  size, NODE_DOCUMENT_LIMIT / 4);
}

gboolean
domain_def_assign(DomainDef *def, const DomainDefaults *defaults, GError **error)
{
    g_autofree Assignment *a = g_new0(Assignment, 1);
    a->def = def;
    a->defaults = defaults;
    assign_uuid(def, defaults);
    if (!assign_machine(def, defaults, error) || !find_chipset(a, error) || !assign_cpu(def, error) ||
        !assign_rest(def, error) || !assign_interfaces(def, defaults, error) ||
        !number_controllers(def, error))
        return FALSE;
    assign_chardevs(def);
    add_builtin_controllers(a);
    if (def->memballoon.model == NULL)
        def->memballoon.model = g_strdup("virtio");
    if (!assign_pci(a, error) || !assign_drives(a, error))
        return FALSE;
    g_ptr_array_sort(def->controllers, compare_controllers);
    assign_aliases(a);
    return check_size(def, error);
}
