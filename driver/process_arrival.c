// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a guest that comes from another host would find here what it has there.
#include "driver/process.h"

#include "base/error.h"
#include "emulator/firmware.h"
#include "emulator/portable.h"
#include "emulator/timebase.h"

static gboolean
check_machine(const EmulatorProbe *probe, const DomainDef *def, const ProcessArrival *arrival, GError **error)
{
    const char *machine = arrival->machine ? arrival->machine : def->machine;
    if (machine && g_strcmp0(machine, def->machine) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                         "the guest runs on machine '%s', the XML for the destination says '%s'", machine,
                         def->machine ? def->machine : "none");
        return FALSE;
    }
    if (machine && emulator_probe_machine(probe, machine))
        return TRUE;
    quasar_set_error(
        error, VIR_ERR_OPERATION_UNSUPPORTED,
        "the destination's emulator '%s' (QEMU %u.%u.%u) does not have the guest's machine '%s'; "
        "install there the emulator that the guest has at the source",
        probe->path, probe->major, probe->minor, probe->micro, machine ? machine : "none");
    return FALSE;
}

gboolean
process_check_arrival(Driver *driver, const DomainDef *def, const ProcessArrival *arrival, GError **error)
{
    const EmulatorTraits *source = arrival->source;
    const gboolean tcg = def->virt_type == DOMAIN_VIRT_QEMU;
    g_autoptr(EmulatorProbe) probe = process_probe(driver, def, error);
    if (!probe || !check_machine(probe, def, arrival, error))
        return FALSE;
    g_autoptr(json_t) firmware =
        emulator_firmware_describe((const char *const *) probe->directories, def, driver->cache_dir);
    return emulator_traits_may_move(source, probe->traits, tcg, arrival->paused, error) &&
           emulator_time_agrees(source, probe->traits, def, arrival->unsafe, error) &&
           emulator_board_may_move(source, probe->traits, def, error) &&
           emulator_nics_may_move(source, probe->traits, def, error) &&
           emulator_firmware_agrees(source->firmware, firmware, arrival->unsafe, error);
}
