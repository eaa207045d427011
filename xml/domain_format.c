// SPDX-License-Identifier: LGPL-2.1-or-later
// A definition to the domain document, elements in the order in which libvirt writes them.
#include "xml/domain.h"

#include <string.h>

#include "xml/writer.h"

static const char *
tristate_name(Tristate value)
{
    static const char *const names[] = {NULL, "on", "off"};
    return names[value];
}

static void
format_kib(Writer *writer, const char *name, guint64 kib)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, kib);
    writer_begin(writer, name);
    writer_attribute(writer, "unit", "KiB");
    writer_content(writer, text);
}

static void
format_identity(Writer *writer, const DomainDef *def)
{
    writer_text(writer, "name", def->name);
    writer_text(writer, "uuid", def->uuid);
    writer_text(writer, "title", def->title);
    writer_text(writer, "description", def->description);
    if (def->metadata)
        writer_verbatim(writer, def->metadata);
}

static void
format_resources(Writer *writer, const DomainDef *def)
{
    format_kib(writer, "memory", def->memory_kib);
    if (def->current_memory_kib > 0)
        format_kib(writer, "currentMemory", def->current_memory_kib);
    writer_begin(writer, "vcpu");
    writer_attribute(writer, "placement", "static");
    if (def->vcpus != def->max_vcpus)
        writer_attributef(writer, "current", "%u", def->vcpus);
    g_autofree char *count = g_strdup_printf("%u", def->max_vcpus);
    writer_content(writer, count);
}

static void
format_os(Writer *writer, const DomainDef *def)
{
    writer_begin(writer, "os");
    writer_begin(writer, "type");
    writer_attribute(writer, "arch", def->arch);
    writer_attribute(writer, "machine", def->machine);
    writer_content(writer, "hvm");
    writer_text(writer, "kernel", def->kernel);
    writer_text(writer, "initrd", def->initrd);
    writer_text(writer, "cmdline", def->cmdline);
    for (guint i = 0; i < def->boot_devices->len; i++) {
        writer_begin(writer, "boot");
        writer_attribute(writer, "dev", def->boot_devices->pdata[i]);
        writer_end(writer);
    }
    writer_end(writer);
}

static void
format_features(Writer *writer, const DomainDef *def)
{
    if (!def->acpi && !def->apic && !def->pae)
        return;
    writer_begin(writer, "features");
    if (def->acpi)
        writer_empty(writer, "acpi");
    if (def->apic)
        writer_empty(writer, "apic");
    if (def->pae)
        writer_empty(writer, "pae");
    writer_end(writer);
}

static void
format_cpu_parts(Writer *writer, const DomainCpu *cpu)
{
    if (cpu->model) {
        writer_begin(writer, "model");
        writer_attribute(writer, "fallback", cpu->fallback);
        writer_content(writer, cpu->model);
    }
    if (cpu->sockets || cpu->dies || cpu->cores || cpu->threads) {
        writer_begin(writer, "topology");
        writer_attributef(writer, "sockets", "%u", MAX(cpu->sockets, 1));
        writer_attributef(writer, "dies", "%u", MAX(cpu->dies, 1));
        writer_attributef(writer, "cores", "%u", MAX(cpu->cores, 1));
        writer_attributef(writer, "threads", "%u", MAX(cpu->threads, 1));
        writer_end(writer);
    }
    for (guint i = 0; i < cpu->features->len; i++) {
        const DomainCpuFeature *feature = cpu->features->pdata[i];
        writer_begin(writer, "feature");
        writer_attribute(writer, "policy", feature->policy);
        writer_attribute(writer, "name", feature->name);
        writer_end(writer);
    }
}

static void
format_cpu(Writer *writer, const DomainCpu *cpu)
{
    static const char *const modes[] = {NULL, "custom", "host-model", "host-passthrough", "maximum"};
    if (cpu->mode == DOMAIN_CPU_ABSENT && !cpu->sockets && !cpu->dies && !cpu->cores && !cpu->threads &&
        cpu->features->len == 0)
        return;
    writer_begin(writer, "cpu");
    writer_attribute(writer, "mode", modes[cpu->mode]);
    writer_attribute(writer, "match", cpu->match);
    writer_attribute(writer, "check", cpu->check);
    format_cpu_parts(writer, cpu);
    writer_end(writer);
}

