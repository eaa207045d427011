// SPDX-License-Identifier: LGPL-2.1-or-later
// What a definition leaves open, filled in from what this host has: emulator, machine, CPU model, images.
#include <string.h>

#include "base/error.h"
#include "driver/process.h"
#include "driver/process_images.h"
#include "emulator/access.h"
#include "emulator/arch.h"
#include "emulator/bundled.h"
#include "emulator/image.h"

#define KVM_DEVICE "/dev/kvm"

typedef struct {
    const EmulatorProbe *probe;
    gboolean tcg;
} MachineChoice;

// An emulated guest whose owner leaves the version open gets a machine on which it can move to any host.
static char *
canonical_machine(const char *arch G_GNUC_UNUSED, const char *machine, gpointer opaque)
{
    const MachineChoice *choice = opaque;
    const char *name = emulator_probe_machine(choice->probe, machine);
    if (name && choice->tcg && !g_str_equal(name, machine))
        name = emulator_probe_steady_machine(choice->probe, name);
    return g_strdup(name);
}

// As the emulator's user, whom an image that only its owner may read is lent for the time.
static gboolean
probe_image(Driver *driver, const DomainImage *image, ImageInfo *info, GError **error)
{
    const EmulatorUser user = process_emulator_user(driver);
    g_autofree char *loan = NULL;
    g_autoptr(GError) problem = NULL;
    if (!images_lend_for_probe(driver, image->path, &loan, error))
        return FALSE;
    gboolean ok = image_probe(image->path, image->format, &user, info, &problem);
    images_end_probe(driver, loan);
    if (ok)
        return TRUE;
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "image '%s' cannot be read%s%s: %s", image->path,
                     image->format ? " as " : "", image->format ? image->format : "", problem->message);
    return FALSE;
}

static gboolean
probe_format(Driver *driver, DomainImage *image, GError **error)
{
    if (!image->path || image->format || !g_file_test(image->path, G_FILE_TEST_EXISTS))
        return TRUE;
    g_auto(ImageInfo) info = {0};
    if (!probe_image(driver, image, &info, error))
        return FALSE;
    if (info.backing_path) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "image '%s' names a backing file: give format= in the disk's <driver>", image->path);
        return FALSE;
    }
    image->format = g_strdup(info.format);
    return TRUE;
}

// Writes the chain below an image into the definition, each image with its format, so that nothing is left to
// what a header says later. The image's own format is known here.
static gboolean
fill_chain(Driver *driver, DomainImage *image, GError **error)
{
    for (; image->path && !image->backing_terminated; image = image->backing) {
        if (image->backing)
            continue;
        if (g_strcmp0(image->format, "qcow2") != 0 || !g_file_test(image->path, G_FILE_TEST_EXISTS))
            return TRUE;
        g_auto(ImageInfo) info = {0};
        if (!probe_image(driver, image, &info, error))
            return FALSE;
        if (!info.backing_path) {
            image->backing_terminated = TRUE;
            return TRUE;
        }
        if (!info.backing_format) {
            quasar_set_error(
                error, VIR_ERR_CONFIG_UNSUPPORTED,
                "image '%s' does not record the format of its backing file '%s': give it in <backingStore>",
                image->path, info.backing_path);
            return FALSE;
        }
        image->backing = domain_image_new(image->type, info.backing_path, info.backing_format);
    }
    return TRUE;
}

static gboolean
assign_images(Driver *driver, DomainDef *def, GError **error)
{
    for (guint i = 0; i < def->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(def->disks, i);
        if (probe_format(driver, &disk->image, error) && fill_chain(driver, &disk->image, error))
            continue;
        g_prefix_error(error, "disk '%s': ", disk->target);
        return FALSE;
    }
    return TRUE;
}

EmulatorProbe *
process_probe(Driver *driver, const DomainDef *def, GError **error)
{
    const EmulatorUser user = process_emulator_user(driver);
    g_autoptr(GError) problem = NULL;
    const char *path = def->emulator ? def->emulator : emulator_default(def->arch, error);
    EmulatorProbe *probe = path ? emulator_probe(path, &user, driver->cache_dir, &problem) : NULL;
    const char *other = probe || !def->emulator ? NULL : emulator_default(def->arch, NULL);
    if (!probe && def->emulator)
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "<emulator> %s of domain '%s' cannot be used: %s%s%s", def->emulator, def->name,
                         problem->message, other ? "; without <emulator> it is " : "", other ? other : "");
    else if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
    return probe;
}

static gboolean
check_cpu_model(const DomainDef *def, const EmulatorProbe *probe, GError **error)
{
    const DomainCpu *cpu = &def->cpu;
    if (cpu->mode != DOMAIN_CPU_CUSTOM || emulator_probe_has_cpu_model(probe, cpu->model))
        return TRUE;
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                     "CPU model '%s' of domain '%s' is not known to %s; 'virsh domcapabilities' lists those "
                     "that are",
                     cpu->model, def->name, probe->path);
    return FALSE;
}

gboolean
process_kvm_usable(const Driver *driver, GError **error)
{
    const EmulatorUser user = process_emulator_user(driver);
    return emulator_can_open(KVM_DEVICE, &user, error);
}

static gboolean
check_virt_type(const Driver *driver, const DomainDef *def, const EmulatorArch *arch, GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (def->virt_type == DOMAIN_VIRT_KVM && arch && !arch->pc)
        return quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "domain '%s' is of type 'kvm', which guests of arch '%s' cannot be here; <domain "
            "type='qemu'> is emulated on any host",
            def->name, arch->name);
    if (def->virt_type != DOMAIN_VIRT_KVM || process_kvm_usable(driver, &problem))
        return TRUE;
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                     "domain '%s' is of type 'kvm', which cannot be used on this host: %s; <domain "
                     "type='qemu'> is emulated on any host",
                     def->name, problem->message);
    return FALSE;
}

gboolean
process_assign(Driver *driver, DomainDef *def, GError **error)
{
    g_autoptr(EmulatorProbe) probe = process_probe(driver, def, error);
    if (!probe)
        return FALSE;
    const char *arch = def->arch && emulator_arch_serves(probe->arch, def->arch) ? def->arch : probe->arch;
    const EmulatorArch *known = emulator_arch_find(arch);
    if (!check_virt_type(driver, def, known, error) || !assign_images(driver, def, error))
        return FALSE;
    MachineChoice choice = {.probe = probe, .tcg = def->virt_type == DOMAIN_VIRT_QEMU};
    const DomainDefaults defaults = {.arch = arch,
                                     .emulator = probe->path,
                                     .default_machine = known ? known->machine : NULL,
                                     .canonical_machine = canonical_machine,
                                     .opaque = &choice,
                                     .vhost = emulator_traits_serves_vhost(probe->traits)};
    return domain_def_assign(def, &defaults, error) && check_cpu_model(def, probe, error);
}
