// SPDX-License-Identifier: LGPL-2.1-or-later
// What this host is: processors, memory, names, and what its emulator can do.
#include <config.h> // not driver/config.h

#include "driver/node.h"

#include <netdb.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/probe.h"
#include "xml/capabilities.h"
#include "xml/domain.h"

// The number after `key` at the start of a line of a /proc file; 0 when absent.
static guint64
node_proc_number(const char *path, const char *key)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, key))
            continue;
        const char *value = strchr(*line, ':');
        return value ? g_ascii_strtoull(value + 1 + strspn(value + 1, " \t"), NULL, 10) : 0;
    }
    return 0;
}

static guint
node_cpu_count(void)
{
    const long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count > 0 ? (guint) count : 1;
}

void
node_info(virNodeInfo *info)
{
    struct utsname names;

    memset(info, 0, sizeof(*info));
    if (uname(&names) == 0)
        g_strlcpy(info->model, names.machine, sizeof(info->model));
    info->memory = node_proc_number("/proc/meminfo", "MemTotal");
    info->mhz = (unsigned int) node_proc_number("/proc/cpuinfo", "cpu MHz");
    info->cpus = node_cpu_count();
    // Clients multiply these four; a host with processors switched off cannot be told as sockets and cores.
    info->nodes = 1;
    info->sockets = 1;
    info->cores = info->cpus;
    info->threads = 1;
}

guint64
node_free_memory(void)
{
    return node_proc_number("/proc/meminfo", "MemAvailable") * 1024;
}

char *
node_hostname(void)
{
    char name[256] = "localhost";
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_flags = AI_CANONNAME, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char *result = NULL;

    gethostname(name, sizeof(name) - 1);
    if (!strchr(name, '.') && getaddrinfo(name, NULL, &hints, &found) == 0) {
        // A name that only points to the loopback is of no use to a peer.
        if (found->ai_canonname && !g_str_has_prefix(found->ai_canonname, "localhost"))
            result = g_strdup(found->ai_canonname);
        freeaddrinfo(found);
    }
    return result ? result : g_strdup(name);
}

char *
node_uuid(void)
{
    static const char *const sources[] = {"/sys/class/dmi/id/product_uuid", "/etc/machine-id"};
    guint8 bytes[16] = {0};

    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++) {
        g_autofree char *text = NULL;
        if (g_file_get_contents(sources[i], &text, NULL, NULL) && domain_uuid_parse(g_strstrip(text), bytes))
            break;
    }
    return domain_uuid_format(bytes);
}

static EmulatorProbe *
node_probe(Driver *driver, GError **error)
{
    const EmulatorUser user = {.uid = driver->emulator_uid, .gid = driver->emulator_gid};

    return emulator_probe(QUASAR_EMULATOR, &user, NULL, error);
}

gulong
node_emulator_version(Driver *driver, GError **error)
{
    g_autoptr(EmulatorProbe) probe = node_probe(driver, error);

    return probe ? emulator_probe_version(probe) : 0;
}

// Each machine by its versioned name and, when it has one, by its alias; q35 first.
static GArray *
node_machines(const EmulatorProbe *probe)
{
    GArray *machines = g_array_new(FALSE, TRUE, sizeof(CapabilitiesMachine));

    for (guint i = 0; i < probe->machines->len; i++) {
        const EmulatorMachine *machine = g_ptr_array_index(probe->machines, i);
        const CapabilitiesMachine plain = {.name = machine->name, .max_cpus = machine->max_cpus};
        g_array_append_val(machines, plain);
        if (!machine->alias)
            continue;
        const CapabilitiesMachine alias = {
            .name = machine->alias, .canonical = machine->name, .max_cpus = machine->max_cpus};
        if (strcmp(machine->alias, "q35") == 0)
            g_array_prepend_val(machines, alias);
        else
            g_array_append_val(machines, alias);
    }
    return machines;
}

char *
node_capabilities(Driver *driver)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(EmulatorProbe) probe = node_probe(driver, &error);
    g_autoptr(GArray) machines = probe ? node_machines(probe) : NULL;
    g_autofree char *uuid = node_uuid();
    g_autofree CapabilitiesCpu *cpus = NULL;
    CapabilitiesGuest guest = {.wordsize = 64};
    virNodeInfo info;

    node_info(&info);
    cpus = g_new0(CapabilitiesCpu, info.cpus);
    for (guint i = 0; i < info.cpus; i++)
        cpus[i].id = cpus[i].core = i;

    Capabilities capabilities = {
        .host_uuid = uuid,
        .arch = info.model,
        .sockets = 1,
        .dies = 1,
        .cores = info.cores,
        .threads = 1,
        .memory_kib = info.memory,
        .cpus = cpus,
        .n_cpus = info.cpus,
    };
    if (probe) {
        guest.arch = probe->arch;
        guest.emulator = probe->path;
        guest.has_kvm = access("/dev/kvm", F_OK) == 0;
        guest.machines = (const CapabilitiesMachine *) machines->data;
        guest.n_machines = machines->len;
        capabilities.guests = &guest;
        capabilities.n_guests = 1;
    } else {
        g_warning("no guests in the capabilities: %s", error->message);
    }
    return capabilities_format(&capabilities);
}
