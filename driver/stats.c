// SPDX-License-Identifier: LGPL-2.1-or-later
// What virConnectGetAllDomainStats tells of a domain, as typed parameters.
#include "driver/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/blockinfo.h"
#include "driver/vcpu.h"
#include "emulator/qmp.h"

#define NS_PER_S 1000000000ULL

#define ANSWER_MS  500                  // how long the emulator is waited for
#define SILENCE_US (2 * G_USEC_PER_SEC) // how long one that did not answer is left alone

// What is read under the domain's lock, once, so that everything after it may wait.
typedef struct {
    Domain *domain; // borrowed
    DomainDef *def;
    Qmp *qmp;
    pid_t pid;
    guint64 generation;
    int state, reason;
} StatsSubject;

static void
stats_subject_clear(StatsSubject *subject)
{
    domain_def_free(subject->def);
    if (subject->qmp)
        qmp_unref(subject->qmp);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StatsSubject, stats_subject_clear)

static void
stats_subject_read(Domain *domain, StatsSubject *subject)
{
    domain_lock(domain);
    const DomainDef *def = domain_def(domain);
    subject->domain = domain;
    subject->def = def ? domain_def_copy(def) : NULL;
    subject->state = domain->state;
    subject->reason = domain->reason;
    subject->generation = domain->generation;
    if (domain_is_active(domain)) {
        subject->qmp = domain_qmp(domain, NULL);
        subject->pid = domain->pid;
    }
    domain_unlock(domain);
}

// With the domain locked: what it said last in this run.
static json_t *
stats_last_known(const StatsSubject *subject)
{
    Domain *domain = subject->domain;

    if (!domain->last_known || domain->last_known_run != subject->generation) {
        json_decref(domain->last_known);
        domain->last_known = json_object();
        domain->last_known_run = subject->generation;
        domain->emulator_silent_until = 0;
    }
    return domain->last_known;
}

// The answer to a query command, of now or the last one; NULL when there was none. Caller owns it.
static json_t *
stats_ask(const StatsSubject *subject, const char *command)
{
    Domain *domain = subject->domain;
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    if (!subject->qmp)
        return NULL;
    domain_lock(domain);
    stats_last_known(subject);
    const gboolean ask = g_get_monotonic_time() >= domain->emulator_silent_until;
    domain_unlock(domain);
    if (ask)
        answer = qmp_execute(subject->qmp, command, NULL, ANSWER_MS, &error);
    domain_lock(domain);
    json_t *known = stats_last_known(subject);
    if (answer)
        json_object_set(known, command, answer);
    else if (ask && quasar_error_code(error) == VIR_ERR_OPERATION_TIMEOUT)
        domain->emulator_silent_until = g_get_monotonic_time() + SILENCE_US;
    json_t *result = json_incref(json_object_get(known, command));
    domain_unlock(domain);
    return result;
}

static guint64
stats_number(const json_t *object, const char *key)
{
    return (guint64) json_integer_value(json_object_get(object, key));
}

static void
stats_param_clear(gpointer data)
{
    virTypedParameter *param = data;

    if (param->type == VIR_TYPED_PARAM_STRING)
        g_free(param->value.s);
}

static void G_GNUC_PRINTF(3, 4) stats_add_ull(GArray *params, guint64 value, const char *format, ...)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_ULLONG, .value.ul = value};
    va_list args;

    va_start(args, format);
    g_vsnprintf(param.field, sizeof(param.field), format, args);
    va_end(args);
    g_array_append_val(params, param);
}

static void
stats_add_int(GArray *params, const char *name, int value)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_INT, .value.i = value};

    g_strlcpy(param.field, name, sizeof(param.field));
    g_array_append_val(params, param);
}

static void
stats_add_uint(GArray *params, const char *name, guint value)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_UINT, .value.ui = value};

    g_strlcpy(param.field, name, sizeof(param.field));
    g_array_append_val(params, param);
}

static void
stats_add_llong(GArray *params, const char *name, gint64 value)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_LLONG, .value.l = value};

    g_strlcpy(param.field, name, sizeof(param.field));
    g_array_append_val(params, param);
}

static void G_GNUC_PRINTF(3, 4) stats_add_string(GArray *params, const char *value, const char *format, ...)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_STRING, .value.s = g_strdup(value)};
    va_list args;

    va_start(args, format);
    g_vsnprintf(param.field, sizeof(param.field), format, args);
    va_end(args);
    g_array_append_val(params, param);
}

