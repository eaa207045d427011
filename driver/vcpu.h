// SPDX-License-Identifier: LGPL-2.1-or-later
// vCPUs as the host sees them: the emulator's threads.
#pragma once

#include <libvirt/libvirt.h>

#include "driver/domain.h"

// The thread of a vCPU; 0: there is none of its own.
int vcpu_thread(pid_t pid, guint vcpu);

// The threads of all vCPUs of an emulator (pid_t, in no order), or the one that they take turns on; empty: it
// is gone.
GArray *vcpu_threads(pid_t pid);

// Of each vCPU of a running guest, at most `max` of them: number, state, time in ns, the host's processor
// that it ran on last; beside it in *maps (caller frees; NULL with map_length 0) `map_length` bytes a vCPU, a
// bit for each processor that it may run on. Returns an array of virVcpuInfo, or NULL:
// VIR_ERR_OPERATION_INVALID, not running.
GArray *vcpu_collect(Domain *domain, guint max, gsize map_length, guint8 **maps, GError **error);
