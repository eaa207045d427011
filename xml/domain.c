// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain definition as memory: freeing, copying, names, look-ups.
#include "xml/domain.h"

#include <string.h>

#include "base/error.h"
#include "xml/node.h"

#define NAME_LENGTH_MAX 200

void
domain_image_free(DomainImage *image)
{
    while (image) {
        DomainImage *below = image->backing;
        g_free(image->path);
        g_free(image->format);
        g_free(image);
        image = below;
    }
}

DomainImage *
domain_image_new(DomainStorageType type, const char *path, const char *format)
{
    DomainImage *image = g_new0(DomainImage, 1);
    image->type = type;
    image->path = g_strdup(path);
    image->format = g_strdup(format);
    return image;
}

void
domain_disk_free(DomainDisk *disk)
{
    g_free(disk->image.path);
    g_free(disk->image.format);
    domain_image_free(disk->image.backing);
    g_free(disk->cache);
    g_free(disk->discard);
    g_free(disk->io);
    g_free(disk->detect_zeroes);
    g_free(disk->error_policy);
    g_free(disk->target);
    g_free(disk->serial);
    g_free(disk->info.alias);
    g_free(disk);
}

void
domain_controller_free(DomainController *controller)
{
    g_free(controller->model);
    g_free(controller->model_name);
    g_free(controller->info.alias);
    g_free(controller);
}

void
domain_interface_free(DomainInterface *interface)
{
    g_free(interface->network);
    g_free(interface->source_dev);
    g_free(interface->source_mode);
    g_free(interface->model);
    g_free(interface->target_dev);
    g_free(interface->driver_name);
    g_free(interface->info.alias);
    g_free(interface);
}

void
domain_chardev_free(DomainChardev *chardev)
{
    g_free(chardev->source_path);
    g_free(chardev->target_type);
    g_free(chardev->target_model);
    g_free(chardev->info.alias);
    g_free(chardev);
}

void
domain_rng_free(DomainRng *rng)
{
    g_free(rng->model);
    g_free(rng->backend_path);
    g_free(rng->info.alias);
    g_free(rng);
}

static void
cpu_feature_free(gpointer data)
{
    DomainCpuFeature *feature = data;
    g_free(feature->name);
    g_free(feature->policy);
    g_free(feature);
}

static void
timer_free(gpointer data)
{
    DomainTimer *timer = data;
    g_free(timer->name);
    g_free(timer->tickpolicy);
    g_free(timer->track);
    g_free(timer);
}

DomainDef *
domain_def_new(void)
{
    DomainDef *def = g_new0(DomainDef, 1);
    def->boot_devices = g_ptr_array_new_with_free_func(g_free);
    def->cpu.features = g_ptr_array_new_with_free_func(cpu_feature_free);
    def->timers = g_ptr_array_new_with_free_func(timer_free);
    def->disks = g_ptr_array_new_with_free_func((GDestroyNotify) domain_disk_free);
    def->controllers = g_ptr_array_new_with_free_func((GDestroyNotify) domain_controller_free);
    def->interfaces = g_ptr_array_new_with_free_func((GDestroyNotify) domain_interface_free);
    def->serials = g_ptr_array_new_with_free_func((GDestroyNotify) domain_chardev_free);
    def->consoles = g_ptr_array_new_with_free_func((GDestroyNotify) domain_chardev_free);
    def->rngs = g_ptr_array_new_with_free_func((GDestroyNotify) domain_rng_free);
    return def;
}

static void
free_strings(DomainDef *def)
{
    char *strings[] = {def->name,
                       def->uuid,
                       def->title,
                       def->description,
                       def->metadata,
                       def->arch,
                       def->machine,
                       def->kernel,
                       def->initrd,
                       def->cmdline,
                       def->emulator,
                       def->cpu.match,
                       def->cpu.check,
                       def->cpu.model,
                       def->cpu.fallback,
                       def->memballoon.model,
                       def->memballoon.info.alias};
    for (gsize i = 0; i < G_N_ELEMENTS(strings); i++)
        g_free(strings[i]);
}

void
domain_def_free(DomainDef *def)
{
    if (def == NULL)
        return;
    free_strings(def);
    GPtrArray *arrays[] = {def->boot_devices, def->cpu.features, def->timers,   def->disks, def->controllers,
                           def->interfaces,   def->serials,      def->consoles, def->rngs};
    for (gsize i = 0; i < G_N_ELEMENTS(arrays); i++)
        g_ptr_array_unref(arrays[i]);
    g_free(def);
}

