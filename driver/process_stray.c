// SPDX-License-Identifier: LGPL-2.1-or-later
// Emulators that run without a record of ours: found among the host's processes by their arguments.
#include <string.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/process.h"

#define MONITOR "socket,id=charmonitor,path="

// The arguments of the process that `name` of /proc is; NULL when it is none.
static char **
arguments_of(const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/cmdline", name);
    g_autofree char *text = NULL;
    gsize length = 0;
    if (!g_ascii_isdigit(*name) || !g_file_get_contents(path, &text, &length, NULL))
        return NULL;
    g_autoptr(GStrvBuilder) arguments = g_strv_builder_new();
    for (gsize at = 0; at < length; at += strlen(text + at) + 1)
        g_strv_builder_add(arguments, text + at);
    return g_strv_builder_end(arguments);
}

// The argument after `option`; NULL: none.
static const char *
value_of(char **arguments, const char *option)
{
    for (char **at = arguments; *at; at++)
        if (g_str_equal(*at, option))
            return at[1];
    return NULL;
}

static const char *
argument_with_prefix(char **arguments, const char *prefix)
{
    for (char **at = arguments; *at; at++)
        if (g_str_has_prefix(*at, prefix))
            return *at;
    return NULL;
}

// As the emulator's option syntax has it: an own comma is two.
static char *
monitor_argument(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, ",", -1);
    g_autofree char *escaped = g_strjoinv(",,", parts);
    return g_strconcat(MONITOR, escaped, NULL);
}

// The first process of those that `matches`.
static EmulatorProcess
find_process(gboolean (*matches)(char **arguments, const char *text), const char *text)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc))) {
        g_auto(GStrv) arguments = arguments_of(name);
        if (!arguments || !matches(arguments, text))
            continue;
        pid_t pid = (pid_t) g_ascii_strtoll(name, NULL, 10);
        return (EmulatorProcess){.pid = pid, .start_time = emulator_start_time(pid)};
    }
    return (EmulatorProcess){.pid = 0};
}

static gboolean
has_monitor(char **arguments, const char *argument)
{
    return argument_with_prefix(arguments, argument) != NULL;
}

EmulatorProcess
process_find_unrecorded(const char *run_dir)
{
    // No other process has the path of its monitor as part of such an argument.
    g_autofree char *path = g_strdup_printf("%s/monitor.sock", run_dir);
    g_autofree char *argument = monitor_argument(path);
    return find_process(has_monitor, argument);
}

static gboolean
has_uuid(char **arguments, const char *uuid)
{
    return g_strcmp0(value_of(arguments, "-uuid"), uuid) == 0;
}

gboolean
process_check_stray(const Domain *domain, GError **error)
{
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    const EmulatorProcess stray = find_process(has_uuid, uuid);
    if (!emulator_is_alive(&stray))
        return TRUE;
    quasar_set_error(
        error, VIR_ERR_OPERATION_FAILED,
        "domain '%s' runs already, as process %d, which this daemon has no record of: shut the guest "
        "down from inside, or end it with 'kill %d', first",
        domain->name, (int) stray.pid, (int) stray.pid);
    return FALSE;
}

// A container's guests may have paths like ours.
static gboolean
is_of_other_namespace(const char *pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/ns/pid", pid);
    g_autofree char *theirs = g_file_read_link(path, NULL);
    g_autofree char *ours = g_file_read_link("/proc/self/ns/pid", NULL);
    return theirs && ours && !g_str_equal(theirs, ours);
}

static GHashTable *
managed_pids(Driver *driver)
{
    GHashTable *pids = g_hash_table_new(NULL, NULL);
    g_autoptr(GPtrArray) active = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    for (guint i = 0; i < active->len; i++) {
        Domain *domain = g_ptr_array_index(active, i);
        domain_lock(domain);
        g_hash_table_add(pids, GINT_TO_POINTER(domain->pid));
        domain_unlock(domain);
    }
    return pids;
}

void
process_report_strays(Driver *driver)
{
    g_autofree char *base = g_strdup_printf("%s/domain-", driver->run_dir);
    g_autofree char *monitor = monitor_argument(base);
    g_autoptr(GHashTable) managed = managed_pids(driver);
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    const char *name;
    while (proc && (name = g_dir_read_name(proc))) {
        g_auto(GStrv) arguments = arguments_of(name);
        const int pid = arguments ? (int) g_ascii_strtoll(name, NULL, 10) : 0;
        if (!pid || g_hash_table_contains(managed, GINT_TO_POINTER(pid)) ||
            !has_monitor(arguments, monitor) || is_of_other_namespace(name))
            continue;
        const char *uuid = value_of(arguments, "-uuid"), *guest = value_of(arguments, "-name");
        g_critical(
            "process %d runs a guest (%s, uuid %s) that no readable status file in %s tells of: it cannot be "
            "seen or managed, and is not started a second time while it runs; shut it down from inside, "
            "or end it with 'kill %d'",
            pid, guest ? guest : "no name", uuid ? uuid : "unknown", driver->run_dir, pid);
    }
}
