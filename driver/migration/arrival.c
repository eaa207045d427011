// SPDX-License-Identifier: LGPL-2.1-or-later
// The destination's phases of libvirt's v3 migration, Prepare and Finish: what must be here before the source
// comes.
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "driver/domains.h"
#include "driver/migration/cookie.h"
#include "driver/migration/departure.h"
#include "driver/migration/disks.h"
#include "driver/migration/handoff.h"
#include "driver/migration/incoming.h"
#include "driver/migration/migration.h"
#include "driver/migration/peer.h"
#include "driver/migration/phases.h"
#include "driver/process.h"
#include "driver/rpc/session.h"
#include "emulator/monitor.h"

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
        g_autofree char *node = disks_format_node(domain, disk->target, error);
        if (!node || !monitor_block_export_add(qmp, disk->target, node, disk->target, error))
            return FALSE;
    }
    return TRUE;
}

static void
stop_waiting(Domain *domain)
{
    departure_end_emulator(domain, VIR_DOMAIN_SHUTOFF_FAILED, -1);
    domain_lock(domain);
    job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
}

// Starts the emulator that waits. On failure the domain is as it was.
static Domain *
start_waiting(Driver *driver, DomainDef *def, const Cookie *cookie, GError **error)
{
    g_autoptr(DomainDef) own = def;
    gboolean created = FALSE;
    const EmulatorTraits *traits = cookie->traits;
    if (!process_assign(driver, own, error))
        return NULL;
    g_autoptr(Domain) domain = domain_list_add(driver_domains(driver), driver, own, &created, error);
    if (!domain) {
        g_prefix_error(error, "the destination cannot take the guest: ");
        return NULL;
    }
    const ProcessOptions options = {
        .incoming = "defer", .paused = TRUE, .vnet_armed = TRUE, .ram_kib = traits ? traits->ram_kib : 0};
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
    if (!started && created)
        domain_list_remove(driver_domains(driver), domain);
    domain_unlock(domain);
    if (ok && listen_for_guest(domain, cookie, error))
        return g_steal_pointer(&domain);
    if (started)
        stop_waiting(domain);
    return NULL;
}

// Before anything of the guest is made here.
static gboolean
check_arrival(Driver *driver, const DomainDef *def, const Cookie *cookie, guint flags, GError **error)
{
    const ProcessArrival arrival = {.source = cookie->traits,
                                    .machine = cookie->machine,
                                    .paused = cookie->paused,
                                    .unsafe = (flags & VIR_MIGRATE_UNSAFE) != 0};
    return !cookie->traits || process_check_arrival(driver, def, &arrival, error);
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
    const char *problem = params->dname ? domain_name_problem(params->dname) : NULL;
    if (problem) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' cannot be a domain's name, it %s", params->dname,
                         problem);
        return NULL;
    }
    if (params->dname) {
        g_free(def->name);
        def->name = g_strdup(params->dname);
    }
    // Hosts may have theirs at different places; whether it is fit is seen later.
    if (def->emulator && !g_file_test(def->emulator, G_FILE_TEST_IS_EXECUTABLE))
        g_clear_pointer(&def->emulator, g_free);
    return g_steal_pointer(&def);
}

// Earlier moves of this guest that ended here without the other side's last word: the new move, which its
// present owner has begun, says that they are settled.
static gboolean
close_settled_claimed(Driver *driver, const char *directory, const char *uuid, GError **error)
{
    for (HandoffRole role = 0; role < HANDOFF_ROLES; role++) {
        g_autoptr(Handoff) old = handoff_open(directory, uuid, role, NULL);
        gboolean settled =
            old && (old->state == HANDOFF_DESTINATION_NONE || old->state == HANDOFF_SOURCE_DONE ||
                    (role == HANDOFF_DESTINATION && handoff_is_end(old->state)));
        if (!settled)
            continue;
        g_autoptr(Incoming) incoming = role == HANDOFF_DESTINATION ? incoming_by_uuid(uuid) : NULL;
        if (incoming) {
            if (!incoming_close(incoming, error))
                return FALSE;
            continue;
        }
        // The images that stayed here would stand in the way, and without the record nothing would forbid
        // them.
        if (old->state == HANDOFF_SOURCE_DONE && !old->left && !departure_leave(driver, old, error))
            return FALSE;
        if (!handoff_close(old, error))
            return FALSE;
        old = NULL;
    }
    return TRUE;
}

