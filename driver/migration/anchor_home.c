// SPDX-License-Identifier: LGPL-2.1-or-later
// Home anchors: their records, their processes, and what the hosts of their guests ask.
#include "driver/migration/anchor_home.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/frame.h"
#include "driver/migration/handoff.h"
#include "driver/nic_events.h"
#include "driver/nic_status.h"

#define FIRST_WAIT_MS 200
#define LAST_WAIT_MS  30000

// How long an anchor passes on what still strays to it after its guest has come home.
#define LINGER_US (2 * G_TIME_SPAN_SECOND)

// One that is watched. Everything below `anchors_lock`, but for `driver`.
typedef struct {
    gint references; // atomic
    Driver *driver;
    AnchorRecord *record;
    VnetClient *watch; // NULL: between two processes
    gboolean ended;
} Anchor;

static GMutex anchors_lock;
static GCond anchors_changed;
static GHashTable *anchors; // link -> Anchor

static void
unref_anchor(Anchor *anchor)
{
    if (!g_atomic_int_dec_and_test(&anchor->references))
        return;
    anchor_record_free(anchor->record);
    vnet_client_unref(anchor->watch);
    g_free(anchor);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Anchor, unref_anchor)

// By the link: a guest's last anchor may still linger when its next one is there.
static char *
control_path(const Driver *driver, const AnchorRecord *record)
{
    return g_strdup_printf("%s/anchors/%s.ctl", driver->run_dir, record->link);
}

static gboolean
make_directory(const Driver *driver, GError **error)
{
    g_autofree char *path = g_build_filename(driver->run_dir, "anchors", NULL);
    return file_make_directory(path, 0700, error);
}

static VnetClient *
spawn(const Anchor *anchor, GError **error)
{
    const Driver *driver = anchor->driver;
    const AnchorRecord *record = anchor->record;
    g_autofree char *control = control_path(driver, record);
    g_autofree char *log = g_strdup_printf("%s/%s.log", driver->log_dir, record->name);
    const VnetSpec spec = {.name = record->name,
                           .nic = record->device,
                           .mac = record->mac,
                           .pcap = driver->pcap,
                           .control_path = control,
                           .user = driver->emulator_user,
                           .log_path = log};
    return make_directory(driver, error) ? vnet_client_spawn(&spec, error) : NULL;
}

// What the log calls it; caller frees.
static char *
label(const Anchor *anchor)
{
    const AnchorRecord *record = anchor->record;
    g_mutex_lock(&anchors_lock);
    char *text = g_strdup_printf("network interface %u of guest '%s', which is on %s", record->nic,
                                 record->name, record->host);
    g_mutex_unlock(&anchors_lock);
    return text;
}

// A process that runs already, or a new one.
static VnetClient *
find_process(const Anchor *anchor)
{
    g_autofree char *control = control_path(anchor->driver, anchor->record);
    g_autofree char *what = label(anchor);
    g_autoptr(GError) error = NULL;
    VnetClient *client = vnet_client_attach(control, NULL);
    if (!client && !(client = spawn(anchor, &error)))
        g_warning("%s is without its quasar-vnet, which will be tried again: %s", what, error->message);
    return client;
}

// FALSE: the anchor has ended meanwhile.
static gboolean
set_watch(Anchor *anchor, VnetClient *client)
{
    g_mutex_lock(&anchors_lock);
    vnet_client_unref(anchor->watch);
    anchor->watch = client ? vnet_client_ref(client) : NULL;
    gboolean goes_on = !anchor->ended;
    g_mutex_unlock(&anchors_lock);
    return goes_on;
}

static gboolean
pause_for(Anchor *anchor, guint ms)
{
    gint64 until = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&anchors_lock);
    while (!anchor->ended && g_cond_wait_until(&anchors_changed, &anchors_lock, until))
        continue;
    gboolean goes_on = !anchor->ended;
    g_mutex_unlock(&anchors_lock);
    return goes_on;
}

