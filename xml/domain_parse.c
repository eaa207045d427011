// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain document to a definition, but for its devices (domain_parse_devices.c). Elements that would
// change the guest and are not known are refused by name.
#include "xml/domain_parse.h"

#include <string.h>

#include "base/error.h"

#define METADATA_DEPTH 128

static gboolean
one_of(const char *name, const char *const *names)
{
    return g_strv_contains(names, name);
}

// Nothing that a parser of command lines could take for syntax.
gboolean
parse_token(const xmlNode *node, const char *name, char **value, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL)
        return TRUE;
    gsize length = strspn(text, G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-+:");
    if (length == 0 || text[length])
        return node_error(node, error, "attribute '%s' has characters that a name cannot have: '%s'", name,
                          text);
    g_free(*value);
    *value = g_steal_pointer(&text);
    return TRUE;
}

gboolean
parse_choice(const xmlNode *node, const char *name, const char *const *names, char **value, GError **error)
{
    guint index = 0;
    if (!node_enum(node, name, names, &index, error))
        return FALSE;
    g_free(*value);
    *value = node_attribute(node, name);
    return TRUE;
}

gboolean
parse_known_children(xmlNode *parent, const char *const *known, GError **error)
{
    for (xmlNode *node = node_next(NULL, parent); node; node = node_next(node, parent))
        if (!one_of(node_name(node), known))
            return node_unsupported(node, error, "not supported yet in <%s>", node_name(parent));
    return TRUE;
}

gboolean
parse_known_attributes(const xmlNode *node, const char *const *known, GError **error)
{
    for (const xmlAttr *attribute = node->properties; attribute; attribute = attribute->next)
        if (attribute->ns == NULL && !one_of((const char *) attribute->name, known))
            return node_unsupported(node, error, "attribute '%s' is not supported yet",
                                    (const char *) attribute->name);
    return TRUE;
}

gboolean
parse_only(const xmlNode *node, const char *name, const char *value, GError **error)
{
    const char *const values[] = {value, NULL};
    guint ignored = 0;
    return node == NULL || node_enum(node, name, values, &ignored, error);
}

// Status files nest a definition deeper than the document that it came with, and must stay within what the
// parser reads (256).
static gboolean
nested_above(const xmlNode *node, guint depth)
{
    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE && (depth == 0 || nested_above(child, depth - 1)))
            return TRUE;
    return FALSE;
}

static gboolean
parse_metadata(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *metadata = node_child(root, "metadata");
    if (metadata == NULL)
        return TRUE;
    if (nested_above(metadata, METADATA_DEPTH))
        return node_error(metadata, error, "elements are nested more than %d deep", METADATA_DEPTH);
    def->metadata = node_verbatim(metadata);
    return TRUE;
}

static gboolean
parse_identity(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const types[] = {"qemu", "kvm", NULL};
    guint type = 0;
    g_autofree char *given = node_attribute(root, "type");
    if (given == NULL)
        return node_error(root, error, "attribute 'type' is missing");
    if (!node_enum(root, "type", types, &type, error))
        return FALSE;
    def->virt_type = (DomainVirtType) type;
    def->name = node_child_text(root, "name");
    if (def->name == NULL)
        return node_error(root, error, "<name> is missing");
    const char *problem = domain_name_problem(def->name);
    if (problem)
        return node_error(node_child(root, "name"), error, "'%s' cannot be a domain's name, it %s", def->name,
                          problem);
    g_autofree char *uuid = node_child_text(root, "uuid");
    if (uuid) {
        if (!domain_uuid_parse(g_strstrip(uuid), def->uuid_bytes))
            return node_error(node_child(root, "uuid"), error, "'%s' is not a UUID", uuid);
        def->uuid = domain_uuid_format(def->uuid_bytes);
    }
    def->title = node_child_text(root, "title");
    def->description = node_child_text(root, "description");
    return parse_metadata(root, def, error);
}

static gboolean
parse_vcpus(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *node = node_child(root, "vcpu");
    guint64 count = 1;
    if (node && !node_content_uint64(node, &count, error))
        return FALSE;
    def->vcpus = (guint) MIN(count, G_MAXUINT);
    def->max_vcpus = def->vcpus;
    if (node && !node_uint(node, "current", &def->vcpus, error))
        return FALSE;
    if (def->max_vcpus < 1 || def->max_vcpus > 255 || def->vcpus < 1 || def->vcpus > def->max_vcpus)
        return node_error(node, error, "must be 1 to 255, and 'current' not above it");
    return TRUE;
}

