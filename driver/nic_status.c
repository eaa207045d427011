// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known of guests' NICs: counters that never run backwards, and what was last said of each.
#include "driver/nic_status.h"

#include "base/frame.h"

#define SILENCE_US (2 * G_USEC_PER_SEC)

// One NIC in one run. `base` was counted by processes that are gone, `last` by the one that is named here.
typedef struct {
    pid_t pid;
    guint64 start_time;
    NicCounters base, last;
    json_t *status;      // NULL: nothing was said yet
    gint64 silent_until; // monotonic us
    char *troubles[NIC_TROUBLES];
} NicHistory;

static void
history_free(gpointer data)
{
    NicHistory *history = data;
    json_decref(history->status);
    for (guint i = 0; i < NIC_TROUBLES; i++)
        g_free(history->troubles[i]);
    g_free(history);
}

void
nic_status_forget(Domain *domain)
{
    g_clear_pointer(&domain->nics, g_ptr_array_unref);
}

// Locked.
static NicHistory *
history_of(Domain *domain, guint index)
{
    if (domain->nics_run != domain->generation)
        nic_status_forget(domain);
    if (!domain->nics)
        domain->nics = g_ptr_array_new_with_free_func(history_free);
    domain->nics_run = domain->generation;
    while (domain->nics->len <= index)
        g_ptr_array_add(domain->nics, g_new0(NicHistory, 1));
    return g_ptr_array_index(domain->nics, index);
}

static guint64
number(const json_t *object, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (guint64) value : 0;
}

void
nic_counters_decode(const json_t *status, NicCounters *counters)
{
    const json_t *in = json_object_get(status, "to_guest"), *out = json_object_get(status, "from_guest");
    const json_t *capture = json_object_get(status, "capture"), *drops = json_object_get(status, "drops");
    *counters = (NicCounters){
        .rx_bytes = number(in, "bytes"),
        .rx_packets = number(in, "frames"),
        .rx_dropped = number(capture, "dropped") + number(capture, "ifdropped") + number(drops, "hold") +
                      number(drops, "queue") + number(drops, "unready") + number(drops, "truncated"),
        .tx_bytes = number(out, "bytes"),
        .tx_packets = number(out, "frames"),
        .tx_dropped = number(drops, "inject") + number(drops, "spoofed") + number(drops, "link"),
    };
}

const char *
nic_mode_name(const char *mode)
{
    return g_str_equal(mode, "active") ? "local" : mode;
}

guint64
nic_queue_frames(const json_t *status)
{
    return number(status, "waiting") + number(json_object_get(status, "port"), "backlog");
}

static void
add(NicCounters *sum, const NicCounters *more)
{
    sum->rx_bytes += more->rx_bytes;
    sum->rx_packets += more->rx_packets;
    sum->rx_dropped += more->rx_dropped;
    sum->tx_bytes += more->tx_bytes;
    sum->tx_packets += more->tx_packets;
    sum->tx_dropped += more->tx_dropped;
}

// Answers may be noted in another order than they were given.
static void
rise(NicCounters *to, const NicCounters *from)
{
    to->rx_bytes = MAX(to->rx_bytes, from->rx_bytes);
    to->rx_packets = MAX(to->rx_packets, from->rx_packets);
    to->rx_dropped = MAX(to->rx_dropped, from->rx_dropped);
    to->tx_bytes = MAX(to->tx_bytes, from->tx_bytes);
    to->tx_packets = MAX(to->tx_packets, from->tx_packets);
    to->tx_dropped = MAX(to->tx_dropped, from->tx_dropped);
}

// Locked: NULL where there is none.
static const VnetClient *
vnet_of(const Domain *domain, guint index)
{
    return domain->vnets && index < domain->vnets->len ? g_ptr_array_index(domain->vnets, index) : NULL;
}

gboolean
nic_status_note(Domain *domain, guint index, pid_t pid, guint64 start_time, json_t *status)
{
    const VnetClient *vnet = vnet_of(domain, index);
    if (!vnet || vnet_client_pid(vnet) != pid || vnet_client_start_time(vnet) != start_time)
        return FALSE;
    NicHistory *history = history_of(domain, index);
    NicCounters counters;
    if (history->status && (history->pid != pid || history->start_time != start_time)) {
        add(&history->base, &history->last);
        history->last = (NicCounters){0};
    }
    history->pid = pid;
    history->start_time = start_time;
    history->silent_until = 0;
    nic_counters_decode(status, &counters);
    rise(&history->last, &counters);
    json_decref(history->status);
    history->status = json_incref(status);
    return TRUE;
}

gboolean
nic_status_counters(Domain *domain, guint index, NicCounters *counters)
{
    const NicHistory *history = history_of(domain, index);
    *counters = history->base;
    add(counters, &history->last);
    return history->status != NULL;
}

// What is read under the lock so that all after it may wait.
typedef struct {
    char *control; // NULL: it is not to be asked
    pid_t pid;
    guint64 start_time, generation;
} Question;

// Locked.
static void
prepare(Domain *domain, guint index, Question *question)
{
    const VnetClient *vnet = vnet_of(domain, index);
    *question = (Question){.generation = domain->generation};
    if (!vnet || !domain->run_dir || g_get_monotonic_time() < history_of(domain, index)->silent_until)
        return;
    question->pid = vnet_client_pid(vnet);
    question->start_time = vnet_client_start_time(vnet);
    question->control = g_strdup_printf("%s/net%u.ctl", domain->run_dir, index);
}

// The directory is the emulator's user's: what listens there need not be the quasar-vnet that we started.
static json_t *
ask(const Question *question)
{
    g_autoptr(VnetClient) client = vnet_client_attach_briefly(question->control, NIC_ANSWER_MS, NULL);
    if (!client || vnet_client_pid(client) != question->pid ||
        vnet_client_start_time(client) != question->start_time)
        return NULL;
    return vnet_client_status(client, NULL);
}

gboolean
nic_status_read(Domain *domain, guint index, NicCounters *counters, json_t **status)
{
    Question question;
    domain_lock(domain);
    gboolean there = domain->live && index < domain->live->interfaces->len;
    if (there)
        prepare(domain, index, &question);
    domain_unlock(domain);
    if (!there)
        return FALSE;
    g_autofree char *control = question.control;
    g_autoptr(json_t) answer = control ? ask(&question) : NULL;
    domain_lock(domain);
    there = domain->generation == question.generation;
    if (there && answer)
        nic_status_note(domain, index, question.pid, question.start_time, answer);
    else if (there && control)
        history_of(domain, index)->silent_until = g_get_monotonic_time() + SILENCE_US;
    there = there && nic_status_counters(domain, index, counters);
    if (there && status)
        *status = json_incref(history_of(domain, index)->status);
    domain_unlock(domain);
    return there;
}

gint64
nic_round_trip_us(const json_t *status)
{
    const json_t *value = json_object_get(json_object_get(status, "link"), "round-trip");
    return json_is_integer(value) ? (gint64) json_integer_value(value) : -1;
}

void
nic_status_set_trouble(Domain *domain, guint index, NicTrouble trouble, const char *problem)
{
    NicHistory *history = history_of(domain, index);
    char *former = history->troubles[trouble];
    history->troubles[trouble] = g_strdup(problem);
    g_free(former);
}

const char *
nic_status_trouble(Domain *domain, guint index, NicTrouble trouble)
{
    return history_of(domain, index)->troubles[trouble];
}
