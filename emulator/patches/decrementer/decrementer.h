/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef QUASAR_DECREMENTER_H
#define QUASAR_DECREMENTER_H

/* Into the registers that are sent. */
void quasar_save_decrementer(CPUPPCState *env);
/* From those that came. */
void quasar_load_decrementer(CPUPPCState *env);

#endif
