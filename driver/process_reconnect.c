// SPDX-License-Identifier: LGPL-2.1-or-later
// Finding a guest again: after a restart of ours, and after the loss of its monitor.
#include <string.h>

#include "base/error.h"
#include "driver/lifecycle.h"
#include "driver/nic_events.h"
#include "driver/priority.h"
#include "driver/process.h"
#include "driver/process_nics.h"
#include "driver/store.h"
#include "emulator/launch.h"
#include "emulator/monitor.h"

// Theory of operation: the process is recognised by pid and start time. Its monitor takes one client at a
// time and more than one in turn, so that a connection can be lost and made again as long as it lives. A
// frozen emulator is still a guest: it keeps its last known state, and its monitor is tried from time to
// time.

#define RECONNECT_MS  5000
#define FIRST_WAIT_MS 500
#define LAST_WAIT_MS  30000

// A monitor to be found again, of one run of a domain.
typedef struct {
    Domain *domain;
    guint64 generation;
    guint wait_ms;
} Rejoin;

static void
rejoin_free(Rejoin *rejoin)
{
    domain_unref(rejoin->domain);
    g_free(rejoin);
}

static void
shut_down_work(Driver *driver G_GNUC_UNUSED, gpointer domain)
{
    lifecycle_guest_shut_down(domain);
}

static void
crashed_work(Driver *driver G_GNUC_UNUSED, gpointer domain)
{
    lifecycle_guest_crashed(domain);
}

// Locked: what happened while nobody listened.
static void
take_run_state(Domain *domain, gboolean running, const char *status)
{
    if (running != (domain->state == VIR_DOMAIN_RUNNING))
        emulator_state_from_runstate(status, &domain->state, &domain->reason);
    DriverWork work = NULL;
    if (g_strcmp0(status, "shutdown") == 0) {
        domain_set_state(domain, VIR_DOMAIN_SHUTDOWN, VIR_DOMAIN_SHUTDOWN_USER);
        domain->shutdown_seen = TRUE;
        work = shut_down_work;
    } else if (g_strcmp0(status, "guest-panicked") == 0) {
        work = crashed_work;
    }
    if (work)
        driver_defer(domain->driver, work, domain_ref(domain), (GDestroyNotify) domain_unref);
}

// Locked: whether there is a run of it that lacks a monitor.
static gboolean
lacks_monitor(const Rejoin *rejoin)
{
    const Domain *domain = rejoin->domain;
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    return domain_is_active(domain) && domain->generation == rejoin->generation && !domain->starting &&
           !domain->destroying && emulator_is_alive(&process) &&
           !(domain->qmp && qmp_is_connected(domain->qmp));
}

// On a worker; keeps `data` for the next try or frees it.
static void
rejoin_again(Driver *driver, gpointer data)
{
    Rejoin *rejoin = data;
    Domain *domain = rejoin->domain;
    g_autoptr(GError) error = NULL;
    g_autofree char *status = NULL;
    gboolean running = FALSE;
    domain_lock(domain);
    gboolean wanted = lacks_monitor(rejoin);
    pid_t pid = domain->pid;
    // In the lost one's absence, what the new one tells before it takes that place counts (emulator_event()).
    if (wanted)
        g_clear_pointer(&domain->qmp, qmp_unref);
    domain_unlock(domain);
    g_autoptr(Qmp) qmp = wanted ? process_connect_monitor(domain, pid, RECONNECT_MS, &error) : NULL;
    gboolean answers = qmp && monitor_query_status(qmp, &running, &status, &error);
    domain_lock(domain);
    wanted = lacks_monitor(rejoin);
    // Lost again already: that was told when it was nobody's yet.
    answers = answers && qmp_is_connected(qmp);
    if (wanted && answers) {
        g_clear_pointer(&domain->qmp, qmp_unref);
        domain->qmp = g_steal_pointer(&qmp);
        take_run_state(domain, running, status);
        g_message("domain '%s': its monitor answers again", domain->name);
    }
    domain_unlock(domain);
    if (wanted && !answers) {
        g_debug("domain '%s': its monitor is tried again: %s", domain->name,
                error ? error->message : "it was lost again");
        rejoin->wait_ms = MIN(rejoin->wait_ms * 2, LAST_WAIT_MS);
        driver_defer_later(driver, rejoin->wait_ms, rejoin_again, rejoin, NULL);
        return;
    }
    // Not wanted by its run: closed without a word.
    if (qmp)
        qmp_close(qmp);
    rejoin_free(rejoin);
}

// Locked.
static void
begin_rejoin(Domain *domain)
{
    Rejoin *rejoin = g_new0(Rejoin, 1);
    *rejoin =
        (Rejoin){.domain = domain_ref(domain), .generation = domain->generation, .wait_ms = FIRST_WAIT_MS};
    driver_defer_later(domain->driver, rejoin->wait_ms, rejoin_again, rejoin, NULL);
}

void
process_monitor_lost(Qmp *qmp, gpointer opaque)
{
    Domain *domain = opaque;
    domain_lock(domain);
    if (domain_is_active(domain) && domain->qmp == qmp)
        begin_rejoin(domain);
    domain_unlock(domain);
}

static gboolean
end_unfinished(Domain *domain, const EmulatorProcess *recorded, GError **error)
{
    const EmulatorProcess process = recorded->pid > 0 ? *recorded : process_find_unrecorded(domain->run_dir);
    domain->starting = TRUE;
    if (emulator_is_alive(&process))
        emulator_kill(&process, 0, NULL);
    nics_end_unfinished(domain);
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "its start was not finished");
    return FALSE;
}

static gboolean
never_began(const Domain *domain, const char *status)
{
    return g_strcmp0(status, "prelaunch") == 0 && domain->state == VIR_DOMAIN_PAUSED &&
           domain->reason == VIR_DOMAIN_PAUSED_STARTING_UP;
}

gboolean
process_reconnect(Domain *domain, GError **error)
{
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    if (domain->starting)
        return end_unfinished(domain, &process, error);
    if (!emulator_is_alive(&process)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "its emulator (pid %d) is gone", (int) domain->pid);
        return FALSE;
    }
    domain->generation++;
    domain->destroying = domain->shutdown_seen = FALSE;
    g_autoptr(GError) failure = NULL;
    g_autofree char *status = NULL;
    gboolean running;
    domain_unlock(domain);
    priority_end(&process); // of a move that nobody has ended
    Qmp *qmp = process_connect_monitor(domain, process.pid, RECONNECT_MS, &failure);
    gboolean answers = qmp && monitor_query_status(qmp, &running, &status, &failure);
    // One that took us and says nothing would pass for a monitor that is there, and never be tried again.
    if (!answers)
        g_clear_pointer(&qmp, qmp_unref);
    domain_lock(domain);
    domain->qmp = qmp;
    if (never_began(domain, status))
        return end_unfinished(domain, &process, error);
    if (answers) {
        take_run_state(domain, running, status);
    } else {
        g_warning("domain '%s': its emulator does not answer: %s", domain->name, failure->message);
        begin_rejoin(domain);
    }
    nics_attach(domain);
    nic_events_await_segment(domain);
    return process_watch(domain, error);
}