static void
report(const Anchor *anchor, gboolean up)
{
    g_autofree char *what = label(anchor);
    if (up)
        g_message("%s: the link is up", what);
    else
        g_warning("%s: the link is down", what);
    const AnchorRecord *record = anchor->record;
    nic_events_tell_home(anchor->driver, record->uuid, record->name, record->nic, NIC_TUNNEL,
                         up ? NULL : "the link to the guest's host is down");
}

// Until the process ends, or the anchor does.
static void
watch(Anchor *anchor, VnetClient *client)
{
    gboolean up;
    if (set_watch(anchor, client) && vnet_client_watch(client, &up, NULL))
        while (vnet_client_wait(client, -1, &up) > 0)
            report(anchor, up);
    set_watch(anchor, NULL);
}

static void
end_process(const Anchor *anchor)
{
    g_autofree char *control = control_path(anchor->driver, anchor->record);
    g_usleep(LINGER_US);
    g_autoptr(VnetClient) client = vnet_client_attach(control, NULL);
    if (client)
        vnet_client_quit(client, NULL);
    g_unlink(control);
}

static gpointer
anchor_main(gpointer data)
{
    g_autoptr(Anchor) anchor = data;
    guint wait_ms = FIRST_WAIT_MS;
    do {
        g_autoptr(VnetClient) client = find_process(anchor);
        wait_ms = client ? FIRST_WAIT_MS : MIN(2 * wait_ms, LAST_WAIT_MS);
        if (client)
            watch(anchor, client);
    } while (pause_for(anchor, wait_ms));
    end_process(anchor);
    return NULL;
}

// Takes the record. TRUE: there was none of this link.
static gboolean
keep(Driver *driver, AnchorRecord *record)
{
    g_mutex_lock(&anchors_lock);
    if (!anchors)
        anchors = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) unref_anchor);
    gboolean fresh = !g_hash_table_contains(anchors, record->link);
    if (fresh) {
        Anchor *anchor = g_new0(Anchor, 1);
        *anchor = (Anchor){.references = 2, .driver = driver, .record = record};
        g_hash_table_insert(anchors, record->link, anchor);
        g_thread_unref(g_thread_new("anchor", anchor_main, anchor));
    }
    g_mutex_unlock(&anchors_lock);
    if (!fresh)
        anchor_record_free(record);
    return fresh;
}

gboolean
anchor_home_offer(Driver *driver, const AnchorRecord *record, GError **error)
{
    return anchor_record_store(driver->state_dir, record, error);
}

gboolean
anchor_home_adopt(Driver *driver, const char *uuid, guint nic, const char *control)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_HOME, uuid);
    for (guint i = 0; i < records->len; i++) {
        AnchorRecord *record = g_ptr_array_index(records, i);
        g_autofree char *path = control_path(driver, record);
        g_autoptr(GError) error = NULL;
        if (record->nic != nic)
            continue;
        // The guest's directory goes with its emulator. What is not there was taken before, or has ended.
        if (!make_directory(driver, &error))
            g_warning("%s", error->message);
        else if (g_rename(control, path) != 0 && errno != ENOENT)
            g_warning("cannot rename '%s': %s", control, g_strerror(errno));
        keep(driver, anchor_record_copy(record));
        return TRUE;
    }
    return FALSE;
}

void
anchor_home_ensure(Driver *driver, const char *uuid)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_HOME, uuid);
    g_ptr_array_set_free_func(records, NULL);
    for (guint i = 0; i < records->len; i++)
        keep(driver, g_ptr_array_index(records, i));
}

// Locked. The record goes at once; the thread ends the process and itself.
static void
end(Anchor *anchor)
{
    anchor_record_remove(anchor->driver->state_dir, anchor->record);
    g_message("guest '%s' needs no anchor for its network interface %u any more", anchor->record->name,
              anchor->record->nic);
    anchor->ended = TRUE;
    if (anchor->watch)
        vnet_client_cut(anchor->watch);
    g_cond_broadcast(&anchors_changed);
    g_hash_table_remove(anchors, anchor->record->link);
}

