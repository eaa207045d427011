// SPDX-License-Identifier: LGPL-2.1-or-later
// Settling open handoffs: forward while the destination holds the guest, back only on its "refused".
#include "driver/migration/resolve.h"

#include <signal.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/migration/anchor_away.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/departure.h"
#include "driver/migration/incoming.h"
#include "driver/migration/nics.h"
#include "driver/migration/moved.h"
#include "driver/migration/peer.h"
#include "emulator/launch.h"

#define RETRY_FIRST_S 1
#define RETRY_LAST_S  8

// Guests whose move was open when this daemon started, and of which no emulator was there: the host may have
// been switched off for another's sake (promote.h), so nothing of them starts before their peer was asked.
static GMutex unasked_lock;
static GHashTable *unasked; // UUID text; a set

static void
unasked_add(const char *uuid)
{
    g_mutex_lock(&unasked_lock);
    if (!unasked)
        unasked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_add(unasked, g_strdup(uuid));
    g_mutex_unlock(&unasked_lock);
}

static gboolean
is_unasked(const char *uuid)
{
    g_mutex_lock(&unasked_lock);
    gboolean found = unasked && g_hash_table_contains(unasked, uuid);
    g_mutex_unlock(&unasked_lock);
    return found;
}

void
resolve_asked(const char *uuid)
{
    g_mutex_lock(&unasked_lock);
    if (unasked)
        g_hash_table_remove(unasked, uuid);
    g_mutex_unlock(&unasked_lock);
}

// Whether a record forbids that the guest runs or its disks are opened here. An intent without a job was left
// by a Begin that nobody followed up: the guest is ours.
static gboolean
forbids(const Domain *domain, const Handoff *handoff)
{
    if (handoff->role == HANDOFF_SOURCE && is_unasked(handoff->uuid))
        return TRUE;
    if (handoff->state == HANDOFF_SOURCE_INTENT)
        return domain->job.async == ASYNC_MIGRATION_OUT;
    return !handoff_owns_disk(handoff->state) || handoff->state == HANDOFF_DESTINATION_OWNED ||
           handoff->state == HANDOFF_DESTINATION_STARTING;
}

static gboolean
may_run(Domain *domain, GError **error)
{
    g_autofree char *directory = handoff_directory(domain->driver->state_dir);
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
                         "the hosts and wait, or see quasarctl migration list",
                         domain->name, role == HANDOFF_SOURCE ? "to" : "from",
                         handoff && handoff->peer_host ? handoff->peer_host : "another host",
                         handoff_role_name(role),
                         handoff ? handoff_state_name(handoff->state) : problem->message);
        return FALSE;
    }
    return domain_is_active(domain) || moved_check(domain->driver->state_dir, uuid, domain->name, error);
}

// A RESUME that nobody here asked for, on a side that does not own the guest: two would run. It is killed at
// once.
static void
kill_disowned(Domain *domain)
{
    g_autofree char *directory = handoff_directory(domain->driver->state_dir);
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    for (HandoffRole role = 0; role < HANDOFF_ROLES; role++) {
        g_autoptr(Handoff) handoff = handoff_open(directory, uuid, role, NULL);
        if (!handoff || handoff_owns_disk(handoff->state) || domain->pid <= 0)
            continue;
        g_critical("%s was resumed although it is not ours (%s: %s); its emulator is killed", domain->name,
                   handoff_role_name(role), handoff_state_name(handoff->state));
        kill(domain->pid, SIGKILL);
    }
}

// A guest that is on its way here ends by a vote against its move.
static gboolean
vote(Domain *domain, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(Incoming) incoming = incoming_by_uuid(uuid);
    g_autoptr(GError) problem = NULL;
    if (!incoming || incoming_refuse(incoming, "it was destroyed at the destination", FALSE, &problem))
        return TRUE;
    g_mutex_lock(&incoming->lock);
    gboolean arrived = incoming->state == INCOMING_ARRIVED;
    g_mutex_unlock(&incoming->lock);
    if (!arrived)
        g_propagate_error(error, g_steal_pointer(&problem));
    return arrived;
}

