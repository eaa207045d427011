// SPDX-License-Identifier: LGPL-2.1-or-later
// The source's phases of libvirt's v3 migration, Begin, Perform and Confirm, as bookkeeping around the move;
// and who comes to it: clients that abort or go, and peers.
#include "driver/migration/migration.h"

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "driver/migration/cookie.h"
#include "driver/migration/conversation.h"
#include "driver/migration/departure.h"
#include "driver/migration/disks.h"
#include "driver/migration/handoff.h"
#include "driver/migration/incoming.h"
#include "driver/migration/nics.h"
#include "driver/migration/outgoing.h"
#include "driver/migration/p2p.h"
#include "driver/migration/phases.h"
#include "driver/migration/resolve.h"
#include "driver/rpc/session.h"
#include "emulator/launch.h"

PeerAddress *
migration_own_address(Driver *driver, GError **error)
{
    if (!driver->credentials) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "this host has no TLS certificates; put cacert.pem, servercert.pem and "
                         "serverkey.pem where libvirt "
                         "expects them and restart virtquasard");
        return NULL;
    }
    PeerAddress *address = g_new0(PeerAddress, 1);
    address->addresses = peer_local_addresses();
    address->port = driver->tls_port;
    tls_credentials_sha256(driver->credentials, address->sha256);
    return address;
}

// The number of this move: one more than the last, which is kept beside the records.
static gboolean
next_epoch(const Driver *driver, const char *uuid, guint64 *epoch, GError **error)
{
    g_autofree char *directory = g_build_filename(driver->state_dir, "epochs", NULL);
    g_autofree char *path = g_build_filename(directory, uuid, NULL);
    g_autofree char *text = NULL;
    *epoch = 1;
    if (g_file_get_contents(path, &text, NULL, NULL))
        *epoch = g_ascii_strtoull(text, NULL, 10) + 1;
    g_autofree char *now = g_strdup_printf("%" G_GUINT64_FORMAT "\n", *epoch);
    return file_make_directory(directory, 0700, error) && file_replace(path, now, -1, 0600, error);
}

// Whose Begin waits for its Perform: UUID text -> session (not a reference, only compared).
static GMutex begun_lock;
static GHashTable *begun;

static void
set_begun(const char *uuid, RpcSession *client)
{
    g_mutex_lock(&begun_lock);
    if (!begun)
        begun = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (client)
        g_hash_table_replace(begun, g_strdup(uuid), client);
    else
        g_hash_table_remove(begun, uuid);
    g_mutex_unlock(&begun_lock);
}

// A record of which no destination knows goes back to nothing. Takes the handoff. Claimed.
static gboolean
drop_intent(Handoff *handoff, GError **error)
{
    g_autoptr(Handoff) own = handoff;
    if (own->state == HANDOFF_SOURCE_INTENT && !handoff_transition(own, HANDOFF_SOURCE_ABORTED, error))
        return FALSE;
    if (!handoff_close(own, error))
        return FALSE;
    own = NULL;
    return TRUE;
}

// Makes room for a new record: what nobody followed up is dropped, an end that the peer has not confirmed
// yet is asked for once more. Claimed.
static gboolean
settle_last_move(Driver *driver, const Domain *domain, const char *uuid, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(GError) problem = NULL;
    g_autoptr(Handoff) old = handoff_open(directory, uuid, HANDOFF_SOURCE, &problem);
    if (!old && g_error_matches(problem, QUASAR_ERROR, VIR_ERR_NO_DOMAIN))
        return TRUE;
    if (!old) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return FALSE;
    }
    if (!old->peer_addresses && old->state != HANDOFF_SOURCE_RELEASED && old->state != HANDOFF_SOURCE_DONE)
        return drop_intent(g_steal_pointer(&old), error);
    if (resolve_now(driver, uuid))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                     "the last migration of domain '%s' to %s is not settled (%s) because that host does not "
                     "answer; restore the link between the hosts and try again",
                     domain->name, old->peer_host ? old->peer_host : "another host",
                     handoff_state_name(old->state));
    return FALSE;
}