static gboolean
close_settled(Driver *driver, const char *directory, const char *uuid, GError **error)
{
    if (!departure_claim(uuid, 3 * PEER_TIMEOUT_MS)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "the last migration of this domain is being settled at the destination; try again");
        return FALSE;
    }
    gboolean ok = close_settled_claimed(driver, directory, uuid, error);
    departure_unclaim(uuid);
    return ok;
}

// What a restart needs to know of the guest that is to come, before anything of it is here.
static gboolean
note_guest(Handoff *handoff, const char *directory, const DomainDef *def, GError **error)
{
    g_autofree char *xml = domain_def_format(def, DOMAIN_FORMAT_MIGRATABLE | DOMAIN_FORMAT_SECURE, -1);
    handoff->name = g_strdup(def->name);
    handoff->xml_path = g_strdup_printf("%s/%s.destination.xml", directory, handoff->uuid);
    return file_replace(handoff->xml_path, xml, -1, 0600, error) && handoff_store(handoff, error);
}

// Everything that must be here before the source is told to come: disks, emulator, record.
static Domain *
make_ready(Driver *driver, Handoff *handoff, DomainDef *def, Cookie *cookie, GError **error)
{
    g_autoptr(DomainDef) own = def;
    g_autoptr(GPtrArray) created = g_ptr_array_new_with_free_func(g_free);
    gboolean ok = disks_create(driver, cookie, created, error);
    g_autoptr(Domain) domain = NULL;
    if (ok) {
        disks_adjust(own, cookie);
        g_autoptr(GStrvBuilder) images = g_strv_builder_new();
        for (guint i = 0; i < created->len; i++)
            g_strv_builder_add(images, g_ptr_array_index(created, i));
        handoff->images = g_strv_builder_end(images);
        g_autofree char *directory = handoff_directory(driver->state_dir);
        ok = note_guest(handoff, directory, own, error) &&
             (domain = start_waiting(driver, g_steal_pointer(&own), cookie, error));
    }
    if (ok && handoff_transition(handoff, HANDOFF_DESTINATION_PREPARED, error))
        return g_steal_pointer(&domain);
    if (domain)
        stop_waiting(domain);
    for (guint i = 0; i < created->len; i++)
        file_remove(g_ptr_array_index(created, i), NULL);
    return NULL;
}

// What the emulator that waits here can do; NULL: not known.
static EmulatorTraits *
waiting_traits(Domain *domain)
{
    domain_lock(domain);
    g_autoptr(Qmp) qmp = domain_qmp(domain, NULL);
    domain_unlock(domain);
    return qmp ? emulator_traits_query(qmp, NULL) : NULL;
}

static GBytes *
prepared_cookie(const Cookie *source, Domain *domain, PeerAddress *address, PeerAddress *way)
{
    g_autoptr(Cookie) answer = cookie_new();
    answer->traits = waiting_traits(domain);
    answer->uuid = g_strdup(source->uuid);
    answer->name = g_strdup(domain->name);
    answer->hostname = g_strdup(g_get_host_name());
    answer->token = g_strdup(source->token);
    answer->peer = address;
    answer->way = way;
    g_ptr_array_unref(answer->disks);
    answer->disks = g_ptr_array_ref(source->disks);
    return cookie_encode(answer);
}

// The source's record of this very move lies here if the user named this host as the destination.
static gboolean
check_elsewhere(const char *directory, const Cookie *cookie, GError **error)
{
    g_autoptr(Handoff) own = handoff_open(directory, cookie->uuid, HANDOFF_SOURCE, NULL);
    if (!own || g_strcmp0(own->token, cookie->token) != 0)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                     "the destination is this very host; name another one, as in quasar+tls://HOST/system");
    return FALSE;
}

