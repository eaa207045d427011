// SPDX-License-Identifier: LGPL-2.1-or-later
// Open moves as administrators see them, and their word in place of a peer's that is dead.
#include "driver/migration/promote.h"

#include <gio/gio.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/migration/departure.h"
#include "driver/migration/incoming.h"
#include "driver/migration/peer.h"
#include "driver/migration/resolve.h"

// A source that lives asks again within this time (resolve.c, with the time that its steps may take).
#define SIGN_OF_LIFE_US (30 * G_TIME_SPAN_SECOND)
#define PROBE_S         3

static json_t *
text_or_null(const char *text)
{
    json_t *value = text ? json_string(text) : NULL;
    return value ? value : json_null();
}

json_t *
promote_list(Driver *driver, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) records = handoff_scan(directory, &damaged, error);
    if (!records)
        return NULL;
    json_t *list = json_array(), *unreadable = json_array();
    for (guint i = 0; i < records->len; i++) {
        const Handoff *handoff = g_ptr_array_index(records, i);
        json_array_append_new(
            list, json_pack("{s:o, s:s, s:s, s:s, s:o, s:I, s:o, s:o}", "domain", text_or_null(handoff->name),
                            "uuid", handoff->uuid, "role", handoff_role_name(handoff->role), "state",
                            handoff_state_name(handoff->state), "peer", text_or_null(handoff->peer_host),
                            "epoch", (json_int_t) handoff->epoch, "since",
                            handoff->since > 0 ? json_integer(handoff->since) : json_null(), "promoted-by",
                            text_or_null(handoff->promoted_by)));
    }
    for (char **text = damaged; text && *text; text++)
        json_array_append_new(unreadable, json_string(*text));
    return json_pack("{s:o, s:o}", "migrations", list, "damaged", unreadable);
}

// The more of the guest hangs on a record, the sooner it is dealt with.
static guint
urgency(const Handoff *handoff)
{
    switch (handoff->state) {
    case HANDOFF_DESTINATION_PREPARED:
    case HANDOFF_DESTINATION_OWNED:
    case HANDOFF_DESTINATION_STARTING:
        return 4;
    case HANDOFF_SOURCE_INTENT:
    case HANDOFF_SOURCE_RELEASED:
        return 3;
    case HANDOFF_SOURCE_ABORTED:
    case HANDOFF_SOURCE_DONE:
        return 2;
    default:
        return 1;
    }
}

// The record to be dealt with: its UUID and role.
static gboolean
find_record(Driver *driver, const char *name, char **uuid, HandoffRole *role, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) records = handoff_scan(directory, &damaged, error);
    const Handoff *found = NULL;
    if (!records)
        return FALSE;
    for (guint i = 0; i < records->len; i++) {
        const Handoff *handoff = g_ptr_array_index(records, i);
        if (!g_str_equal(handoff->uuid, name) && g_strcmp0(handoff->name, name) != 0)
            continue;
        if (found && !g_str_equal(found->uuid, handoff->uuid)) {
            quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                             "several guests called '%s' have open migrations: say the UUID", name);
            return FALSE;
        }
        if (!found || urgency(handoff) > urgency(found))
            found = handoff;
    }
    if (!found) {
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no migration of '%s' is open on this host", name);
        return FALSE;
    }
    *uuid = g_strdup(found->uuid);
    *role = found->role;
    return TRUE;
}

static gboolean
refuse(GError **error, const Handoff *handoff, const char *why)
{
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the migration of '%s' (%s: %s) is not settled: %s",
                     handoff->name ? handoff->name : handoff->uuid, handoff_role_name(handoff->role),
                     handoff_state_name(handoff->state), why);
    return FALSE;
}

// A host that answers on its port is not dead, whatever it says there.
static gboolean
check_silent(const Handoff *handoff, GError **error)
{
    for (char **address = handoff->peer_addresses; handoff->peer_port && address && *address; address++) {
        g_autoptr(GSocketClient) client = g_socket_client_new();
        g_socket_client_set_timeout(client, PROBE_S);
        g_socket_client_set_enable_proxy(client, FALSE);
        g_autoptr(GSocketConnectable) where = g_network_address_new(*address, handoff->peer_port);
        g_autoptr(GSocketConnection) answered = g_socket_client_connect(client, where, NULL, NULL);
        if (!answered)
            continue;
        g_autofree char *why =
            g_strdup_printf("the peer is not dead, it answers at %s; the two settle it", *address);
        return refuse(error, handoff, why);
    }
    return TRUE;
}

// With the session's lock: whether an administrator may speak for the source.
static gboolean
may_promote(Incoming *incoming, GError **error)
{
    const Handoff *handoff = incoming->handoff;
    if (incoming->state == INCOMING_WAITING)
        return refuse(error, handoff, "no source has come yet; what nobody comes for is given up by itself");
    if (incoming->talking)
        return refuse(error, handoff, "the source is connected");
    if (incoming->heard_us && g_get_monotonic_time() < incoming->heard_us + SIGN_OF_LIFE_US)
        return refuse(error, handoff, "the source asked about it a moment ago; it is not dead");
    if (handoff->state == HANDOFF_DESTINATION_PREPARED && !incoming_holds_guest(incoming))
        return refuse(error, handoff,
                      "the guest is not wholly here, and cannot be promoted; virsh destroy gives it up");
    return TRUE;
}

