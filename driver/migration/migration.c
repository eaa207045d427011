// SPDX-License-Identifier: LGPL-2.1-or-later
// The five phases of libvirt's v3 migration, as bookkeeping around the two halves of the move.
#include "driver/migration/migration.h"

#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "driver/config.h"
#include "driver/domains.h"
#include "driver/lifecycle.h"
#include "driver/migration/cookie.h"
#include "driver/migration/disks.h"
#include "driver/migration/handoff.h"
#include "driver/migration/incoming.h"
#include "driver/migration/outgoing.h"
#include "driver/migration/p2p.h"
#include "driver/migration/resolve.h"
#include "driver/process.h"
#include "driver/store.h"
#include "emulator/command.h"
#include "emulator/monitor.h"

#define DEFAULT_TLS_PORT 16514

// What First light carries out; everything else is refused by name, so that nobody believes it done.
#define SUPPORTED_FLAGS                                                                                      \
    (VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE |     \
     VIR_MIGRATE_PAUSED | VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_UNSAFE | VIR_MIGRATE_NON_SHARED_DISK | \
     VIR_MIGRATE_NON_SHARED_INC | VIR_MIGRATE_TLS | VIR_MIGRATE_ABORT_ON_ERROR)

void
migration_params_free(MigrationParams *params)
{
    if (!params)
        return;
    g_free(params->uri);
    g_free(params->dname);
    g_free(params->dest_xml);
    g_free(params->persist_xml);
    g_free(params->graphics_uri);
    g_free(params->listen_address);
    g_free(params->tls_destination);
    g_strfreev(params->migrate_disks);
    g_free(params);
}

static gboolean
check_flags(guint flags, GError **error)
{
    guint unknown = flags & ~SUPPORTED_FLAGS;
    if (unknown == 0)
        return TRUE;
    const char *name = unknown & VIR_MIGRATE_TUNNELLED
                           ? "tunnelled (everything travels over the one TLS port anyway)"
                       : unknown & VIR_MIGRATE_POSTCOPY ? "post-copy"
                       : unknown & VIR_MIGRATE_OFFLINE  ? "offline"
                                                        : "requested";
    quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "%s migration is not supported (flags 0x%x)", name,
                     unknown);
    return FALSE;
}

static char *
handoff_directory(const Driver *driver)
{
    return g_build_filename(driver->state_dir, "handoff", NULL);
}

static PeerAddress *
own_address(Driver *driver, GError **error)
{
    if (!driver->credentials) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "this host has no TLS certificates; put cacert.pem, servercert.pem and "
                         "serverkey.pem where libvirt "
                         "expects them and restart virtquasard");
        return NULL;
    }
    gint64 port = DEFAULT_TLS_PORT;
    const char *text = NULL;
    if (driver->config && config_string(driver->config, "tls_port", &text, NULL) && text)
        port = g_ascii_strtoll(text, NULL, 10);
    PeerAddress *address = g_new0(PeerAddress, 1);
    address->addresses = peer_local_addresses();
    address->port = (guint16) port;
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

// The source's record in state intent. One left by a Begin that nobody followed up is closed first.
static Handoff *
open_intent(Driver *driver, Domain *domain, const char *uuid, GError **error)
{
    g_autofree char *directory = handoff_directory(driver);
    guint64 epoch;
    if (!file_make_directory(directory, 0700, error) || !next_epoch(driver, uuid, &epoch, error))
        return NULL;
    g_autoptr(Handoff) old = handoff_open(directory, uuid, HANDOFF_SOURCE, NULL);
    if (old &&
        (old->state == HANDOFF_SOURCE_IDLE || old->state == HANDOFF_SOURCE_ABORTED ||
         (old->state == HANDOFF_SOURCE_INTENT && handoff_transition(old, HANDOFF_SOURCE_ABORTED, error)))) {
        if (!handoff_close(old, error))
            return NULL;
        old = NULL;
    }
    g_autoptr(Handoff) handoff = handoff_create_source(directory, uuid, epoch, error);
    if (!handoff)
        return NULL;
    handoff->name = g_strdup(domain->name);
    if (!handoff_transition(handoff, HANDOFF_SOURCE_INTENT, error) || !fault_point("src-intent", error))
        return NULL;
    return g_steal_pointer(&handoff);
}