static void
stopped(Domain *domain, int reason)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    incoming_emulator_ended(domain);
    // While a handoff is open the guest may live elsewhere.
    if (domain_may_run(domain, NULL))
        anchor_away_end(domain->driver, uuid);
    else
        move_nics_adopt(domain);
}

static void
end_anchors(Driver *driver, gpointer uuid)
{
    anchor_home_end(driver, uuid);
    anchor_away_end_saved(driver, uuid);
}

static void
started(Domain *domain)
{
    driver_defer(domain->driver, end_anchors, domain_uuid_format(domain->uuid), g_free);
}

static void
end_saved_links(Driver *driver, gpointer uuid)
{
    anchor_away_end_saved(driver, uuid);
}

static void
forgotten(Domain *domain)
{
    driver_defer(domain->driver, end_saved_links, domain_uuid_format(domain->uuid), g_free);
}

static char *
home(Domain *domain, guint nic)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(AnchorRecord) record = anchor_away_find(domain->driver, uuid, nic);
    return record ? g_strdup(record->host) : NULL;
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

static gboolean
has_ram(Domain *domain)
{
    if (!domain)
        return FALSE;
    domain_lock(domain);
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    domain_unlock(domain);
    return process.pid > 0 && emulator_is_alive(&process);
}

// Tells the peer our state and returns its answer; NULL when it cannot be reached.
static char *
ask(Driver *driver, const Handoff *handoff, Domain *domain)
{
    g_autoptr(PeerAddress) address = address_of(handoff);
    if (!address->addresses || !driver->client_credentials)
        return NULL;
    g_autoptr(Channel) channel =
        peer_connect(address, driver->client_credentials, handoff->token, PEER_RESOLVE, NULL, NULL);
    g_autoptr(json_t) question =
        json_pack("{s:s, s:i, s:b, s:b}", "state", handoff_state_name(handoff->state), "run-state",
                  handoff->run_state ? handoff->run_state : VIR_DOMAIN_RUNNING, "persist-dest",
                  handoff->persist_dest, "ram", has_ram(domain));
    if (!channel || !frame_send(channel, question, PEER_TIMEOUT_MS, NULL))
        return NULL;
    g_autoptr(json_t) answer = frame_receive(channel, PEER_TIMEOUT_MS, NULL);
    return answer ? g_strdup(json_string_value(json_object_get(answer, "state"))) : NULL;
}

// `released`: forward on "running", back on "refused"; every other answer decides nothing.
static gboolean
settle_released(Driver *driver, Handoff *record, Domain *domain)
{
    g_autofree char *answer = ask(driver, record, domain);
    g_autoptr(GError) error = NULL;
    gboolean ok = FALSE;
    if (g_strcmp0(answer, "running") == 0) {
        ok = handoff_transition(record, HANDOFF_SOURCE_DONE, &error);
    } else if (g_strcmp0(answer, "refused") == 0) {
        record->peer_refused = TRUE;
        ok = handoff_transition(record, HANDOFF_SOURCE_ABORTED, &error);
        if (ok && domain)
            departure_stay(domain);
    }
    if (error)
        g_critical("migration of %s: %s", record->uuid, error->message);
    if (ok)
        g_message("the migration of %s is settled: the destination says \"%s\"",
                  record->name ? record->name : record->uuid, answer);
    return ok;
}

// The peer runs the guest although nothing was released to it: it was promoted while this host was dead.
static gboolean
yield_to_promoted(Handoff *record, Domain *domain)
{
    g_autoptr(GError) error = NULL;
    if (has_ram(domain)) {
        g_critical(
            "%s runs here, and %s runs it too, where it was promoted on the word that this host is dead: "
            "destroy one of them at once",
            record->name ? record->name : record->uuid, record->peer_host ? record->peer_host : "its peer");
        return FALSE;
    }
    record->peer_promoted = TRUE;
    if (!handoff_transition(record, HANDOFF_SOURCE_RELEASED, &error)) {
        g_critical("migration of %s: %s", record->uuid, error->message);
        return FALSE;
    }
    g_warning("%s is %s's: it was promoted there while this host was down",
              record->name ? record->name : record->uuid, record->peer_host ? record->peer_host : "its peer");
    resolve_asked(record->uuid);
    return TRUE;
}

