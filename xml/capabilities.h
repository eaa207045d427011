// SPDX-License-Identifier: LGPL-2.1-or-later
// The capabilities document: what a host is and what guests it can run.
#pragma once

#include <glib.h>

typedef struct CapabilitiesMachine CapabilitiesMachine;
struct CapabilitiesMachine {
    const char *name;      // pc-q35-7.2, or an alias: q35
    const char *canonical; // for an alias the name that it stands for, else NULL
    guint max_cpus;        // 0: not written
};

typedef struct CapabilitiesGuest CapabilitiesGuest;
struct CapabilitiesGuest {
    const char *arch; // x86_64, ppc64le
    guint wordsize;   // 64
    const char *emulator;
    gboolean has_kvm;
    gboolean has_acpi;                   // and an APIC
    const CapabilitiesMachine *machines; // in the order to be shown: the default first
    gsize n_machines;
};

typedef struct CapabilitiesCpu CapabilitiesCpu;
struct CapabilitiesCpu {
    guint id, socket, die, core;
    const char *siblings; // "0-1"; NULL: the CPU alone
};

// All strings are borrowed for the call.
typedef struct Capabilities Capabilities;
struct Capabilities {
    const char *host_uuid;
    const char *arch;      // x86_64
    const char *cpu_model; // NULL: not written
    const char *cpu_vendor;
    guint sockets, dies, cores, threads;
    guint64 memory_kib;
    const CapabilitiesCpu *cpus; // one NUMA cell holds them all
    gsize n_cpus;
    const CapabilitiesGuest *guests;
    gsize n_guests;
    const char *security_label; // "+UID:+GID" of emulators; NULL: not written
};

// Caller frees. Source: formatcaps.
char *capabilities_format(const Capabilities *capabilities);