// `offers`: also those of which no anchor has come yet.
static void
end_all(Driver *driver, const char *uuid, gboolean offers)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_HOME, uuid);
    g_mutex_lock(&anchors_lock);
    for (guint i = 0; i < records->len; i++) {
        const AnchorRecord *record = g_ptr_array_index(records, i);
        Anchor *anchor = anchors ? g_hash_table_lookup(anchors, record->link) : NULL;
        if (anchor)
            end(anchor);
        else if (offers)
            anchor_record_remove(driver->state_dir, record);
    }
    g_mutex_unlock(&anchors_lock);
}

void
anchor_home_withdraw(Driver *driver, const char *uuid)
{
    end_all(driver, uuid, TRUE);
}

void
anchor_home_end(Driver *driver, const char *uuid)
{
    end_all(driver, uuid, FALSE);
}

static gboolean
is_undecided(const Driver *driver, const char *uuid)
{
    g_autofree char *directory = handoff_directory(driver->state_dir);
    g_autoptr(GError) error = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, uuid, HANDOFF_SOURCE, &error);
    return !g_error_matches(error, QUASAR_ERROR, VIR_ERR_NO_DOMAIN);
}

void
anchor_home_start(Driver *driver)
{
    g_autoptr(GPtrArray) records = anchor_record_scan(driver->state_dir, ANCHOR_HOME, NULL);
    for (guint i = 0; i < records->len; i++) {
        const AnchorRecord *record = g_ptr_array_index(records, i);
        // Otherwise whoever settles the move says what becomes of it.
        if (!is_undecided(driver, record->uuid))
            keep(driver, anchor_record_copy(record));
    }
}

static Anchor *
find(const char *link)
{
    g_mutex_lock(&anchors_lock);
    Anchor *anchor = anchors ? g_hash_table_lookup(anchors, link) : NULL;
    if (anchor)
        g_atomic_int_inc(&anchor->references);
    g_mutex_unlock(&anchors_lock);
    return anchor;
}

gboolean
anchor_home_share(Driver *driver, const char *link)
{
    g_autoptr(Anchor) anchor = find(link);
    g_autofree char *control = anchor ? control_path(driver, anchor->record) : NULL;
    g_autoptr(VnetClient) client = control ? vnet_client_attach(control, NULL) : NULL;
    return client && vnet_client_share(client, NULL);
}

// The link's other end is now where the asker says, unless the guest has moved on from there.
static gboolean
take_over(Anchor *anchor, json_t *request, GError **error)
{
    AnchorRecord *record = anchor->record;
    const char *host = json_string_value(json_object_get(request, "host"));
    guint64 turn = (guint64) json_integer_value(json_object_get(request, "turn"));
    g_autoptr(PeerAddress) peer = peer_address_decode(json_object_get(request, "peer"));
    if (!host || !peer)
        return quasar_set_error(error, VIR_ERR_RPC, "the request does not say where it comes from");
    if (turn < record->turn)
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the guest has moved on to %s",
                                record->host);
    if (turn == record->turn && record->state == ANCHOR_STANDING)
        return TRUE;
    record->turn = turn;
    record->state = ANCHOR_STANDING;
    g_free(record->host);
    record->host = g_strdup(host);
    peer_address_free(record->peer);
    record->peer = g_steal_pointer(&peer);
    return anchor_record_store(anchor->driver->state_dir, record, error);
}

static gboolean
is_of_former_turn(const Anchor *anchor, json_t *request)
{
    return (guint64) json_integer_value(json_object_get(request, "turn")) < anchor->record->turn;
}

static gboolean
check_request(Anchor *anchor, json_t *request, gboolean *drops, GError **error)
{
    const char *op = json_string_value(json_object_get(request, "op"));
    *drops = g_strcmp0(op, "drop") == 0;
    if (!*drops && g_strcmp0(op, "tunnel") != 0)
        return quasar_set_error(error, VIR_ERR_RPC, "unknown request");
    // A guest that has ended is as good as forgotten.
    if (!anchor)
        return *drops ||
               quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "no guest's home has this link here");
    g_mutex_lock(&anchors_lock);
    // One that had the guest before has nothing to drop any more.
    const gboolean late = *drops && is_of_former_turn(anchor, request);
    gboolean ok = late || (!anchor->ended && take_over(anchor, request, error));
    if (ok && *drops && !late)
        end(anchor);
    g_mutex_unlock(&anchors_lock);
    return ok || quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "the link ends");
}