gboolean
stats_process_times(pid_t pid, int tid, guint64 *user_ns, guint64 *system_ns)
{
    g_autofree char *path =
        tid ? g_strdup_printf("/proc/%d/task/%d/stat", pid, tid) : g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    unsigned long long user = 0, system = 0;
    const guint64 tick = NS_PER_S / (guint64) sysconf(_SC_CLK_TCK);

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return FALSE;
    // The name in parentheses may hold anything, also a parenthesis; fields are counted after the last one.
    const char *fields = strrchr(text, ')');
    if (!fields ||
        sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
        return FALSE;
    *user_ns = user * tick;
    *system_ns = system * tick;
    return TRUE;
}

guint64
stats_process_rss(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", pid);
    g_autofree char *text = NULL;
    unsigned long long resident = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL) || sscanf(text, "%*u %llu", &resident) != 1)
        return 0;
    return resident * (guint64) sysconf(_SC_PAGESIZE) / 1024;
}

static void
stats_cpu(const StatsSubject *subject, GArray *params)
{
    guint64 user, system;

    if (!subject->pid || !stats_process_times(subject->pid, 0, &user, &system))
        return;
    stats_add_ull(params, user + system, "cpu.time");
    stats_add_ull(params, user, "cpu.user");
    stats_add_ull(params, system, "cpu.system");
}

// What the emulator has in excess of the definition (emulator/command.c says why) is not the guest's.
static guint64
stats_balloon_kib(const StatsSubject *subject)
{
    const DomainDef *def = subject->def;
    g_autoptr(json_t) answer =
        g_strcmp0(def->memballoon.model, "virtio") == 0 ? stats_ask(subject, "query-balloon") : NULL;

    if (answer)
        return MIN(stats_number(answer, "actual") / 1024, def->memory_kib);
    return def->current_memory_kib ? def->current_memory_kib : def->memory_kib;
}

static void
stats_add_balloon(const StatsSubject *subject, GArray *params)
{
    stats_add_ull(params, stats_balloon_kib(subject), "balloon.current");
    stats_add_ull(params, subject->def->memory_kib, "balloon.maximum");
    if (subject->pid)
        stats_add_ull(params, stats_process_rss(subject->pid), "balloon.rss");
}

// Time that a thread waited for a processor, ns.
static guint64
stats_thread_delay(pid_t pid, int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/schedstat", pid, tid);
    g_autofree char *text = NULL;
    unsigned long long delay = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL) || sscanf(text, "%*u %llu", &delay) != 1)
        return 0;
    return delay;
}

static void
stats_add_vcpus(const StatsSubject *subject, GArray *params)
{
    stats_add_uint(params, "vcpu.current", subject->def->vcpus);
    stats_add_uint(params, "vcpu.maximum", subject->def->max_vcpus);
    for (guint i = 0; subject->pid && i < subject->def->vcpus; i++) {
        const int thread = vcpu_thread(subject->pid, i);
        g_autofree char *state = g_strdup_printf("vcpu.%u.state", i);
        guint64 user, system;

        stats_add_int(params, state, VIR_VCPU_RUNNING);
        if (thread && stats_process_times(subject->pid, thread, &user, &system)) {
            stats_add_ull(params, user + system, "vcpu.%u.time", i);
            stats_add_ull(params, stats_thread_delay(subject->pid, thread), "vcpu.%u.delay", i);
        }
    }
}

// What libvirt has no figures for, named after us so that its own later ones differ.
static void
stats_add_quasar(const StatsSubject *subject, GArray *params, guint i, const json_t *status)
{
    const char *mode = json_string_value(json_object_get(status, "mode"));
    const gint64 round_trip_us = nic_round_trip_us(status);
    g_autofree char *home = NULL;

    domain_lock(subject->domain);
    home = domain_nic_home(subject->domain, i);
    domain_unlock(subject->domain);
    if (mode)
        stats_add_string(params, nic_mode_name(mode), "net.%u.quasar.mode", i);
    if (home)
        stats_add_string(params, home, "net.%u.quasar.peer", i);
    if (round_trip_us >= 0)
        stats_add_ull(params, (guint64) round_trip_us, "net.%u.quasar.round_trip_us", i);
    stats_add_ull(params, nic_queue_frames(status), "net.%u.quasar.queue", i);
}

static void
stats_add_counters(GArray *params, guint i, const NicCounters *counters)
{
    stats_add_ull(params, counters->rx_bytes, "net.%u.rx.bytes", i);
    stats_add_ull(params, counters->rx_packets, "net.%u.rx.pkts", i);
    stats_add_ull(params, 0, "net.%u.rx.errs", i);
    stats_add_ull(params, counters->rx_dropped, "net.%u.rx.drop", i);
    stats_add_ull(params, counters->tx_bytes, "net.%u.tx.bytes", i);
    stats_add_ull(params, counters->tx_packets, "net.%u.tx.pkts", i);
    stats_add_ull(params, 0, "net.%u.tx.errs", i);
    stats_add_ull(params, counters->tx_dropped, "net.%u.tx.drop", i);
}

