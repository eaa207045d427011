// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain document to a definition. Elements that would change the guest and are not known are refused by
// name.
#include "xml/domain.h"

#include <string.h>

#include "base/error.h"
#include "xml/node.h"

#define DEVICES_MAX    1024 // far above what any machine has places for
#define METADATA_DEPTH 128

static gboolean
one_of(const char *name, const char *const *names)
{
    return g_strv_contains(names, name);
}

// Names that end up as identifiers on a command line: nothing that a parser there could take for syntax.
static gboolean
token(const xmlNode *node, const char *name, char **value, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL)
        return TRUE;
    gsize length = strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-+:");
    if (length == 0 || text[length])
        return node_error(node, error, "attribute '%s' has characters that a name cannot have: '%s'", name,
                          text);
    g_free(*value);
    *value = g_steal_pointer(&text);
    return TRUE;
}

static gboolean
choice(const xmlNode *node, const char *name, const char *const *names, char **value, GError **error)
{
    guint index = 0;
    if (!node_enum(node, name, names, &index, error))
        return FALSE;
    g_free(*value);
    *value = node_attribute(node, name);
    return TRUE;
}

// Refuses children that are not in the list.
static gboolean
known_children(xmlNode *parent, const char *const *known, GError **error)
{
    for (xmlNode *node = node_next(NULL, parent); node; node = node_next(node, parent))
        if (!one_of(node_name(node), known))
            return node_unsupported(node, error, "not supported yet in <%s>", node_name(parent));
    return TRUE;
}

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
    static const char *const types[] = {"none", "pci", "drive", "virtio-serial", "usb", NULL};
    guint type = 0;
    if (!node_enum(node, "type", types, &type, error))
        return FALSE;
    address->type = (DomainAddressType) type;
    if (type == DOMAIN_ADDRESS_PCI)
        return parse_pci_address(node, address, error);
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
    if (node && !token(node, "name", &info->alias, error))
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
    return choice(node, name, formats, format, error);
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
    return known_children(node, ignored, error);
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
    static const char *const drivers[] = {"qemu", NULL};
    guint ignored = 0;
    return node_enum(node, "name", drivers, &ignored, error) &&
           parse_format(node, "type", &disk->image.format, error) &&
           choice(node, "cache", caches, &disk->cache, error) &&
           choice(node, "discard", discards, &disk->discard, error) &&
           choice(node, "io", ios, &disk->io, error) &&
           choice(node, "detect_zeroes", zeroes, &disk->detect_zeroes, error) &&
           choice(node, "error_policy", policies, &disk->error_policy, error);
}

static gboolean
parse_disk_target(xmlNode *device, DomainDisk *disk, GError **error)
{
    static const char *const buses[] = {"virtio", "sata", "ide", NULL};
    xmlNode *node = node_child(device, "target");
    if (node == NULL)
        return node_error(device, error, "<target> is missing");
    if (!token(node, "dev", &disk->target, error))
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
    if (!known_children(device, known, error) || !node_enum(device, "type", storage_types, &type, error) ||
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
    if (!choice(device, "model", models, &controller->model, error))
        return FALSE;
    if (controller->type == DOMAIN_CONTROLLER_PCI && controller->model == NULL)
        return node_error(device, error, "attribute 'model' is missing");
    xmlNode *model = node_child(device, "model");
    return model == NULL || token(model, "name", &controller->model_name, error);
}

static gboolean
parse_controller(xmlNode *device, DomainDef *def, GError **error)
{
    static const char *const types[] = {"pci", "virtio-serial", "usb", "sata", "ide", NULL};
    static const char *const known[] = {"model", "target", "address", "alias", NULL};
    g_autoptr(DomainController) controller = g_new0(DomainController, 1);
    controller->index = controller->chassis = controller->port = -1;
    guint type = 0;
    if (!known_children(device, known, error) || !node_enum(device, "type", types, &type, error) ||
        !node_int(device, "index", &controller->index, error))
        return FALSE;
    controller->type = (DomainControllerType) type;
    if (controller->index > 255)
        return node_error(device, error, "attribute 'index' is out of range");
    if (!parse_controller_model(device, controller, error) || !parse_info(device, &controller->info, error))
        return FALSE;
    xmlNode *target = node_child(device, "target");
    if (target && (!node_int(target, "chassis", &controller->chassis, error) ||
                   !node_int(target, "port", &controller->port, error)))
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
    DomainNicFeatures *f = &interface->features;
    if (!token(node, "name", &interface->driver_name, error))
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
               token(node, "dev", &interface->source_dev, error) &&
               choice(node, "mode", modes, &interface->source_mode, error);
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
    if (node && !token(node, "type", &interface->model, error))
        return FALSE;
    node = node_child(device, "target");
    if (node && !token(node, "dev", &interface->target_dev, error))
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
    if (!known_children(device, known, error) || !node_enum(device, "type", types, &type, error))
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
    static const char *const serial_types[] = {"isa-serial", NULL};
    static const char *const console_types[] = {"serial", "virtio", NULL};
    xmlNode *target = node_child(device, "target");
    if (target == NULL)
        return TRUE;
    if (!choice(target, "type", chardev->console ? console_types : serial_types, &chardev->target_type,
                error) ||
        !node_int(target, "port", &chardev->target_port, error))
        return FALSE;
    if (chardev->target_port > 31)
        return node_error(target, error, "attribute 'port' is out of range");
    xmlNode *model = node_child(target, "model");
    return model == NULL || choice(model, "name", serial_types, &chardev->target_model, error);
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
    if (!known_children(device, known, error) || !node_enum(device, "type", types, &type, error) ||
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
    if (def->memballoon.model)
        return node_error(device, error, "there can be only one");
    if (!choice(device, "model", models, &def->memballoon.model, error))
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
    if (!known_children(device, known, error) || !choice(device, "model", models, &rng->model, error))
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
    if (node_is(device, "emulator")) {
        g_free(def->emulator);
        def->emulator = node_text(device);
        return (def->emulator && *def->emulator == '/') ||
               node_error(device, error, "must be an absolute path");
    }
    return node_unsupported(device, error, "this device is not supported yet");
}

static gboolean
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

// Status files nest a definition deeper than the document that it came with, and must stay within what the
// parser reads (256).
static gboolean
nested_above(const xmlNode *node, guint depth)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE && (depth == 0 || nested_above(child, depth - 1)))
            return TRUE;
    return FALSE;
}