static void
format_clock(Writer *writer, const DomainDef *def)
{
    static const char *const offsets[] = {"utc", "localtime", "variable"};
    writer_begin(writer, "clock");
    writer_attribute(writer, "offset", offsets[def->clock]);
    if (def->clock == DOMAIN_CLOCK_VARIABLE)
        writer_attributef(writer, "adjustment", "%" G_GINT64_FORMAT, def->clock_adjustment);
    for (guint i = 0; i < def->timers->len; i++) {
        const DomainTimer *timer = def->timers->pdata[i];
        writer_begin(writer, "timer");
        writer_attribute(writer, "name", timer->name);
        writer_attribute(writer, "tickpolicy", timer->tickpolicy);
        writer_attribute(writer, "track", timer->track);
        if (timer->present != TRISTATE_ABSENT)
            writer_attribute(writer, "present", timer->present == TRISTATE_ON ? "yes" : "no");
        writer_end(writer);
    }
    writer_end(writer);
    writer_text(writer, "on_poweroff", domain_lifecycle_name(def->on_poweroff));
    writer_text(writer, "on_reboot", domain_lifecycle_name(def->on_reboot));
    writer_text(writer, "on_crash", domain_lifecycle_name(def->on_crash));
}

static void
format_suspend(Writer *writer, const char *name, Tristate value)
{
    if (value == TRISTATE_ABSENT)
        return;
    writer_begin(writer, name);
    writer_attribute(writer, "enabled", value == TRISTATE_ON ? "yes" : "no");
    writer_end(writer);
}

static void
format_pm(Writer *writer, const DomainDef *def)
{
    if (def->suspend_to_mem == TRISTATE_ABSENT && def->suspend_to_disk == TRISTATE_ABSENT)
        return;
    writer_begin(writer, "pm");
    format_suspend(writer, "suspend-to-mem", def->suspend_to_mem);
    format_suspend(writer, "suspend-to-disk", def->suspend_to_disk);
    writer_end(writer);
}

static void
format_address(Writer *writer, const DomainAddress *address)
{
    static const char *const types[] = {NULL, "pci", "drive", "virtio-serial", "usb", "spapr-vio"};
    if (address->type == DOMAIN_ADDRESS_NONE)
        return;
    writer_begin(writer, "address");
    writer_attribute(writer, "type", types[address->type]);
    if (address->type == DOMAIN_ADDRESS_PCI) {
        writer_attributef(writer, "domain", "0x%04x", address->domain);
        writer_attributef(writer, "bus", "0x%02x", address->bus);
        writer_attributef(writer, "slot", "0x%02x", address->slot);
        writer_attributef(writer, "function", "0x%x", address->function);
        writer_attribute(writer, "multifunction", tristate_name(address->multifunction));
        writer_end(writer);
        return;
    }
    if (address->type == DOMAIN_ADDRESS_SPAPR_VIO) {
        writer_attributef(writer, "reg", "0x%08x", address->reg);
        writer_end(writer);
        return;
    }
    if (address->type != DOMAIN_ADDRESS_USB)
        writer_attributef(writer, "controller", "%u", address->controller);
    writer_attributef(writer, "bus", "%u", address->bus);
    if (address->type == DOMAIN_ADDRESS_DRIVE) {
        writer_attributef(writer, "target", "%u", address->target);
        writer_attributef(writer, "unit", "%u", address->unit);
    } else {
        writer_attributef(writer, "port", "%u", address->port);
    }
    writer_end(writer);
}

// Aliases that are generated belong to a run; those that a user gave ("ua-") to the definition.
static void
format_info(Writer *writer, const DomainDeviceInfo *info, guint flags)
{
    if (info->boot_order > 0) {
        writer_begin(writer, "boot");
        writer_attributef(writer, "order", "%u", info->boot_order);
        writer_end(writer);
    }
    if (info->alias && (!(flags & DOMAIN_FORMAT_INACTIVE) || g_str_has_prefix(info->alias, "ua-"))) {
        writer_begin(writer, "alias");
        writer_attribute(writer, "name", info->alias);
        writer_end(writer);
    }
    format_address(writer, &info->address);
}

static void
format_source(Writer *writer, const DomainImage *image)
{
    if (image->path == NULL)
        return;
    writer_begin(writer, "source");
    writer_attribute(writer, image->type == DOMAIN_STORAGE_BLOCK ? "dev" : "file", image->path);
    writer_end(writer);
}

static const char *
storage_type_name(DomainStorageType type)
{
    return type == DOMAIN_STORAGE_BLOCK ? "block" : "file";
}

static void
format_backing(Writer *writer, const DomainImage *image)
{
    if (image->backing == NULL) {
        if (image->backing_terminated)
            writer_empty(writer, "backingStore");
        return;
    }
    writer_begin(writer, "backingStore");
    writer_attribute(writer, "type", storage_type_name(image->backing->type));
    if (image->backing->format) {
        writer_begin(writer, "format");
        writer_attribute(writer, "type", image->backing->format);
        writer_end(writer);
    }
    format_source(writer, image->backing);
    format_backing(writer, image->backing);
    writer_end(writer);
}