// The source's record in state intent. Claimed.
static Handoff *
open_intent(Driver *driver, Domain *domain, const char *uuid, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    guint64 epoch;
    if (!file_make_directory(directory, 0700, error) || !settle_last_move(driver, domain, uuid, error) ||
        !next_epoch(driver, uuid, &epoch, error))
        return NULL;
    g_autoptr(Handoff) handoff = handoff_create_source(directory, uuid, epoch, error);
    if (!handoff)
        return NULL;
    handoff->name = g_strdup(domain->name);
    if (handoff_transition(handoff, HANDOFF_SOURCE_INTENT, error) && fault_point("src-intent", error))
        return g_steal_pointer(&handoff);
    if (handoff->state == HANDOFF_SOURCE_INTENT)
        drop_intent(g_steal_pointer(&handoff), NULL);
    return NULL;
}

// The guest as it is to arrive; *xml and the cookie's identity.
static gboolean
describe_guest(Domain *domain, Cookie *cookie, char **xml, GError **error)
{
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error);
    if (ok && domain->job.async != ASYNC_NONE) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is busy with another job: %s",
                         domain->name, async_job_name(domain->job.async));
        ok = FALSE;
    }
    if (ok && domain->owner) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "domain '%s' was started to end with a connection to this host (autodestroy), so it "
                         "cannot leave it",
                         domain->name);
        ok = FALSE;
    }
    if (ok) {
        cookie->uuid = g_strdup(domain->live->uuid);
        cookie->name = g_strdup(domain->name);
        cookie->machine = g_strdup(domain->live->machine);
        *xml = domain_def_format(domain->live, DOMAIN_FORMAT_MIGRATABLE | DOMAIN_FORMAT_SECURE, -1);
    }
    domain_unlock(domain);
    return ok;
}

// What the destination's emulator is compared with, before anything is started for the guest.
static gboolean
describe_emulator(Domain *domain, Cookie *cookie, GError **error)
{
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    cookie->paused = domain->state == VIR_DOMAIN_PAUSED;
    g_autofree char *firmware = g_strdup(domain->firmware);
    domain_unlock(domain);
    if (!qmp || !(cookie->traits = emulator_traits_query(qmp, error)))
        return FALSE;
    cookie->traits->firmware = firmware ? json_loads(firmware, 0, NULL) : NULL;
    return TRUE;
}

gboolean
migration_begin(Driver *driver, RpcSession *client, Domain *domain, const MigrationParams *params,
                guint flags, char **xml_out, GBytes **cookie_out, GError **error)
{
    g_autoptr(Cookie) cookie = cookie_new();
    if (!migration_check_flags(flags, error) || !migration_check_params(params, error) ||
        !(cookie->peer = migration_own_address(driver, error)))
        return FALSE;
    if (!driver->client_credentials) {
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "this host has no client certificate to show to the destination; put clientcert.pem and "
            "private/clientkey.pem where libvirt expects them and restart virtquasard");
        return FALSE;
    }
    if (params->ignored)
        g_message("migration of %s: %s", domain->name, params->ignored);
    g_autofree char *xml = NULL;
    cookie->hostname = g_strdup(g_get_host_name());
    if (!describe_guest(domain, cookie, &xml, error) || !describe_emulator(domain, cookie, error) ||
        !disks_describe(domain, (flags & VIR_MIGRATE_NON_SHARED_DISK) != 0, cookie, error))
        return FALSE;
    if (!departure_claim(cookie->uuid, 3 * PEER_TIMEOUT_MS)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "domain '%s' is being migrated already, or its last migration is being settled",
                         domain->name);
        return FALSE;
    }
    g_autoptr(Handoff) handoff = open_intent(driver, domain, cookie->uuid, error);
    if (handoff)
        set_begun(cookie->uuid, client);
    departure_unclaim(cookie->uuid);
    if (!handoff)
        return FALSE;
    // One that went before this was noted has been told of already.
    if (client && rpc_session_closed(client))
        migration_client_closed(driver, client);
    cookie->token = g_strdup(handoff->token);
    *cookie_out = cookie_encode(cookie);
    *xml_out = g_steal_pointer(&xml);
    return TRUE;
}

static void
remember_peer(Handoff *handoff, const Cookie *destination)
{
    g_autoptr(GString) hex = g_string_new(NULL);
    for (guint i = 0; i < sizeof(destination->peer->sha256); i++)
        g_string_append_printf(hex, "%02x", destination->peer->sha256[i]);
    g_free(handoff->peer_host);
    g_strfreev(handoff->peer_addresses);
    g_free(handoff->peer_sha256);
    handoff->peer_host = g_strdup(destination->hostname);
    handoff->peer_addresses = g_strdupv(destination->peer->addresses);
    handoff->peer_port = destination->peer->port;
    handoff->peer_sha256 = g_strdup(hex->str);
}

