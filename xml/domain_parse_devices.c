// SPDX-License-Identifier: LGPL-2.1-or-later
// The devices of a domain document.
#include "xml/domain_parse.h"

#include <string.h>

#include "base/error.h"

#define DEVICES_MAX 1024 // far above what any machine has places for

static gboolean
parse_pci_address(xmlNode *node, DomainAddress *address, GError **error)
{
    if (!node_uint(node, "domain", &address->domain, error) ||
        !node_uint(node, "bus", &address->bus, error) || !node_uint(node, "slot", &address->slot, error) ||
        !node_uint(node, "function", &address->function, error) ||
        !node_tristate(node, "multifunction", &address->multifunction, error))
        return FALSE;
    if (address->domain > 0 || address->bus > 255 || address->slot > 31 || address->function > 7)
        return node_error(node, error, "this PCI address is out of range");
    return TRUE;
}

static gboolean
parse_address(xmlNode *node, DomainAddress *address, GError **error)
{
    static const char *const types[] = {"none", "pci", "drive", "virtio-serial", "usb", "spapr-vio", NULL};
    guint type = 0;
    if (!node_enum(node, "type", types, &type, error))
        return FALSE;
    address->type = (DomainAddressType) type;
    if (type == DOMAIN_ADDRESS_PCI)
        return parse_pci_address(node, address, error);
    if (type == DOMAIN_ADDRESS_SPAPR_VIO)
        return node_uint(node, "reg", &address->reg, error);
    return node_uint(node, "controller", &address->controller, error) &&
           node_uint(node, "bus", &address->bus, error) &&
           node_uint(node, "target", &address->target, error) &&
           node_uint(node, "unit", &address->unit, error) && node_uint(node, "port", &address->port, error);
}

static gboolean
parse_info(xmlNode *device, DomainDeviceInfo *info, GError **error)
{
    xmlNode *node = node_child(device, "address");
    if (node && !parse_address(node, &info->address, error))
        return FALSE;
    node = node_child(device, "alias");
    if (node && !parse_token(node, "name", &info->alias, error))
        return FALSE;
    node = node_child(device, "boot");
    if (node == NULL)
        return TRUE;
    if (!node_uint(node, "order", &info->boot_order, error))
        return FALSE;
    return info->boot_order > 0 || node_error(node, error, "attribute 'order' must be 1 or more");
}

static gboolean
parse_format(xmlNode *node, const char *name, char **format, GError **error)
{
    static const char *const formats[] = {"raw", "qcow2", NULL};
    return parse_choice(node, name, formats, format, error);
}

static gboolean
parse_source(xmlNode *node, DomainImage *image, GError **error)
{
    const char *name = image->type == DOMAIN_STORAGE_BLOCK ? "dev" : "file";
    if (!node_require(node, name, &image->path, error))
        return FALSE;
    if (*image->path != '/')
        return node_error(node, error, "'%s' is not an absolute path", image->path);
    static const char *const ignored[] = {"seclabel", NULL};
    return parse_known_children(node, ignored, error);
}

static const char *const storage_types[] = {"file", "block", NULL};

// One `<backingStore>` and those within it; depth bounds a hostile document, not a real chain.
static gboolean
parse_backing(xmlNode *parent, DomainImage *image, guint depth, GError **error)
{
    xmlNode *node = node_child(parent, "backingStore");
    if (node == NULL)
        return TRUE;
    if (node_next(NULL, node) == NULL) {
        image->backing_terminated = TRUE;
        return TRUE;
    }
    if (depth > 64)
        return node_error(node, error, "the chain is too long");
    image->backing = domain_image_new(DOMAIN_STORAGE_FILE, NULL, NULL);
    guint type = 0;
    if (!node_enum(node, "type", storage_types, &type, error))
        return FALSE;
    image->backing->type = (DomainStorageType) type;
    xmlNode *format = node_child(node, "format");
    if (format && !parse_format(format, "type", &image->backing->format, error))
        return FALSE;
    xmlNode *source = node_child(node, "source");
    if (source == NULL)
        return node_error(node, error, "<source> is missing");
    return parse_source(source, image->backing, error) &&
           parse_backing(node, image->backing, depth + 1, error);
}

