// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices on the emulator's command line.
#include "emulator/devices.h"

#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "emulator/blockdev.h"
#include "emulator/command.h"
#include "emulator/nic.h"
#include "xml/domain_board.h"

// Theory of operation. Devices are given as JSON, in which no text of the definition can end a value. Every
// device says its bus and address: what the guest sees must not depend on the order of options or on the
// emulator's own choice. Bridges come before what sits behind them.

typedef struct Builder Builder;
struct Builder {
    const DomainDef *def;
    const char *directory;
    GPtrArray *argv;
    DomainBoard board;
    gboolean pcie;
};

static gboolean G_GNUC_PRINTF(2, 3) unsupported(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *message = g_strdup_vprintf(format, ap);
    va_end(ap);
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s", message);
    return FALSE;
}

static void
add(Builder *b, const char *option, char *value)
{
    g_ptr_array_add(b->argv, g_strdup(option));
    g_ptr_array_add(b->argv, value);
}

static void
set_text(json_t *object, const char *key, const char *text)
{
    if (text)
        json_object_set_new(object, key, json_string(text));
}

static void
set_flag(json_t *object, const char *key, Tristate value)
{
    if (value != TRISTATE_ABSENT)
        json_object_set_new(object, key, json_boolean(value == TRISTATE_ON));
}

// Steals `object`.
static void
add_json(Builder *b, const char *option, json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    add(b, option, g_strdup(text));
    free(text);
    json_decref(object);
}

static json_t *
device_new(const char *driver, const char *id)
{
    json_t *device = json_object();
    set_text(device, "driver", driver);
    set_text(device, "id", id);
    return device;
}

// The root's name is the machine's, the ports' names are the ids that they are given here.
static const char *
pci_bus_name(const Builder *b, guint bus)
{
    if (bus == 0)
        return b->pcie ? "pcie.0" : "pci.0";
    for (guint i = 0; i < b->def->controllers->len; i++) {
        const DomainController *controller = g_ptr_array_index(b->def->controllers, i);
        if (controller->type == DOMAIN_CONTROLLER_PCI && controller->index == (int) bus)
            return controller->info.alias;
    }
    return NULL;
}

static gboolean
place(const Builder *b, json_t *device, const DomainDeviceInfo *info, GError **error)
{
    const DomainAddress *address = &info->address;
    const char *bus =
        address->type == DOMAIN_ADDRESS_PCI && address->domain == 0 ? pci_bus_name(b, address->bus) : NULL;
    if (!bus)
        return unsupported(error, "device '%s' has no PCI address that this machine knows", info->alias);
    g_autofree char *slot = address->function ? g_strdup_printf("0x%x.0x%x", address->slot, address->function)
                                              : g_strdup_printf("0x%x", address->slot);
    set_text(device, "bus", bus);
    set_flag(device, "multifunction", address->multifunction);
    set_text(device, "addr", slot);
    return TRUE;
}

// Steals `device`.
static gboolean
add_pci(Builder *b, json_t *device, const DomainDeviceInfo *info, GError **error)
{
    if (!place(b, device, info, error)) {
        json_decref(device);
        return FALSE;
    }
    add_json(b, "-device", device);
    return TRUE;
}

guint
emulator_boot_index(const DomainDef *def, const DomainDeviceInfo *info, const char *kind, gboolean first)
{
    for (guint i = 0; first && i < def->boot_devices->len; i++)
        if (g_str_equal(g_ptr_array_index(def->boot_devices, i), kind))
            return i + 1;
    return info->boot_order;
}

static void
set_boot_index(json_t *device, guint index)
{
    if (index)
        json_object_set_new(device, "bootindex", json_integer(index));
}

static json_t *
root_port_new(const DomainController *controller)
{
    json_t *device = device_new("pcie-root-port", controller->info.alias);
    json_object_set_new(device, "port", json_integer(controller->port));
    json_object_set_new(device, "chassis", json_integer(controller->chassis));
    return device;
}