gboolean
migration_begin(Driver *driver, Domain *domain, const MigrationParams *params, guint flags, char **xml_out,
                GBytes **cookie_out, GError **error)
{
    g_autoptr(Cookie) cookie = cookie_new();
    if (!check_flags(flags, error) || !(cookie->peer = own_address(driver, error)))
        return FALSE;
    if (!driver->client_credentials) {
        quasar_set_error(
            error, VIR_ERR_OPERATION_FAILED,
            "this host has no client certificate to show to the destination; put clientcert.pem and "
            "private/clientkey.pem where libvirt expects them and restart virtquasard");
        return FALSE;
    }
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error);
    if (ok) {
        cookie->uuid = g_strdup(domain->live->uuid);
        cookie->name = g_strdup(domain->name);
        cookie->machine = g_strdup(domain->live->machine);
        *xml_out = domain_def_format(domain->live, DOMAIN_FORMAT_MIGRATABLE | DOMAIN_FORMAT_SECURE, -1);
    }
    domain_unlock(domain);
    cookie->hostname = g_strdup(g_get_host_name());
    g_autoptr(Handoff) handoff = NULL;
    ok = ok && disks_describe(domain, cookie, error) &&
         (handoff = open_intent(driver, domain, cookie->uuid, error));
    if (!ok) {
        g_clear_pointer(xml_out, g_free);
        return FALSE;
    }
    cookie->token = g_strdup(handoff->token);
    *cookie_out = cookie_encode(cookie);
    return TRUE;
}

// The emulator's half of Prepare: what listens where before the source is told to come.
static gboolean
listen_for_guest(Domain *domain, const Cookie *cookie, GError **error)
{
    static const char *const names[] = {"return-path", "events", "late-block-activate", NULL};
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, error);
    g_autofree char *ram = g_strdup_printf("unix:%s/ram.sock", domain->run_dir);
    g_autofree char *nbd = g_strdup_printf("%s/nbd.sock", domain->run_dir);
    domain_unlock(domain);
    if (!qmp || !monitor_migrate_set_capabilities(qmp, names, error) ||
        !monitor_migrate_set_parameters(qmp, json_pack("{s:i}", "announce-rounds", 0), error) ||
        !monitor_migrate_incoming(qmp, ram, error))
        return FALSE;
    if (cookie->disks->len > 0 && !monitor_nbd_server_start(qmp, nbd, error))
        return FALSE;
    for (guint i = 0; i < cookie->disks->len; i++) {
        CookieDisk *disk = g_ptr_array_index(cookie->disks, i);
        domain_lock(domain);
        g_autofree char *node = NULL;
        for (guint d = 0; d < domain->live->disks->len; d++)
            if (g_strcmp0(((DomainDisk *) g_ptr_array_index(domain->live->disks, d))->target, disk->target) ==
                0)
                node = emulator_format_node(domain->live, d);
        domain_unlock(domain);
        if (!node || !monitor_block_export_add(qmp, disk->target, node, disk->target, error))
            return FALSE;
    }
    return TRUE;
}

// Starts the emulator that waits. On failure the domain is as it was.
static Domain *
start_waiting(Driver *driver, DomainDef *def, const Cookie *cookie, GError **error)
{
    g_autoptr(DomainDef) own = def;
    gboolean created = FALSE;
    if (!process_assign(driver, own, error))
        return NULL;
    g_autoptr(Domain) domain = domain_list_add(driver_domains(driver), driver, own, &created, error);
    if (!domain)
        return NULL;
    const ProcessOptions options = {.incoming = "defer", .paused = TRUE, .vnet_armed = TRUE};
    domain_lock(domain);
    gboolean started = FALSE, ok = FALSE;
    if (domain_is_active(domain))
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active at the destination",
                         domain->name);
    else if (job_begin_async(domain, ASYNC_MIGRATION_IN, VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
                             JOB_MASK_DEFAULT, error)) {
        ok = job_begin_nested(domain, error);
        if (ok) {
            ok = started = process_start(domain, g_steal_pointer(&own), &options, error);
            job_end(domain);
        }
        if (!ok)
            job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    }
    domain_unlock(domain);
    if (ok && listen_for_guest(domain, cookie, error))
        return g_steal_pointer(&domain);
    domain_lock(domain);
    if (started) {
        domain->destroying = TRUE;
        process_kill(domain, FALSE, NULL);
        process_cleanup(domain, VIR_DOMAIN_SHUTOFF_FAILED);
        job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    } else if (created) {
        domain_list_remove(driver_domains(driver), domain);
    }
    domain_unlock(domain);
    return NULL;
}

