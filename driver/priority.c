// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling priority of a guest's emulator while the guest moves.
#include "driver/priority.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/scheduling.h"
#include "driver/vcpu.h"

#define NICE           (-5) // three times the weight: what copies must still go on where there are no other processors
#define GROUP_NICE     (-6) // an odd one: a group cannot bear a mark
#define GROUP_TRIES    4
#define GROUP_AGAIN_US 110000 // the kernel allows one change in 0.1 s

// Ours bear a mark by which they are told from an administrator's; threads that they make do not inherit it.
#define MARK SCHED_RESET_ON_FORK

static GMutex lock;
static GCond changed;
static guint arrivals;   // that have not ended
static gboolean drained; // no more may begin

typedef struct {
    EmulatorProcess process;
    gboolean begun;
} Arrival;

static gboolean
is_marked(pid_t tid, int policy)
{
    return sched_getscheduler(tid) == (policy | MARK);
}

// What an emulator was started with: that of its main thread does not change.
static int
nice_of(pid_t tid)
{
    return getpriority(PRIO_PROCESS, (id_t) tid);
}

static gboolean
is_usual(pid_t pid, pid_t tid)
{
    return sched_getscheduler(tid) == SCHED_OTHER && nice_of(tid) == nice_of(pid);
}

static void
complain(void)
{
    if (errno != ESRCH) // the emulator ends
        g_message("a guest that moves does not get its scheduling priority: %s", g_strerror(errno));
}

static gboolean
set_policy(pid_t tid, int policy, int priority)
{
    const struct sched_param param = {.sched_priority = priority};
    return sched_setscheduler(tid, policy, &param) == 0;
}

static gboolean
set_nice(pid_t tid, int nice)
{
    return setpriority(PRIO_PROCESS, (id_t) tid, nice) == 0;
}

// The mark comes first and goes last: what is begun can be ended whenever the daemon dies.
static gboolean
begin_thread(pid_t pid, pid_t tid, int policy)
{
    if (policy == SCHED_RR)
        return set_policy(tid, SCHED_RR | MARK, tid == pid ? REAL_TIME_INTERRUPTS : REAL_TIME_VCPU);
    return set_policy(tid, SCHED_OTHER | MARK, 0) && set_nice(tid, NICE);
}

// How many there are that have it now.
static guint
begin(pid_t pid, const GArray *threads, int policy)
{
    guint n = 0;
    for (guint i = 0; i < threads->len; i++) {
        const pid_t tid = g_array_index(threads, pid_t, i);
        if (!is_usual(pid, tid))
            continue;
        if (!begin_thread(pid, tid, policy)) {
            complain();
            break;
        }
        n++;
    }
    return n;
}

static void
end(pid_t pid, const GArray *threads, int policy)
{
    for (guint i = 0; i < threads->len; i++) {
        const pid_t tid = g_array_index(threads, pid_t, i);
        if (is_marked(tid, policy) && !(set_nice(tid, nice_of(pid)) && set_policy(tid, SCHED_OTHER, 0)))
            complain();
    }
}

static void
set_group(pid_t pid, int from, int to)
{
    int now, tries = GROUP_TRIES;
    if (!scheduling_get_group_nice(pid, &now) || now != from)
        return;
    gboolean ok = scheduling_set_group_nice(pid, to);
    while (!ok && errno == EAGAIN && --tries > 0) {
        g_usleep(GROUP_AGAIN_US);
        ok = scheduling_set_group_nice(pid, to);
    }
    if (!ok)
        complain();
}

void
priority_copy(const EmulatorProcess *process)
{
    g_autoptr(GArray) vcpus = vcpu_threads(process->pid);
    if (emulator_is_alive(process) && begin(process->pid, vcpus, SCHED_OTHER) > 0)
        set_group(process->pid, 0, GROUP_NICE);
}

// The main thread last.
static GArray *
threads_of(const EmulatorProcess *process)
{
    GArray *threads = vcpu_threads(process->pid);
    if (threads->len > 0)
        g_array_append_val(threads, process->pid);
    return threads;
}

void
priority_end(const EmulatorProcess *process)
{
    g_autoptr(GArray) threads = threads_of(process);
    if (!emulator_is_alive(process))
        return;
    end(process->pid, threads, SCHED_RR);
    end(process->pid, threads, SCHED_OTHER);
    set_group(process->pid, GROUP_NICE, 0);
}

static void
tell_begun(Arrival *arrival)
{
    g_mutex_lock(&lock);
    arrival->begun = TRUE;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

static void
tell_ended(void)
{
    g_mutex_lock(&lock);
    arrivals--;
    g_cond_broadcast(&changed);
    g_mutex_unlock(&lock);
}

// It precedes the guest, which could otherwise keep it from ending this on a host whose processors it fills.
static gpointer
attend(gpointer data)
{
    Arrival *arrival = data;
    const EmulatorProcess process = arrival->process;
    const gboolean precedes = set_policy(0, SCHED_RR, REAL_TIME_WATCH);
    if (!precedes)
        complain();
    g_autoptr(GArray) threads = threads_of(&process);
    const gboolean begun =
        precedes && emulator_is_alive(&process) && begin(process.pid, threads, SCHED_RR) > 0;
    tell_begun(arrival); // which is gone then
    if (begun)
        g_usleep(PRIORITY_ARRIVING_MS * 1000);
    if (emulator_is_alive(&process))
        end(process.pid, threads, SCHED_RR);
    tell_ended();
    return NULL;
}

void
priority_arrive(const EmulatorProcess *process)
{
    Arrival arrival = {.process = *process};
    g_mutex_lock(&lock);
    arrival.begun = drained;
    if (!drained) {
        arrivals++;
        g_thread_unref(g_thread_new("arrival", attend, &arrival));
    }
    while (!arrival.begun)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
}

void
priority_drain(void)
{
    g_mutex_lock(&lock);
    drained = TRUE;
    while (arrivals > 0)
        g_cond_wait(&changed, &lock);
    g_mutex_unlock(&lock);
}
