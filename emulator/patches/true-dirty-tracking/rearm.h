/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every page's next store of this vCPU is to be reported again. */
#ifndef QUASAR_REARM_H
#define QUASAR_REARM_H

#include "hw/core/cpu.h"

/*
 * Queues the work for the vCPU's thread, so that it cannot cross a store of that vCPU; whoever then waits for
 * the vCPU waits for the work. Does nothing while nobody tracks dirty pages. With the big lock held.
 */
void quasar_rearm_stores(CPUState *cpu);

#endif
