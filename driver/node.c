// SPDX-License-Identifier: LGPL-2.1-or-later
// What this host is: processors, memory, names, and what its emulator can do.
#include <config.h> // not driver/config.h

#include "driver/node.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/process.h"
#include "emulator/arch.h"
#include "emulator/bundled.h"
#include "emulator/probe.h"
#include "xml/capabilities.h"
#include "xml/domain.h"
#include "xml/domain_capabilities.h"

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

#define CPUS_MAX 65536 // no host has more; bounds what a strange file could ask for

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

// `emulator` NULL: the one that a domain of this architecture gets which names none.
static EmulatorProbe *
node_probe(Driver *driver, const char *emulator, const char *arch, GError **error)
{
    const EmulatorUser user = process_emulator_user(driver);
    const char *path = emulator ? emulator : emulator_default(arch, error);

    return path ? emulator_probe(path, &user, driver->cache_dir, error) : NULL;
}

gulong
node_emulator_version(Driver *driver, GError **error)
{
    g_autoptr(EmulatorProbe) probe = node_probe(driver, NULL, NULL, error);

    return probe ? emulator_probe_version(probe) : 0;
}

// Each machine by its versioned name and, when it has one, by its alias; the default first.
static GArray *
node_machines(const EmulatorArch *arch, const EmulatorProbe *probe)
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
        if (strcmp(machine->alias, arch->machine) == 0)
            g_array_prepend_val(machines, alias);
        else
            g_array_append_val(machines, alias);
    }
    return machines;
}

// What the capabilities say of guests, and what they borrow it from.
typedef struct {
    GArray *guests;      // CapabilitiesGuest
    GPtrArray *probes;   // EmulatorProbe
    GPtrArray *machines; // GArray of CapabilitiesMachine
} NodeGuests;

static void
node_add_guest(NodeGuests *node, const EmulatorArch *arch, EmulatorProbe *probe, gboolean kvm)
{
    GArray *machines = node_machines(arch, probe);
    const CapabilitiesGuest guest = {
        .arch = arch->name,
        .wordsize = arch->wordsize,
        .emulator = probe->path,
        .has_kvm = kvm && arch->pc,
        .has_acpi = arch->pc,
        .machines = (const CapabilitiesMachine *) machines->data,
        .n_machines = machines->len,
    };

    g_array_append_val(node->guests, guest);
    g_ptr_array_add(node->machines, machines);
    g_ptr_array_add(node->probes, probe);
}

// Only architectures whose emulator is there.
static NodeGuests
node_guests(Driver *driver)
{
    const gboolean kvm = process_kvm_usable(driver, NULL);
    NodeGuests node = {
        .guests = g_array_new(FALSE, TRUE, sizeof(CapabilitiesGuest)),
        .probes = g_ptr_array_new_with_free_func((GDestroyNotify) emulator_probe_unref),
        .machines = g_ptr_array_new_with_free_func((GDestroyNotify) g_array_unref),
    };

    for (gsize i = 0; i < emulator_n_archs; i++) {
        const EmulatorArch *arch = &emulator_archs[i];
        g_autoptr(GError) error = NULL;
        if (!emulator_default(arch->name, NULL))
            continue;
        EmulatorProbe *probe = node_probe(driver, NULL, arch->name, &error);
        if (probe)
            node_add_guest(&node, arch, probe, kvm);
        else
            g_warning("no guests of arch '%s' in the capabilities: %s", arch->name, error->message);
    }
    return node;
}

char *
node_capabilities(Driver *driver)
{
    NodeGuests node = node_guests(driver);
    g_autoptr(GArray) guests = node.guests;
    g_autoptr(GPtrArray) probes = node.probes, machines = node.machines;
    g_autofree char *uuid = node_uuid();
    g_autofree CapabilitiesCpu *cpus = NULL;
    g_autofree char *label = node_security_label(driver);
    virNodeInfo info;

    node_info(&info);
    cpus = g_new0(CapabilitiesCpu, info.cpus);
    for (guint i = 0; i < info.cpus; i++)
        cpus[i].id = cpus[i].core = i;

    const Capabilities capabilities = {
        .host_uuid = uuid,
        .arch = info.model,
        .sockets = 1,
        .dies = 1,
        .cores = info.cores,
        .threads = 1,
        .memory_kib = info.memory,
        .cpus = cpus,
        .n_cpus = info.cpus,
        .guests = (const CapabilitiesGuest *) guests->data,
        .n_guests = guests->len,
        .security_label = label,
    };
    return capabilities_format(&capabilities);
}

char *
node_security_label(Driver *driver)
{
    return g_strdup_printf("+%u:+%u", driver->emulator_uid, driver->emulator_gid);
}

static gboolean
check_wanted(const char *what, const char *wanted, const char *there, GError **error)
{
    if (!wanted || strcmp(wanted, there) == 0)
        return TRUE;
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "%s '%s' is not available here, '%s' is", what, wanted,
                     there);
    return FALSE;
}