static gboolean
parse_disk_driver(xmlNode *node, DomainDisk *disk, GError **error)
{
    static const char *const caches[] = {"default",    "none",   "writeback", "writethrough",
                                         "directsync", "unsafe", NULL};
    static const char *const discards[] = {"unmap", "ignore", NULL};
    static const char *const ios[] = {"threads", "native", "io_uring", NULL};
    static const char *const zeroes[] = {"off", "on", "unmap", NULL};
    static const char *const policies[] = {"stop", "report", "ignore", "enospace", NULL};
    static const char *const attributes[] = {"name",          "type",         "cache",     "discard",   "io",
                                             "detect_zeroes", "error_policy", "ioeventfd", "event_idx", NULL};
    static const char *const no_children[] = {NULL};
    return parse_known_attributes(node, attributes, error) &&
           parse_known_children(node, no_children, error) && parse_only(node, "name", "qemu", error) &&
           parse_only(node, "event_idx", "on", error) &&
           parse_format(node, "type", &disk->image.format, error) &&
           parse_choice(node, "cache", caches, &disk->cache, error) &&
           parse_choice(node, "discard", discards, &disk->discard, error) &&
           parse_choice(node, "io", ios, &disk->io, error) &&
           parse_choice(node, "detect_zeroes", zeroes, &disk->detect_zeroes, error) &&
           parse_choice(node, "error_policy", policies, &disk->error_policy, error);
}

static gboolean
parse_disk_target(xmlNode *device, DomainDisk *disk, GError **error)
{
    static const char *const buses[] = {"virtio", "sata", "ide", NULL};
    static const char *const attributes[] = {"dev", "bus", "tray", NULL};
    xmlNode *node = node_child(device, "target");
    if (node == NULL)
        return node_error(device, error, "<target> is missing");
    if (!parse_known_attributes(node, attributes, error) || !parse_only(node, "tray", "closed", error) ||
        !parse_token(node, "dev", &disk->target, error))
        return FALSE;
    if (disk->target == NULL || strlen(disk->target) < 3 || strlen(disk->target) > 4 ||
        strspn(disk->target, G_CSET_a_2_z) != strlen(disk->target))
        return node_error(node, error, "attribute 'dev' must be a name such as vda");
    guint bus = DOMAIN_BUS_VIRTIO;
    if (g_str_has_prefix(disk->target, "sd"))
        bus = DOMAIN_BUS_SATA;
    else if (g_str_has_prefix(disk->target, "hd"))
        bus = DOMAIN_BUS_IDE;
    if (!node_enum(node, "bus", buses, &bus, error))
        return FALSE;
    disk->bus = (DomainDiskBus) bus;
    return TRUE;
}

static gboolean
parse_disk_source(xmlNode *device, DomainDisk *disk, GError **error)
{
    xmlNode *node = node_child(device, "source");
    if (node)
        return parse_source(node, &disk->image, error);
    if (disk->device == DOMAIN_DISK_CDROM)
        return TRUE;
    return node_error(device, error, "<source> is missing");
}

static gboolean
parse_disk(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const devices[] = {"disk", "cdrom", NULL};
    static const char *const known[] = {"source",   "target",       "driver", "serial",
                                        "readonly", "shareable",    "boot",   "address",
                                        "alias",    "backingStore", "mirror", NULL};
    g_autoptr(DomainDisk) disk = g_new0(DomainDisk, 1);
    guint type = 0, kind = 0;
    if (!parse_known_children(device, known, error) || !parse_only(device, "model", "virtio", error) ||
        !node_enum(device, "type", storage_types, &type, error) ||
        !node_enum(device, "device", devices, &kind, error))
        return FALSE;
    disk->image.type = (DomainStorageType) type;
    disk->device = (DomainDiskDevice) kind;
    xmlNode *driver = node_child(device, "driver");
    if ((driver && !parse_disk_driver(driver, disk, error)) || !parse_disk_source(device, disk, error) ||
        !parse_disk_target(device, disk, error) || !parse_backing(device, &disk->image, 0, error) ||
        !parse_info(device, &disk->info, error))
        return FALSE;
    disk->serial = node_child_text(device, "serial");
    disk->readonly = node_child(device, "readonly") != NULL;
    disk->shareable = node_child(device, "shareable") != NULL;
    if (domain_find_disk(def, disk->target))
        return node_error(device, error, "target '%s' is used twice", disk->target);
    g_ptr_array_add(def->disks, g_steal_pointer(&disk));
    return TRUE;
}

