// SPDX-License-Identifier: LGPL-2.1-or-later
// The NIC models that a guest can have, and what the emulator gives each.
#include "emulator/nic.h"

#include "emulator/devices.h"

// Source: the names are QEMU's.
static const EmulatorNic nics[] = {
    {"virtio", "virtio-net-pci", "efi-virtio.rom", FALSE}, {"e1000", "e1000", "efi-e1000.rom", FALSE},
    {"e1000e", "e1000e", "efi-e1000e.rom", TRUE},          {"rtl8139", "rtl8139", "efi-rtl8139.rom", FALSE},
    {"vmxnet3", "vmxnet3", "efi-vmxnet3.rom", TRUE},
};

const EmulatorNic *
emulator_nic_find(const char *model)
{
    for (gsize i = 0; i < G_N_ELEMENTS(nics); i++)
        if (g_strcmp0(nics[i].model, model) == 0)
            return &nics[i];
    return NULL;
}

guint
emulator_nic_boot_index(const DomainDef *def, guint index)
{
    const DomainInterface *interface = g_ptr_array_index(def->interfaces, index);
    return emulator_boot_index(def, &interface->info, "network", index == 0);
}
