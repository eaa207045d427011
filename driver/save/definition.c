// SPDX-License-Identifier: LGPL-2.1-or-later
// What of a saved guest's XML may be another's.
#include "driver/save/definition.h"

#include "base/error.h"
#include "driver/process.h"

static void
take_text(char **to, const char *from)
{
    g_free(*to);
    *to = g_strdup(from);
}

// By swapping with a copy of `own`, which is freed.
static void
take_disks(DomainDef *def, DomainDef *own)
{
    for (guint i = 0; i < def->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(def->disks, i);
        DomainDisk *other = domain_find_disk(own, disk->target);
        if (!other || !disk->image.path != !other->image.path)
            continue;
        const DomainImage image = disk->image;
        disk->image = other->image;
        other->image = image;
        take_text(&disk->cache, other->cache);
        take_text(&disk->io, other->io);
        take_text(&disk->error_policy, other->error_policy);
    }
}

static void
take_interfaces(DomainDef *def, const DomainDef *own)
{
    for (guint i = 0; i < MIN(def->interfaces->len, own->interfaces->len); i++) {
        DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        const DomainInterface *other = g_ptr_array_index(own->interfaces, i);
        interface->type = other->type;
        take_text(&interface->network, other->network);
        take_text(&interface->source_dev, other->source_dev);
        take_text(&interface->source_mode, other->source_mode);
        take_text(&interface->target_dev, other->target_dev);
    }
}

// What the guest sees of `def`, in the surroundings of `own`; caller frees.
static char *
seen_by_guest(const DomainDef *def, const DomainDef *own)
{
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    g_autoptr(DomainDef) donor = domain_def_copy(own);
    take_disks(copy, donor);
    take_interfaces(copy, own);
    take_text(&copy->title, own->title);
    take_text(&copy->description, own->description);
    take_text(&copy->metadata, own->metadata);
    take_text(&copy->emulator, own->emulator);
    copy->current_memory_kib = own->current_memory_kib;
    copy->on_poweroff = own->on_poweroff;
    copy->on_reboot = own->on_reboot;
    copy->on_crash = own->on_crash;
    return domain_def_format(copy, DOMAIN_FORMAT_INACTIVE | DOMAIN_FORMAT_SECURE, -1);
}

static gboolean
check_same_guest(const DomainDef *def, const DomainDef *own, GError **error)
{
    if (g_strcmp0(def->uuid, own->uuid) != 0 || g_strcmp0(def->name, own->name) != 0)
        return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                "the XML is of guest '%s' (%s), the saved state is of guest '%s' (%s)",
                                def->name, def->uuid, own->name, own->uuid);
    g_autofree char *theirs = seen_by_guest(def, own), *ours = seen_by_guest(own, own);
    return g_str_equal(theirs, ours) ||
           quasar_set_error(
               error, VIR_ERR_CONFIG_UNSUPPORTED,
               "the XML would give guest '%s' other hardware than it was saved with; only paths of images, "
               "networks, the emulator, texts and on_poweroff, on_reboot and on_crash may differ",
               own->name);
}

static DomainDef *
parse(Driver *driver, const char *xml, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    if (!def)
        return NULL;
    // Hosts may have theirs at different places; whether it is fit is seen later.
    if (def->emulator && !g_file_test(def->emulator, G_FILE_TEST_IS_EXECUTABLE))
        g_clear_pointer(&def->emulator, g_free);
    return process_assign(driver, def, error) ? g_steal_pointer(&def) : NULL;
}

DomainDef *
save_definition(Driver *driver, const char *own, const char *xml, GError **error)
{
    g_autoptr(DomainDef) def = parse(driver, own, error);
    if (!def || !xml)
        return g_steal_pointer(&def);
    g_autoptr(DomainDef) given = parse(driver, xml, error);
    if (!given || !check_same_guest(given, def, error))
        return NULL;
    return g_steal_pointer(&given);
}

char *
save_definition_format(const DomainDef *def)
{
    return domain_def_format(def, DOMAIN_FORMAT_MIGRATABLE | DOMAIN_FORMAT_SECURE, -1);
}