static DomainDef *
destination_definition(const MigrationParams *params, const Cookie *cookie, GError **error)
{
    if (!params->dest_xml) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "no domain XML came with the migration");
        return NULL;
    }
    g_autoptr(DomainDef) def = domain_def_parse(params->dest_xml, error);
    if (!def)
        return NULL;
    if (g_strcmp0(def->uuid, cookie->uuid) != 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "the domain XML is of another guest than the migration");
        return NULL;
    }
    if (params->dname) {
        g_free(def->name);
        def->name = g_strdup(params->dname);
    }
    return g_steal_pointer(&def);
}

static void
give_up(Driver *driver, gpointer data)
{
    incoming_refuse(data, "nobody came to perform the migration", NULL);
}

// The session is kept until its end is known, so that Finish and a returning source can ask about it.
static gboolean
expire(gpointer data)
{
    Incoming *incoming = data;
    if (incoming->state == INCOMING_WAITING)
        driver_defer(incoming->driver, give_up, incoming, NULL);
    if (incoming->state != INCOMING_ARRIVED && incoming->state != INCOMING_REFUSED)
        return G_SOURCE_CONTINUE;
    incoming_unref(incoming);
    return G_SOURCE_REMOVE;
}

// The record of an earlier move of this guest that ended here without its source's last word: the new move
// says that it is settled.
static gboolean
close_settled(const char *directory, const char *uuid, GError **error)
{
    g_autoptr(Handoff) old = handoff_open(directory, uuid, HANDOFF_DESTINATION, NULL);
    if (!old || !(handoff_is_end(old->state) || old->state == HANDOFF_DESTINATION_NONE))
        return TRUE;
    if (!handoff_close(old, error))
        return FALSE;
    old = NULL;
    return TRUE;
}

gboolean
migration_prepare(Driver *driver, RpcSession *client, const MigrationParams *params, guint flags,
                  GBytes *cookie_in, GBytes **cookie_out, char **uri_out, GError **error)
{
    g_autoptr(Cookie) cookie = cookie_decode(cookie_in, error);
    g_autofree char *directory = handoff_directory(driver);
    if (!cookie || !check_flags(flags, error) || !file_make_directory(directory, 0700, error))
        return FALSE;
    g_autoptr(PeerAddress) address = own_address(driver, error);
    g_autoptr(DomainDef) def = address ? destination_definition(params, cookie, error) : NULL;
    if (!def || !disks_check_read_only(def, error) || !close_settled(directory, cookie->uuid, error))
        return FALSE;
    g_autoptr(Handoff) handoff = handoff_create_destination(directory, cookie->token, error);
    if (!handoff)
        return FALSE;
    g_autoptr(GPtrArray) created = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Domain) domain = NULL;
    handoff->persist_dest = (flags & VIR_MIGRATE_PERSIST_DEST) != 0;
    gboolean ok = disks_create(driver, cookie, created, error);
    if (ok) {
        disks_adjust(def, cookie);
        domain = start_waiting(driver, g_steal_pointer(&def), cookie, error);
    }
    if (!domain || !handoff_transition(handoff, HANDOFF_DESTINATION_PREPARED, error)) {
        for (guint i = 0; i < created->len; i++)
            file_remove(g_ptr_array_index(created, i), NULL);
        if (handoff_close(handoff, NULL))
            handoff = NULL;
        return FALSE;
    }
    g_autoptr(Cookie) answer = cookie_new();
    answer->uuid = g_strdup(cookie->uuid);
    answer->name = g_strdup(domain->name);
    answer->hostname = g_strdup(g_get_host_name());
    answer->token = g_strdup(cookie->token);
    answer->peer = g_steal_pointer(&address);
    g_ptr_array_unref(answer->disks);
    answer->disks = g_ptr_array_ref(cookie->disks);
    *cookie_out = cookie_encode(answer);
    *uri_out = g_strdup_printf("quasar://%s", g_get_host_name());
    Incoming *incoming = incoming_new(driver, domain, g_steal_pointer(&handoff), g_steal_pointer(&cookie),
                                      g_steal_pointer(&created), flags);
    incoming->timer = g_timeout_add_seconds(INCOMING_UNCLAIMED_S, expire, incoming);
    return TRUE;
}