// The record that Begin made for the token that Prepare answered.
static Handoff *
find_intent(Driver *driver, const Cookie *destination, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(Handoff) handoff = handoff_open(directory, destination->uuid, HANDOFF_SOURCE, error);
    if (!handoff)
        return NULL;
    if (handoff->state == HANDOFF_SOURCE_INTENT && g_strcmp0(handoff->token, destination->token) == 0)
        return g_steal_pointer(&handoff);
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                     "this migration is over (its record says %s); start a new one",
                     handoff_state_name(handoff->state));
    return NULL;
}

static char **
travelling_images(const Cookie *destination)
{
    g_autoptr(GStrvBuilder) paths = g_strv_builder_new();
    for (guint i = 0; i < destination->disks->len; i++)
        g_strv_builder_add(paths, ((CookieDisk *) g_ptr_array_index(destination->disks, i))->path);
    return g_strv_builder_end(paths);
}

// The guest runs at the destination: what is left of it here goes. Takes the handoff.
static void
depart(Driver *driver, Domain *domain, Handoff *handoff, OutgoingEnd *end)
{
    g_autoptr(Handoff) own = handoff;
    g_autofree char *uuid = g_strdup(own->uuid);
    g_autoptr(GError) error = NULL;
    gboolean ok = handoff_transition(own, HANDOFF_SOURCE_DONE, &error);
    domain_lock(domain);
    job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    domain_unlock(domain);
    if (ok && departure_leave(driver, own, &error)) {
        outgoing_farewell(end);
        if (end->closed && handoff_close(own, &error))
            own = NULL;
    }
    if (error)
        g_warning("migration of %s: %s", domain->name, error->message);
    if (own)
        resolve_source(driver, uuid);
}

// What the user is told: where the guest is now, and what to do.
static void
explain_failure(Domain *domain, const Handoff *handoff, GError **error)
{
    const char *host = handoff->peer_host ? handoff->peer_host : "the destination";
    int code = quasar_error_code(*error);
    g_autofree char *why = g_strdup((*error)->message);
    domain_lock(domain);
    const EmulatorProcess process = {.pid = domain->pid, .start_time = domain->pid_start};
    const char *now = process.pid <= 0 || !emulator_is_alive(&process) ? "the guest is shut off here"
                      : domain->state == VIR_DOMAIN_RUNNING            ? "the guest runs on here"
                                                                       : "the guest stays here, paused";
    domain_unlock(domain);
    g_clear_error(error);
    if (handoff->state == HANDOFF_SOURCE_RELEASED)
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "the migration of '%s' is undecided: the guest was handed to %s, whose answer is missing "
            "(%s); it stands still here until the hosts have settled it, which they do by themselves "
            "once %s can be reached",
            domain->name, host, why, host);
    else if (code == VIR_ERR_OPERATION_ABORTED)
        quasar_set_error(error, code, "%s; %s", why, now);
    else
        quasar_set_error(error, code, "the migration of '%s' to %s failed: %s; %s", domain->name, host, why,
                         now);
}

// The guest is still ours, or undecided. Takes the handoff.
static void
fail(Driver *driver, Domain *domain, Handoff *handoff, const OutgoingEnd *end, GError **error)
{
    g_autoptr(Handoff) own = handoff;
    if (own->state == HANDOFF_SOURCE_RELEASED)
        resolve_show_undecided(domain, own);
    gboolean cancelled = g_error_matches(*error, QUASAR_ERROR, VIR_ERR_OPERATION_ABORTED);
    explain_failure(domain, own, error);
    g_message("%s", (*error)->message);
    domain_lock(domain);
    g_strlcpy(domain->job.current.error, (*error)->message, sizeof(domain->job.current.error));
    job_end_async(domain, cancelled ? VIR_DOMAIN_JOB_CANCELLED : VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
    g_autofree char *uuid = g_strdup(own->uuid);
    if (own->state == HANDOFF_SOURCE_ABORTED && end->closed && handoff_close(own, NULL))
        own = NULL;
    else
        resolve_source(driver, uuid);
}

// Its images are renamed here when the guest has gone, and a disk left out would not be copied.
static gboolean
check_disks(Domain *domain, const Cookie *destination, GError **error)
{
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error) && disks_agree(domain->live, destination, error);
    domain_unlock(domain);
    return ok;
}

