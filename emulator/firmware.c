// SPDX-License-Identifier: LGPL-2.1-or-later
// The firmware that an emulator gives a guest, by content: it is part of what the guest is.
#include "emulator/firmware.h"

#include <sys/stat.h>

#include "base/error.h"
#include "emulator/image.h"
#include "emulator/nic.h"
#include "xml/domain_board.h"

// Source: the file names are QEMU's. Of the PC machines:
#define BIOS       "bios-256k.bin"
#define VAPIC      "kvmvapic.bin"
#define LINUX_BOOT "linuxboot_dma.bin"
// Of pseries, which takes a kernel without a program of the firmware's.
#define SLOF "slof.bin"

static json_t *
describe_path(const char *path, const char *cache_directory)
{
    struct stat facts;
    g_autofree char *sha256 = stat(path, &facts) == 0 ? image_sha256(path, cache_directory, NULL) : NULL;
    return sha256 ? json_pack("{s:I, s:s}", "size", (json_int_t) facts.st_size, "sha256", sha256) : NULL;
}

static void
describe_file(json_t *files, const char *const *directories, const char *name, const char *cache_directory)
{
    json_t *file = NULL;
    for (; !file && directories && *directories; directories++) {
        g_autofree char *path = g_build_filename(*directories, name, NULL);
        file = describe_path(path, cache_directory);
    }
    if (file)
        json_object_set_new(files, name, file);
}

json_t *
emulator_firmware_describe(const char *const *directories, const DomainDef *def, const char *cache_directory)
{
    json_t *files = json_object();
    if (domain_def_board(def) == DOMAIN_BOARD_PSERIES) {
        describe_file(files, directories, SLOF, cache_directory);
        return files;
    }
    describe_file(files, directories, BIOS, cache_directory);
    describe_file(files, directories, VAPIC, cache_directory);
    if (def->kernel)
        describe_file(files, directories, LINUX_BOOT, cache_directory);
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        const EmulatorNic *nic = emulator_nic_find(interface->model);
        if (nic && emulator_nic_boot_index(def, i))
            describe_file(files, directories, nic->rom, cache_directory);
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