static void
stats_add_interfaces(const StatsSubject *subject, GArray *params)
{
    const GPtrArray *interfaces = subject->def->interfaces;

    if (!subject->pid)
        return;
    stats_add_uint(params, "net.count", interfaces->len);
    for (guint i = 0; i < interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(interfaces, i);
        const char *name = interface->target_dev ? interface->target_dev : interface->info.alias;
        g_autoptr(json_t) status = NULL;
        NicCounters counters;

        if (name)
            stats_add_string(params, name, "net.%u.name", i);
        if (!nic_status_read(subject->domain, i, &counters, &status))
            continue;
        stats_add_counters(params, i, &counters);
        stats_add_quasar(subject, params, i, status);
    }
}

// One disk's part of the emulator's answer to query-blockstats.
static gboolean
stats_block_parse(const json_t *answer, const char *alias, BlockStats *stats)
{
    // A device is named by its alias, or by its place in QEMU's tree, where the alias is one of the steps.
    g_autofree char *step = g_strdup_printf("/%s/", alias);
    size_t i;
    json_t *item;

    json_array_foreach(answer, i, item)
    {
        const char *qdev = json_string_value(json_object_get(item, "qdev"));
        if (!qdev || (strcmp(qdev, alias) != 0 && !strstr(qdev, step)))
            continue;
        const json_t *from = json_object_get(item, "stats");
        const json_t *file = json_object_get(json_object_get(item, "parent"), "stats");
        *stats = (BlockStats){
            .read_requests = stats_number(from, "rd_operations"),
            .read_bytes = stats_number(from, "rd_bytes"),
            .read_ns = stats_number(from, "rd_total_time_ns"),
            .write_requests = stats_number(from, "wr_operations"),
            .write_bytes = stats_number(from, "wr_bytes"),
            .write_ns = stats_number(from, "wr_total_time_ns"),
            .flush_requests = stats_number(from, "flush_operations"),
            .flush_ns = stats_number(from, "flush_total_time_ns"),
            .highest_offset = stats_number(file ? file : from, "wr_highest_offset"),
        };
        return TRUE;
    }
    return FALSE;
}

static void
stats_add_block_counters(GArray *params, guint i, const BlockStats *stats)
{
    stats_add_ull(params, stats->read_requests, "block.%u.rd.reqs", i);
    stats_add_ull(params, stats->read_bytes, "block.%u.rd.bytes", i);
    stats_add_ull(params, stats->read_ns, "block.%u.rd.times", i);
    stats_add_ull(params, stats->write_requests, "block.%u.wr.reqs", i);
    stats_add_ull(params, stats->write_bytes, "block.%u.wr.bytes", i);
    stats_add_ull(params, stats->write_ns, "block.%u.wr.times", i);
    stats_add_ull(params, stats->flush_requests, "block.%u.fl.reqs", i);
    stats_add_ull(params, stats->flush_ns, "block.%u.fl.times", i);
}

static void
stats_add_blocks(const StatsSubject *subject, GArray *params)
{
    const GPtrArray *disks = subject->def->disks;
    g_autoptr(json_t) answer = disks->len ? stats_ask(subject, "query-blockstats") : NULL;

    stats_add_uint(params, "block.count", disks->len);
    for (guint i = 0; i < disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(disks, i);
        const gboolean running = answer && disk->info.alias;
        BlockStats stats = {0};
        BlockInfo info;

        stats_add_string(params, disk->target, "block.%u.name", i);
        if (disk->image.path)
            stats_add_string(params, disk->image.path, "block.%u.path", i);
        const gboolean counted = running && stats_block_parse(answer, disk->info.alias, &stats);
        if (counted)
            stats_add_block_counters(params, i, &stats);
        if (!block_info(&disk->image, &info, NULL))
            continue;
        stats_add_ull(params, counted ? stats.highest_offset : info.allocation, "block.%u.allocation", i);
        stats_add_ull(params, info.capacity, "block.%u.capacity", i);
        stats_add_ull(params, info.physical, "block.%u.physical", i);
    }
}

static void
stats_add_dirty_rate(const StatsSubject *subject, GArray *params)
{
    // In the order of virDomainDirtyRateStatus.
    static const char *const states[] = {"unstarted", "measuring", "measured"};
    g_autoptr(json_t) answer = stats_ask(subject, "query-dirty-rate");
    const char *status = json_string_value(json_object_get(answer, "status"));
    const json_t *rate = json_object_get(answer, "dirty-rate");
    const char *mode = json_string_value(json_object_get(answer, "mode"));

    for (int i = 0; i < (int) G_N_ELEMENTS(states); i++) {
        if (g_strcmp0(status, states[i]) == 0)
            stats_add_int(params, "dirtyrate.calc_status", i);
    }
    if (!answer)
        return;
    stats_add_llong(params, "dirtyrate.calc_start_time",
                    json_integer_value(json_object_get(answer, "start-time")));
    stats_add_int(params, "dirtyrate.calc_period",
                  (int) json_integer_value(json_object_get(answer, "calc-time")));
    if (mode)
        stats_add_string(params, mode, "dirtyrate.calc_mode");
    if (rate)
        stats_add_llong(params, "dirtyrate.megabytes_per_second", json_integer_value(rate));
}

