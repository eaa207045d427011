// SPDX-License-Identifier: LGPL-2.1-or-later
// What the document left open becomes fixed here, once: machine version, CPU, features, addresses, names.
#include "xml/domain.h"

#include <string.h>

#include "base/error.h"
#include "xml/domain_addresses.h"
#include "xml/node.h"

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
        return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "no emulator for arch '%s' in <os><type>",
                                def->arch);
    if (def->machine == NULL)
        def->machine = g_strdup(defaults->default_machine ? defaults->default_machine : "q35");
    if (defaults->canonical_machine) {
        char *canonical = defaults->canonical_machine(def->arch, def->machine, defaults->opaque);
        if (canonical == NULL)
            return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
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

// What every emulator of that architecture has.
static const char *
basic_model(const char *arch)
{
    static const char *const models[][2] = {
        {"x86_64", "qemu64"}, {"i686", "qemu32"}, {"ppc64", "POWER9"}, {"ppc64le", "POWER9"}};
    for (gsize i = 0; i < G_N_ELEMENTS(models); i++)
        if (strcmp(arch, models[i][0]) == 0)
            return models[i][1];
    return NULL;
}

static gboolean
assign_cpu(DomainDef *def, GError **error)
{
    DomainCpu *cpu = &def->cpu;
    if (def->virt_type == DOMAIN_VIRT_QEMU && cpu->mode > DOMAIN_CPU_CUSTOM)
        return quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "element <cpu>: an emulated guest needs a named model, such as %s, that every host can give",
            basic_model(def->arch) ? basic_model(def->arch) : "one of 'virsh domcapabilities'");
    if (cpu->mode == DOMAIN_CPU_ABSENT && basic_model(def->arch)) {
        cpu->mode = DOMAIN_CPU_CUSTOM;
        cpu->model = g_strdup(basic_model(def->arch));
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
        return quasar_set_error(error, VIR_ERR_XML_ERROR, "%s",
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
assign_rest(DomainDef *def, DomainBoard board, GError **error)
{
    def->memory_kib = domain_board_memory_kib(board, def->memory_kib);
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
            return quasar_set_error(
                error, VIR_ERR_CONFIG_UNSUPPORTED, "%s",
                "element <boot>: per-device order cannot be used together with <os><boot>");
    } else if (def->boot_devices->len == 0) {
        g_ptr_array_add(def->boot_devices, g_strdup("hd"));
    }
    return TRUE;
}

// Those that come with offloads and those that no interface of ours has unless its owner says so.
static void
assign_features(DomainNicFeatures *features, Tristate offloads)
{
    Tristate *ours[] = {&features->host_csum,  &features->host_tso4,  &features->host_tso6,
                        &features->host_ecn,   &features->guest_csum, &features->guest_tso4,
                        &features->guest_tso6, &features->guest_ecn};
    Tristate *never[] = {&features->host_gso, &features->host_ufo, &features->guest_ufo};
    for (gsize i = 0; i < G_N_ELEMENTS(ours); i++)
        if (*ours[i] == TRISTATE_ABSENT)
            *ours[i] = offloads;
    for (gsize i = 0; i < G_N_ELEMENTS(never); i++)
        if (*never[i] == TRISTATE_ABSENT)
            *never[i] = TRISTATE_OFF;
}

// Definitions of before there were offloads say of each that it is off, and not who serves them.
static gboolean
forgoes_offloads(const DomainNicFeatures *features)
{
    DomainNicFeatures off = {.mrg_rxbuf = features->mrg_rxbuf};
    assign_features(&off, TRISTATE_OFF);
    return memcmp(features, &off, sizeof off) == 0;
}

// The feature set, and who serves it, are guest ABI.
static gboolean
assign_nic_driver(DomainInterface *interface, const DomainDefaults *defaults, GError **error)
{
    gboolean served = interface->type != DOMAIN_INTERFACE_USER && strcmp(interface->model, "virtio") == 0;
    const char *name = interface->driver_name;
    if (name && strcmp(name, "qemu") != 0 && (!served || strcmp(name, "vhost") != 0))
        return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                "element <driver>: name='%s' of this <interface> is not supported", name);
    if (served && !name)
        interface->driver_name =
            g_strdup(defaults->vhost && !forgoes_offloads(&interface->features) ? "vhost" : "qemu");
    gboolean vhost = domain_interface_is_vhost(interface);
    if (vhost && !defaults->vhost)
        return quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "element <driver>: name='vhost' needs Quasar's own emulator (make emulator), which "
            "'%s' is not",
            defaults->emulator);
    if (strcmp(interface->model, "virtio") == 0)
        assign_features(&interface->features, vhost ? TRISTATE_ON : TRISTATE_OFF);
    return vhost || !domain_interface_offload(interface) ||
           quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s",
                            "element <driver>: only name='vhost' can have <host> and <guest> features");
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
            return quasar_set_error(error, VIR_ERR_XML_ERROR, "element <mac>: %s is used twice", mac);
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
        if (!assign_nic_driver(interface, defaults, error))
            return FALSE;
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
assign_chardevs(DomainDef *def, DomainBoard board)
{
    gboolean pseries = board == DOMAIN_BOARD_PSERIES;
    const char *type = pseries ? "spapr-vio-serial" : "isa-serial", *model = pseries ? "spapr-vty" : type;
    if (def->consoles->len > 0 && def->serials->len == 0) {
        DomainChardev *console = def->consoles->pdata[0];
        if (console->target_type == NULL || strcmp(console->target_type, "serial") == 0) {
            DomainChardev *serial = add_chardev(def->serials, FALSE, type, 0);
            if (pseries)
                serial->info.address = console->info.address;
        }
    }
    if (def->serials->len > 0 && def->consoles->len == 0)
        add_chardev(def->consoles, TRUE, "serial", 0);
    for (guint i = 0; i < def->serials->len; i++) {
        DomainChardev *serial = def->serials->pdata[i];
        if (serial->target_type == NULL)
            serial->target_type = g_strdup(type);
        if (serial->target_model == NULL)
            serial->target_model = g_strdup(model);
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

static void
set_alias(DomainDeviceInfo *info, char *alias)
{
    if (info->alias)
        g_free(alias);
    else
        info->alias = alias;
}

static char *
controller_alias(const DomainController *controller, gboolean pcie)
{
    const char *type = domain_controller_type_name(controller->type);
    if (controller->type == DOMAIN_CONTROLLER_PCI)
        return g_strdup_printf(pcie && controller->index == 0 ? "pcie.%d" : "pci.%d", controller->index);
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
        return g_strdup_printf("virtio-disk%u", domain_disk_index(disk->target));
    return g_strdup_printf("%s%u-%u-%u", domain_disk_bus_name(disk->bus), address->controller, address->bus,
                           address->unit);
}

static void
assign_aliases(DomainDef *def, DomainBoard board)
{
    gboolean pcie = board == DOMAIN_BOARD_Q35;
    for (guint i = 0; i < def->disks->len; i++)
        set_alias(&((DomainDisk *) def->disks->pdata[i])->info, disk_alias(def->disks->pdata[i]));
    for (guint i = 0; i < def->controllers->len; i++)
        set_alias(&((DomainController *) def->controllers->pdata[i])->info,
                  controller_alias(def->controllers->pdata[i], pcie));
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

static gboolean
find_board(const DomainDef *def, DomainBoard *board, GError **error)
{
    if (!domain_board_find(def->machine, board))
        return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                "machine '%s' of <os><type> is not supported yet", def->machine);
    return domain_board_check(def, *board, error);
}

// A definition is written to files and to other hosts, and read back with what a run adds to it: images of
// chains, names of terminals.
static gboolean
check_size(const DomainDef *def, GError **error)
{
    g_autofree char *xml = domain_def_format(def, 0, -1);
    gsize size = strlen(xml);
    return size <= NODE_DOCUMENT_LIMIT / 4 ||
           quasar_set_error(
               error, VIR_ERR_XML_ERROR,
               "the whole definition has %zu bytes, the limit is %d: shorten <metadata> and <description>",
               size, NODE_DOCUMENT_LIMIT / 4);
}

gboolean
domain_def_assign(DomainDef *def, const DomainDefaults *defaults, GError **error)
{
    DomainBoard board = DOMAIN_BOARD_Q35;
    assign_uuid(def, defaults);
    if (!assign_machine(def, defaults, error) || !find_board(def, &board, error) || !assign_cpu(def, error) ||
        !assign_rest(def, board, error) || !assign_interfaces(def, defaults, error))
        return FALSE;
    assign_chardevs(def, board);
    if (def->memballoon.model == NULL)
        def->memballoon.model = g_strdup("virtio");
    if (!domain_assign_addresses(def, board, error))
        return FALSE;
    assign_aliases(def, board);
    return check_size(def, error);
}