// Claimed.
static gboolean
perform_claimed(Driver *driver, Domain *domain, const Cookie *destination, const MigrationParams *params,
                guint flags, GError **error)
{
    g_autoptr(Handoff) handoff = find_intent(driver, destination, error);
    if (!handoff || !check_disks(domain, destination, error))
        return FALSE;
    set_begun(destination->uuid, NULL);
    remember_peer(handoff, destination);
    handoff->persist_dest = (flags & VIR_MIGRATE_PERSIST_DEST) != 0;
    handoff->undefine_source = (flags & VIR_MIGRATE_UNDEFINE_SOURCE) != 0;
    handoff->images = travelling_images(destination);
    // Before the destination is connected to: after a crash here it must be told that we have aborted.
    if (!handoff_store(handoff, error))
        return FALSE;
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error) &&
                  job_begin_async(domain, ASYNC_MIGRATION_OUT, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
                                  JOB_MASK_DEFAULT | JOB_MASK(JOB_SUSPEND), error);
    const OutgoingOptions options = {.destination = destination,
                                     .handoff = handoff,
                                     .live = (flags & VIR_MIGRATE_LIVE) != 0,
                                     .paused = (flags & VIR_MIGRATE_PAUSED) != 0,
                                     .bandwidth = params->bandwidth};
    domain_unlock(domain);
    if (!ok) {
        resolve_source(driver, handoff->uuid);
        return FALSE;
    }
    g_auto(OutgoingEnd) end = {NULL, NULL, FALSE};
    ok = outgoing_run(driver, domain, &options, &end, error);
    if (ok)
        depart(driver, domain, g_steal_pointer(&handoff), &end);
    else
        fail(driver, domain, g_steal_pointer(&handoff), &end, error);
    return ok;
}

static gboolean
perform_to(Driver *driver, Domain *domain, const Cookie *destination, const MigrationParams *params,
           guint flags, GError **error)
{
    if (!departure_claim(destination->uuid, PEER_TIMEOUT_MS)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is being migrated already",
                         domain->name);
        return FALSE;
    }
    gboolean ok = perform_claimed(driver, domain, destination, params, flags, error);
    departure_unclaim(destination->uuid);
    return ok;
}

// What Prepare answered (NULL: an error is set), and which way of those that it offers is taken.
static gboolean
take_answer(const Domain *domain, Cookie *destination, const MigrationParams *params, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    if (!destination)
        return FALSE;
    gboolean same = g_str_equal(destination->uuid, uuid);
    if (same && destination->peer && destination->peer->addresses[0] && destination->token) {
        // The peer stays known by all its addresses: an unlucky choice must not keep the hosts from settling
        // it.
        if (!destination->way)
            destination->way = peer_address_copy(destination->peer);
        return migration_choose_way(params->uri, destination->hostname, destination->way, error);
    }
    quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the destination's answer %s",
                     same ? "names no address to connect to" : "is about another guest");
    return FALSE;
}

// All five phases, driven from here.
static gboolean
perform_p2p(Driver *driver, Domain *domain, const char *uri, const MigrationParams *params, guint flags,
            GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GBytes) offer = NULL;
    g_autoptr(GBytes) prepared = NULL;
    const char *name = params->dname ? params->dname : domain->name;
    const guint destination_flags = flags & ~(VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_ABORT_ON_ERROR);
    if (!migration_begin(driver, NULL, domain, params, flags, &xml, &offer, error))
        return FALSE;
    g_autoptr(P2pDestination) peer = p2p_connect(driver, uri, error);
    gboolean accepted = peer && p2p_prepare(peer, name, xml, params->listen_address, destination_flags, offer,
                                            &prepared, error);
    g_autoptr(Cookie) destination = accepted ? cookie_decode(prepared, error) : NULL;
    gboolean whole = take_answer(domain, destination, params, error);
    gboolean ok = whole && perform_to(driver, domain, destination, params, flags, error);
    g_autoptr(GError) problem = NULL;
    // A Perform that has failed, or does not know, settles it with the destination itself.
    if (accepted && (ok || !whole) &&
        !p2p_finish(peer, name, xml, destination_flags, !ok, prepared, &problem))
        g_warning("the destination's end of the migration of %s: %s", name, problem->message);
    if (!ok)
        migration_confirm(driver, domain, params, flags, TRUE, NULL, NULL);
    return ok;
}