static gboolean
stats_check_running(const StatsSubject *subject, GError **error)
{
    if (!subject->qmp)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return subject->qmp != NULL;
}

gboolean
stats_block(Domain *domain, const char *name, BlockStats *stats, GError **error)
{
    g_auto(StatsSubject) subject = {0};
    g_autoptr(json_t) answer = NULL;
    gboolean found = FALSE;

    stats_subject_read(domain, &subject);
    if (!stats_check_running(&subject, error))
        return FALSE;
    answer = stats_ask(&subject, "query-blockstats");
    if (!answer) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "the emulator does not answer");
        return FALSE;
    }
    *stats = (BlockStats){0};
    for (guint i = 0; i < subject.def->disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(subject.def->disks, i);
        BlockStats one = {0};

        if (*name && strcmp(name, disk->target) != 0 && g_strcmp0(name, disk->info.alias) != 0 &&
            g_strcmp0(name, disk->image.path) != 0)
            continue;
        found = TRUE;
        if (!disk->info.alias || !stats_block_parse(answer, disk->info.alias, &one))
            continue;
        stats->read_requests += one.read_requests;
        stats->read_bytes += one.read_bytes;
        stats->read_ns += one.read_ns;
        stats->write_requests += one.write_requests;
        stats->write_bytes += one.write_bytes;
        stats->write_ns += one.write_ns;
        stats->flush_requests += one.flush_requests;
        stats->flush_ns += one.flush_ns;
    }
    if (!found && *name)
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "invalid path: %s", name);
    return found || !*name;
}

static gboolean
interface_is(const DomainInterface *interface, const char *device)
{
    g_autofree char *mac = domain_mac_format(interface->mac);

    return g_strcmp0(device, interface->target_dev) == 0 || g_strcmp0(device, interface->info.alias) == 0 ||
           g_ascii_strcasecmp(device, mac) == 0;
}

gboolean
stats_interface(Domain *domain, const char *device, NicCounters *counters, GError **error)
{
    g_auto(StatsSubject) subject = {0};

    stats_subject_read(domain, &subject);
    if (!stats_check_running(&subject, error))
        return FALSE;
    for (guint i = 0; i < subject.def->interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(subject.def->interfaces, i);
        if (!interface_is(interface, device))
            continue;
        if (nic_status_read(domain, i, counters, NULL))
            return TRUE;
        if (interface->type == DOMAIN_INTERFACE_USER)
            quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                             "nothing is counted of '%s', which is of type 'user'", device);
        else
            quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "quasar-vnet of '%s' does not answer", device);
        return FALSE;
    }
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is not a known interface", device);
    return FALSE;
}

gboolean
stats_memory(Domain *domain, guint64 *balloon_kib, guint64 *rss_kib, GError **error)
{
    g_auto(StatsSubject) subject = {0};

    stats_subject_read(domain, &subject);
    if (!stats_check_running(&subject, error))
        return FALSE;
    *balloon_kib = stats_balloon_kib(&subject);
    *rss_kib = stats_process_rss(subject.pid);
    return TRUE;
}

GArray *
stats_collect(Domain *domain, guint groups)
{
    GArray *params = g_array_new(FALSE, TRUE, sizeof(virTypedParameter));
    g_auto(StatsSubject) subject = {0};

    g_array_set_clear_func(params, stats_param_clear);
    stats_subject_read(domain, &subject);
    if (groups == 0)
        groups = STATS_GROUPS;
    if (groups & VIR_DOMAIN_STATS_STATE) {
        stats_add_int(params, "state.state", subject.state);
        stats_add_int(params, "state.reason", subject.reason);
    }
    if (groups & VIR_DOMAIN_STATS_CPU_TOTAL)
        stats_cpu(&subject, params);
    if (!subject.def)
        return params;
    if (groups & VIR_DOMAIN_STATS_BALLOON)
        stats_add_balloon(&subject, params);
    if (groups & VIR_DOMAIN_STATS_VCPU)
        stats_add_vcpus(&subject, params);
    if (groups & VIR_DOMAIN_STATS_INTERFACE)
        stats_add_interfaces(&subject, params);
    if (groups & VIR_DOMAIN_STATS_BLOCK)
        stats_add_blocks(&subject, params);
    if (groups & VIR_DOMAIN_STATS_DIRTYRATE)
        stats_add_dirty_rate(&subject, params);
    return params;
}