// `intent`, found at the start without its guest. FALSE: undecided.
static gboolean
settle_unasked(Driver *driver, Handoff *record, Domain *domain)
{
    g_autofree char *answer = ask(driver, record, domain);
    if (g_strcmp0(answer, "running") == 0)
        return yield_to_promoted(record, domain);
    if (g_strcmp0(answer, "refused") != 0 && g_strcmp0(answer, "closed") != 0)
        return FALSE;
    if (!handoff_transition(record, HANDOFF_SOURCE_ABORTED, NULL))
        return FALSE;
    resolve_asked(record->uuid);
    return TRUE;
}

// A record whose end the peer has confirmed, or of which no peer knows, is closed. TRUE: nothing is left to
// do.
static gboolean
settle_ended(Driver *driver, Handoff **handoff, Domain *domain)
{
    Handoff *record = *handoff;
    if (record->state == HANDOFF_SOURCE_DONE && !record->left && !departure_leave(driver, record, NULL))
        return FALSE;
    if (record->state != HANDOFF_SOURCE_IDLE && record->peer_addresses) {
        g_autofree char *answer = ask(driver, record, domain);
        if (record->state == HANDOFF_SOURCE_ABORTED && g_strcmp0(answer, "running") == 0)
            yield_to_promoted(record, domain); // the next round does the rest
        if (g_strcmp0(answer, "closed") != 0)
            return FALSE;
    }
    g_autofree char *uuid = g_strdup(record->uuid);
    if (!handoff_close(record, NULL))
        return FALSE;
    resolve_asked(uuid);
    *handoff = NULL;
    return TRUE;
}

// One round. TRUE: no record of ours is left, or none that could ever be settled.
static gboolean
settle(Driver *driver, const char *uuid)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(GError) error = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, &error);
    if (!handoff) {
        if (!g_error_matches(error, QUASAR_ERROR, VIR_ERR_NO_DOMAIN))
            g_critical("%s", error->message);
        return TRUE;
    }
    g_autoptr(Domain) domain = departure_domain(driver, handoff);
    // The thread that moved the guest could not write its end.
    if (handoff->state == HANDOFF_SOURCE_INTENT && is_unasked(uuid)) {
        if (!settle_unasked(driver, handoff, domain))
            return FALSE;
    } else if (handoff->state == HANDOFF_SOURCE_INTENT) {
        if (!handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, NULL))
            return FALSE;
        if (domain)
            departure_stay(domain);
    }
    if (handoff->state == HANDOFF_SOURCE_RELEASED && !settle_released(driver, handoff, domain))
        return FALSE;
    return settle_ended(driver, &handoff, domain);
}

gboolean
resolve_now(Driver *driver, const char *uuid)
{
    return settle(driver, uuid);
}

typedef struct {
    Driver *driver;
    char *uuid;
} SourceTask;

static gpointer
source_main(gpointer data)
{
    SourceTask *task = data;
    guint wait = RETRY_FIRST_S;
    for (;;) {
        departure_claim(task->uuid, -1);
        gboolean over = settle(task->driver, task->uuid);
        departure_unclaim(task->uuid);
        if (over)
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

// A daemon that restarts in intent gives the move up if it still has the guest: nothing was released, it is
// ours. Without it (the host was started anew, or the emulator has ended meanwhile) the peer is asked first.
static void
restart_source(Driver *driver, Handoff *handoff)
{
    g_autoptr(Domain) domain = departure_domain(driver, handoff);
    const gboolean undecided =
        handoff->state == HANDOFF_SOURCE_INTENT || handoff->state == HANDOFF_SOURCE_ABORTED;
    if (undecided && handoff->peer_addresses && !has_ram(domain))
        unasked_add(handoff->uuid);
    else if (handoff->state == HANDOFF_SOURCE_INTENT &&
             handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, NULL) && domain)
        departure_stay(domain);
    if (handoff->state == HANDOFF_SOURCE_RELEASED && domain)
        resolve_show_undecided(domain, handoff);
    resolve_source(driver, handoff->uuid);
}

void
resolve_show_undecided(Domain *domain, const Handoff *handoff)
{
    g_autofree char *text = g_strdup_printf(
        "migration undecided: the guest was handed to %s, whose answer is missing; restore the link "
        "between the hosts, and they will settle it",
        handoff->peer_host ? handoff->peer_host : "the destination");
    domain_lock(domain);
    if (domain_is_active(domain))
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION);
    domain_add_message(domain, text);
    domain_unlock(domain);
}

