// SPDX-License-Identifier: LGPL-2.1-or-later
// What virConnectGetAllDomainStats tells of a domain, as typed parameters.
#include "driver/stats.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/frame.h"
#include "emulator/monitor.h"

#define NS_PER_S 1000000000ULL

// What is read under the domain's lock, once, so that everything after it may wait.
typedef struct {
    DomainDef *def;
    Qmp *qmp;
    char *run_dir;
    pid_t pid;
    int state, reason;
} StatsSubject;

static void
stats_subject_clear(StatsSubject *subject)
{
    domain_def_free(subject->def);
    if (subject->qmp)
        qmp_unref(subject->qmp);
    g_free(subject->run_dir);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StatsSubject, stats_subject_clear)

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
stats_add_string(GArray *params, const char *value, const char *group, guint index, const char *field)
{
    virTypedParameter param = {.type = VIR_TYPED_PARAM_STRING, .value.s = g_strdup(value)};

    g_snprintf(param.field, sizeof(param.field), "%s.%u.%s", group, index, field);
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
stats_subject_read(Domain *domain, StatsSubject *subject)
{
    domain_lock(domain);
    const DomainDef *def = domain_def(domain);
    subject->def = def ? domain_def_copy(def) : NULL;
    subject->state = domain->state;
    subject->reason = domain->reason;
    if (domain_is_active(domain)) {
        subject->qmp = domain_qmp(domain, NULL);
        subject->pid = domain->pid;
        subject->run_dir = g_strdup(domain->run_dir);
    }
    domain_unlock(domain);
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

static void
stats_balloon(const StatsSubject *subject, GArray *params)
{
    const DomainDef *def = subject->def;
    guint64 current = def->current_memory_kib ? def->current_memory_kib : def->memory_kib;

    if (subject->qmp && g_strcmp0(def->memballoon.model, "virtio") == 0)
        monitor_query_balloon(subject->qmp, &current, NULL);
    stats_add_ull(params, current, "balloon.current");
    stats_add_ull(params, def->memory_kib, "balloon.maximum");
    if (subject->pid)
        stats_add_ull(params, stats_process_rss(subject->pid), "balloon.rss");
}

static void
stats_vcpu(const StatsSubject *subject, GArray *params)
{
    g_autoptr(GArray) threads = subject->qmp ? monitor_query_cpus(subject->qmp, NULL) : NULL;

    stats_add_uint(params, "vcpu.current", subject->def->vcpus);
    stats_add_uint(params, "vcpu.maximum", subject->def->max_vcpus);
    for (guint i = 0; threads && i < threads->len; i++) {
        g_autofree char *state = g_strdup_printf("vcpu.%u.state", i);
        guint64 user, system;

        stats_add_int(params, state, VIR_VCPU_RUNNING);
        if (stats_process_times(subject->pid, g_array_index(threads, int, i), &user, &system))
            stats_add_ull(params, user + system, "vcpu.%u.time", i);
    }
}

static void
stats_interface_counters(const StatsSubject *subject, GArray *params, guint index)
{
    g_autofree char *path = g_strdup_printf("%s/net%u.ctl", subject->run_dir, index);
    g_autoptr(VnetClient) client = vnet_client_attach(path, NULL);
    g_autoptr(json_t) status = client ? vnet_client_status(client, NULL) : NULL;

    if (!status)
        return;
    const json_t *in = json_object_get(status, "to_guest"), *out = json_object_get(status, "from_guest");
    stats_add_ull(params, (guint64) json_integer_value(json_object_get(in, "bytes")), "net.%u.rx.bytes",
                  index);
    stats_add_ull(params, (guint64) json_integer_value(json_object_get(in, "frames")), "net.%u.rx.pkts",
                  index);
    stats_add_ull(params, (guint64) json_integer_value(json_object_get(out, "bytes")), "net.%u.tx.bytes",
                  index);
    stats_add_ull(params, (guint64) json_integer_value(json_object_get(out, "frames")), "net.%u.tx.pkts",
                  index);
}

static void
stats_interface(const StatsSubject *subject, GArray *params)
{
    const GPtrArray *interfaces = subject->def->interfaces;

    if (!subject->pid)
        return;
    stats_add_uint(params, "net.count", interfaces->len);
    for (guint i = 0; i < interfaces->len; i++) {
        const DomainInterface *interface = g_ptr_array_index(interfaces, i);

        if (interface->target_dev)
            stats_add_string(params, interface->target_dev, "net", i, "name");
        stats_interface_counters(subject, params, i);
    }
}

static void
stats_block(const StatsSubject *subject, GArray *params)
{
    const GPtrArray *disks = subject->def->disks;

    stats_add_uint(params, "block.count", disks->len);
    for (guint i = 0; i < disks->len; i++) {
        const DomainDisk *disk = g_ptr_array_index(disks, i);
        MonitorBlockStats stats = {0};

        stats_add_string(params, disk->target, "block", i, "name");
        if (disk->image.path)
            stats_add_string(params, disk->image.path, "block", i, "path");
        if (!subject->qmp || !disk->info.alias ||
            !monitor_query_block_stats(subject->qmp, disk->info.alias, &stats, NULL))
            continue;
        stats_add_ull(params, stats.read_requests, "block.%u.rd.reqs", i);
        stats_add_ull(params, stats.read_bytes, "block.%u.rd.bytes", i);
        stats_add_ull(params, stats.read_ns, "block.%u.rd.times", i);
        stats_add_ull(params, stats.write_requests, "block.%u.wr.reqs", i);
        stats_add_ull(params, stats.write_bytes, "block.%u.wr.bytes", i);
        stats_add_ull(params, stats.write_ns, "block.%u.wr.times", i);
        stats_add_ull(params, stats.flush_requests, "block.%u.fl.reqs", i);
        stats_add_ull(params, stats.flush_ns, "block.%u.fl.times", i);
    }
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
        stats_balloon(&subject, params);
    if (groups & VIR_DOMAIN_STATS_VCPU)
        stats_vcpu(&subject, params);
    if (groups & VIR_DOMAIN_STATS_INTERFACE)
        stats_interface(&subject, params);
    if (groups & VIR_DOMAIN_STATS_BLOCK)
        stats_block(&subject, params);
    return params;
}