static gboolean
parse_resources(xmlNode *root, DomainDef *def, GError **error)
{
    xmlNode *node = node_child(root, "memory");
    if (node == NULL)
        return node_error(root, error, "<memory> is missing");
    if (!node_content_kib(node, &def->memory_kib, error))
        return FALSE;
    if (def->memory_kib == 0)
        return node_error(node, error, "must be above 0");
    node = node_child(root, "currentMemory");
    if (node && !node_content_kib(node, &def->current_memory_kib, error))
        return FALSE;
    if (def->current_memory_kib > def->memory_kib)
        def->current_memory_kib = def->memory_kib;
    return parse_vcpus(root, def, error);
}

static gboolean
parse_boot_devices(xmlNode *os, DomainDef *def, GError **error)
{
    static const char *const devices[] = {"hd", "cdrom", "network", "fd", NULL};
    for (xmlNode *node = node_next(NULL, os); node; node = node_next(node, os)) {
        g_autofree char *device = NULL;
        if (!node_is(node, "boot"))
            continue;
        if (!node_require(node, "dev", &device, error) || !parse_choice(node, "dev", devices, &device, error))
            return FALSE;
        g_ptr_array_add(def->boot_devices, g_steal_pointer(&device));
    }
    return TRUE;
}

static gboolean
parse_os(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const known[] = {"type", "boot", "kernel", "initrd", "cmdline", "bootmenu", NULL};
    xmlNode *os = node_child(root, "os");
    xmlNode *type = os ? node_child(os, "type") : NULL;
    if (type == NULL)
        return node_error(os ? os : root, error, "<%s> is missing", os ? "type" : "os");
    if (!parse_known_children(os, known, error) || !parse_token(type, "arch", &def->arch, error) ||
        !parse_token(type, "machine", &def->machine, error) || !parse_boot_devices(os, def, error) ||
        !parse_only(os, "firmware", "bios", error) ||
        !parse_only(node_child(os, "bootmenu"), "enable", "no", error))
        return FALSE;
    g_autofree char *kind = node_text(type);
    if (g_strcmp0(g_strstrip(kind), "hvm") != 0)
        return node_unsupported(type, error, "'%s' is not supported, only hvm", kind);
    def->kernel = node_child_text(os, "kernel");
    def->initrd = node_child_text(os, "initrd");
    def->cmdline = node_child_text(os, "cmdline");
    if (!def->kernel && (def->initrd || def->cmdline))
        return node_error(os, error, "<initrd> and <cmdline> need a <kernel>");
    return TRUE;
}

static gboolean
parse_features(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const known[] = {"acpi", "apic", "pae", "vmport", NULL};
    static const char *const no_attributes[] = {NULL};
    xmlNode *features = node_child(root, "features");
    if (features == NULL)
        return TRUE;
    def->acpi = node_child(features, "acpi") != NULL;
    def->apic = node_child(features, "apic") != NULL;
    def->pae = node_child(features, "pae") != NULL;
    xmlNode *apic = node_child(features, "apic");
    return parse_known_children(features, known, error) &&
           (apic == NULL || parse_known_attributes(apic, no_attributes, error)) &&
           parse_only(node_child(features, "vmport"), "state", "on", error);
}

static gboolean
parse_suspend(xmlNode *pm, const char *name, Tristate *value, GError **error)
{
    xmlNode *node = node_child(pm, name);
    return node == NULL || node_tristate(node, "enabled", value, error);
}

static gboolean
parse_pm(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const known[] = {"suspend-to-mem", "suspend-to-disk", NULL};
    xmlNode *pm = node_child(root, "pm");
    return pm == NULL || (parse_known_children(pm, known, error) &&
                          parse_suspend(pm, "suspend-to-mem", &def->suspend_to_mem, error) &&
                          parse_suspend(pm, "suspend-to-disk", &def->suspend_to_disk, error));
}

