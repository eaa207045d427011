// SPDX-License-Identifier: LGPL-2.1-or-later
// A domain as virtquasard holds it: definitions, state, the emulator that runs it, its job.
#pragma once

#include <glib.h>
#include <jansson.h>
#include <libvirt/libvirt.h>
#include <sys/types.h>

#include "driver/driver.h"
#include "driver/event.h"
#include "driver/job.h"
#include "vnet/client.h"
#include "xml/domain.h"

typedef struct Qmp Qmp; // emulator/qmp.h

#define DOMAIN_MAX_DOWNTIME_MS 10

// Ref-counted. Everything below `lock` is read and written with the lock held, and the lock is never held
// across a wait (QMP, vnet, disk): take a job, drop the lock, act, take it again.
struct Domain {
    gint references;
    Driver *driver;
    char *name;                   // fixed while the object lives (no rename yet)
    guint8 uuid[VIR_UUID_BUFLEN]; // fixed

    GMutex lock;
    gboolean removed;        // no longer in the list; the holder of an old reference treats it as not found
    DomainDef *persistent;   // NULL: transient
    DomainDef *live;         // NULL: not running
    guint64 definition_turn; // counts what was decided of `persistent`, store.c
    gboolean autostart;
    gboolean managed_save; // its next start restores it (driver/save/managed.h)
    gboolean updated;      // persistent differs from what the guest was started with

    int id;              // -1: not running
    int state;           // virDomainState
    int reason;          // its reason
    pid_t pid;           // 0: not running
    guint64 pid_start;   // /proc/PID/stat field 22: tells the process from a later one with the same number
    guint64 generation;  // counts starts; callbacks of an earlier run compare it
    char *run_dir;       // /run/libvirt/quasar/domain-ID-SHORTNAME
    char *firmware;      // what the run was started with (emulator/firmware.h), as text; NULL: not known
    Qmp *qmp;            // shared: take domain_qmp()
    GPtrArray *vnets;    // VnetClient*, one for each interface of `live`, NULL entries where there is none
    gint64 started_at;   // wall clock, s
    gboolean starting;   // between begin of a start and its end; its emulator's pid may not be known
    gconstpointer owner; // whose connection started it and takes it along; only compared; NULL: nobody's
    gboolean destroying; // the coming death is ours: report destroyed, not crashed
    gboolean shutdown_by_guest; // SHUTDOWN event seen, guest-initiated
    gboolean shutdown_seen;
    gboolean reboot_ended;         // what shut down was a reboot, by on_reboot
    gboolean fake_reboot;          // reboot asked through ACPI: reset and continue instead of ending
    gboolean stop_expected;        // a STOP event that we caused is to come
    gboolean resume_expected;      // the same of RESUME
    gboolean incoming;             // waits for a migration stream; not a guest yet
    int reason_before;             // incoming: why it was shut off before, and is again if it does not arrive
    gint64 stopped_us, resumed_us; // of the last STOP and RESUME events, g_get_monotonic_time(); 0: none

    GPtrArray *messages;  // char*: what virDomainGetMessages shows
    GHashTable *consoles; // alias -> ConsoleHolder (console.c)

    json_t *last_known;           // stats.c: what the emulator answered last, by command; NULL: nothing yet
    guint64 last_known_run;       // the run (generation) that it is about
    gint64 emulator_silent_until; // stats.c: it is not asked before that (monotonic us), as it did not answer

    GPtrArray *nics;  // nic_status.c: what is known of each NIC; NULL: nothing yet
    guint64 nics_run; // the run (generation) that it is about

    Job job;
    guint64 max_downtime_ms;
    guint64 max_speed_mib; // MiB/s, 0: no limit

    // store.c. Taken without `lock` and held while the files of the definition are written; guards what
    // follows.
    GMutex files;
    guint64 definition_written; // the definition_turn that is on disk
};

// `uuid` and name are taken from the definition, which becomes `persistent` or `live` by the caller.
Domain *domain_new(Driver *driver, const DomainDef *def);
Domain *domain_ref(Domain *domain);
void domain_unref(Domain *domain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Domain, domain_unref)

void domain_lock(Domain *domain);
void domain_unlock(Domain *domain);

// All below with the lock held.
gboolean domain_is_active(const Domain *domain);

// The definition that describes the domain now: live if it runs, else persistent. Borrowed.
DomainDef *domain_def(Domain *domain);

// The QMP connection of the running guest, with a reference to drop by qmp_unref(); NULL and
// VIR_ERR_OPERATION_INVALID when it does not run.
Qmp *domain_qmp(Domain *domain, GError **error);

// VIR_ERR_OPERATION_INVALID "domain is not running".
gboolean domain_check_active(const Domain *domain, GError **error);

void domain_set_state(Domain *domain, int state, int reason);
void domain_emit_lifecycle(Domain *domain, int type, int detail);
// Fills name, uuid and id of an event; the rest is zero.
void domain_event_init(Domain *domain, DomainEvent *event, int id);

// A monitor's event (EVENT_ID_MONITOR); `details` may be NULL. The second takes an event that says of whom it
// is, who need not be known here, and fills in the rest.
void domain_emit_monitor(Domain *domain, const char *name, const json_t *details);
void domain_event_emit_monitor(Driver *driver, DomainEvent *event, const char *name, const json_t *details);

void domain_add_message(Domain *domain, const char *message);
void domain_clear_messages(Domain *domain);

// What migration has a say in. Set once, before the first guest; a NULL member has no say.
typedef struct {
    // The gate before anything that makes the guest run or opens its disks for writing: FALSE with
    // VIR_ERR_OPERATION_INVALID and the reason while a handoff is open. Domain locked; must not block.
    gboolean (*may_run)(Domain *domain, GError **error);
    // A domain's emulator is gone: by its own death, by destroy, or while no daemon watched; not when
    // migration itself ends it. Domain locked, its run-time fields not yet cleared; must not block.
    void (*stopped)(Domain *domain, int reason);
    // A RESUME event that this process did not cause; an emulator that does not own its guest is killed.
    void (*resumed)(Domain *domain);
    // `destroy` is a vote while a handoff is open: called without the lock, before anything is killed; may
    // block. FALSE refuses the destroy.
    gboolean (*destroy)(Domain *domain, GError **error);
    // A guest has been started here, from its disks or from a file: it is nowhere else. Domain locked; must
    // not block.
    void (*started)(Domain *domain);
    // It will not be restored here any more, if it was saved. Domain locked; must not block.
    void (*forgotten)(Domain *domain);
    // The host that has the segment of this NIC; NULL: this one. Domain locked; must not block. Caller frees.
    char *(*home)(Domain *domain, guint nic);
} DomainHooks;

// `hooks` must stay.
void domain_set_hooks(const DomainHooks *hooks);
gboolean domain_may_run(Domain *domain, GError **error);
void domain_call_stopped_hook(Domain *domain, int reason);
void domain_call_resumed_hook(Domain *domain);
gboolean domain_call_destroy_hook(Domain *domain, GError **error);
void domain_call_started_hook(Domain *domain);
void domain_call_forgotten_hook(Domain *domain);
char *domain_nic_home(Domain *domain, guint nic);

// Paths; the caller frees.
char *domain_definition_path(Domain *domain);
char *domain_autostart_path(Domain *domain);
char *domain_status_path(Domain *domain);
char *domain_log_path(Domain *domain);