// Everything that ends the guest's stay here once it runs at the destination.
static void
leave(Domain *domain, const Cookie *cookie, guint flags)
{
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    domain->destroying = TRUE;
    process_kill(domain, FALSE, NULL);
    domain_emit_lifecycle(domain, VIR_DOMAIN_EVENT_STOPPED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED);
    job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    process_cleanup(domain, VIR_DOMAIN_SHUTOFF_MIGRATED);
    domain_unlock(domain);
    disks_supersede(cookie);
    if ((flags & VIR_MIGRATE_UNDEFINE_SOURCE) && domain->persistent && !lifecycle_undefine(domain, 0, &error))
        g_warning("%s has moved, but its definition stays: %s", domain->name, error->message);
}

static void
quiet_nics(Domain *domain)
{
    domain_lock(domain);
    for (guint i = 0; domain->vnets && i < domain->vnets->len; i++)
        if (g_ptr_array_index(domain->vnets, i))
            vnet_client_standby(g_ptr_array_index(domain->vnets, i), NULL);
    domain_unlock(domain);
}

static void
show_undecided(Domain *domain, const Handoff *handoff)
{
    g_autofree char *text = g_strdup_printf(
        "migration undecided: the guest was handed to %s, whose answer is missing; restore the link "
        "between the hosts, and the hosts will settle it",
        handoff->peer_host ? handoff->peer_host : "the destination");
    domain_lock(domain);
    domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION);
    domain_add_message(domain, text);
    domain_unlock(domain);
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
    g_autofree char *directory = handoff_directory(driver);
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

static gboolean
perform_to(Driver *driver, Domain *domain, const Cookie *destination, const MigrationParams *params,
           guint flags, GError **error)
{
    g_autoptr(Handoff) handoff = find_intent(driver, destination, error);
    if (!handoff)
        return FALSE;
    remember_peer(handoff, destination);
    handoff->persist_dest = (flags & VIR_MIGRATE_PERSIST_DEST) != 0;
    handoff->undefine_source = (flags & VIR_MIGRATE_UNDEFINE_SOURCE) != 0;
    domain_lock(domain);
    gboolean ok = domain_check_active(domain, error) &&
                  job_begin_async(domain, ASYNC_MIGRATION_OUT, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
                                  JOB_MASK_DEFAULT, error);
    const OutgoingOptions options = {
        .destination = (Cookie *) destination,
        .handoff = handoff,
        .live = (flags & VIR_MIGRATE_LIVE) != 0,
        .paused = (flags & VIR_MIGRATE_PAUSED) || domain->state == VIR_DOMAIN_PAUSED,
        .persist_dest = handoff->persist_dest,
        .bandwidth = params->bandwidth ? params->bandwidth : domain->max_speed_mib,
    };
    domain_unlock(domain);
    if (!ok)
        return FALSE;
    if (outgoing_run(driver, domain, &options, error)) {
        quiet_nics(domain);
        if (!handoff_transition(handoff, HANDOFF_SOURCE_DONE, error))
            return FALSE;
        leave(domain, destination, flags);
        if (handoff_close(handoff, NULL))
            handoff = NULL;
        return TRUE;
    }
    if (handoff->state == HANDOFF_SOURCE_RELEASED)
        show_undecided(domain, handoff);
    if (handoff->state == HANDOFF_SOURCE_RELEASED || handoff->state == HANDOFF_SOURCE_ABORTED)
        resolve_source(driver, handoff->uuid);
    domain_lock(domain);
    job_end_async(domain, g_error_matches(*error, QUASAR_ERROR, VIR_ERR_OPERATION_ABORTED)
                              ? VIR_DOMAIN_JOB_CANCELLED
                              : VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
    return FALSE;
}

// All five phases, driven from here.
static gboolean
perform_p2p(Driver *driver, Domain *domain, const char *uri, const MigrationParams *params, guint flags,
            GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GBytes) begun = NULL;
    g_autoptr(GBytes) prepared = NULL;
    const char *name = params->dname ? params->dname : domain->name;
    const guint destination_flags = flags & ~(VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_ABORT_ON_ERROR);
    if (!migration_begin(driver, domain, params, flags, &xml, &begun, error))
        return FALSE;
    g_autoptr(P2pDestination) peer = p2p_connect(driver, uri, error);
    gboolean accepted = peer && p2p_prepare(peer, name, xml, destination_flags, begun, &prepared, error);
    g_autoptr(Cookie) destination = accepted ? cookie_decode(prepared, error) : NULL;
    gboolean ok =
        destination && destination->peer && perform_to(driver, domain, destination, params, flags, error);
    g_autoptr(GError) problem = NULL;
    if (accepted && !p2p_finish(peer, name, xml, destination_flags, !ok, prepared, &problem))
        g_warning("the destination's end of the migration of %s: %s", name, problem->message);
    if (!ok)
        migration_confirm(driver, domain, params, flags, TRUE, NULL, NULL);
    return ok;
}