static gboolean
parse_controller_model(xmlNode *device, DomainController *controller, GError **error)
{
    static const char *const pci[] = {"pcie-root", "pcie-root-port", "pci-root", NULL};
    static const char *const usb[] = {"qemu-xhci", "none", NULL};
    static const char *const any[] = {"virtio", "ahci", "piix3", "piix4", NULL};
    const char *const *models = any;
    if (controller->type == DOMAIN_CONTROLLER_PCI)
        models = pci;
    else if (controller->type == DOMAIN_CONTROLLER_USB)
        models = usb;
    if (!parse_choice(device, "model", models, &controller->model, error))
        return FALSE;
    if (controller->type == DOMAIN_CONTROLLER_PCI && controller->model == NULL)
        return node_error(device, error, "attribute 'model' is missing");
    xmlNode *model = node_child(device, "model");
    return model == NULL || parse_token(model, "name", &controller->model_name, error);
}

static gboolean
parse_controller(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const types[] = {"pci", "virtio-serial", "usb", "sata", "ide", NULL};
    static const char *const known[] = {"model", "target", "address", "alias", NULL};
    static const char *const attributes[] = {"type", "index", "model", NULL};
    g_autoptr(DomainController) controller = g_new0(DomainController, 1);
    controller->index = controller->chassis = controller->port = controller->target_index = -1;
    guint type = 0;
    if (!parse_known_children(device, known, error) || !parse_known_attributes(device, attributes, error) ||
        !node_enum(device, "type", types, &type, error) ||
        !node_int(device, "index", &controller->index, error))
        return FALSE;
    controller->type = (DomainControllerType) type;
    if (controller->index > 255)
        return node_error(device, error, "attribute 'index' is out of range");
    if (!parse_controller_model(device, controller, error) || !parse_info(device, &controller->info, error))
        return FALSE;
    xmlNode *target = node_child(device, "target");
    if (target && (!parse_only(target, "hotplug", "on", error) ||
                   !node_int(target, "chassis", &controller->chassis, error) ||
                   !node_int(target, "port", &controller->port, error) ||
                   !node_int(target, "index", &controller->target_index, error)))
        return FALSE;
    g_ptr_array_add(def->controllers, g_steal_pointer(&controller));
    return TRUE;
}

static gboolean
parse_mac(xmlNode *device, DomainInterface *interface, GError **error)
{
    xmlNode *node = node_child(device, "mac");
    if (node == NULL)
        return TRUE;
    g_autofree char *text = NULL;
    if (!node_require(node, "address", &text, error))
        return FALSE;
    g_auto(GStrv) parts = g_strsplit(text, ":", 7);
    if (g_strv_length(parts) != 6)
        return node_error(node, error, "'%s' is not a MAC address", text);
    for (guint i = 0; i < 6; i++) {
        guint64 byte;
        if (strlen(parts[i]) > 2 || !g_ascii_string_to_unsigned(parts[i], 16, 0, 255, &byte, NULL))
            return node_error(node, error, "'%s' is not a MAC address", text);
        interface->mac[i] = (guint8) byte;
    }
    if (interface->mac[0] & 1)
        return node_error(node, error, "'%s' is a multicast address, a NIC needs a unicast one", text);
    interface->has_mac = TRUE;
    return TRUE;
}

static gboolean
parse_nic_driver(xmlNode *node, DomainInterface *interface, GError **error)
{
    static const char *const attributes[] = {"name", "queues", "ioeventfd", "event_idx", NULL};
    static const char *const known[] = {"host", "guest", NULL};
    DomainNicFeatures *f = &interface->features;
    if (!parse_known_attributes(node, attributes, error) || !parse_known_children(node, known, error) ||
        !parse_only(node, "queues", "1", error) || !parse_only(node, "event_idx", "on", error))
        return FALSE;
    if (!parse_token(node, "name", &interface->driver_name, error))
        return FALSE;
    xmlNode *host = node_child(node, "host");
    if (host && !(node_tristate(host, "csum", &f->host_csum, error) &&
                  node_tristate(host, "gso", &f->host_gso, error) &&
                  node_tristate(host, "tso4", &f->host_tso4, error) &&
                  node_tristate(host, "tso6", &f->host_tso6, error) &&
                  node_tristate(host, "ecn", &f->host_ecn, error) &&
                  node_tristate(host, "ufo", &f->host_ufo, error) &&
                  node_tristate(host, "mrg_rxbuf", &f->mrg_rxbuf, error)))
        return FALSE;
    xmlNode *guest = node_child(node, "guest");
    return guest == NULL || (node_tristate(guest, "csum", &f->guest_csum, error) &&
                             node_tristate(guest, "tso4", &f->guest_tso4, error) &&
                             node_tristate(guest, "tso6", &f->guest_tso6, error) &&
                             node_tristate(guest, "ecn", &f->guest_ecn, error) &&
                             node_tristate(guest, "ufo", &f->guest_ufo, error));
}

