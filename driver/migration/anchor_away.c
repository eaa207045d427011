// SPDX-License-Identifier: LGPL-2.1-or-later
// The links of guests that are away from their segments: kept, replaced, and ended at both ends.
#include "driver/migration/anchor_away.h"

#include <unistd.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/domains.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/phases.h"
#include "driver/nic_events.h"

#define FIRST_WAIT_MS 100
#define LAST_WAIT_MS  10000

// How long a new tunnel may take until it carries frames.
#define RELINK_MS 5000

// What becomes of a link. Only the first goes over into the others.
typedef enum {
    LINK_KEPT,
    LINK_ENDED,     // its home is to be told
    LINK_FORGOTTEN, // it is another host's
} LinkFate;

// One that a thread looks after. Everything below `links_lock`, but for `driver` and what never changes of
// the record.
typedef struct {
    gint references; // atomic
    Driver *driver;
    AnchorRecord *record;
    gboolean relayed;
    gboolean running; // its thread has been started
    LinkFate fate;
    VnetClient *watch; // NULL: it waits for the vnet, or for time to pass
} AwayLink;

static GMutex links_lock;
static GCond links_changed;
static GHashTable *links; // link -> AwayLink

static void
unref_link(AwayLink *link)
{
    if (!g_atomic_int_dec_and_test(&link->references))
        return;
    anchor_record_free(link->record);
    vnet_client_unref(link->watch);
    g_free(link);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AwayLink, unref_link)

static LinkFate
fate_of(AwayLink *link)
{
    g_mutex_lock(&links_lock);
    LinkFate fate = link->fate;
    g_mutex_unlock(&links_lock);
    return fate;
}

// Until the fate is another than `fate`. FALSE: it is.
static gboolean
pause_for(AwayLink *link, LinkFate fate, guint ms)
{
    gint64 until = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&links_lock);
    while (link->fate == fate && g_cond_wait_until(&links_changed, &links_lock, until))
        continue;
    gboolean stays = link->fate == fate;
    g_mutex_unlock(&links_lock);
    return stays;
}

// Asks the home for something; the connection after it has agreed, or NULL.
static Channel *
ask_home(AwayLink *link, const char *op, GError **error)
{
    const AnchorRecord *record = link->record;
    g_autoptr(PeerAddress) own = migration_own_address(link->driver, error);
    if (!own || !link->driver->client_credentials)
        return NULL;
    g_autoptr(json_t) request = json_pack("{s:s, s:I, s:s, s:o}", "op", op, "turn", (json_int_t) record->turn,
                                          "host", g_get_host_name(), "peer", peer_address_encode(own));
    g_autoptr(Channel) channel =
        peer_connect(record->peer, link->driver->client_credentials, record->link, PEER_LINK, NULL, error);
    if (!channel || !frame_send(channel, request, PEER_TIMEOUT_MS, error))
        return NULL;
    g_autoptr(json_t) answer = frame_receive(channel, PEER_TIMEOUT_MS, error);
    if (!answer)
        return NULL;
    if (json_is_true(json_object_get(answer, "ok")))
        return g_steal_pointer(&channel);
    const char *why = json_string_value(json_object_get(answer, "error"));
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "%s refuses: %s", record->host,
                     why ? why : "no reason");
    return NULL;
}

static gboolean
relink(AwayLink *link, VnetClient *vnet, GError **error)
{
    VnetTunnel tunnel;
    Channel *channel = ask_home(link, "tunnel", error);
    if (!channel || !peer_to_tunnel(channel, FALSE, &tunnel, error))
        return FALSE;
    gboolean ok = vnet_client_relink(vnet, &tunnel, error);
    close(tunnel.fd);
    return ok;
}

static Domain *
domain_of(Driver *driver, const AnchorRecord *record)
{
    guint8 uuid[VIR_UUID_BUFLEN];
    return domain_uuid_parse(record->uuid, uuid) ? domain_list_by_uuid(driver_domains(driver), uuid, NULL)
                                                 : NULL;
}

static char *
control_path(AwayLink *link)
{
    g_autoptr(Domain) domain = domain_of(link->driver, link->record);
    if (!domain)
        return NULL;
    domain_lock(domain);
    char *path = domain->run_dir ? g_strdup_printf("%s/net%u.ctl", domain->run_dir, link->record->nic) : NULL;
    domain_unlock(domain);
    return path;
}

// FALSE: the link is not to be kept any more.
static gboolean
set_watch(AwayLink *link, VnetClient *client)
{
    g_mutex_lock(&links_lock);
    vnet_client_unref(link->watch);
    link->watch = client ? vnet_client_ref(client) : NULL;
    gboolean kept = link->fate == LINK_KEPT;
    g_mutex_unlock(&links_lock);
    return kept;
}