// What a guest that is to move may be told to have: neither the host's processor nor whatever an emulator can
// do today. Borrowed strings; caller unrefs.
static GPtrArray *
node_named_models(const EmulatorProbe *probe)
{
    static const char *const unfit[] = {"max", "host", "base", NULL};
    GPtrArray *models = g_ptr_array_new();

    for (guint i = 0; i < probe->cpu_models->len; i++) {
        if (!g_strv_contains(unfit, g_ptr_array_index(probe->cpu_models, i)))
            g_ptr_array_add(models, g_ptr_array_index(probe->cpu_models, i));
    }
    return models;
}

// Those that concern guests of this kind.
static DomainCapabilitiesPatch *
node_patches(const EmulatorProbe *probe, gboolean pc, gsize *count)
{
    DomainCapabilitiesPatch *patches = g_new0(DomainCapabilitiesPatch, emulator_n_cures);

    *count = 0;
    for (gsize i = 0; i < emulator_n_cures; i++) {
        const EmulatorCure *cure = &emulator_cures[i];
        if (pc ? cure->not_pc : cure->only_pc)
            continue;
        patches[(*count)++] = (DomainCapabilitiesPatch){
            .name = cure->patch,
            .present = emulator_traits_is_cured(probe->traits, cure),
            .without = cure->without,
        };
    }
    return patches;
}

static gboolean
check_arch(const EmulatorProbe *probe, const char *arch, GError **error)
{
    if (arch && emulator_arch_serves(probe->arch, arch))
        return TRUE;
    return check_wanted("architecture", arch, probe->arch, error);
}

static gboolean
check_type(Driver *driver, const EmulatorArch *arch, const char *virt_type, GError **error)
{
    const gboolean kvm = g_strcmp0(virt_type, "kvm") == 0 && (!arch || arch->pc);

    return kvm ? process_kvm_usable(driver, error)
               : check_wanted("virtualization type", virt_type, "qemu", error);
}

char *
node_domain_capabilities(Driver *driver, const char *emulator, const char *arch, const char *machine,
                         const char *virt_type, GError **error)
{
    if (emulator && !g_path_is_absolute(emulator)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "emulator '%s' must be given with its whole path",
                         emulator);
        return NULL;
    }
    g_autoptr(EmulatorProbe) probe = node_probe(driver, emulator, arch, error);
    if (!probe || !check_arch(probe, arch, error))
        return NULL;
    const EmulatorArch *known = emulator_arch_find(arch ? arch : probe->arch);
    if (!check_type(driver, known, virt_type, error))
        return NULL;
    const char *wanted = machine ? machine : known ? known->machine : "none";
    const char *canonical = emulator_probe_machine(probe, wanted);
    if (!canonical) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "machine '%s' is not supported by emulator '%s'", wanted,
                         probe->path);
        return NULL;
    }
    const gboolean pc = !known || known->pc;
    gsize n_patches;
    g_autoptr(GPtrArray) models = node_named_models(probe);
    g_autofree DomainCapabilitiesPatch *patches = node_patches(probe, pc, &n_patches);
    DomainCapabilities capabilities = {
        .emulator = probe->path,
        .virt_type = virt_type ? virt_type : "qemu",
        .machine = canonical,
        .arch = arch ? arch : probe->arch,
        .pc = pc,
        .cpu_models = (const char *const *) models->pdata,
        .n_cpu_models = models->len,
        .patches = patches,
        .n_patches = n_patches,
    };
    for (guint i = 0; i < probe->machines->len; i++) {
        const EmulatorMachine *one = g_ptr_array_index(probe->machines, i);
        if (strcmp(one->name, canonical) == 0)
            capabilities.max_vcpus = one->max_cpus;
    }
    return domain_capabilities_format(&capabilities);
}

// A kernel's list of numbers, "0-3,8": calls `each` for every one of them and returns how many there were.
static guint
each_of_list(const char *path, void (*each)(guint number, gpointer data), gpointer data)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) ranges = NULL;
    guint count = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    ranges = g_strsplit(g_strstrip(text), ",", -1);
    for (char **range = ranges; *range && **range; range++) {
        char *end = NULL;
        const gulong first = strtoul(*range, &end, 10);
        const gulong last = *end == '-' ? strtoul(end + 1, NULL, 10) : first;
        for (gulong number = first; number <= last && number < CPUS_MAX; number++, count++)
            each((guint) number, data);
    }
    return count;
}

static void
count_only(guint number G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
}

static void
set_bit(guint number, gpointer data)
{
    GByteArray *map = data;

    if (map->len <= number / 8) {
        const guint old = map->len;
        g_byte_array_set_size(map, number / 8 + 1);
        memset(map->data + old, 0, map->len - old);
    }
    map->data[number / 8] |= (guint8) (1u << number % 8);
}

guint8 *
node_cpu_map(gsize *length, guint *online, guint *present)
{
    GByteArray *map = g_byte_array_new();

    *online = each_of_list("/sys/devices/system/cpu/online", set_bit, map);
    *present = each_of_list("/sys/devices/system/cpu/present", count_only, NULL);
    if (*online == 0) {
        *online = node_cpu_count();
        for (guint i = 0; i < *online; i++)
            set_bit(i, map);
    }
    *present = MAX(*present, *online);
    *length = map->len;
    return g_byte_array_free(map, FALSE);
}