gboolean
migration_perform(Driver *driver, Domain *domain, const char *dconnuri, const MigrationParams *params,
                  guint flags, GBytes *cookie_in, GBytes **cookie_out, GError **error)
{
    if (!check_flags(flags, error))
        return FALSE;
    if (dconnuri)
        return perform_p2p(driver, domain, dconnuri, params, flags, error);
    g_autoptr(Cookie) destination = cookie_decode(cookie_in, error);
    if (!destination)
        return FALSE;
    if (!destination->peer || !destination->token) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR,
                         "the destination's answer names no address to connect to");
        return FALSE;
    }
    if (!perform_to(driver, domain, destination, params, flags, error))
        return FALSE;
    *cookie_out = cookie_encode(destination);
    return TRUE;
}

gboolean
migration_finish(Driver *driver, const MigrationParams *params, guint flags, gboolean cancelled,
                 GBytes *cookie_in, GBytes **cookie_out, Domain **out, GError **error)
{
    g_autoptr(Domain) domain = NULL;
    if (!params->dname) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "Finish does not name the domain");
        return FALSE;
    }
    domain = domain_list_by_name(driver_domains(driver), params->dname, error);
    if (!domain)
        return FALSE;
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autoptr(Incoming) incoming = incoming_by_uuid(uuid);
    gboolean ours = incoming && incoming_wait_arrived(incoming, cancelled ? 0 : PEER_TIMEOUT_MS);
    if (ours) {
        *out = g_steal_pointer(&domain);
        return TRUE;
    }
    if (incoming && cancelled && !incoming_refuse(incoming, "its client cancelled the migration", error))
        return FALSE;
    if (cancelled)
        quasar_set_error(error, VIR_ERR_MIGRATE_FINISH_OK, "domain '%s' stays at the source", params->dname);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "domain '%s' has not arrived", params->dname);
    return FALSE;
}

gboolean
migration_confirm(Driver *driver, Domain *domain, const MigrationParams *params, guint flags,
                  gboolean cancelled, GBytes *cookie_in, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_autofree char *directory = handoff_directory(driver);
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, NULL);
    if (!handoff || !cancelled)
        return TRUE;
    if (handoff->state == HANDOFF_SOURCE_INTENT &&
        !handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, error))
        return FALSE;
    if (handoff->state == HANDOFF_SOURCE_ABORTED && handoff_close(handoff, NULL))
        handoff = NULL;
    return TRUE;
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
    domain_lock(incoming->domain);
    g_autofree char *directory = g_strdup(incoming->domain->run_dir);
    domain_unlock(incoming->domain);
    g_autofree char *ram = g_build_filename(directory, "ram.sock", NULL);
    g_autofree char *nbd = g_build_filename(directory, "nbd.sock", NULL);
    if (hello->kind == PEER_CONTROL)
        incoming_converse(incoming, channel);
    else
        incoming_relay(incoming, hello->disk ? hello->disk : "ram", hello->kind == PEER_RAM ? ram : nbd,
                       channel);
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