static void
report(const AwayLink *link, gboolean up)
{
    const AnchorRecord *record = link->record;
    g_autoptr(Domain) domain = domain_of(link->driver, record);
    g_autofree char *problem =
        up ? NULL : g_strdup_printf("the link to its home on %s is down", record->host);
    if (!domain)
        return;
    domain_lock(domain);
    domain_network_event(domain, record->nic, NIC_TUNNEL, problem);
    domain_unlock(domain);
}

// Whether it was told as down, maybe by who watched before us.
static gboolean
is_told_down(const AwayLink *link)
{
    const AnchorRecord *record = link->record;
    g_autoptr(Domain) domain = domain_of(link->driver, record);
    if (!domain)
        return FALSE;
    domain_lock(domain);
    gboolean down = nic_status_trouble(domain, record->nic, NIC_TUNNEL) != NULL;
    domain_unlock(domain);
    return down;
}

// One tunnel more, and a while for it to carry frames. FALSE: the vnet has ended, or the link.
static gboolean
try_relink(AwayLink *link, VnetClient *watch, gboolean *up, guint *wait_ms)
{
    g_autofree char *control = control_path(link);
    g_autoptr(VnetClient) vnet = control ? vnet_client_attach(control, NULL) : NULL;
    g_autoptr(GError) error = NULL;
    if (!vnet)
        return FALSE;
    if (relink(link, vnet, &error)) {
        *wait_ms = FIRST_WAIT_MS;
        link->relayed = FALSE;
        return *up || vnet_client_wait(watch, RELINK_MS, up) >= 0;
    }
    g_warning(
        "guest '%s': its network interface %u has no way to its home on %s, which will be tried again: %s",
        link->record->name, link->record->nic, link->record->host, error->message);
    *wait_ms = MIN(2 * *wait_ms, LAST_WAIT_MS);
    return vnet_client_wait(watch, (int) *wait_ms, up) >= 0;
}

// Until the vnet ends, or the link is not to be kept any more.
static void
keep_up(AwayLink *link, VnetClient *watch)
{
    guint wait_ms = FIRST_WAIT_MS;
    gboolean up, told = !is_told_down(link), goes_on = vnet_client_watch(watch, &up, NULL);
    while (goes_on && fate_of(link) == LINK_KEPT) {
        if (up != told)
            report(link, up);
        told = up;
        goes_on = up && !link->relayed ? vnet_client_wait(watch, -1, &up) > 0
                                       : try_relink(link, watch, &up, &wait_ms);
    }
}

static void
keep(AwayLink *link)
{
    do {
        g_autofree char *control = control_path(link);
        g_autoptr(VnetClient) watch = control ? vnet_client_attach(control, NULL) : NULL;
        if (watch && set_watch(link, watch))
            keep_up(link, watch);
        set_watch(link, NULL);
    } while (pause_for(link, LINK_KEPT, FIRST_WAIT_MS));
}

static void
tell_home(AwayLink *link)
{
    guint wait_ms = FIRST_WAIT_MS;
    do {
        g_autoptr(GError) error = NULL;
        g_autoptr(Channel) channel = ask_home(link, "drop", &error);
        if (channel)
            break;
        g_message("guest '%s' has left its network interface %u's link to %s, which does not hear it yet: %s",
                  link->record->name, link->record->nic, link->record->host, error->message);
        wait_ms = MIN(2 * wait_ms, LAST_WAIT_MS);
    } while (pause_for(link, LINK_ENDED, wait_ms));
}

// Locked. Whether a record on the disk is another link's by now: the guest has come here again.
static gboolean
is_replaced(const AwayLink *link)
{
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, links);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const AwayLink *other = value;
        if (other != link && other->record->nic == link->record->nic &&
            g_str_equal(other->record->uuid, link->record->uuid))
            return TRUE;
    }
    return FALSE;
}

static void
finish(AwayLink *link)
{
    g_mutex_lock(&links_lock);
    if (!is_replaced(link))
        anchor_record_remove(link->driver->state_dir, link->record);
    if (g_hash_table_lookup(links, link->record->link) == link)
        g_hash_table_remove(links, link->record->link);
    g_mutex_unlock(&links_lock);
}