static void
give_tunnel(Anchor *anchor, Channel *channel)
{
    g_autofree char *control = control_path(anchor->driver, anchor->record);
    g_autoptr(GError) error = NULL;
    VnetTunnel tunnel;
    if (peer_to_tunnel(channel, TRUE, &tunnel, &error)) {
        g_autoptr(VnetClient) client = vnet_client_attach(control, &error);
        if (client)
            vnet_client_relink(client, &tunnel, &error);
        close(tunnel.fd);
    }
    if (error)
        g_warning("guest '%s' gets no tunnel to its network interface %u: %s", anchor->record->name,
                  anchor->record->nic, error->message);
}

void
anchor_home_answer(Driver *driver G_GNUC_UNUSED, const char *link, Channel *channel)
{
    g_autoptr(Channel) own = channel;
    g_autoptr(json_t) request = frame_receive(own, PEER_TIMEOUT_MS, NULL);
    g_autoptr(Anchor) anchor = find(link);
    g_autoptr(GError) error = NULL;
    gboolean drops = FALSE;
    if (!request)
        return;
    gboolean ok = check_request(anchor, request, &drops, &error);
    g_autoptr(json_t) answer = ok ? json_pack("{s:b}", "ok", 1) : json_pack("{s:s}", "error", error->message);
    if (frame_send(own, answer, PEER_TIMEOUT_MS, NULL) && ok && !drops)
        give_tunnel(anchor, g_steal_pointer(&own));
}

static GPtrArray *
all_anchors(void)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify) unref_anchor);
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&anchors_lock);
    if (anchors)
        g_hash_table_iter_init(&iter, anchors);
    while (anchors && g_hash_table_iter_next(&iter, NULL, &value)) {
        g_atomic_int_inc(&((Anchor *) value)->references);
        g_ptr_array_add(list, value);
    }
    g_mutex_unlock(&anchors_lock);
    return list;
}

static void
report_anchor(const AnchorRecord *record, const json_t *status, NicVisit visit, gpointer data)
{
    const char *mode = json_string_value(json_object_get(status, "mode"));
    const gboolean up = json_is_true(json_object_get(json_object_get(status, "link"), "up"));
    NicCounters counters;
    nic_counters_decode(status, &counters);
    const NicEntry entry = {.uuid = record->uuid,
                            .name = record->name,
                            .index = record->nic,
                            .mac = record->mac,
                            .host_nic = record->device,
                            .mode = mode ? nic_mode_name(mode) : "lost",
                            .peer = record->host,
                            .round_trip_us = nic_round_trip_us(status),
                            .queue = nic_queue_frames(status),
                            .counters = status ? &counters : NULL,
                            .status = status,
                            .problem = !status ? "its quasar-vnet is gone"
                                       : up    ? NULL
                                               : "the link to the guest's host is down"};
    visit(&entry, data);
}

void
anchor_home_report(Driver *driver, NicVisit visit, gpointer data)
{
    g_autoptr(GPtrArray) list = all_anchors();
    for (guint i = 0; i < list->len; i++) {
        const Anchor *anchor = g_ptr_array_index(list, i);
        g_mutex_lock(&anchors_lock);
        g_autoptr(AnchorRecord) record = anchor_record_copy(anchor->record);
        g_mutex_unlock(&anchors_lock);
        g_autofree char *control = control_path(driver, record);
        g_autoptr(VnetClient) client = vnet_client_attach_briefly(control, NIC_ANSWER_MS, NULL);
        g_autoptr(json_t) status = client ? vnet_client_status(client, NULL) : NULL;
        report_anchor(record, status, visit, data);
    }
}
