/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every page's next store of a vCPU is reported again after the dirty bitmap was taken over. */
#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "exec/memory.h"
#include "quasar/rearm.h"

/* The whole of the cache: which pages' bits were cleared is known to the caller's caller only. */
static void rearm(CPUState *cpu, run_on_cpu_data unused)
{
    tlb_reset_dirty(cpu, 0, UINTPTR_MAX);
}

void quasar_rearm_stores(CPUState *cpu)
{
    if (!global_dirty_tracking) {
        return;
    }
    if (qemu_cpu_is_self(cpu)) {
        rearm(cpu, RUN_ON_CPU_NULL);
    } else {
        async_run_on_cpu(cpu, rearm, RUN_ON_CPU_NULL);
    }
}
