// SPDX-License-Identifier: LGPL-2.1-or-later
// Which NICs and boards can move between two hosts.
#include "emulator/portable.h"

#include "base/error.h"
#include "xml/domain_board.h"

gboolean
emulator_nics_may_move(const EmulatorTraits *source, const EmulatorTraits *destination, const DomainDef *def,
                       GError **error)
{
    for (guint i = 0; i < def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(def->interfaces, i);
        const char *feature = domain_interface_offload(interface);
        g_autofree char *mac = domain_mac_format(interface->mac);
        if (feature && source->big_endian != destination->big_endian)
            return quasar_set_error(
                error, VIR_ERR_OPERATION_UNSUPPORTED,
                "the hosts' byte orders differ (%s, %s) and NIC %s has feature '%s', which needs "
                "hosts of one byte order; define it without, in <driver> of <interface>",
                source->arch, destination->arch, mac, feature);
        if (domain_interface_is_vhost(interface) && !emulator_traits_serves_vhost(destination))
            return quasar_set_error(
                error, VIR_ERR_OPERATION_UNSUPPORTED,
                "NIC %s has <driver name='vhost'>, which the destination's emulator cannot serve: Quasar's "
                "own can (make emulator), or define the NIC with name='qemu'",
                mac);
    }
    return TRUE;
}

gboolean
emulator_board_may_move(const EmulatorTraits *source, const EmulatorTraits *destination, const DomainDef *def,
                        GError **error)
{
    return domain_def_board(def) != DOMAIN_BOARD_PSERIES || source->big_endian == destination->big_endian ||
           quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                            "the hosts' byte orders differ (%s, %s), and a guest of machine '%s' cannot move "
                            "between such: the state of its interrupt controller is in the host's",
                            source->arch, destination->arch, def->machine);
}
