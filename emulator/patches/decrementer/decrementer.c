/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decrementer of an emulated PowerPC guest, in its migration stream.
 *
 * TCG keeps it as a moment of the virtual clock and a timer, not in the register. The virtual clock has been loaded before
 * the vCPUs are, and stands until the guest runs.
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "sysemu/tcg.h"
#include "quasar/decrementer.h"

void quasar_save_decrementer(CPUPPCState *env)
{
    if (tcg_enabled()) {
        env->spr[SPR_DECR] = cpu_ppc_load_decr(env);
    }
}

void quasar_load_decrementer(CPUPPCState *env)
{
    if (tcg_enabled()) {
        cpu_ppc_store_decr(env, env->spr[SPR_DECR]);
        /* The value that was read with it is not in the stream. A guest must do with a reservation that is lost. */
        env->reserve_addr = -1;
    }
}