static gboolean
parse_nic_source(xmlNode *device, DomainInterface *interface, GError **error)
{
    static const char *const modes[] = {"bridge", "vepa", "private", "passthrough", NULL};
    xmlNode *node = node_child(device, "source");
    if (interface->type == DOMAIN_INTERFACE_DIRECT) {
        if (node == NULL)
            return node_error(device, error, "<source dev=''/> is missing");
        return node_require(node, "dev", &interface->source_dev, error) &&
               parse_token(node, "dev", &interface->source_dev, error) &&
               parse_choice(node, "mode", modes, &interface->source_mode, error);
    }
    if (interface->type == DOMAIN_INTERFACE_NETWORK && node)
        return node_require(node, "network", &interface->network, error);
    return TRUE;
}

static gboolean
parse_nic_parts(xmlNode *device, DomainInterface *interface, GError **error)
{
    static const char *const links[] = {"up", "down", NULL};
    xmlNode *node = node_child(device, "model");
    if (node && !parse_token(node, "type", &interface->model, error))
        return FALSE;
    node = node_child(device, "target");
    if (node && !parse_token(node, "dev", &interface->target_dev, error))
        return FALSE;
    node = node_child(device, "mtu");
    if (node && !node_uint(node, "size", &interface->mtu, error))
        return FALSE;
    node = node_child(device, "driver");
    if (node && !parse_nic_driver(node, interface, error))
        return FALSE;
    node = node_child(device, "link");
    if (node == NULL)
        return TRUE;
    guint state = 0;
    if (!node_enum(node, "state", links, &state, error))
        return FALSE;
    interface->link = state == 0 ? TRISTATE_ON : TRISTATE_OFF;
    return TRUE;
}

static gboolean
parse_interface(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const types[] = {"network", "direct", "user", NULL};
    static const char *const known[] = {"mac", "source", "model",   "target", "driver", "link",
                                        "mtu", "boot",   "address", "alias",  NULL};
    g_autoptr(DomainInterface) interface = g_new0(DomainInterface, 1);
    guint type = DOMAIN_INTERFACE_USER;
    if (!parse_known_children(device, known, error) || !node_enum(device, "type", types, &type, error))
        return FALSE;
    interface->type = (DomainInterfaceType) type;
    if (!parse_mac(device, interface, error) || !parse_nic_source(device, interface, error) ||
        !parse_nic_parts(device, interface, error) || !parse_info(device, &interface->info, error))
        return FALSE;
    g_ptr_array_add(def->interfaces, g_steal_pointer(&interface));
    return TRUE;
}

static gboolean
parse_chardev_target(xmlNode *device, DomainChardev *chardev, GError **error)
{
    static const char *const serial_types[] = {"isa-serial", "spapr-vio-serial", NULL};
    static const char *const serial_models[] = {"isa-serial", "spapr-vty", NULL};
    static const char *const console_types[] = {"serial", "virtio", NULL};
    xmlNode *target = node_child(device, "target");
    if (target == NULL)
        return TRUE;
    if (!parse_choice(target, "type", chardev->console ? console_types : serial_types, &chardev->target_type,
                      error) ||
        !node_int(target, "port", &chardev->target_port, error))
        return FALSE;
    if (chardev->target_port > 31)
        return node_error(target, error, "attribute 'port' is out of range");
    xmlNode *model = node_child(target, "model");
    return model == NULL || parse_choice(model, "name", serial_models, &chardev->target_model, error);
}

static gboolean
parse_chardev(xmlNode *device, GPtrArray *array, gboolean console, GError **error)
{
    static const char *const types[] = {"pty", NULL};
    static const char *const known[] = {"source", "target", "address", "alias", "protocol", NULL};
    g_autoptr(DomainChardev) chardev = g_new0(DomainChardev, 1);
    chardev->console = console;
    chardev->target_port = -1;
    guint type = 0;
    if (!parse_known_children(device, known, error) || !node_enum(device, "type", types, &type, error) ||
        !parse_chardev_target(device, chardev, error) || !parse_info(device, &chardev->info, error))
        return FALSE;
    xmlNode *source = node_child(device, "source");
    if (source)
        chardev->source_path = node_attribute(source, "path");
    g_ptr_array_add(array, g_steal_pointer(&chardev));
    return TRUE;
}