static gpointer
link_main(gpointer data)
{
    g_autoptr(AwayLink) link = data;
    g_autoptr(GError) error = NULL;
    keep(link);
    if (fate_of(link) != LINK_ENDED)
        return NULL;
    g_mutex_lock(&links_lock);
    link->record->state = ANCHOR_ENDING;
    if (!is_replaced(link) && !anchor_record_store(link->driver->state_dir, link->record, &error))
        g_warning("guest '%s': %s", link->record->name, error->message);
    g_mutex_unlock(&links_lock);
    tell_home(link);
    finish(link);
    return NULL;
}

// Locked.
static void
run(AwayLink *link)
{
    if (link->running)
        return;
    link->running = TRUE;
    g_atomic_int_inc(&link->references);
    g_thread_unref(g_thread_new("away", link_main, link));
}

// Locked. Whoever had this link before sees that it has changed hands.
static AwayLink *
enter(Driver *driver, const AnchorRecord *record, gboolean relayed)
{
    AwayLink *link = g_new0(AwayLink, 1);
    *link = (AwayLink){
        .references = 1, .driver = driver, .record = anchor_record_copy(record), .relayed = relayed};
    if (!links)
        links = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) unref_link);
    g_hash_table_replace(links, link->record->link, link);
    return link;
}

// Locked.
static void
decide(AwayLink *link, LinkFate fate)
{
    link->fate = fate;
    if (link->watch)
        vnet_client_cut(link->watch);
    g_cond_broadcast(&links_changed);
}

gboolean
anchor_away_offer(Driver *driver, const AnchorRecord *record, gboolean relayed, GError **error)
{
    if (!anchor_record_store(driver->state_dir, record, error))
        return FALSE;
    g_mutex_lock(&links_lock);
    enter(driver, record, relayed);
    g_mutex_unlock(&links_lock);
    return TRUE;
}

// Those of a guest, with a reference each.
static GPtrArray *
links_of(const char *uuid)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify) unref_link);
    GHashTableIter iter;
    gpointer value;
    if (links)
        g_hash_table_iter_init(&iter, links);
    while (links && g_hash_table_iter_next(&iter, NULL, &value)) {
        AwayLink *link = value;
        if (!g_str_equal(link->record->uuid, uuid))
            continue;
        g_atomic_int_inc(&link->references);
        g_ptr_array_add(list, link);
    }
    return list;
}

static gboolean
is_away(AwayLink *link)
{
    g_autofree char *control = control_path(link);
    g_autoptr(VnetClient) vnet = control ? vnet_client_attach(control, NULL) : NULL;
    g_autoptr(json_t) status = vnet ? vnet_client_status(vnet, NULL) : NULL;
    // One that cannot be asked is taken to be where the tunnel would be needed.
    return !json_is_false(json_object_get(status, "away"));
}

static void
settle(AwayLink *link, gboolean away)
{
    g_autoptr(GError) error = NULL;
    g_mutex_lock(&links_lock);
    link->record->state = away ? ANCHOR_STANDING : ANCHOR_ENDING;
    if (!away)
        decide(link, LINK_ENDED);
    run(link);
    g_mutex_unlock(&links_lock);
    if (away && !anchor_record_store(link->driver->state_dir, link->record, &error))
        g_warning("guest '%s': %s", link->record->name, error->message);
}

void
anchor_away_arrived(Domain *domain)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    g_mutex_lock(&links_lock);
    g_autoptr(GPtrArray) list = links_of(uuid);
    g_mutex_unlock(&links_lock);
    for (guint i = 0; i < list->len; i++)
        settle(g_ptr_array_index(list, i), is_away(g_ptr_array_index(list, i)));
    // The link of an anchor here is among those that end, unless it was lost on the way.
    if (list->len == 0)
        anchor_home_end(domain->driver, uuid);
}

static void
decide_all(const char *uuid, LinkFate fate)
{
    g_mutex_lock(&links_lock);
    g_autoptr(GPtrArray) list = links_of(uuid);
    for (guint i = 0; i < list->len; i++) {
        AwayLink *link = g_ptr_array_index(list, i);
        if (link->fate != LINK_KEPT)
            continue;
        decide(link, fate);
        if (fate == LINK_FORGOTTEN) {
            anchor_record_remove(link->driver->state_dir, link->record);
            g_hash_table_remove(links, link->record->link);
        } else {
            run(link);
        }
    }
    g_mutex_unlock(&links_lock);
}

void
anchor_away_forget(Driver *driver G_GNUC_UNUSED, const char *uuid)
{
    decide_all(uuid, LINK_FORGOTTEN);
}

void
anchor_away_end(Driver *driver G_GNUC_UNUSED, const char *uuid)
{
    decide_all(uuid, LINK_ENDED);
}

// On the disk.
static void
set_state(Driver *driver, AnchorRecord *record, AnchorState state)
{
    g_autoptr(GError) error = NULL;
    record->state = state;
    if (!anchor_record_store(driver->state_dir, record, &error))
        g_warning("guest '%s': %s", record->name, error->message);
}