static gboolean
parse_metadata(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *metadata = node_child(root, "metadata");
    if (metadata == NULL)
        return TRUE;
    if (nested_above(metadata, METADATA_DEPTH))
        return node_error(metadata, error, "elements are nested more than %d deep", METADATA_DEPTH);
    def->metadata = node_verbatim(metadata);
    return TRUE;
}

static gboolean
parse_identity(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const types[] = {"qemu", "kvm", NULL};
    guint type = 0;
    g_autofree char *given = node_attribute(root, "type");
    if (given == NULL)
        return node_error(root, error, "attribute 'type' is missing");
    if (!node_enum(root, "type", types, &type, error))
        return FALSE;
    def->virt_type = (DomainVirtType) type;
    def->name = node_child_text(root, "name");
    if (def->name == NULL)
        return node_error(root, error, "<name> is missing");
    if (!domain_name_is_valid(def->name))
        return node_error(node_child(root, "name"), error, "'%s' cannot be a domain's name", def->name);
    g_autofree char *uuid = node_child_text(root, "uuid");
    if (uuid) {
        if (!domain_uuid_parse(g_strstrip(uuid), def->uuid_bytes))
            return node_error(node_child(root, "uuid"), error, "'%s' is not a UUID", uuid);
        def->uuid = domain_uuid_format(def->uuid_bytes);
    }
    def->title = node_child_text(root, "title");
    def->description = node_child_text(root, "description");
    return parse_metadata(root, def, error);
}

static gboolean
parse_vcpus(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *node = node_child(root, "vcpu");
    guint64 count = 1;
    if (node && !node_content_uint64(node, &count, error))
        return FALSE;
    def->vcpus = (guint) MIN(count, G_MAXUINT);
    def->max_vcpus = def->vcpus;
    if (node && !node_uint(node, "current", &def->vcpus, error))
        return FALSE;
    if (def->max_vcpus < 1 || def->max_vcpus > 255 || def->vcpus < 1 || def->vcpus > def->max_vcpus)
        return node_error(node, error, "must be 1 to 255, and 'current' not above it");
    return TRUE;
}

static gboolean
parse_resources(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *node = node_child(root, "memory");
    if (node == NULL)
        return node_error(root, error, "<memory> is missing");
    if (!node_content_kib(node, &def->memory_kib, error))
        return FALSE;
    if (def->memory_kib == 0)
        return node_error(node, error, "must be above 0");
    node = node_child(root, "currentMemory");
    if (node && !node_content_kib(node, &def->current_memory_kib, error))
        return FALSE;
    if (def->current_memory_kib > def->memory_kib)
        def->current_memory_kib = def->memory_kib;
    return parse_vcpus(root, def, error);
}

