// SPDX-License-Identifier: LGPL-2.1-or-later
// Begin at the source: what may move, how it is described, the record of the intent; and Begins that no
// Perform follows.

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "driver/migration/cookie.h"
#include "driver/migration/departure.h"
#include "driver/migration/disks.h"
#include "driver/migration/handoff.h"
#include "driver/migration/incoming.h"
#include "driver/migration/migration.h"
#include "driver/migration/phases.h"
#include "driver/migration/resolve.h"
#include "driver/rpc/session.h"

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

void
begin_followed(const char *uuid)
{
    set_begun(uuid, NULL);
}

// Claimed elsewhere: its Perform has come.
gboolean
begin_drop(Driver *driver, const char *uuid, GError **error)
{
    if (!departure_claim(uuid, 0))
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
    begin_drop(driver, uuid, NULL);
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
