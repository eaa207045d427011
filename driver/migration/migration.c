// SPDX-License-Identifier: LGPL-2.1-or-later
// The source's phases of libvirt's v3 migration after Begin: Perform and Confirm, as bookkeeping around the
// move.
#include "driver/migration/migration.h"

#include "base/error.h"
#include "driver/migration/cookie.h"
#include "driver/migration/departure.h"
#include "driver/migration/disks.h"
#include "driver/migration/handoff.h"
#include "driver/migration/outgoing.h"
#include "driver/migration/p2p.h"
#include "driver/migration/phases.h"
#include "driver/migration/resolve.h"
#include "emulator/launch.h"

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
    begin_followed(destination->uuid);
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
    return !cancelled || begin_drop(driver, uuid, error);
}

gboolean
migration_abort(Driver *driver, Domain *domain, GError **error)
{
    domain_lock(domain);
    gboolean ok = job_abort(domain, error);
    domain_unlock(domain);
    return ok;
}