void
resolve_start(Driver *driver)
{
    static const DomainHooks hooks = {.may_run = may_run,
                                      .stopped = stopped,
                                      .resumed = kill_disowned,
                                      .destroy = vote,
                                      .started = started,
                                      .forgotten = forgotten,
                                      .home = home};
    domain_set_hooks(&hooks);
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) list = handoff_scan(directory, &damaged, &error);
    if (!list) {
        g_critical("cannot read the records of migrations: %s", error->message);
        return;
    }
    for (char **text = damaged; text && *text; text++)
        g_critical("%s", *text);
    g_ptr_array_set_free_func(list, NULL);
    for (guint i = 0; i < list->len; i++) {
        Handoff *handoff = g_ptr_array_index(list, i);
        if (handoff->role == HANDOFF_DESTINATION) {
            incoming_restart(driver, handoff);
            continue;
        }
        restart_source(driver, handoff);
        handoff_free(handoff);
    }
}

// Of a token that no session has. Its record was closed once both ends were durable, or was never made: that
// confirms an end, but never decides a guest that was released.
static const char *
answer_unknown(Driver *driver, const char *token, const char *peer_state)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autofree char *uuid = g_strndup(token, VIR_UUID_STRING_BUFLEN - 1);
    g_autoptr(GError) error = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_DESTINATION, &error);
    gboolean absent = handoff ? g_strcmp0(handoff->token, token) != 0
                              : g_error_matches(error, QUASAR_ERROR, VIR_ERR_NO_DOMAIN);
    gboolean over = g_str_equal(peer_state, "aborted") || g_str_equal(peer_state, "done") ||
                    g_str_equal(peer_state, "intent");
    return absent && over ? "closed" : "unknown";
}

// What this side's state is, after doing what the peer's state asks for.
static const char *
answer_known(Incoming *incoming, const char *peer_state, const IncomingCommit *commit)
{
    gboolean over = g_str_equal(peer_state, "done");
    if (g_str_equal(peer_state, "released")) {
        if (incoming_commit(incoming, commit, NULL)) {
            incoming_book(incoming);
            return "running";
        }
    } else if (g_str_equal(peer_state, "intent")) {
        // It has lost the guest before it released it, and wants to know whether it may have been promoted.
        incoming_refuse(incoming, "the source came back without the guest", FALSE, NULL);
    } else if (g_str_equal(peer_state, "aborted")) {
        over = incoming_refuse(incoming, "the source gave the move up", FALSE, NULL);
    }
    if (over) {
        incoming_finish_job(incoming, NULL);
        return incoming_close(incoming, NULL) ? "closed" : "unknown";
    }
    g_mutex_lock(&incoming->lock);
    const IncomingState state = incoming->state;
    incoming->heard_us = g_get_monotonic_time();
    g_mutex_unlock(&incoming->lock);
    return state == INCOMING_REFUSED ? "refused" : state == INCOMING_ARRIVED ? "running" : "prepared";
}

void
resolve_answer(Driver *driver, const char *token, Channel *channel)
{
    g_autoptr(Channel) own = channel;
    g_autoptr(json_t) question = frame_receive(own, PEER_TIMEOUT_MS, NULL);
    const char *peer_state = question ? json_string_value(json_object_get(question, "state")) : NULL;
    if (!peer_state)
        return;
    const IncomingCommit commit = {
        .run_state = (int) json_integer_value(json_object_get(question, "run-state")),
        .persist_dest = json_is_true(json_object_get(question, "persist-dest")),
        .source_has_ram = !json_is_false(json_object_get(question, "ram")),
    };
    g_autoptr(Incoming) incoming = incoming_by_token(token);
    const char *state =
        incoming ? answer_known(incoming, peer_state, &commit) : answer_unknown(driver, token, peer_state);
    g_autoptr(json_t) answer = json_pack("{s:s}", "state", state);
    frame_send(own, answer, PEER_TIMEOUT_MS, NULL);
}
