// SPDX-License-Identifier: LGPL-2.1-or-later
// Whether a guest's time goes on at the same rate on another host.
#include "emulator/timebase.h"

#include <string.h>

#include "base/error.h"
#include "xml/domain_board.h"

#define NTP_PPM 500 // what it corrects at most
#define CURE    "the machines whose names hold 'quasar' do not have that fault"

// The name is what both ends check: the plain machine types go by the host's counter.
static gboolean
is_steady(const EmulatorTraits *source, const EmulatorTraits *destination, const char *machine)
{
    return strstr(machine, "-quasar-") && emulator_traits_has_patch(source, "guest-time") &&
           emulator_traits_has_patch(destination, "guest-time");
}

static gboolean
rates_agree(guint64 source_hz, guint64 destination_hz)
{
    guint64 apart = MAX(source_hz, destination_hz) - MIN(source_hz, destination_hz);
    return !source_hz || !destination_hz || apart <= source_hz / 1000000 * NTP_PPM;
}

// Of an emulator without the cure at the source it goes off at once, as its register says 0, and is set anew.
static gboolean
timer_goes_on(const EmulatorTraits *destination, GError **error)
{
    return emulator_traits_keeps_decrementer(destination) ||
           quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                            "the destination's emulator (QEMU %u) does not start an emulated PowerPC guest's "
                            "timer again, so the guest would stand still; Quasar's own does (make "
                            "emulator-ppc)",
                            destination->major);
}

gboolean
emulator_time_agrees(const EmulatorTraits *source, const EmulatorTraits *destination, const DomainDef *def,
                     gboolean unsafe, GError **error)
{
    if (def->virt_type == DOMAIN_VIRT_QEMU && domain_def_board(def) == DOMAIN_BOARD_PSERIES)
        return timer_goes_on(destination, error);
    if (def->virt_type != DOMAIN_VIRT_QEMU || is_steady(source, destination, def->machine))
        return TRUE;
    if (!g_str_equal(source->arch, destination->arch))
        return quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                                "the hosts' CPUs differ (%s, %s), so time would run at another rate in a "
                                "guest of machine '%s'; " CURE,
                                source->arch, destination->arch, def->machine);
    return unsafe || rates_agree(source->ticks_hz, destination->ticks_hz) ||
           quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                            "the hosts' counters tick at %.1f and %.1f MHz, so time would run at another "
                            "rate in a guest of machine '%s'; " CURE ", or accept it with --unsafe",
                            (double) source->ticks_hz / 1e6, (double) destination->ticks_hz / 1e6,
                            def->machine);
}
