// SPDX-License-Identifier: LGPL-2.1-or-later
// vCPUs as the host sees them.
#include "driver/vcpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/stats.h"

// Of the thread of a process, by the name that QEMU gives it (debug-threads): "CPU 0/KVM".
static gboolean
is_named(pid_t pid, const char *tid, const char *prefix)
{
    g_autofree char *file = g_strdup_printf("/proc/%d/task/%s/comm", pid, tid);
    g_autofree char *comm = NULL;
    return g_file_get_contents(file, &comm, NULL, NULL) && g_str_has_prefix(comm, prefix);
}

static GDir *
open_threads(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", pid);
    return g_dir_open(path, 0, NULL);
}

int
vcpu_thread(pid_t pid, guint vcpu)
{
    g_autofree char *prefix = g_strdup_printf("CPU %u/", vcpu);
    g_autoptr(GDir) dir = open_threads(pid);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)))
        if (is_named(pid, name, prefix))
            return atoi(name);
    return 0;
}

GArray *
vcpu_threads(pid_t pid)
{
    g_autoptr(GDir) dir = open_threads(pid);
    GArray *found = g_array_new(FALSE, FALSE, sizeof(pid_t));
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        const pid_t tid = atoi(name);
        if (is_named(pid, name, "CPU ") || is_named(pid, name, "ALL CPUs/"))
            g_array_append_val(found, tid);
    }
    return found;
}

// The processor that a thread ran on last; -1: gone.
static int
last_processor(pid_t pid, int tid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task/%d/stat", pid, tid);
    g_autofree char *text = NULL;
    const char *fields = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    if (!fields)
        return -1;
    // Field 39 (proc(5)); the first after the name is the third, and begins at the second character.
    g_auto(GStrv) words = g_strsplit(fields + 2, " ", 38);
    return g_strv_length(words) > 36 ? atoi(words[36]) : -1;
}

static void
fill_map(int tid, guint8 *map, gsize length)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(tid, sizeof(set), &set) < 0)
        return;
    for (gsize cpu = 0; cpu < MIN(length * 8, CPU_SETSIZE); cpu++)
        if (CPU_ISSET(cpu, &set))
            map[cpu / 8] |= (guint8) (1u << cpu % 8);
}

GArray *
vcpu_collect(Domain *domain, guint max, gsize map_length, guint8 **maps, GError **error)
{
    domain_lock(domain);
    const gboolean active = domain_check_active(domain, error);
    const pid_t pid = domain->pid;
    const guint n = active && domain->live ? MIN(domain->live->vcpus, max) : 0;
    domain_unlock(domain);
    if (!active)
        return NULL;
    GArray *infos = g_array_new(FALSE, TRUE, sizeof(virVcpuInfo));
    *maps = map_length ? g_new0(guint8, n * map_length) : NULL;
    for (guint i = 0; i < n; i++) {
        const int tid = vcpu_thread(pid, i);
        guint64 user = 0, system = 0;
        if (tid)
            stats_process_times(pid, tid, &user, &system);
        const virVcpuInfo info = {.number = i,
                                  .state = VIR_VCPU_RUNNING,
                                  .cpuTime = user + system,
                                  .cpu = tid ? last_processor(pid, tid) : -1};
        g_array_append_val(infos, info);
        if (tid && map_length)
            fill_map(tid, *maps + i * map_length, map_length);
    }
    return infos;
}
