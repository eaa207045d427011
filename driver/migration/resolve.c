// SPDX-License-Identifier: LGPL-2.1-or-later
// Settling open handoffs: forward while the destination holds the guest, back only on its "refused".
#include "driver/migration/resolve.h"

#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/incoming.h"
#include "driver/migration/peer.h"
#include "driver/process.h"
#include "emulator/monitor.h"

#define RETRY_FIRST_S 1
#define RETRY_LAST_S  30

static char *
records(const Driver *driver)
{
    return g_build_filename(driver->state_dir, "handoff", NULL);
}

static Domain *
domain_of(Driver *driver, const Handoff *handoff)
{
    guint8 uuid[VIR_UUID_BUFLEN];
    return domain_uuid_parse(handoff->uuid, uuid) ? domain_list_by_uuid(driver_domains(driver), uuid, NULL)
                                                  : NULL;
}

// Whether a record forbids that the guest runs or its disks are opened here. An intent without a job was left
// by a Begin that nobody followed up: the guest is ours.
static gboolean
forbids(const Domain *domain, const Handoff *handoff)
{
    if (handoff->state == HANDOFF_SOURCE_INTENT)
        return domain->job.async == ASYNC_MIGRATION_OUT;
    return !handoff_owns_disk(handoff->state) || handoff->state == HANDOFF_DESTINATION_OWNED ||
           handoff->state == HANDOFF_DESTINATION_STARTING;
}

static gboolean
may_run(Domain *domain, gpointer data, GError **error)
{
    g_autofree char *directory = records(domain->driver);
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    for (HandoffRole role = 0; role < HANDOFF_ROLES; role++) {
        g_autoptr(GError) problem = NULL;
        g_autoptr(Handoff) handoff = handoff_open(directory, uuid, role, &problem);
        if (!handoff && quasar_error_code(problem) == VIR_ERR_NO_DOMAIN)
            continue;
        if (handoff && !forbids(domain, handoff))
            continue;
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "a migration of domain '%s' %s %s is not settled (%s: %s); restore the link between "
                         "the hosts and wait",
                         domain->name, role == HANDOFF_SOURCE ? "to" : "from",
                         handoff && handoff->peer_host ? handoff->peer_host : "another host",
                         handoff_role_name(role),
                         handoff ? handoff_state_name(handoff->state) : problem->message);
        return FALSE;
    }
    return TRUE;
}

// A RESUME that nobody here asked for, on a side that has released the guest: two would run. It is killed at
// once.
static void
kill_disowned(Domain *domain, gpointer data)
{
    g_autofree char *directory = records(domain->driver);
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, NULL);
    if (!handoff || handoff->state != HANDOFF_SOURCE_RELEASED || domain->pid <= 0)
        return;
    g_critical("%s was resumed although it has been released to %s; its emulator is killed", domain->name,
               handoff->peer_host ? handoff->peer_host : "another host");
    kill(domain->pid, SIGKILL);
}

// A guest that is on its way here ends by a vote against its move.
static gboolean
vote(Domain *domain, gpointer data, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(Incoming) incoming = incoming_by_uuid(uuid);
    if (!incoming || incoming->state == INCOMING_ARRIVED || incoming->state == INCOMING_REFUSED)
        return TRUE;
    return incoming_refuse(incoming, "it was destroyed at the destination", error);
}

static PeerAddress *
address_of(const Handoff *handoff)
{
    PeerAddress *address = g_new0(PeerAddress, 1);
    address->addresses = g_strdupv(handoff->peer_addresses);
    address->port = handoff->peer_port;
    for (guint i = 0; handoff->peer_sha256 && i < 32 && handoff->peer_sha256[2 * i]; i++)
        address->sha256[i] = (guint8) (g_ascii_xdigit_value(handoff->peer_sha256[2 * i]) << 4 |
                                       g_ascii_xdigit_value(handoff->peer_sha256[2 * i + 1]));
    return address;
}

// Tells the peer our state and returns its answer; NULL when it cannot be reached.
static char *
ask(Driver *driver, const Handoff *handoff)
{
    g_autoptr(PeerAddress) address = address_of(handoff);
    if (!address->addresses || !driver->client_credentials)
        return NULL;
    g_autoptr(Channel) channel =
        peer_connect(address, driver->client_credentials, handoff->token, PEER_RESOLVE, NULL, NULL);
    g_autoptr(json_t) question =
        json_pack("{s:s, s:i}", "state", handoff_state_name(handoff->state), "run-state",
                  handoff->run_state ? handoff->run_state : VIR_DOMAIN_RUNNING);
    if (!channel || !frame_send(channel, question, PEER_TIMEOUT_MS, NULL))
        return NULL;
    g_autoptr(json_t) answer = frame_receive(channel, PEER_TIMEOUT_MS, NULL);
    return answer ? g_strdup(json_string_value(json_object_get(answer, "state"))) : NULL;
}