static gboolean
parse_boot_devices(xmlNode *os, DomainDef *def, GError **error)
{
    static const char *const devices[] = {"hd", "cdrom", "network", "fd", NULL};
    for (xmlNode *node = node_next(NULL, os); node; node = node_next(node, os)) {
        g_autofree char *device = NULL;
        if (!node_is(node, "boot"))
            continue;
        if (!node_require(node, "dev", &device, error) || !choice(node, "dev", devices, &device, error))
            return FALSE;
        g_ptr_array_add(def->boot_devices, g_steal_pointer(&device));
    }
    return TRUE;
}

static gboolean
parse_os(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const known[] = {"type", "boot", "kernel", "initrd", "cmdline", "bootmenu", NULL};
    xmlNode *os = node_child(root, "os");
    xmlNode *type = os ? node_child(os, "type") : NULL;
    if (type == NULL)
        return node_error(os ? os : root, error, "<%s> is missing", os ? "type" : "os");
    if (!known_children(os, known, error) || !token(type, "arch", &def->arch, error) ||
        !token(type, "machine", &def->machine, error) || !parse_boot_devices(os, def, error))
        return FALSE;
    g_autofree char *kind = node_text(type);
    if (g_strcmp0(g_strstrip(kind), "hvm") != 0)
        return node_unsupported(type, error, "'%s' is not supported, only hvm", kind);
    def->kernel = node_child_text(os, "kernel");
    def->initrd = node_child_text(os, "initrd");
    def->cmdline = node_child_text(os, "cmdline");
    if (!def->kernel && (def->initrd || def->cmdline))
        return node_error(os, error, "<initrd> and <cmdline> need a <kernel>");
    return TRUE;
}

static gboolean
parse_features(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const known[] = {"acpi", "apic", "pae", "vmport", NULL};
    xmlNode *features = node_child(root, "features");
    if (features == NULL)
        return TRUE;
    def->acpi = node_child(features, "acpi") != NULL;
    def->apic = node_child(features, "apic") != NULL;
    def->pae = node_child(features, "pae") != NULL;
    return known_children(features, known, error);
}

static gboolean
parse_cpu_feature(xmlNode *node, DomainCpu *cpu, GError **error)
{
    static const char *const policies[] = {"require", "disable", "optional", "forbid", "force", NULL};
    DomainCpuFeature *feature = g_new0(DomainCpuFeature, 1);
    g_ptr_array_add(cpu->features, feature);
    if (!node_require(node, "name", &feature->name, error) || !token(node, "name", &feature->name, error) ||
        !choice(node, "policy", policies, &feature->policy, error))
        return FALSE;
    if (feature->policy == NULL)
        feature->policy = g_strdup("require");
    return TRUE;
}