static gboolean
parse_cpu_feature(xmlNode *node, DomainCpu *cpu, GError **error)
{
    static const char *const policies[] = {"require", "disable", "optional", "forbid", "force", NULL};
    DomainCpuFeature *feature = g_new0(DomainCpuFeature, 1);
    g_ptr_array_add(cpu->features, feature);
    if (!node_require(node, "name", &feature->name, error) ||
        !parse_token(node, "name", &feature->name, error) ||
        !parse_choice(node, "policy", policies, &feature->policy, error))
        return FALSE;
    if (feature->policy == NULL)
        feature->policy = g_strdup("require");
    return TRUE;
}

static gboolean
parse_cpu_parts(xmlNode *element, DomainCpu *cpu, GError **error)
{
    static const char *const fallbacks[] = {"allow", "forbid", NULL};
    static const char *const model_attributes[] = {"fallback", NULL};
    for (xmlNode *node = node_next(NULL, element); node; node = node_next(node, element)) {
        if (node_is(node, "feature") && !parse_cpu_feature(node, cpu, error))
            return FALSE;
        if (node_is(node, "topology") &&
            !(node_uint(node, "sockets", &cpu->sockets, error) &&
              node_uint(node, "dies", &cpu->dies, error) && node_uint(node, "cores", &cpu->cores, error) &&
              node_uint(node, "threads", &cpu->threads, error) && parse_only(node, "clusters", "1", error)))
            return FALSE;
        if (node_is(node, "model")) {
            g_free(cpu->model);
            cpu->model = node_text(node);
            gsize valid = strspn(g_strstrip(cpu->model), G_CSET_A_2_Z G_CSET_a_2_z G_CSET_DIGITS "_.-+");
            if (valid == 0 || cpu->model[valid])
                return node_error(node, error, "'%s' cannot be the name of a CPU model", cpu->model);
            if (!parse_choice(node, "fallback", fallbacks, &cpu->fallback, error) ||
                !parse_known_attributes(node, model_attributes, error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean
parse_cpu(xmlNode *root, DomainCpu *cpu, GError **error)
{
    static const char *const modes[] = {"", "custom", "host-model", "host-passthrough", "maximum", NULL};
    static const char *const matches[] = {"exact", "minimum", "strict", NULL};
    static const char *const checks[] = {"none", "partial", "full", NULL};
    static const char *const known[] = {"model", "vendor", "feature", "topology", NULL};
    xmlNode *node = node_child(root, "cpu");
    if (node == NULL)
        return TRUE;
    guint mode = 0;
    if (!parse_known_children(node, known, error) || !node_enum(node, "mode", modes, &mode, error) ||
        !parse_choice(node, "match", matches, &cpu->match, error) ||
        !parse_choice(node, "check", checks, &cpu->check, error) ||
        !parse_only(node, "migratable", "on", error) || !parse_cpu_parts(node, cpu, error))
        return FALSE;
    cpu->mode = (DomainCpuMode) mode;
    if (mode == DOMAIN_CPU_ABSENT && cpu->model)
        cpu->mode = DOMAIN_CPU_CUSTOM;
    if (cpu->mode == DOMAIN_CPU_CUSTOM && cpu->model == NULL)
        return node_error(node, error, "<model> is missing");
    return TRUE;
}

static gboolean
parse_timer(xmlNode *node, DomainDef *def, GError **error)
{
    static const char *const names[] = {"rtc", "pit", "hpet", "tsc", "kvmclock", NULL};
    static const char *const policies[] = {"delay", "catchup", "merge", "discard", NULL};
    static const char *const tracks[] = {"boot", "guest", "wall", "realtime", NULL};
    static const char *const attributes[] = {"name", "tickpolicy", "track", "present", NULL};
    static const char *const no_children[] = {NULL};
    DomainTimer *timer = g_new0(DomainTimer, 1);
    g_ptr_array_add(def->timers, timer);
    return parse_known_attributes(node, attributes, error) &&
           parse_known_children(node, no_children, error) &&
           node_require(node, "name", &timer->name, error) &&
           parse_choice(node, "name", names, &timer->name, error) &&
           parse_choice(node, "tickpolicy", policies, &timer->tickpolicy, error) &&
           parse_choice(node, "track", tracks, &timer->track, error) &&
           node_tristate(node, "present", &timer->present, error);
}

static gboolean
parse_clock(xmlNode *root, DomainDef *def, GError **error)
{
    static const char *const offsets[] = {"utc", "localtime", "variable", NULL};
    static const char *const known[] = {"timer", NULL};
    xmlNode *clock = node_child(root, "clock");
    if (clock == NULL)
        return TRUE;
    guint offset = 0;
    if (!parse_known_children(clock, known, error) || !node_enum(clock, "offset", offsets, &offset, error) ||
        !parse_only(clock, "basis", "utc", error))
        return FALSE;
    def->clock = (DomainClockOffset) offset;
    if (offset == DOMAIN_CLOCK_VARIABLE ? !node_int64(clock, "adjustment", &def->clock_adjustment, error)
                                        : !parse_only(clock, "adjustment", "reset", error))
        return FALSE;
    for (xmlNode *node = node_next(NULL, clock); node; node = node_next(node, clock))
        if (node_is(node, "timer") && !parse_timer(node, def, error))
            return FALSE;
    return TRUE;
}

static gboolean
parse_lifecycle(xmlNode *root, const char *name, DomainLifecycle *action, GError **error)
{
    xmlNode *node = node_child(root, name);
    if (node == NULL)
        return TRUE;
    g_autofree char *text = node_text(node);
    g_strstrip(text);
    for (int i = DOMAIN_LIFECYCLE_DESTROY; i <= DOMAIN_LIFECYCLE_RENAME_RESTART; i++) {
        if (strcmp(text, domain_lifecycle_name((DomainLifecycle) i)) == 0) {
            *action = (DomainLifecycle) i;
            return TRUE;
        }
    }
    return node_unsupported(node, error, "'%s' is not supported", text);
}

// What only the host is concerned with is let pass: `<seclabel>`, `<resource>`, `<on_lockfailure>`.
static gboolean
refuse_unsupported(xmlNode *root, GError **error)
{
    static const char *const known[] = {
        "name",        "uuid",      "title",    "description", "metadata",       "memory",   "currentMemory",
        "vcpu",        "os",        "features", "cpu",         "clock",          "pm",       "devices",
        "on_poweroff", "on_reboot", "on_crash", "resource",    "on_lockfailure", "seclabel", NULL};
    for (xmlNode *node = root->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE)
            continue;
        if (node->ns || !one_of(node_name(node), known))
            return node_unsupported(node, error, "not supported yet");
    }
    return TRUE;
}

static DomainDef *
parse_root(xmlNode *root, GError **error)
{
    g_autoptr(DomainDef) def = domain_def_new();
    if (!parse_identity(root, def, error) || !refuse_unsupported(root, error) ||
        !parse_resources(root, def, error) || !parse_os(root, def, error) ||
        !parse_features(root, def, error) || !parse_cpu(root, &def->cpu, error) ||
        !parse_clock(root, def, error) || !parse_pm(root, def, error) ||
        !parse_lifecycle(root, "on_poweroff", &def->on_poweroff, error) ||
        !parse_lifecycle(root, "on_reboot", &def->on_reboot, error) ||
        !parse_lifecycle(root, "on_crash", &def->on_crash, error) || !parse_devices(root, def, error))
        return NULL;
    return g_steal_pointer(&def);
}

DomainDef *
domain_def_parse(const char *xml, GError **error)
{
    g_autoptr(NodeDocument) document = node_document_parse(xml, "domain", error);
    return document ? parse_root(xmlDocGetRootElement(document), error) : NULL;
}

static GHashTable *
parse_pairs(xmlNode *root)
{
    GHashTable *pairs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (xmlAttr *attribute = root->properties; attribute; attribute = attribute->next) {
        const char *key = (const char *) attribute->name;
        g_hash_table_insert(pairs, g_strdup(key), node_attribute(root, key));
    }
    return pairs;
}

DomainDef *
domain_def_parse_status(const char *xml, int *id, GHashTable **pairs, GError **error)
{
    g_autoptr(NodeDocument) document = node_document_parse(xml, "domstatus", error);
    if (document == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(document);
    xmlNode *domain = node_child(root, "domain");
    if (domain == NULL) {
        node_error(root, error, "<domain> is missing");
        return NULL;
    }
    int given = -1;
    if (!node_int(domain, "id", &given, error))
        return NULL;
    DomainDef *def = parse_root(domain, error);
    if (def && id)
        *id = given;
    if (def && pairs)
        *pairs = parse_pairs(root);
    return def;
}
