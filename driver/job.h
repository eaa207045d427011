// SPDX-License-Identifier: LGPL-2.1-or-later
// One job a domain at a time: who may change a domain now, and what a long job has to show.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

// Theory of operation: a *modify* job excludes modify jobs and, for its short time, the beginning of an async
// job. An *async* job (migration, minutes long) excludes modify and other async jobs, except for what its
// mask admits: destroy and abort always, suspend and others as the job allows. *Queries take no job at all*:
// they read the domain under its lock, which is never held across a wait, so they answer with the last known
// values while an async job runs or the emulator is frozen.
typedef enum {
    JOB_NONE,
    JOB_MODIFY,  // change the definition or the guest
    JOB_SUSPEND, // pause or resume the guest
    JOB_DESTROY, // end the guest; admitted by every async job
    JOB_ABORT,   // end the async job; admitted by every async job
} JobType;

typedef enum {
    ASYNC_NONE,
    ASYNC_START,
    ASYNC_MIGRATION_OUT,
    ASYNC_MIGRATION_IN,
    ASYNC_SAVE,
} AsyncJob;

#define JOB_MASK(type)   (1u << (type))
#define JOB_MASK_DEFAULT (JOB_MASK(JOB_DESTROY) | JOB_MASK(JOB_ABORT))

// Why a job waits no longer than libvirt's: a client should hear "cannot acquire state change lock".
#define JOB_WAIT_MS 30000

// Progress of an async job: the fields of virDomainJobInfo and those typed parameters of virDomainGetJobStats
// that a migration fills. Bytes, milliseconds, bytes/s. Updated by the job's thread under the domain's lock.
typedef struct JobStats {
    int type;             // virDomainJobType: NONE, UNBOUNDED while it runs, COMPLETED, FAILED, CANCELLED
    int operation;        // virDomainJobOperation
    gint64 started_us;    // g_get_monotonic_time()
    guint64 time_elapsed; // of a finished job; of a running one job_stats_current() computes it
    guint64 time_remaining;
    guint64 downtime;
    gboolean downtime_set;
    guint64 setup_time;
    guint64 data_total, data_processed, data_remaining;
    guint64 memory_total, memory_processed, memory_remaining;
    guint64 memory_constant, memory_normal, memory_normal_bytes;
    guint64 memory_bps, memory_dirty_rate, memory_page_size, memory_iteration, memory_postcopy_requests;
    guint64 disk_total, disk_processed, disk_remaining, disk_bps;
    gint64 stopped_us, resumed_us; // the pause as seen here (wall clock, us), 0: not known
    char error[256];               // of a failed job
} JobStats;

// A domain's job state; a part of Domain, guarded by its lock.
typedef struct {
    JobType active;
    GThread *owner;
    AsyncJob async;
    GThread *async_owner;
    guint async_mask; // JOB_MASK()s admitted while the async job runs
    gboolean abort_requested;
    gboolean (*abort)(gpointer data,
                      GError **error); // how to end the async job; called without the domain's lock
    gpointer abort_data;
    JobStats current;   // while async != ASYNC_NONE
    JobStats completed; // the last one finished; type NONE: there is none
    GCond changed;
    guint waiting;
} Job;

typedef struct Domain Domain;

void job_init(Job *job);
void job_clear(Job *job);

// All of these are called with the domain locked (domain_lock). The begin calls drop the lock while they
// wait, JOB_WAIT_MS at most; then VIR_ERR_OPERATION_TIMEOUT. After a wait everything else about the domain
// may have changed: check it after, not before.
gboolean job_begin(Domain *domain, JobType type, GError **error);
void job_end(Domain *domain);

// As job_begin() for the thread that runs the async job: a modify job inside it.
gboolean job_begin_nested(Domain *domain, GError **error);

// `operation` is a virDomainJobOperation. The async job belongs to the domain, not to the thread: it may be
// ended by another one (migration's phases are separate calls). VIR_ERR_OPERATION_INVALID at once when
// another async job runs.
gboolean job_begin_async(Domain *domain, AsyncJob async, int operation, guint mask, GError **error);
void job_set_abort(Domain *domain, gboolean (*abort)(gpointer data, GError **error), gpointer data);
// Ends it: `result` is VIR_DOMAIN_JOB_COMPLETED, _FAILED or _CANCELLED; current statistics become the
// completed ones and, for a completed job, the JOB_COMPLETED event is emitted.
void job_end_async(Domain *domain, int result);

// A job that an earlier daemon began and whose thread is gone: it is shown, and admits what every async job
// admits, until the guest ends or runs again (job_end_inherited()) or a migration's own end is reached.
// started_us: wall clock.
void job_inherit(Domain *domain, AsyncJob async, int operation, gint64 started_us);
// Ends it if it is such a job.
void job_end_inherited(Domain *domain, int result);
// When the async job began, wall clock in us.
gint64 job_started_wall_us(const Job *job);

// Asks the async job to end. VIR_ERR_OPERATION_INVALID when there is none or it has passed the point where it
// can be aborted (its abort function says so). Called with the domain locked; drops the lock meanwhile.
gboolean job_abort(Domain *domain, GError **error);

// Copies the statistics: of the running job or, with `completed`, of the last finished one. FALSE: there is
// none (out->type is VIR_DOMAIN_JOB_NONE). Needs the lock, never waits.
gboolean job_stats(Domain *domain, gboolean completed, JobStats *out);
void job_forget_completed(Domain *domain);
void job_stats_to_info(const JobStats *stats, virDomainJobInfo *info);

const char *async_job_name(AsyncJob async);