// Their threads end, and their records are nobody's.
static void
release(const char *uuid)
{
    g_mutex_lock(&links_lock);
    g_autoptr(GPtrArray) list = links_of(uuid);
    for (guint i = 0; i < list->len; i++) {
        AwayLink *link = g_ptr_array_index(list, i);
        if (link->fate != LINK_KEPT)
            continue;
        decide(link, LINK_FORGOTTEN);
        g_hash_table_remove(links, link->record->link);
    }
    g_mutex_unlock(&links_lock);
}

void
anchor_away_rest(Driver *driver, const char *uuid)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_AWAY, uuid);
    release(uuid);
    for (guint i = 0; i < records->len; i++) {
        AnchorRecord *record = g_ptr_array_index(records, i);
        if (record->state != ANCHOR_ENDING && record->state != ANCHOR_SAVED)
            set_state(driver, record, ANCHOR_SAVED);
    }
}

gboolean
anchor_away_rearm(Driver *driver, const AnchorRecord *saved, GError **error)
{
    g_autoptr(AnchorRecord) record = anchor_record_copy(saved);
    record->state = ANCHOR_SAVED;
    record->turn++;
    if (!anchor_record_store(driver->state_dir, record, error))
        return FALSE;
    record->state = ANCHOR_STANDING;
    g_mutex_lock(&links_lock);
    run(enter(driver, record, FALSE));
    g_mutex_unlock(&links_lock);
    return TRUE;
}

void
anchor_away_restored(Driver *driver, const char *uuid)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_AWAY, uuid);
    for (guint i = 0; i < records->len; i++) {
        AnchorRecord *record = g_ptr_array_index(records, i);
        if (record->state == ANCHOR_SAVED)
            set_state(driver, record, ANCHOR_STANDING);
    }
}

void
anchor_away_end_saved(Driver *driver, const char *uuid)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_AWAY, uuid);
    g_mutex_lock(&links_lock);
    for (guint i = 0; i < records->len; i++) {
        const AnchorRecord *record = g_ptr_array_index(records, i);
        if (record->state != ANCHOR_SAVED)
            continue;
        AwayLink *link = enter(driver, record, FALSE);
        decide(link, LINK_ENDED);
        run(link);
    }
    g_mutex_unlock(&links_lock);
}

AnchorRecord *
anchor_away_find(Driver *driver G_GNUC_UNUSED, const char *uuid, guint nic)
{
    AnchorRecord *found = NULL;
    g_mutex_lock(&links_lock);
    g_autoptr(GPtrArray) list = links_of(uuid);
    for (guint i = 0; !found && i < list->len; i++) {
        const AwayLink *link = g_ptr_array_index(list, i);
        if (link->record->nic == nic && link->fate == LINK_KEPT && link->record->state == ANCHOR_STANDING)
            found = anchor_record_copy(link->record);
    }
    g_mutex_unlock(&links_lock);
    return found;
}

// Whether the guest of a record is here, and nothing is undecided about that.
static gboolean
is_here(Driver *driver, const AnchorRecord *record, gboolean *undecided)
{
    g_autoptr(Domain) domain = domain_of(driver, record);
    *undecided = FALSE;
    if (!domain)
        return FALSE;
    domain_lock(domain);
    gboolean here = domain_is_active(domain) && !domain->incoming;
    *undecided = domain->incoming || !domain_may_run(domain, NULL);
    domain_unlock(domain);
    return here;
}

void
anchor_away_start(Driver *driver)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_AWAY, NULL);
    for (guint i = 0; i < records->len; i++) {
        AnchorRecord *record = g_ptr_array_index(records, i);
        gboolean undecided, here = is_here(driver, record, &undecided);
        if (record->state == ANCHOR_SAVED && !here)
            continue;
        // Its restore was over when the last daemon ended.
        if (record->state == ANCHOR_SAVED)
            set_state(driver, record, ANCHOR_STANDING);
        g_mutex_lock(&links_lock);
        g_autoptr(AwayLink) link = enter(driver, record, FALSE);
        g_atomic_int_inc(&link->references);
        // Of an undecided one whoever settles the move says what becomes of it.
        if (!here && !undecided)
            decide(link, LINK_ENDED);
        if (!undecided && (record->state == ANCHOR_STANDING || link->fate == LINK_ENDED))
            run(link);
        g_mutex_unlock(&links_lock);
        if (here && !undecided && record->state == ANCHOR_OFFERED)
            settle(link, is_away(link));
    }
}