gboolean
migration_perform(Driver *driver, Domain *domain, const char *dconnuri, const MigrationParams *params,
                  guint flags, GBytes *cookie_in, GBytes **cookie_out, GError **error)
{
    if (!migration_check_flags(flags, error))
        return FALSE;
    if (dconnuri)
        return perform_p2p(driver, domain, dconnuri, params, flags, error);
    g_autoptr(Cookie) destination = cookie_decode(cookie_in, error);
    if (!take_answer(domain, destination, params, error))
        return FALSE;
    if (!perform_to(driver, domain, destination, params, flags, error))
        return FALSE;
    *cookie_out = cookie_encode(destination);
    return TRUE;
}

gboolean
migration_confirm(Driver *driver, Domain *domain, const MigrationParams *params, guint flags,
                  gboolean cancelled, GBytes *cookie_in, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    // Of a move that was performed, Perform and its resolver have the last word.
    if (!cancelled || !departure_claim(uuid, 0))
        return TRUE;
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, NULL);
    gboolean unperformed = handoff && handoff->state == HANDOFF_SOURCE_INTENT && !handoff->peer_addresses;
    gboolean ok = !unperformed || drop_intent(g_steal_pointer(&handoff), error);
    departure_unclaim(uuid);
    return ok;
}

static void
forget_begun(Driver *driver, gpointer uuid)
{
    // Its Perform has come meanwhile if somebody has the claim.
    if (!departure_claim(uuid, 0))
        return;
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, NULL);
    if (handoff && handoff->state == HANDOFF_SOURCE_INTENT && !handoff->peer_addresses)
        drop_intent(g_steal_pointer(&handoff), NULL);
    departure_unclaim(uuid);
}

void
migration_client_closed(Driver *driver, RpcSession *client)
{
    GHashTableIter iter;
    gpointer uuid, session;
    g_mutex_lock(&begun_lock);
    if (begun) {
        g_hash_table_iter_init(&iter, begun);
        while (g_hash_table_iter_next(&iter, &uuid, &session)) {
            if (session != client)
                continue;
            driver_defer(driver, forget_begun, g_strdup(uuid), g_free);
            g_hash_table_iter_remove(&iter);
        }
    }
    g_mutex_unlock(&begun_lock);
    incoming_client_closed(driver, client);
}

gboolean
migration_abort(Driver *driver, Domain *domain, GError **error)
{
    domain_lock(domain);
    gboolean ok = job_abort(domain, error);
    domain_unlock(domain);
    return ok;
}

typedef struct {
    Driver *driver;
    Channel *channel;
} PeerTask;

static void
serve_peer(Driver *driver, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PeerHello) hello = peer_receive_hello(channel, &error);
    if (hello && hello->kind == PEER_RESOLVE) {
        resolve_answer(driver, hello->token, channel);
        return;
    }
    g_autoptr(Incoming) incoming = hello ? incoming_by_token(hello->token) : NULL;
    if (!incoming) {
        g_message("a peer connection is closed: %s", error ? error->message : "its token is unknown here");
        channel_free(channel);
        return;
    }
    if (hello->kind == PEER_CONTROL)
        conversation_hold(incoming, channel);
    else if (hello->kind == PEER_NIC)
        move_nics_receive(incoming, hello->name, channel);
    else
        incoming_relay(incoming, hello->name ? hello->name : "ram",
                       hello->kind == PEER_RAM ? "ram.sock" : "nbd.sock", channel);
}

static gpointer
peer_main(gpointer data)
{
    g_autofree PeerTask *task = data;
    serve_peer(task->driver, task->channel);
    return NULL;
}

void
migration_accept_peer(Driver *driver, int fd, TlsSession *tls)
{
    PeerTask *task = g_new0(PeerTask, 1);
    task->driver = driver;
    task->channel = channel_new(fd, tls);
    g_thread_unref(g_thread_new("peer", peer_main, task));
}