static void
end_stay(Domain *domain, int lifecycle_detail, int reason)
{
    domain_lock(domain);
    if (domain_is_active(domain)) {
        domain->destroying = TRUE;
        process_kill(domain, FALSE, NULL);
        domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STOPPED, lifecycle_detail);
        process_cleanup(domain, reason);
    }
    domain_unlock(domain);
}

static void
resume_here(Domain *domain)
{
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    domain_clear_messages(domain);
    if (domain_is_active(domain) && !process_continue(domain, VIR_DOMAIN_RUNNING_MIGRATION_CANCELED, &error))
        g_warning("%s: %s", domain->name, error->message);
    domain_unlock(domain);
}

// One round; TRUE when the record is closed and *handoff is gone.
static gboolean
settle_source(Driver *driver, Handoff **handoff)
{
    Handoff *record = *handoff;
    g_autoptr(Domain) domain = domain_of(driver, record);
    g_autofree char *answer = ask(driver, record);
    gboolean closed = FALSE;
    if (!answer)
        return FALSE;
    if (record->state == HANDOFF_SOURCE_RELEASED && g_str_equal(answer, "running")) {
        if (domain)
            end_stay(domain, VIR_DOMAIN_EVENT_STOPPED_MIGRATED, VIR_DOMAIN_SHUTOFF_MIGRATED);
        if (!handoff_transition(record, HANDOFF_SOURCE_DONE, NULL))
            return FALSE;
        g_free(ask(driver, record));
        closed = TRUE;
    } else if (record->state == HANDOFF_SOURCE_RELEASED && g_str_equal(answer, "refused")) {
        record->peer_refused = TRUE;
        if (!handoff_transition(record, HANDOFF_SOURCE_ABORTED, NULL))
            return FALSE;
        if (domain)
            resume_here(domain);
        g_free(ask(driver, record));
        closed = TRUE;
    } else if (record->state == HANDOFF_SOURCE_ABORTED || record->state == HANDOFF_SOURCE_DONE) {
        closed = TRUE;
    }
    if (closed && handoff_close(record, NULL))
        *handoff = NULL;
    return closed;
}

typedef struct {
    Driver *driver;
    char *uuid;
} SourceTask;

static gpointer
source_main(gpointer data)
{
    SourceTask *task = data;
    g_autofree char *directory = records(task->driver);
    guint wait = RETRY_FIRST_S;
    for (;;) {
        g_autoptr(Handoff) handoff = handoff_open(directory, task->uuid, HANDOFF_SOURCE, NULL);
        if (!handoff || settle_source(task->driver, &handoff))
            break;
        g_usleep(wait * G_USEC_PER_SEC);
        wait = MIN(wait * 2, RETRY_LAST_S);
    }
    g_free(task->uuid);
    g_free(task);
    return NULL;
}

void
resolve_source(Driver *driver, const char *uuid)
{
    SourceTask *task = g_new0(SourceTask, 1);
    task->driver = driver;
    task->uuid = g_strdup(uuid);
    g_thread_unref(g_thread_new("resolve", source_main, task));
}

// A daemon that restarts in intent gives the move up: nothing was released, the guest is ours.
static void
restart_source(Driver *driver, Handoff *handoff)
{
    g_autoptr(Domain) domain = domain_of(driver, handoff);
    if (handoff->state == HANDOFF_SOURCE_INTENT) {
        if (!handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, NULL))
            return;
        g_autoptr(Qmp) qmp = NULL;
        if (domain) {
            domain_lock(domain);
            qmp = domain_qmp(domain, NULL);
            domain_unlock(domain);
        }
        if (qmp) {
            monitor_migrate_cancel(qmp, NULL);
            resume_here(domain);
        }
    }
    resolve_source(driver, handoff->uuid);
}

static gboolean
holds_loaded_guest(Domain *domain)
{
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    domain_unlock(domain);
    g_autofree char *status = NULL;
    gboolean running = FALSE;
    return qmp && monitor_query_status(qmp, &running, &status, NULL) && g_strcmp0(status, "inmigrate") != 0;
}