static gboolean
add_controller(Builder *b, const DomainController *controller, GError **error)
{
    const DomainDeviceInfo *info = &controller->info;
    gboolean chipset = controller->index == 0;
    switch (controller->type) {
    case DOMAIN_CONTROLLER_PCI:
        if (chipset)
            return TRUE;
        if (g_strcmp0(controller->model_name, "pcie-root-port") != 0)
            return unsupported(error, "element <controller>: PCI controller '%s' is not supported",
                               controller->model_name ? controller->model_name : controller->model);
        return add_pci(b, root_port_new(controller), info, error);
    case DOMAIN_CONTROLLER_VIRTIO_SERIAL:
        return add_pci(b, device_new("virtio-serial-pci", info->alias), info, error);
    case DOMAIN_CONTROLLER_USB:
        if (g_strcmp0(controller->model, "none") == 0)
            return TRUE;
        return add_pci(b, device_new("qemu-xhci", info->alias), info, error);
    case DOMAIN_CONTROLLER_SATA:
        if (chipset && b->pcie)
            return TRUE;
        return unsupported(error, "element <controller>: only q35's own sata controller is supported");
    case DOMAIN_CONTROLLER_IDE:
        if (chipset && b->board == DOMAIN_BOARD_I440FX)
            return TRUE;
        return unsupported(error, "element <controller>: only i440fx's own ide controller is supported");
    }
    return TRUE;
}

