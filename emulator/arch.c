// SPDX-License-Identifier: LGPL-2.1-or-later
// The architectures that guests can have.
#include "emulator/arch.h"

const EmulatorArch emulator_archs[] = {
    {"x86_64", "x86_64", 64},
    {"i686", "i386", 32},
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