static GPtrArray *
writable_images(Domain *domain)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    domain_lock(domain);
    for (guint i = 0; domain->live && i < domain->live->disks->len; i++) {
        DomainDisk *disk = g_ptr_array_index(domain->live->disks, i);
        if (!disk->readonly && disk->device == DOMAIN_DISK_DISK)
            g_ptr_array_add(paths, g_strdup(disk->image.path));
    }
    domain_unlock(domain);
    return paths;
}

// Takes the record. A guest that stands loaded waits for the source; one that was still coming is refused.
static void
restart_destination(Driver *driver, Handoff *record)
{
    g_autoptr(Handoff) handoff = record;
    g_autoptr(Domain) domain = domain_of(driver, handoff);
    gboolean loaded = domain && holds_loaded_guest(domain);
    HandoffState state = handoff->state;
    if (state == HANDOFF_DESTINATION_NONE && handoff_close(handoff, NULL)) {
        handoff = NULL;
        return;
    }
    if (!domain)
        return;
    int run_state = handoff->run_state ? handoff->run_state : VIR_DOMAIN_RUNNING;
    Incoming *incoming =
        incoming_new(driver, domain, g_steal_pointer(&handoff), cookie_new(), writable_images(domain), 0);
    incoming->state = INCOMING_RUNNING;
    if (state == HANDOFF_DESTINATION_PREPARED && !loaded)
        incoming_refuse(incoming, "virtquasard was restarted while the guest was on its way", NULL);
    else if (state == HANDOFF_DESTINATION_OWNED || state == HANDOFF_DESTINATION_STARTING)
        incoming_commit(incoming, run_state, NULL);
}

void
resolve_start(Driver *driver)
{
    domain_set_ownership_hook(may_run, NULL);
    domain_set_resumed_hook(kill_disowned, NULL);
    domain_set_destroy_hook(vote, NULL);
    g_autofree char *directory = records(driver);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) list = handoff_scan(directory, &damaged, &error);
    if (!list) {
        g_critical("cannot read the records of migrations: %s", error->message);
        return;
    }
    for (char **text = damaged; text && *text; text++)
        g_critical("%s", *text);
    for (guint i = 0; i < list->len; i++) {
        Handoff *handoff = g_ptr_array_index(list, i);
        if (handoff->role == HANDOFF_SOURCE)
            restart_source(driver, handoff);
    }
    g_ptr_array_set_free_func(list, NULL);
    for (guint i = 0; i < list->len; i++) {
        Handoff *handoff = g_ptr_array_index(list, i);
        if (handoff->role == HANDOFF_DESTINATION)
            restart_destination(driver, handoff);
        else
            handoff_free(handoff);
    }
}

// What this side's state is, after doing what the peer's state asks for.
static const char *
resolve_incoming(Incoming *incoming, const char *peer_state, int run_state)
{
    if (g_str_equal(peer_state, "released"))
        incoming_commit(incoming, run_state, NULL);
    else if (g_str_equal(peer_state, "aborted"))
        incoming_refuse(incoming, "the source gave the move up", NULL);
    if (incoming->state == INCOMING_ARRIVED)
        return "running";
    return incoming->state == INCOMING_REFUSED ? "refused" : "prepared";
}

void
resolve_answer(Driver *driver, const char *token, Channel *channel)
{
    g_autoptr(Channel) own = channel;
    g_autoptr(json_t) question = frame_receive(own, PEER_TIMEOUT_MS, NULL);
    const char *peer_state = question ? json_string_value(json_object_get(question, "state")) : NULL;
    if (!peer_state)
        return;
    int run_state = (int) json_integer_value(json_object_get(question, "run-state"));
    g_autoptr(Incoming) incoming = incoming_by_token(token);
    // A token that is not known here is no answer to anything: it never means no.
    const char *state = incoming ? resolve_incoming(incoming, peer_state, run_state) : "unknown";
    g_autoptr(json_t) answer = json_pack("{s:s}", "state", state);
    frame_send(own, answer, PEER_TIMEOUT_MS, NULL);
    gboolean over = g_str_equal(peer_state, "done") || g_str_equal(peer_state, "aborted");
    if (incoming && over && incoming->handoff && handoff_is_end(incoming->handoff->state) &&
        handoff_close(incoming->handoff, NULL))
        incoming->handoff = NULL;
}
