// SPDX-License-Identifier: LGPL-2.1-or-later
// The architectures that guests can have.
#include "emulator/arch.h"

const EmulatorArch emulator_archs[] = {
    {"x86_64", "x86_64", NULL, "q35", 64, TRUE},
    {"i686", "i386", "i386", "q35", 32, TRUE},
    // The byte order is the guest's own choice, at run time.
    {"ppc64", "ppc64", "ppc", "pseries", 64, FALSE},
    {"ppc64le", "ppc64", "ppc", "pseries", 64, FALSE},
};
const gsize emulator_n_archs = G_N_ELEMENTS(emulator_archs);

const EmulatorArch *
emulator_arch_find(const char *name)
{
    for (gsize i = 0; i < emulator_n_archs; i++)
        if (g_str_equal(emulator_archs[i].name, name))
            return &emulator_archs[i];
    return NULL;
}

const EmulatorArch *
emulator_arch_of_target(const char *target)
{
    for (gsize i = 0; i < emulator_n_archs; i++)
        if (g_str_equal(emulator_archs[i].target, target))
            return &emulator_archs[i];
    return NULL;
}

gboolean
emulator_arch_serves(const char *arch, const char *wanted)
{
    const EmulatorArch *here = emulator_arch_find(arch), *there = emulator_arch_find(wanted);
    return g_str_equal(arch, wanted) || (here && there && g_str_equal(here->target, there->target));
}