static void
format_disk(Writer *writer, const DomainDisk *disk, guint flags)
{
    writer_begin(writer, "disk");
    writer_attribute(writer, "type", storage_type_name(disk->image.type));
    writer_attribute(writer, "device", disk->device == DOMAIN_DISK_CDROM ? "cdrom" : "disk");
    writer_begin(writer, "driver");
    writer_attribute(writer, "name", "qemu");
    writer_attribute(writer, "type", disk->image.format);
    writer_attribute(writer, "cache", disk->cache);
    writer_attribute(writer, "error_policy", disk->error_policy);
    writer_attribute(writer, "io", disk->io);
    writer_attribute(writer, "discard", disk->discard);
    writer_attribute(writer, "detect_zeroes", disk->detect_zeroes);
    writer_end(writer);
    format_source(writer, &disk->image);
    format_backing(writer, &disk->image);
    writer_begin(writer, "target");
    writer_attribute(writer, "dev", disk->target);
    writer_attribute(writer, "bus", domain_disk_bus_name(disk->bus));
    writer_end(writer);
    if (disk->readonly)
        writer_empty(writer, "readonly");
    if (disk->shareable)
        writer_empty(writer, "shareable");
    writer_text(writer, "serial", disk->serial);
    format_info(writer, &disk->info, flags);
    writer_end(writer);
}

static void
format_controller(Writer *writer, const DomainController *controller, guint flags)
{
    writer_begin(writer, "controller");
    writer_attribute(writer, "type", domain_controller_type_name(controller->type));
    if (controller->index >= 0)
        writer_attributef(writer, "index", "%d", controller->index);
    writer_attribute(writer, "model", controller->model);
    if (controller->model_name) {
        writer_begin(writer, "model");
        writer_attribute(writer, "name", controller->model_name);
        writer_end(writer);
    }
    if (controller->chassis >= 0 || controller->port >= 0 || controller->target_index >= 0) {
        writer_begin(writer, "target");
        if (controller->chassis >= 0)
            writer_attributef(writer, "chassis", "%d", controller->chassis);
        if (controller->port >= 0)
            writer_attributef(writer, "port", "0x%x", controller->port);
        if (controller->target_index >= 0)
            writer_attributef(writer, "index", "%d", controller->target_index);
        writer_end(writer);
    }
    format_info(writer, &controller->info, flags);
    writer_end(writer);
}

static void
format_nic_features(Writer *writer, const DomainInterface *interface)
{
    static const DomainNicFeatures none;
    const DomainNicFeatures *f = &interface->features;
    gboolean any = memcmp(f, &none, sizeof none) != 0;
    if (!any && interface->driver_name == NULL)
        return;
    writer_begin(writer, "driver");
    writer_attribute(writer, "name", interface->driver_name);
    if (any) {
        writer_begin(writer, "host");
        writer_attribute(writer, "csum", tristate_name(f->host_csum));
        writer_attribute(writer, "gso", tristate_name(f->host_gso));
        writer_attribute(writer, "tso4", tristate_name(f->host_tso4));
        writer_attribute(writer, "tso6", tristate_name(f->host_tso6));
        writer_attribute(writer, "ecn", tristate_name(f->host_ecn));
        writer_attribute(writer, "ufo", tristate_name(f->host_ufo));
        writer_attribute(writer, "mrg_rxbuf", tristate_name(f->mrg_rxbuf));
        writer_end(writer);
        writer_begin(writer, "guest");
        writer_attribute(writer, "csum", tristate_name(f->guest_csum));
        writer_attribute(writer, "tso4", tristate_name(f->guest_tso4));
        writer_attribute(writer, "tso6", tristate_name(f->guest_tso6));
        writer_attribute(writer, "ecn", tristate_name(f->guest_ecn));
        writer_attribute(writer, "ufo", tristate_name(f->guest_ufo));
        writer_end(writer);
    }
    writer_end(writer);
}

static void
format_nic_source(Writer *writer, const DomainInterface *interface)
{
    if (interface->network == NULL && interface->source_dev == NULL)
        return;
    writer_begin(writer, "source");
    writer_attribute(writer, "network", interface->network);
    writer_attribute(writer, "dev", interface->source_dev);
    writer_attribute(writer, "mode", interface->source_mode);
    writer_end(writer);
}

static void
format_attribute_element(Writer *writer, const char *name, const char *attribute, const char *value)
{
    if (value == NULL)
        return;
    writer_begin(writer, name);
    writer_attribute(writer, attribute, value);
    writer_end(writer);
}

