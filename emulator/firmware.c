// SPDX-License-Identifier: LGPL-2.1-or-later
// The firmware that an emulator gives a guest, by content: it is part of what the guest is.
#include "emulator/firmware.h"

#include <string.h>

#include "base/error.h"

// Source: the file names are QEMU's, of the PC machines and of the NICs' boot code.
#define BIOS       "bios-256k.bin"
#define VAPIC      "kvmvapic.bin"
#define LINUX_BOOT "linuxboot_dma.bin"

static const struct {
    const char *model, *file;
} nic_roms[] = {
    {"virtio", "efi-virtio.rom"},
    {"e1000", "efi-e1000.rom"},
    {"e1000e", "efi-e1000e.rom"},
    {"rtl8139", "efi-rtl8139.rom"},
};

static void
describe_file(json_t *files, const char *const *directories, const char *name)
{
    for (; directories && *directories; directories++) {
        g_autofree char *path = g_build_filename(*directories, name, NULL);
        g_autofree char *bytes = NULL;
        gsize size;
        if (!g_file_get_contents(path, &bytes, &size, NULL))
            continue;
        g_autofree char *sha256 =
            g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *) bytes, size);
        json_object_set_new(files, name,
                            json_pack("{s:I, s:s}", "size", (json_int_t) size, "sha256", sha256));
        return;
    }
}

json_t *
emulator_firmware_describe(const char *const *directories, const DomainDef *def)
{
    json_t *files = json_object();
    describe_file(files, directories, BIOS);
    describe_file(files, directories, VAPIC);
    if (def->kernel)
        describe_file(files, directories, LINUX_BOOT);
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        for (gsize j = 0; j < G_N_ELEMENTS(nic_roms); j++)
            if (g_strcmp0(interface->model, nic_roms[j].model) == 0)
                describe_file(files, directories, nic_roms[j].file);
    }
    return files;
}

static json_int_t
size_of(const json_t *file)
{
    return json_integer_value(json_object_get(file, "size"));
}

static gboolean
file_agrees(const char *name, const json_t *source, const json_t *destination, gboolean unsafe,
            GError **error)
{
    if (!destination)
        quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                         "the guest's firmware file '%s' is not there at the destination", name);
    else if (size_of(source) != size_of(destination))
        quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                         "firmware file '%s' has %" JSON_INTEGER_FORMAT
                         " bytes in the guest and %" JSON_INTEGER_FORMAT
                         " at the destination; install the same version on both hosts",
                         name, size_of(source), size_of(destination));
    else if (!unsafe && g_strcmp0(json_string_value(json_object_get(source, "sha256")),
                                  json_string_value(json_object_get(destination, "sha256"))) != 0)
        quasar_set_error(
            error, VIR_ERR_OPERATION_UNSUPPORTED,
            "firmware file '%s' has another content at the destination, which the guest would get at its "
            "next reset; install the same version on both hosts, or accept it with --unsafe",
            name);
    else
        return TRUE;
    return FALSE;
}

gboolean
emulator_firmware_agrees(const json_t *source, const json_t *destination, gboolean unsafe, GError **error)
{
    const char *name;
    json_t *file;
    if (!json_is_object(source) || !json_is_object(destination))
        return TRUE;
    json_object_foreach((json_t *) source, name, file)
    {
        if (!file_agrees(name, file, json_object_get(destination, name), unsafe, error))
            return FALSE;
    }
    return TRUE;
}