static gboolean
promote(Incoming *incoming, const char *who, GError **error)
{
    g_autofree char *peer = NULL;
    g_mutex_lock(&incoming->lock);
    gboolean ok = may_promote(incoming, error);
    // Without the source's word it has no other definition; what the emulators held there is gone.
    IncomingCommit commit = {.persist_dest = TRUE, .source_has_ram = FALSE};
    if (ok) {
        commit.run_state = incoming->handoff->run_state ? incoming->handoff->run_state : VIR_DOMAIN_RUNNING;
        // On the disk together with "owned", and from there on with all.
        g_free(incoming->handoff->promoted_by);
        incoming->handoff->promoted_by = g_strdup(who);
        peer = g_strdup(incoming->handoff->peer_host);
    }
    g_mutex_unlock(&incoming->lock);
    if (!ok)
        return FALSE;
    g_warning("the guest %s is taken without the word of its source: %s says that %s is dead and fenced",
              incoming->uuid, who, peer ? peer : "its source");
    if (!incoming_commit(incoming, &commit, error))
        return FALSE;
    incoming_book(incoming);
    incoming_finish_job(incoming, NULL);
    return TRUE;
}

static char *
resolve_destination(const char *uuid, gboolean peer_is_dead, const char *who, GError **error)
{
    g_autoptr(Incoming) incoming = incoming_by_uuid(uuid);
    if (!incoming) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the migration of %s is being settled; look again",
                         uuid);
        return NULL;
    }
    g_autofree char *directory = handoff_directory(incoming->driver->state_dir);
    g_mutex_lock(&incoming->lock);
    const IncomingState state = incoming->state;
    const gboolean promoted = incoming->handoff && incoming->handoff->promoted_by;
    g_autoptr(Handoff) seen = handoff_open(directory, uuid, HANDOFF_DESTINATION, error);
    g_mutex_unlock(&incoming->lock);
    if (!seen)
        return NULL;
    const char *problem =
        !peer_is_dead ? "it waits for the source, which asks by itself once it is reached; if "
                        "that host is dead for ever, fence it and say --peer-is-dead"
        : promoted && state == INCOMING_ARRIVED
            ? "the guest was promoted and is here; the record stays, so that its former host hears "
              "of it if it ever comes back"
            : NULL;
    if (problem ? !refuse(error, seen, problem) : !check_silent(seen, error))
        return NULL;
    if (state == INCOMING_ARRIVED || state == INCOMING_REFUSED) {
        if (!incoming_close(incoming, error))
            return NULL;
        return g_strdup(state == INCOMING_ARRIVED ? "the guest is here, and its record is closed"
                                                  : "the guest is not here, and its record is closed");
    }
    if (!promote(incoming, who, error))
        return NULL;
    return g_strdup(incoming->crashed
                        ? "the guest is this host's and shut off: both emulators that held it are gone"
                        : "the guest is this host's");
}

// The destination is dead for ever: what is ours is closed; what is the destination's stays its.
static char *
give_up_destination(Driver *driver, Handoff **record, const char *who, GError **error)
{
    Handoff *handoff = *record;
    g_autoptr(Domain) domain = departure_domain(driver, handoff);
    if (handoff->state == HANDOFF_SOURCE_RELEASED) {
        refuse(error, handoff,
               "the guest was released to the destination and may have run there, so only the destination "
               "can go on "
               "with it; bring that host, or its disk, back");
        return NULL;
    }
    if (!check_silent(handoff, error))
        return NULL;
    g_warning(
        "the migration of %s is closed without its destination's word: %s says that %s is dead and fenced",
        handoff->uuid, who, handoff->peer_host ? handoff->peer_host : "it");
    const gboolean gone = handoff->state == HANDOFF_SOURCE_DONE;
    if (gone && !handoff->left && !departure_leave(driver, handoff, error))
        return NULL;
    if (handoff->state == HANDOFF_SOURCE_INTENT) {
        if (!handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, error))
            return NULL;
        if (domain)
            departure_stay(domain);
    }
    g_autofree char *uuid = g_strdup(handoff->uuid);
    if (!handoff_close(handoff, error))
        return NULL;
    *record = NULL;
    resolve_asked(uuid);
    return g_strdup(gone ? "the guest has gone, and its record is closed"
                         : "the guest is this host's, and its record is closed");
}

static char *
resolve_claimed(Driver *driver, const char *uuid, gboolean peer_is_dead, const char *who, GError **error)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    if (!peer_is_dead && resolve_now(driver, uuid))
        return g_strdup("it is settled");
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, error);
    if (handoff && peer_is_dead)
        return give_up_destination(driver, &handoff, who, error);
    if (handoff)
        refuse(error, handoff, "the destination has not confirmed it; it is asked again until it does");
    return NULL;
}

static gboolean
is_moving(Driver *driver, const char *uuid)
{
    guint8 bytes[VIR_UUID_BUFLEN];
    g_autoptr(Domain) domain =
        domain_uuid_parse(uuid, bytes) ? domain_list_by_uuid(driver_domains(driver), bytes, NULL) : NULL;
    if (!domain)
        return FALSE;
    domain_lock(domain);
    gboolean moving = domain->job.async == ASYNC_MIGRATION_OUT;
    domain_unlock(domain);
    return moving;
}

char *
promote_resolve(Driver *driver, const char *name, gboolean peer_is_dead, const char *who, GError **error)
{
    g_autofree char *uuid = NULL;
    HandoffRole role;
    if (!find_record(driver, name, &uuid, &role, error))
        return NULL;
    if (role == HANDOFF_DESTINATION)
        return resolve_destination(uuid, peer_is_dead, who, error);
    // The resolver holds it for as long as a peer may be silent; a move for as long as it runs.
    if (is_moving(driver, uuid) || !departure_claim(uuid, 4 * PEER_TIMEOUT_MS)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "the migration of '%s' is under way; virsh domjobabort ends it", name);
        return NULL;
    }
    char *done = resolve_claimed(driver, uuid, peer_is_dead, who, error);
    departure_unclaim(uuid);
    return done;
}
