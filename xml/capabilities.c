// SPDX-License-Identifier: LGPL-2.1-or-later
// The capabilities document.
#include "xml/capabilities.h"

#include "xml/writer.h"

static void
format_host_cpu(Writer *writer, const Capabilities *capabilities)
{
    writer_begin(writer, "cpu");
    writer_text(writer, "arch", capabilities->arch);
    writer_text(writer, "model", capabilities->cpu_model);
    writer_text(writer, "vendor", capabilities->cpu_vendor);
    writer_begin(writer, "topology");
    writer_attributef(writer, "sockets", "%u", MAX(capabilities->sockets, 1));
    writer_attributef(writer, "dies", "%u", MAX(capabilities->dies, 1));
    writer_attributef(writer, "cores", "%u", MAX(capabilities->cores, 1));
    writer_attributef(writer, "threads", "%u", MAX(capabilities->threads, 1));
    writer_end(writer);
    writer_end(writer);
}

static void
format_cell(Writer *writer, const Capabilities *capabilities)
{
    writer_begin(writer, "cell");
    writer_attribute(writer, "id", "0");
    writer_begin(writer, "memory");
    writer_attribute(writer, "unit", "KiB");
    g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT, capabilities->memory_kib);
    writer_content(writer, memory);
    writer_begin(writer, "cpus");
    writer_attributef(writer, "num", "%zu", capabilities->n_cpus);
    for (gsize i = 0; i < capabilities->n_cpus; i++) {
        const CapabilitiesCpu *cpu = &capabilities->cpus[i];
        writer_begin(writer, "cpu");
        writer_attributef(writer, "id", "%u", cpu->id);
        writer_attributef(writer, "socket_id", "%u", cpu->socket);
        writer_attributef(writer, "die_id", "%u", cpu->die);
        writer_attributef(writer, "core_id", "%u", cpu->core);
        if (cpu->siblings)
            writer_attribute(writer, "siblings", cpu->siblings);
        else
            writer_attributef(writer, "siblings", "%u", cpu->id);
        writer_end(writer);
    }
    writer_end(writer);
    writer_end(writer);
}

static void
format_security_model(Writer *writer, const char *label)
{
    static const char *const types[] = {"kvm", "qemu"};
    writer_begin(writer, "secmodel");
    writer_text(writer, "model", "dac");
    writer_text(writer, "doi", "0");
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++) {
        writer_begin(writer, "baselabel");
        writer_attribute(writer, "type", types[i]);
        writer_content(writer, label);
    }
    writer_end(writer);
}

static void
format_host(Writer *writer, const Capabilities *capabilities)
{
    writer_begin(writer, "host");
    writer_text(writer, "uuid", capabilities->host_uuid);
    format_host_cpu(writer, capabilities);
    writer_begin(writer, "migration_features");
    writer_empty(writer, "live");
    writer_begin(writer, "uri_transports");
    writer_text(writer, "uri_transport", "tls");
    writer_end(writer);
    writer_end(writer);
    writer_begin(writer, "topology");
    writer_begin(writer, "cells");
    writer_attribute(writer, "num", "1");
    format_cell(writer, capabilities);
    writer_end(writer);
    writer_end(writer);
    if (capabilities->security_label)
        format_security_model(writer, capabilities->security_label);
    writer_end(writer);
}

static void
format_machine(Writer *writer, const CapabilitiesMachine *machine)
{
    writer_begin(writer, "machine");
    writer_attribute(writer, "canonical", machine->canonical);
    if (machine->max_cpus > 0)
        writer_attributef(writer, "maxCpus", "%u", machine->max_cpus);
    writer_content(writer, machine->name);
}

static void
format_domain_type(Writer *writer, const char *type)
{
    writer_begin(writer, "domain");
    writer_attribute(writer, "type", type);
    writer_end(writer);
}

static void
format_guest_features(Writer *writer, gboolean acpi)
{
    static const char *const toggled[] = {"acpi", "apic"};
    writer_begin(writer, "features");
    for (gsize i = 0; acpi && i < G_N_ELEMENTS(toggled); i++) {
        writer_begin(writer, toggled[i]);
        writer_attribute(writer, "default", "on");
        writer_attribute(writer, "toggle", "yes");
        writer_end(writer);
    }
    writer_empty(writer, "cpuselection");
    writer_empty(writer, "deviceboot");
    writer_end(writer);
}

static void
format_guest(Writer *writer, const CapabilitiesGuest *guest)
{
    writer_begin(writer, "guest");
    writer_text(writer, "os_type", "hvm");
    writer_begin(writer, "arch");
    writer_attribute(writer, "name", guest->arch);
    writer_textf(writer, "wordsize", "%u", guest->wordsize);
    writer_text(writer, "emulator", guest->emulator);
    for (gsize i = 0; i < guest->n_machines; i++)
        format_machine(writer, &guest->machines[i]);
    format_domain_type(writer, "qemu");
    if (guest->has_kvm)
        format_domain_type(writer, "kvm");
    writer_end(writer);
    format_guest_features(writer, guest->has_acpi);
    writer_end(writer);
}

char *
capabilities_format(const Capabilities *capabilities)
{
    Writer writer;
    writer_init(&writer);
    writer_begin(&writer, "capabilities");
    format_host(&writer, capabilities);
    for (gsize i = 0; i < capabilities->n_guests; i++)
        format_guest(&writer, &capabilities->guests[i]);
    writer_end(&writer);
    return writer_finish(&writer);
}
