/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A TSC that does not depend on the host. */
#ifndef QUASAR_GUEST_TIME_H
#define QUASAR_GUEST_TIME_H

/* Set once, when the machine is made. */
extern bool quasar_guest_time;

/* 1 GHz, the guest's virtual clock: never goes back, stands while the guest does. On vCPU threads. */
uint64_t quasar_guest_tsc(void);

#endif
