// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain capabilities document, formatted.
#include "xml/domain_capabilities.h"

#include "xml/writer.h"

static void
supported(Writer *writer, const char *name, gboolean yes)
{
    writer_begin(writer, name);
    writer_attribute(writer, "supported", yes ? "yes" : "no");
}

static void
unsupported(Writer *writer, const char *name)
{
    supported(writer, name, FALSE);
    writer_end(writer);
}

// `values` is NULL-terminated.
static void
values(Writer *writer, const char *name, const char *const *list)
{
    writer_begin(writer, "enum");
    writer_attribute(writer, "name", name);
    for (; *list; list++)
        writer_text(writer, "value", *list);
    writer_end(writer);
}

#define VALUES(writer, name, ...) values((writer), (name), (const char *const[]){__VA_ARGS__, NULL})

static void
format_os(Writer *writer)
{
    supported(writer, "os", TRUE);
    unsupported(writer, "loader");
    writer_end(writer);
}

static void
format_cpu_mode(Writer *writer, const char *name)
{
    writer_begin(writer, "mode");
    writer_attribute(writer, "name", name);
    writer_attribute(writer, "supported", "no");
    writer_end(writer);
}

static void
format_cpu(Writer *writer, const DomainCapabilities *capabilities)
{
    writer_begin(writer, "cpu");
    // A guest that is to move has a named model, so the host's own is not offered.
    format_cpu_mode(writer, "host-passthrough");
    format_cpu_mode(writer, "maximum");
    format_cpu_mode(writer, "host-model");
    writer_begin(writer, "mode");
    writer_attribute(writer, "name", "custom");
    writer_attribute(writer, "supported", "yes");
    for (gsize i = 0; i < capabilities->n_cpu_models; i++) {
        writer_begin(writer, "model");
        writer_attribute(writer, "usable", "unknown");
        writer_content(writer, capabilities->cpu_models[i]);
    }
    writer_end(writer);
    writer_end(writer);
}

static void
format_devices(Writer *writer, gboolean pc)
{
    static const char *const absent[] = {"graphics", "video",    "hostdev", "filesystem",
                                         "tpm",      "redirdev", "channel"};

    writer_begin(writer, "devices");
    supported(writer, "disk", TRUE);
    VALUES(writer, "diskDevice", "disk", "cdrom");
    if (pc)
        VALUES(writer, "bus", "virtio", "sata", "ide");
    else
        VALUES(writer, "bus", "virtio");
    VALUES(writer, "model", "virtio");
    writer_end(writer);
    supported(writer, "rng", TRUE);
    VALUES(writer, "model", "virtio");
    VALUES(writer, "backendModel", "random");
    writer_end(writer);
    for (gsize i = 0; i < G_N_ELEMENTS(absent); i++)
        unsupported(writer, absent[i]);
    writer_end(writer);
}

static void
format_features(Writer *writer)
{
    static const char *const absent[] = {"gic",    "vmcoreinfo", "genid", "backingStoreInput",
                                         "backup", "sev",        "sgx"};

    writer_begin(writer, "features");
    for (gsize i = 0; i < G_N_ELEMENTS(absent); i++) {
        // Chains are opened as the document gives them.
        supported(writer, absent[i], g_str_equal(absent[i], "backingStoreInput"));
        writer_end(writer);
    }
    writer_end(writer);
}

static void
format_patches(Writer *writer, const DomainCapabilities *capabilities)
{
    if (capabilities->n_patches == 0)
        return;
    writer_begin(writer, "quasar");
    for (gsize i = 0; i < capabilities->n_patches; i++) {
        const DomainCapabilitiesPatch *patch = &capabilities->patches[i];
        writer_begin(writer, "patch");
        writer_attribute(writer, "name", patch->name);
        writer_attribute(writer, "supported", patch->present ? "yes" : "no");
        if (patch->present)
            writer_end(writer);
        else
            writer_content(writer, patch->without);
    }
    writer_end(writer);
}

char *
domain_capabilities_format(const DomainCapabilities *capabilities)
{
    Writer writer;

    writer_init(&writer);
    writer_begin(&writer, "domainCapabilities");
    writer_text(&writer, "path", capabilities->emulator);
    writer_text(&writer, "domain", capabilities->virt_type);
    writer_text(&writer, "machine", capabilities->machine);
    writer_text(&writer, "arch", capabilities->arch);
    writer_begin(&writer, "vcpu");
    writer_attributef(&writer, "max", "%u", capabilities->max_vcpus);
    writer_end(&writer);
    unsupported(&writer, "iothreads");
    format_os(&writer);
    format_cpu(&writer, capabilities);
    supported(&writer, "memoryBacking", TRUE);
    VALUES(&writer, "sourceType", "memfd");
    writer_end(&writer);
    format_devices(&writer, capabilities->pc);
    format_features(&writer);
    format_patches(&writer, capabilities);
    writer_end(&writer);
    return writer_finish(&writer);
}