static gboolean
add_controllers(Builder *b, gboolean pci, GError **error)
{
    for (guint i = 0; i < b->def->controllers->len; i++) {
        const DomainController *controller = g_ptr_array_index(b->def->controllers, i);
        if ((controller->type == DOMAIN_CONTROLLER_PCI) == pci && !add_controller(b, controller, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_first_disk(const DomainDef *def, guint index)
{
    const DomainDisk *disk = g_ptr_array_index(def->disks, index);
    for (guint i = 0; i < index; i++)
        if (((const DomainDisk *) g_ptr_array_index(def->disks, i))->device == disk->device)
            return FALSE;
    return TRUE;
}

static gboolean
check_disk(const DomainDisk *disk, GError **error)
{
    gboolean virtio = disk->bus == DOMAIN_BUS_VIRTIO;
    if (!virtio && disk->bus != DOMAIN_BUS_SATA && disk->bus != DOMAIN_BUS_IDE)
        return unsupported(error, "disk '%s': bus '%s' is not supported", disk->target,
                           domain_disk_bus_name(disk->bus));
    if (virtio && !disk->image.path)
        return unsupported(error, "disk '%s': a virtio disk cannot be without a medium", disk->target);
    if (!virtio && disk->device == DOMAIN_DISK_DISK && disk->readonly)
        return unsupported(error, "disk '%s': a hard disk on this bus cannot be read-only", disk->target);
    return TRUE;
}

static json_t *
disk_device_new(const Builder *b, guint index)
{
    const DomainDisk *disk = g_ptr_array_index(b->def->disks, index);
    gboolean cdrom = disk->device == DOMAIN_DISK_CDROM;
    const char *driver = disk->bus == DOMAIN_BUS_VIRTIO ? "virtio-blk-pci" : cdrom ? "ide-cd" : "ide-hd";
    json_t *device = device_new(driver, disk->info.alias);
    if (disk->image.path) {
        g_autofree char *node = emulator_format_node(b->def, index);
        set_text(device, "drive", node);
    }
    if (disk->shareable)
        set_flag(device, "share-rw", TRISTATE_ON);
    if (disk->cache && !g_str_equal(disk->cache, "default") && !cdrom) {
        gboolean through = g_str_equal(disk->cache, "writethrough") || g_str_equal(disk->cache, "directsync");
        set_text(device, "write-cache", through ? "off" : "on");
    }
    set_text(device, "serial", disk->serial);
    if (disk->error_policy) {
        gboolean enospc = g_str_equal(disk->error_policy, "enospace");
        set_text(device, "werror", enospc ? "enospc" : disk->error_policy);
        set_text(device, "rerror", enospc ? "report" : disk->error_policy);
    }
    const char *kind = cdrom ? "cdrom" : "hd";
    set_boot_index(device, emulator_boot_index(b->def, &disk->info, kind, is_first_disk(b->def, index)));
    return device;
}

// q35's controller has six buses of one drive, the older one two buses of two.
static void
place_drive(const Builder *b, json_t *device, const DomainAddress *address)
{
    g_autofree char *bus = g_strdup_printf("ide.%u", b->pcie ? address->unit : address->bus);
    set_text(device, "bus", bus);
    json_object_set_new(device, "unit", json_integer(b->pcie ? 0 : address->unit));
}

static gboolean
add_disk(Builder *b, guint index, GError **error)
{
    const DomainDisk *disk = g_ptr_array_index(b->def->disks, index);
    if (!check_disk(disk, error))
        return FALSE;
    g_autoptr(GPtrArray) nodes = emulator_blockdevs(b->def, index, error);
    if (!nodes)
        return FALSE;
    for (guint i = 0; i < nodes->len; i++)
        add(b, "-blockdev", g_strdup(g_ptr_array_index(nodes, i)));
    json_t *device = disk_device_new(b, index);
    if (disk->bus == DOMAIN_BUS_VIRTIO)
        return add_pci(b, device, &disk->info, error);
    place_drive(b, device, &disk->info.address);
    add_json(b, "-device", device);
    return TRUE;
}

static void
set_features(json_t *device, const DomainNicFeatures *features)
{
    set_flag(device, "csum", features->host_csum);
    set_flag(device, "gso", features->host_gso);
    set_flag(device, "host_tso4", features->host_tso4);
    set_flag(device, "host_tso6", features->host_tso6);
    set_flag(device, "host_ecn", features->host_ecn);
    set_flag(device, "host_ufo", features->host_ufo);
    set_flag(device, "mrg_rxbuf", features->mrg_rxbuf);
    set_flag(device, "guest_csum", features->guest_csum);
    set_flag(device, "guest_tso4", features->guest_tso4);
    set_flag(device, "guest_tso6", features->guest_tso6);
    set_flag(device, "guest_ecn", features->guest_ecn);
    set_flag(device, "guest_ufo", features->guest_ufo);
    // quasar-vnet announces, so a move tells QEMU not to; and QEMU then frees the timer of a device with this
    // feature when the guest arrives, and runs into its absence at the device's next reset (7.2 does: a guest
    // that had moved took its emulator along when it rebooted).
    json_object_set_new(device, "guest_announce", json_false());
}

char *
emulator_chardev(const char *alias)
{
    return g_strdup_printf("char%s", alias);
}

// A new quasar-vnet can take the place of one that has died: the emulator listens for its stream, and
// connects again, after a second at least, where quasar-vnet listens.
static void
add_netdev(Builder *b, const DomainInterface *interface, guint index, const char *id)
{
    if (interface->type == DOMAIN_INTERFACE_USER) {
        add(b, "-netdev", g_strdup_printf("user,id=%s", id));
        return;
    }
    g_auto(GStrv) parts = g_strsplit(b->directory, ",", -1);
    g_autofree char *directory = g_strjoinv(",,", parts);
    g_autofree char *chardev = emulator_chardev(interface->info.alias);
    if (domain_interface_is_vhost(interface)) {
        add(b, "-chardev",
            g_strdup_printf("socket,id=%s,path=%s/net%u.sock,reconnect=1", chardev, directory, index));
        add(b, "-netdev", g_strdup_printf("vhost-user,id=%s,chardev=%s", id, chardev));
    } else {
        add(b, "-netdev",
            g_strdup_printf("stream,id=%s,server=on,addr.type=unix,addr.path=%s/net%u.sock", id, directory,
                            index));
    }
}

static gboolean
add_interface(Builder *b, guint index, GError **error)
{
    const DomainInterface *interface = g_ptr_array_index(b->def->interfaces, index);
    const EmulatorNic *nic = emulator_nic_find(interface->model);
    if (!nic)
        return unsupported(error, "element <interface>: model '%s' is not supported", interface->model);
    if (nic->pc && b->board == DOMAIN_BOARD_PSERIES)
        return unsupported(error, "element <interface>: machine '%s' has no model '%s'", b->def->machine,
                           interface->model);
    gboolean virtio = g_str_equal(nic->model, "virtio");
    if (interface->mtu && !virtio)
        return unsupported(error, "element <mtu>: only virtio NICs can have it");
    g_autofree char *netdev = g_strdup_printf("host%s", interface->info.alias);
    g_autofree char *mac = domain_mac_format(interface->mac);
    add_netdev(b, interface, index, netdev);
    json_t *device = device_new(nic->device, interface->info.alias);
    if (virtio)
        set_features(device, &interface->features);
    // The emulator would agree to what the guest changes at run time and not tell who serves it.
    if (domain_interface_is_vhost(interface))
        json_object_set_new(device, "ctrl_guest_offloads", json_false());
    if (interface->mtu)
        json_object_set_new(device, "host_mtu", json_integer(interface->mtu));
    set_text(device, "netdev", netdev);
    set_text(device, "mac", mac);
    guint boot = emulator_nic_boot_index(b->def, index);
    set_boot_index(device, boot);
    // The option ROM is a file of the host's, and its size is part of what both ends of a move must agree on:
    // only a NIC that the guest starts from gets it.
    if (!boot || b->board == DOMAIN_BOARD_PSERIES)
        set_text(device, "romfile", "");
    return add_pci(b, device, &interface->info, error);
}

static void
add_terminal(Builder *b, const DomainChardev *serial)
{
    g_autofree char *chardev = emulator_chardev(serial->info.alias);
    add(b, "-chardev", g_strdup_printf("pty,id=%s", chardev));
    json_t *device = device_new("spapr-vty", serial->info.alias);
    set_text(device, "chardev", chardev);
    json_object_set_new(device, "reg", json_integer(serial->info.address.reg));
    add_json(b, "-device", device);
}

static gboolean
add_serial(Builder *b, const DomainChardev *serial, GError **error)
{
    if (b->board == DOMAIN_BOARD_PSERIES) {
        add_terminal(b, serial);
        return TRUE;
    }
    if (g_strcmp0(serial->target_type, "isa-serial") != 0 || serial->target_port > 3)
        return unsupported(error, "element <serial>: only isa-serial ports 0 to 3 are supported");
    g_autofree char *chardev = emulator_chardev(serial->info.alias);
    add(b, "-chardev", g_strdup_printf("pty,id=%s", chardev));
    json_t *device = device_new("isa-serial", serial->info.alias);
    set_text(device, "chardev", chardev);
    json_object_set_new(device, "index", json_integer(serial->target_port));
    add_json(b, "-device", device);
    return TRUE;
}

// A console of type serial is a serial port's other name and no device.
static gboolean
add_console(Builder *b, const DomainChardev *console, GError **error)
{
    if (g_strcmp0(console->target_type, "virtio") != 0)
        return b->def->serials->len > 0 ||
               unsupported(error, "element <console>: type='serial' needs a <serial>");
    const DomainAddress *address = &console->info.address;
    gboolean addressed = address->type == DOMAIN_ADDRESS_VIRTIO_SERIAL;
    g_autofree char *chardev = emulator_chardev(console->info.alias);
    g_autofree char *bus = g_strdup_printf("virtio-serial%u.0", addressed ? address->controller : 0);
    add(b, "-chardev", g_strdup_printf("pty,id=%s", chardev));
    json_t *device = device_new("virtconsole", console->info.alias);
    set_text(device, "bus", bus);
    if (addressed)
        json_object_set_new(device, "nr", json_integer(address->port));
    set_text(device, "chardev", chardev);
    add_json(b, "-device", device);
    return TRUE;
}

static gboolean
add_rng(Builder *b, const DomainRng *rng, GError **error)
{
    g_autofree char *object = g_strdup_printf("obj%s", rng->info.alias);
    add_json(
        b, "-object",
        json_pack("{s:s, s:s, s:s}", "qom-type", "rng-random", "id", object, "filename", rng->backend_path));
    json_t *device = device_new("virtio-rng-pci", rng->info.alias);
    set_text(device, "rng", object);
    return add_pci(b, device, &rng->info, error);
}

gboolean
emulator_devices(GPtrArray *argv, const DomainDef *def, const char *directory, GError **error)
{
    const DomainBoard board = domain_def_board(def);
    Builder builder = {
        .def = def, .directory = directory, .argv = argv, .board = board, .pcie = board == DOMAIN_BOARD_Q35};
    Builder *b = &builder;
    if (!add_controllers(b, TRUE, error) || !add_controllers(b, FALSE, error))
        return FALSE;
    for (guint i = 0; i < def->disks->len; i++)
        if (!add_disk(b, i, error))
            return FALSE;
    for (guint i = 0; i < def->interfaces->len; i++)
        if (!add_interface(b, i, error))
            return FALSE;
    for (guint i = 0; i < def->serials->len; i++)
        if (!add_serial(b, g_ptr_array_index(def->serials, i), error))
            return FALSE;
    for (guint i = 0; i < def->consoles->len; i++)
        if (!add_console(b, g_ptr_array_index(def->consoles, i), error))
            return FALSE;
    if (g_strcmp0(def->memballoon.model, "virtio") == 0 &&
        !add_pci(b, device_new("virtio-balloon-pci", def->memballoon.info.alias), &def->memballoon.info,
                 error))
        return FALSE;
    for (guint i = 0; i < def->rngs->len; i++)
        if (!add_rng(b, g_ptr_array_index(def->rngs, i), error))
            return FALSE;
    return TRUE;
}