static gboolean
parse_memballoon(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const models[] = {"virtio", "none", NULL};
    static const char *const known[] = {"stats", "address", "alias", NULL};
    if (def->memballoon.model)
        return node_error(device, error, "there can be only one");
    if (!parse_known_children(device, known, error) || !parse_only(device, "autodeflate", "off", error) ||
        !parse_only(device, "freePageReporting", "off", error) ||
        !parse_choice(device, "model", models, &def->memballoon.model, error))
        return FALSE;
    if (def->memballoon.model == NULL)
        return node_error(device, error, "attribute 'model' is missing");
    return parse_info(device, &def->memballoon.info, error);
}

static gboolean
parse_rng(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const models[] = {"virtio", NULL};
    static const char *const backends[] = {"random", NULL};
    static const char *const known[] = {"backend", "address", "alias", NULL};
    g_autoptr(DomainRng) rng = g_new0(DomainRng, 1);
    guint backend_model = 0;
    if (!parse_known_children(device, known, error) ||
        !parse_choice(device, "model", models, &rng->model, error))
        return FALSE;
    xmlNode *backend = node_child(device, "backend");
    if (rng->model == NULL || backend == NULL)
        return node_error(device, error, "attribute 'model' or <backend> is missing");
    if (!node_enum(backend, "model", backends, &backend_model, error) ||
        !parse_info(device, &rng->info, error))
        return FALSE;
    g_autofree char *path = node_text(backend);
    rng->backend_path = g_strdup(path && *g_strstrip(path) ? path : "/dev/urandom");
    g_ptr_array_add(def->rngs, g_steal_pointer(&rng));
    return TRUE;
}

// What every guest has, or what is only the host's: accepted when a document spells it out, and not kept.
static gboolean
parse_input(xmlNode *device, GError **error)
{
    static const char *const types[] = {"mouse", "keyboard", NULL};
    static const char *const known[] = {"alias", NULL};
    g_autofree char *type = NULL;
    guint ignored = 0;
    return node_require(device, "type", &type, error) && node_enum(device, "type", types, &ignored, error) &&
           parse_only(device, "bus", "ps2", error) && parse_known_children(device, known, error);
}

static gboolean
parse_audio(xmlNode *device, GError **error)
{
    g_autofree char *type = NULL;
    return node_require(device, "type", &type, error) && parse_only(device, "type", "none", error);
}

static gboolean
parse_video(xmlNode *device, GError **error)
{
    static const char *const known[] = {"model", "alias", NULL};
    xmlNode *model = node_child(device, "model");
    g_autofree char *type = model ? node_attribute(model, "type") : NULL;
    if (type == NULL)
        return node_unsupported(device, error, "this device is not supported yet");
    return parse_only(model, "type", "none", error) && parse_known_children(device, known, error);
}

static gboolean
parse_device(xmlNode *device, DomainDef *def, GError **error)
{
    if (node_is(device, "disk"))
        return parse_disk(device, def, error);
    if (node_is(device, "controller"))
        return parse_controller(device, def, error);
    if (node_is(device, "interface"))
        return parse_interface(device, def, error);
    if (node_is(device, "serial"))
        return parse_chardev(device, def->serials, FALSE, error);
    if (node_is(device, "console"))
        return parse_chardev(device, def->consoles, TRUE, error);
    if (node_is(device, "memballoon"))
        return parse_memballoon(device, def, error);
    if (node_is(device, "rng"))
        return parse_rng(device, def, error);
    if (node_is(device, "input"))
        return parse_input(device, error);
    if (node_is(device, "audio"))
        return parse_audio(device, error);
    if (node_is(device, "video"))
        return parse_video(device, error);
    if (node_is(device, "emulator")) {
        g_free(def->emulator);
        def->emulator = node_text(device);
        return (def->emulator && *def->emulator == '/') ||
               node_error(device, error, "must be an absolute path");
    }
    return node_unsupported(device, error, "this device is not supported yet");
}

gboolean
parse_devices(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *devices = node_child(root, "devices");
    guint count = 0;
    if (devices == NULL)
        return TRUE;
    for (xmlNode *node = node_next(NULL, devices); node; node = node_next(node, devices)) {
        if (++count > DEVICES_MAX)
            return node_error(devices, error, "more than %d devices", DEVICES_MAX);
        if (!parse_device(node, def, error))
            return FALSE;
    }
    return TRUE;
}