gboolean
domain_interface_is_vhost(const DomainInterface *interface)
{
    return g_strcmp0(interface->driver_name, "vhost") == 0;
}

const char *
domain_interface_offload(const DomainInterface *interface)
{
    const DomainNicFeatures *features = &interface->features;
    const struct {
        Tristate value;
        const char *name;
    } all[] = {
        {features->host_csum, "host csum"},   {features->host_gso, "host gso"},
        {features->host_tso4, "host tso4"},   {features->host_tso6, "host tso6"},
        {features->host_ecn, "host ecn"},     {features->host_ufo, "host ufo"},
        {features->guest_csum, "guest csum"}, {features->guest_tso4, "guest tso4"},
        {features->guest_tso6, "guest tso6"}, {features->guest_ecn, "guest ecn"},
        {features->guest_ufo, "guest ufo"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (all[i].value == TRISTATE_ON)
            return all[i].name;
    return NULL;
}

// The document carries everything that a definition holds, run-time parts included, so a copy is a round
// trip: an element that is forgotten in one of both ways fails the fixed-point test, not a guest.
DomainDef *
domain_def_copy(const DomainDef *def)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = domain_def_format(def, 0, -1);
    DomainDef *copy = domain_def_parse(xml, &error);
    if (copy == NULL)
        g_error("a definition of ours cannot be parsed: %s", error->message);
    return copy;
}

const char *
domain_virt_type_name(DomainVirtType type)
{
    return type == DOMAIN_VIRT_KVM ? "kvm" : "qemu";
}

const char *
domain_disk_bus_name(DomainDiskBus bus)
{
    static const char *const names[] = {"virtio", "sata", "ide", "scsi", "usb"};
    return names[bus];
}

const char *
domain_lifecycle_name(DomainLifecycle action)
{
    static const char *const names[] = {NULL, "destroy", "restart", "preserve", "rename-restart"};
    return names[action];
}

const char *
domain_controller_type_name(DomainControllerType type)
{
    static const char *const names[] = {"pci", "virtio-serial", "usb", "sata", "ide"};
    return names[type];
}

char *
domain_mac_format(const guint8 mac[6])
{
    return g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

const char *
domain_name_problem(const char *name)
{
    if (name == NULL || strspn(name, " ") == strlen(name))
        return "is empty";
    if (*name == '.')
        return "begins with '.'";
    if (strlen(name) > NAME_LENGTH_MAX)
        return "is longer than 200 bytes";
    for (const char *at = name; *at; at++)
        if (*at == '/' || g_ascii_iscntrl(*at))
            return *at == '/' ? "contains '/'" : "contains a control character";
    return NULL;
}

gboolean
domain_uuid_parse(const char *text, guint8 bytes[16])
{
    guint8 parsed[16] = {0};
    guint digits = 0;
    for (; *text; text++) {
        if (*text == '-')
            continue;
        if (!g_ascii_isxdigit(*text) || digits == 32)
            return FALSE;
        parsed[digits / 2] = (guint8) (parsed[digits / 2] << 4 | g_ascii_xdigit_value(*text));
        digits++;
    }
    if (digits != 32)
        return FALSE;
    memcpy(bytes, parsed, sizeof parsed);
    return TRUE;
}

char *
domain_uuid_format(const guint8 bytes[16])
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < 16; i++)
        g_string_append_printf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
    return g_string_free(text, FALSE);
}

DomainDisk *
domain_find_disk(const DomainDef *def, const char *target)
{
    for (guint i = 0; i < def->disks->len; i++) {
        DomainDisk *disk = def->disks->pdata[i];
        if (g_strcmp0(disk->target, target) == 0)
            return disk;
    }
    return NULL;
}

DomainChardev *
domain_find_console(const DomainDef *def, const char *alias)
{
    GPtrArray *arrays[] = {def->consoles, def->serials};
    for (gsize n = 0; n < G_N_ELEMENTS(arrays); n++) {
        for (guint i = 0; i < arrays[n]->len; i++) {
            DomainChardev *chardev = arrays[n]->pdata[i];
            if (alias == NULL || g_strcmp0(chardev->info.alias, alias) == 0)
                return chardev;
        }
    }
    return NULL;
}