gboolean
migration_prepare(Driver *driver, RpcSession *client, const MigrationParams *params, guint flags,
                  GBytes *cookie_in, GBytes **cookie_out, char **uri_out, GError **error)
{
    g_autoptr(Cookie) cookie = cookie_decode(cookie_in, error);
    g_autofree char *directory = handoff_directory(driver->state_dir);
    if (!cookie || !migration_check_flags(flags, error) || !file_make_directory(directory, 0700, error))
        return FALSE;
    // The record is named by the token, the guest by the UUID: it must be this guest's record.
    if (!cookie->token || !g_str_has_prefix(cookie->token, cookie->uuid)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the source's cookie has no token of this guest");
        return FALSE;
    }
    if (!check_elsewhere(directory, cookie, error))
        return FALSE;
    g_autoptr(PeerAddress) address = migration_own_address(driver, error);
    g_autoptr(PeerAddress) way = address ? peer_address_copy(address) : NULL;
    if (!way || !migration_choose_listener(params->listen_address, way, error))
        return FALSE;
    g_autoptr(DomainDef) def = destination_definition(params, cookie, error);
    if (!def || !check_arrival(driver, def, cookie, flags, error) || !disks_agree(def, cookie, error) ||
        !disks_check_read_only(def, error) || !close_settled(driver, directory, cookie->uuid, error))
        return FALSE;
    g_autoptr(Handoff) handoff = handoff_create_destination(directory, cookie->token, error);
    if (!handoff)
        return FALSE;
    handoff->persist_dest = (flags & VIR_MIGRATE_PERSIST_DEST) != 0;
    // Whom a user is told of, and where one looks whether it is really dead before it is given up.
    handoff->peer_host = g_strdup(cookie->hostname);
    handoff->run_state = cookie->paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
    if (cookie->peer) {
        handoff->peer_addresses = g_strdupv(cookie->peer->addresses);
        handoff->peer_port = cookie->peer->port;
    }
    g_autoptr(Domain) domain = make_ready(driver, handoff, g_steal_pointer(&def), cookie, error);
    if (!domain) {
        if (handoff_close(handoff, NULL))
            handoff = NULL;
        return FALSE;
    }
    *cookie_out = prepared_cookie(cookie, domain, g_steal_pointer(&address), g_steal_pointer(&way));
    // Perform is given this instead of what the user gave.
    *uri_out = params->uri ? g_strdup(params->uri) : g_strdup_printf("quasar://%s", g_get_host_name());
    incoming_unref(incoming_new(driver, domain, g_steal_pointer(&handoff), g_steal_pointer(&cookie), client));
    if (client && rpc_session_closed(client))
        incoming_client_closed(driver, client);
    return TRUE;
}

// Whether the guest is here and ours: the move is settled and closed, or no longer known after a restart.
static gboolean
has_arrived(Driver *driver, Domain *domain, const char *uuid)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(GError) problem = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_DESTINATION, &problem);
    if (handoff ? handoff->state != HANDOFF_DESTINATION_RUNNING
                : !g_error_matches(problem, QUASAR_ERROR, VIR_ERR_NO_DOMAIN))
        return FALSE;
    domain_lock(domain);
    gboolean here = domain_is_active(domain) && !domain->incoming;
    domain_unlock(domain);
    return here;
}

gboolean
migration_finish(Driver *driver, const MigrationParams *params, guint flags, gboolean cancelled,
                 GBytes *cookie_in, GBytes **cookie_out, Domain **out, GError **error)
{
    if (!params->dname) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "Finish does not name the domain");
        return FALSE;
    }
    g_autoptr(Domain) domain = domain_list_by_name(driver_domains(driver), params->dname, NULL);
    g_autofree char *uuid = domain ? domain_uuid_format(domain->uuid) : NULL;
    g_autoptr(Incoming) incoming = uuid ? incoming_by_uuid(uuid) : NULL;
    gboolean ours = incoming ? incoming_wait_arrived(incoming, cancelled ? 0 : PEER_TIMEOUT_MS)
                             : domain && has_arrived(driver, domain, uuid);
    if (ours) {
        *out = g_steal_pointer(&domain);
        return TRUE;
    }
    if (incoming && cancelled &&
        !incoming_refuse(incoming, "its client cancelled the migration", FALSE, error))
        return FALSE;
    if (cancelled)
        quasar_set_error(error, VIR_ERR_MIGRATE_FINISH_OK, "domain '%s' stays at the source", params->dname);
    else
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED,
                         "domain '%s' has not arrived; see the source host for where it is", params->dname);
    return FALSE;
}
