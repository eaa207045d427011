// SPDX-License-Identifier: LGPL-2.1-or-later
// What virConnectGetAllDomainStats tells of a domain, as typed parameters.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

#include "driver/domain.h"

// Groups that are collected, virDomainStatsTypes.
#define STATS_GROUPS                                                                                         \
    (VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON |                        \
     VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK)

// Collects `groups` (0: all), without the domain's lock. Takes no job, so it answers while a migration runs.
// What a guest does not give (its emulator is frozen, it does not run) is left out. An array of
// virTypedParameter that owns its strings.
GArray *stats_collect(Domain *domain, guint groups);

// User and system time of a process, or of its thread `tid` (0: all of it), in ns. FALSE: gone.
gboolean stats_process_times(pid_t pid, int tid, guint64 *user_ns, guint64 *system_ns);
// Resident memory in KiB, 0: gone.
guint64 stats_process_rss(pid_t pid);