static void
format_interface(Writer *writer, const DomainInterface *interface, guint flags)
{
    static const char *const types[] = {"network", "direct", "user"};
    static const char *const links[] = {NULL, "up", "down"};
    guint away = DOMAIN_FORMAT_INACTIVE | DOMAIN_FORMAT_MIGRATABLE;
    gboolean generated = interface->target_dev && g_str_has_prefix(interface->target_dev, "vnet");
    writer_begin(writer, "interface");
    writer_attribute(writer, "type", types[interface->type]);
    g_autofree char *mac = interface->has_mac ? domain_mac_format(interface->mac) : NULL;
    format_attribute_element(writer, "mac", "address", mac);
    format_nic_source(writer, interface);
    if (!generated || !(flags & away))
        format_attribute_element(writer, "target", "dev", interface->target_dev);
    format_attribute_element(writer, "model", "type", interface->model);
    format_nic_features(writer, interface);
    format_attribute_element(writer, "link", "state", links[interface->link]);
    if (interface->mtu > 0) {
        writer_begin(writer, "mtu");
        writer_attributef(writer, "size", "%u", interface->mtu);
        writer_end(writer);
    }
    format_info(writer, &interface->info, flags);
    writer_end(writer);
}

static void
format_chardev_target(Writer *writer, const DomainChardev *chardev)
{
    if (chardev->target_type == NULL && chardev->target_port < 0)
        return;
    writer_begin(writer, "target");
    writer_attribute(writer, "type", chardev->target_type);
    if (chardev->target_port >= 0)
        writer_attributef(writer, "port", "%d", chardev->target_port);
    format_attribute_element(writer, "model", "name", chardev->target_model);
    writer_end(writer);
}

static void
format_chardev(Writer *writer, const DomainChardev *chardev, guint flags)
{
    gboolean running = !(flags & (DOMAIN_FORMAT_INACTIVE | DOMAIN_FORMAT_MIGRATABLE));
    const char *path = running ? chardev->source_path : NULL;
    writer_begin(writer, chardev->console ? "console" : "serial");
    writer_attribute(writer, "type", "pty");
    if (chardev->console)
        writer_attribute(writer, "tty", path);
    format_attribute_element(writer, "source", "path", path);
    format_chardev_target(writer, chardev);
    format_info(writer, &chardev->info, flags);
    writer_end(writer);
}

static void
format_memballoon(Writer *writer, const DomainMemballoon *memballoon, guint flags)
{
    if (memballoon->model == NULL)
        return;
    writer_begin(writer, "memballoon");
    writer_attribute(writer, "model", memballoon->model);
    format_info(writer, &memballoon->info, flags);
    writer_end(writer);
}

static void
format_rng(Writer *writer, const DomainRng *rng, guint flags)
{
    writer_begin(writer, "rng");
    writer_attribute(writer, "model", rng->model);
    writer_begin(writer, "backend");
    writer_attribute(writer, "model", "random");
    writer_content(writer, rng->backend_path);
    format_info(writer, &rng->info, flags);
    writer_end(writer);
}

static void
format_devices(Writer *writer, const DomainDef *def, guint flags)
{
    writer_begin(writer, "devices");
    writer_text(writer, "emulator", def->emulator);
    for (guint i = 0; i < def->disks->len; i++)
        format_disk(writer, def->disks->pdata[i], flags);
    for (guint i = 0; i < def->controllers->len; i++)
        format_controller(writer, def->controllers->pdata[i], flags);
    for (guint i = 0; i < def->interfaces->len; i++)
        format_interface(writer, def->interfaces->pdata[i], flags);
    for (guint i = 0; i < def->serials->len; i++)
        format_chardev(writer, def->serials->pdata[i], flags);
    for (guint i = 0; i < def->consoles->len; i++)
        format_chardev(writer, def->consoles->pdata[i], flags);
    format_memballoon(writer, &def->memballoon, flags);
    for (guint i = 0; i < def->rngs->len; i++)
        format_rng(writer, def->rngs->pdata[i], flags);
    writer_end(writer);
}

static void
format_domain(Writer *writer, const DomainDef *def, guint flags, int id)
{
    writer_begin(writer, "domain");
    writer_attribute(writer, "type", domain_virt_type_name(def->virt_type));
    if (id >= 0 && !(flags & DOMAIN_FORMAT_INACTIVE))
        writer_attributef(writer, "id", "%d", id);
    format_identity(writer, def);
    format_resources(writer, def);
    format_os(writer, def);
    format_features(writer, def);
    format_cpu(writer, &def->cpu);
    format_clock(writer, def);
    format_pm(writer, def);
    format_devices(writer, def, flags);
    writer_end(writer);
}

char *
domain_def_format(const DomainDef *def, guint flags, int id)
{
    Writer writer;
    writer_init(&writer);
    format_domain(&writer, def, flags, id);
    return writer_finish(&writer);
}

char *
domain_def_format_status(const DomainDef *def, int id, const char *const *pairs)
{
    Writer writer;
    writer_init(&writer);
    writer_begin(&writer, "domstatus");
    for (; pairs && pairs[0] && pairs[1]; pairs += 2)
        writer_attribute(&writer, pairs[0], pairs[1]);
    format_domain(&writer, def, 0, id);
    writer_end(&writer);
    return writer_finish(&writer);
}
