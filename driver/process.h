// SPDX-License-Identifier: LGPL-2.1-or-later
// Starting, finding again and ending the processes of a guest: QEMU and one quasar-vnet a NIC.
#pragma once

#include <jansson.h>

#include "driver/domain.h"
#include "emulator/launch.h"
#include "emulator/probe.h"
#include "emulator/traits.h"

typedef struct {
    const char *incoming; // NULL: boot; else the argument of -incoming ("defer")
    gboolean paused;      // do not cont
    gboolean vnet_armed;  // vnets start in their standby role (destination of a migration)
    gboolean restores;    // with incoming: the guest comes from a file, and the start is not over until the
                          // caller clears domain->starting
    guint64 ram_kib;      // RAM of the guest that comes (EmulatorTraits); 0: the definition's
} ProcessOptions;

// Starts the guest of `def` (taken; becomes domain->live) and returns when QMP answers and every vnet is
// connected; the guest is not continued. Called with the domain locked and a job begun; the lock is dropped
// while it waits. On failure everything is undone and domain->live is NULL again. State becomes PAUSED
// (STARTING_UP, or MIGRATION with incoming from another host).
gboolean process_start(Domain *domain, DomainDef *def, const ProcessOptions *options, GError **error);

// Continues it and sets RUNNING with the reason; no event. The status file is written soon after, not within
// the guest's pause. Locked, drops the lock meanwhile.
gboolean process_continue(Domain *domain, int running_reason, GError **error);

// Stops it and sets PAUSED with the reason; no event. Locked, drops the lock meanwhile.
gboolean process_pause(Domain *domain, int paused_reason, GError **error);

// Kills QEMU and waits until it is gone (SIGTERM, then SIGKILL unless `graceful`). Locked, drops the lock
// meanwhile. VIR_ERR_OPERATION_FAILED with `graceful` if it still runs after 10 s.
gboolean process_kill(Domain *domain, gboolean graceful, GError **error);

// Releases everything after the process is gone: vnets, QMP, run directory, image owners, status file, id;
// frees live; sets SHUTOFF with the reason. A transient domain is taken off the list. Emits no event. Locked.
void process_cleanup(Domain *domain, int shutoff_reason);

// Why a domain whose emulator is gone is shut off (virDomainShutoffReason), as far as we had a part in it.
int process_end_reason(const Domain *domain);

// After a restart: finds the guest that `domain` (loaded from its status file) describes, with its monitor
// and its vnets. FALSE: it is gone, or its start was not finished (what there is of it is killed then); the
// caller cleans up. Locked, drops the lock meanwhile.
gboolean process_reconnect(Domain *domain, GError **error);

// Gives the definition all that it leaves open: addresses, machine version, CPU model, and formats of images
// (probed once). VIR_ERR_CONFIG_UNSUPPORTED where it asks for what this host does not have. Blocks.
gboolean process_assign(Driver *driver, DomainDef *def, GError **error);

// Who emulators and the tools for images run as.
EmulatorUser process_emulator_user(const Driver *driver);

// The emulator that a guest of this definition has here. VIR_ERR_CONFIG_UNSUPPORTED names an <emulator> that
// cannot be used. Blocks.
EmulatorProbe *process_probe(Driver *driver, const DomainDef *def, GError **error);

// Whether guests of type kvm can run here. VIR_ERR_CONFIG_UNSUPPORTED says why not. Blocks.
gboolean process_kvm_usable(const Driver *driver, GError **error);

// How a guest comes from another host.
typedef struct {
    const EmulatorTraits *source; // the emulator that runs it there
    const char *machine;          // its versioned machine type
    gboolean paused;              // its vCPUs stand
    gboolean unsafe;              // it may get other firmware, and time of another rate
} ProcessArrival;

// Whether a guest of this definition may come so to the emulator that it would have here; nothing is started.
// VIR_ERR_OPERATION_UNSUPPORTED says why not. Blocks.
gboolean process_check_arrival(Driver *driver, const DomainDef *def, const ProcessArrival *arrival,
                               GError **error);

// Between process.c and process_reconnect.c. A monitor on the domain's run-time directory; blocks, without
// the lock. `pid` as qmp_connect().
Qmp *process_connect_monitor(Domain *domain, pid_t pid, int timeout_ms, GError **error);
// Locked: the process's end is handed to lifecycle_emulator_ended().
gboolean process_watch(Domain *domain, GError **error);
// VIR_ERR_OPERATION_FAILED when a process that is not ours runs the guest of this UUID (its status file was
// lost, another daemon started it): two must never run. Without the lock.
gboolean process_check_stray(const Domain *domain, GError **error);
// After the status files have been read: says loudly which emulators of ours run without one.
void process_report_strays(Driver *driver);
// The emulator of a start that was cut off before its pid was on record; pid 0: none.
EmulatorProcess process_find_unrecorded(const char *run_dir);
// The emulator thread's word that a monitor connection is gone. While its emulator lives, another is made.
void process_monitor_lost(Qmp *qmp, gpointer domain);

// emulator_events.c: what the QMP connection calls on the emulator thread. `data` is the domain.
void emulator_event(Qmp *qmp, const char *name, json_t *data, gint64 received_us, gpointer domain);
// Of QEMU's RunState name: virDomainState and reason.
void emulator_state_from_runstate(const char *runstate, int *state, int *reason);
