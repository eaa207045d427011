// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulator a domain gets whose definition names none.
#include <config.h>

#include "emulator/bundled.h"

#include "base/error.h"
#include "emulator/arch.h"

// Caller frees.
static char *
named_in_environment(const char *target)
{
    g_autofree char *upper = g_ascii_strup(target, -1);
    g_autofree char *variable = g_strconcat("QUASAR_EMULATOR_", upper, NULL);
    const char *named = g_getenv(variable);
    return named && *named ? g_strdup(named) : NULL;
}

static gboolean
is_program(const char *path)
{
    return g_file_test(path, G_FILE_TEST_IS_EXECUTABLE);
}

static const char *
default_of_this_host(void)
{
    static const char bundled[] = LIBEXECDIR "/emulator/bin/qemu-system-x86_64";
    const char *named = g_getenv("QUASAR_EMULATOR");
    if (named && *named)
        return named;
    return is_program(bundled) ? bundled : QUASAR_EMULATOR;
}

static const char *
default_of_target(const char *target)
{
    g_autofree char *named = named_in_environment(target);
    g_autofree char *bundled = g_strdup_printf(LIBEXECDIR "/emulator-%s/bin/qemu-system-%s", target, target);
    g_autofree char *directory = g_path_get_dirname(QUASAR_EMULATOR);
    g_autofree char *beside = g_strdup_printf("%s/qemu-system-%s", directory, target);
    const char *found = named ? named : is_program(bundled) ? bundled : is_program(beside) ? beside : NULL;
    return found ? g_intern_string(found) : NULL;
}

const char *
emulator_default(const char *arch, GError **error)
{
    const EmulatorArch *known = arch ? emulator_arch_find(arch) : emulator_archs;
    if (known == emulator_archs)
        return default_of_this_host();
    const char *path = known ? default_of_target(known->target) : NULL;
    if (!known)
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "guests of arch '%s' are not supported: x86_64, i686, ppc64 and ppc64le are", arch);
    else if (!path)
        quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "there is no emulator for guests of arch '%s' here: build Quasar's (make emulator-%s) "
            "or install the distribution's qemu-system-%s",
            arch, known->build, known->target);
    return path;
}
