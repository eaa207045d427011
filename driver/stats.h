// SPDX-License-Identifier: LGPL-2.1-or-later
// What virConnectGetAllDomainStats tells of a domain, as typed parameters.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

#include "driver/domain.h"
#include "driver/nic_status.h"

// Groups that are known, virDomainStatsTypes. Of guests like ours there is nothing to tell in PERF, IOTHREAD,
// MEMORY (resctrl) and VM (KVM's own counters): they are accepted, and empty as libvirt's are.
#define STATS_GROUPS                                                                                         \
    (VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_BALLOON |                        \
     VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK | VIR_DOMAIN_STATS_PERF |   \
     VIR_DOMAIN_STATS_IOTHREAD | VIR_DOMAIN_STATS_MEMORY | VIR_DOMAIN_STATS_DIRTYRATE | VIR_DOMAIN_STATS_VM)

// Theory of operation: statistics take no job and never wait for the guest, so that they are there while it
// moves or is stuck. What only the emulator knows is asked with a short bound; when it stays silent, the
// answer is what it said last, and it is left alone for a while. Processor times come from /proc.

// Collects `groups` (0: all), without the domain's lock. What a guest does not give is left out. An array of
// virTypedParameter that owns its strings.
GArray *stats_collect(Domain *domain, guint groups);

// Requests, bytes and ns since the start.
typedef struct {
    guint64 read_requests, read_bytes, read_ns;
    guint64 write_requests, write_bytes, write_ns;
    guint64 flush_requests, flush_ns;
    guint64 highest_offset; // end of what was ever written in the file
} BlockStats;

// Of the disk with this target, alias or path; "" sums all. VIR_ERR_INVALID_ARG: no such disk.
// VIR_ERR_OPERATION_INVALID: not running. VIR_ERR_OPERATION_FAILED: the emulator never told.
gboolean stats_block(Domain *domain, const char *disk, BlockStats *stats, GError **error);

// Of the NIC with this target, alias or MAC. VIR_ERR_INVALID_ARG: no such NIC. VIR_ERR_OPERATION_INVALID: not
// running. VIR_ERR_OPERATION_FAILED: its quasar-vnet never answered in this run.
// VIR_ERR_OPERATION_UNSUPPORTED: it has none.
gboolean stats_interface(Domain *domain, const char *device, NicCounters *counters, GError **error);

// What the guest has of its memory now, in KiB.
gboolean stats_memory(Domain *domain, guint64 *balloon_kib, guint64 *rss_kib, GError **error);

// User and system time of a process, or of its thread `tid` (0: all of it), in ns. FALSE: gone.
gboolean stats_process_times(pid_t pid, int tid, guint64 *user_ns, guint64 *system_ns);
// Resident memory in KiB, 0: gone.
guint64 stats_process_rss(pid_t pid);