static gboolean
parse_cpu_parts(xmlNode *element, DomainCpu *cpu, GError **error)
{
    static const char *const fallbacks[] = {"allow", "forbid", NULL};
    for (xmlNode *node = node_next(NULL, element); node; node = node_next(node, element)) {
        if (node_is(node, "feature") && !parse_cpu_feature(node, cpu, error))
            return FALSE;
        if (node_is(node, "topology") &&
            !(node_uint(node, "sockets", &cpu->sockets, error) &&
              node_uint(node, "dies", &cpu->dies, error) && node_uint(node, "cores", &cpu->cores, error) &&
              node_uint(node, "threads", &cpu->threads, error)))
            return FALSE;
        if (node_is(node, "model")) {
            g_free(cpu->model);
            cpu->model = node_text(node);
            gsize valid = strspn(g_strstrip(cpu->model), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-+");
            if (valid == 0 || cpu->model[valid])
                return node_error(node, error, "'%s' cannot be the name of a CPU model", cpu->model);
            if (!choice(node, "fallback", fallbacks, &cpu->fallback, error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean
parse_cpu(xmlNode *root, DomainCpu *cpu, GError **error)
{
    static const char *const modes[] = {"", "custom", "host-model", "host-passthrough", "maximum", NULL};
    static const char *const matches[] = {"exact", "minimum", "strict", NULL};
    static const char *const checks[] = {"none", "partial", "full", NULL};
    static const char *const known[] = {"model", "vendor", "feature", "topology", NULL};
    xmlNode *node = node_child(root, "cpu");
    if (node == NULL)
        return TRUE;
    guint mode = 0;
    if (!known_children(node, known, error) || !node_enum(node, "mode", modes, &mode, error) ||
        !choice(node, "match", matches, &cpu->match, error) ||
        !choice(node, "check", checks, &cpu->check, error) || !parse_cpu_parts(node, cpu, error))
        return FALSE;
    cpu->mode = (DomainCpuMode) mode;
    if (mode == DOMAIN_CPU_ABSENT && cpu->model)
        cpu->mode = DOMAIN_CPU_CUSTOM;
    if (cpu->mode == DOMAIN_CPU_CUSTOM && cpu->model == NULL)
        return node_error(node, error, "<model> is missing");
    return TRUE;
}

static gboolean
parse_timer(xmlNode *node, DomainDef *def, GError **error)
{
    static const char *const names[] = {"rtc", "pit", "hpet", "tsc", "kvmclock", NULL};
    static const char *const policies[] = {"delay", "catchup", "merge", "discard", NULL};
    static const char *const tracks[] = {"boot", "guest", "wall", "realtime", NULL};
    DomainTimer *timer = g_new0(DomainTimer, 1);
    g_ptr_array_add(def->timers, timer);
    return node_require(node, "name", &timer->name, error) &&
           choice(node, "name", names, &timer->name, error) &&
           choice(node, "tickpolicy", policies, &timer->tickpolicy, error) &&
           choice(node, "track", tracks, &timer->track, error) &&
           node_tristate(node, "present", &timer->present, error);
}

static gboolean
parse_clock(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const offsets[] = {"utc", "localtime", "variable", NULL};
    xmlNode *clock = node_child(root, "clock");
    if (clock == NULL)
        return TRUE;
    guint offset = 0;
    if (!node_enum(clock, "offset", offsets, &offset, error))
        return FALSE;
    def->clock = (DomainClockOffset) offset;
    if (offset == DOMAIN_CLOCK_VARIABLE && !node_int64(clock, "adjustment", &def->clock_adjustment, error))
        return FALSE;
    for (xmlNode *node = node_next(NULL, clock); node; node = node_next(node, clock))
        if (node_is(node, "timer") && !parse_timer(node, def, error))
            return FALSE;
    return TRUE;
}

static gboolean
parse_lifecycle(xmlNode *root, const char *name, DomainLifecycle *action, GError **error)
{
    xmlNode *node = node_child(root, name);
    if (node == NULL)
        return TRUE;
    g_autofree char *text = node_text(node);
    g_strstrip(text);
    for (int i = DOMAIN_LIFECYCLE_DESTROY; i <= DOMAIN_LIFECYCLE_RENAME_RESTART; i++) {
        if (strcmp(text, domain_lifecycle_name((DomainLifecycle) i)) == 0) {
            *action = (DomainLifecycle) i;
            return TRUE;
        }
    }
    return node_unsupported(node, error, "'%s' is not supported", text);
}

static gboolean
refuse_unsupported(xmlNode *root, GError **error)
{
    static const char *const refused[] = {"memoryBacking", "memtune",        "numatune",  "cputune",
                                          "blkiotune",     "sysinfo",        "iothreads", "iothreadids",
                                          "genid",         "launchSecurity", "idmap",     "maxMemory",
                                          "vcpus",         "perf",           NULL};
    for (xmlNode *node = root->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (node->ns || one_of(node_name(node), refused))
            return node_unsupported(node, error, "not supported yet");
    }
    return TRUE;
}

static DomainDef *
parse_root(xmlNode *root, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_new();
    if (!parse_identity(root, def, error) || !refuse_unsupported(root, error) ||
        !parse_resources(root, def, error) || !parse_os(root, def, error) ||
        !parse_features(root, def, error) || !parse_cpu(root, &def->cpu, error) ||
        !parse_clock(root, def, error) || !parse_lifecycle(root, "on_poweroff", &def->on_poweroff, error) ||
        !parse_lifecycle(root, "on_reboot", &def->on_reboot, error) ||
        !parse_lifecycle(root, "on_crash", &def->on_crash, error) || !parse_devices(root, def, error))
        return NULL;
    return g_steal_pointer(&def);
}

DomainDef *
domain_def_parse(const char *xml, GError **error)
{
    g_autoptr(NodeDocument) document = node_document_parse(xml, "domain", error);
    return document ? parse_root(xmlDocGetRootElement(document), error) : NULL;
}

static GHashTable *
parse_pairs(xmlNode *root)
{
    GHashTable *pairs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (xmlAttr *attribute = root->properties; attribute; attribute = attribute->next) {
        const char *key = (const char *) attribute->name;
        g_hash_table_insert(pairs, g_strdup(key), node_attribute(root, key));
    }
    return pairs;
}

DomainDef *
domain_def_parse_status(const char *xml, int *id, GHashTable **pairs, GError **error)
{
    g_autoptr(NodeDocument) document = node_document_parse(xml, "domstatus", error);
    if (document == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(document);
    xmlNode *domain = node_child(root, "domain");
    if (domain == NULL) {
        node_error(root, error, "<domain> is missing");
        return NULL;
    }
    int given = -1;
    if (!node_int(domain, "id", &given, error))
        return NULL;
    DomainDef *def = parse_root(domain, error);
    if (def && id)
        *id = given;
    if (def && pairs)
        *pairs = parse_pairs(root);
    return def;
}
