// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain capabilities document: what a domain of one kind may ask for here.
#pragma once

#include <glib.h>

// What Quasar's own emulator has and others may lack.
typedef struct {
    const char *name;
    gboolean present;
    const char *without; // what follows where it is missing
} DomainCapabilitiesPatch;

// All strings are borrowed for the call.
typedef struct {
    const char *emulator;
    const char *virt_type; // qemu, kvm
    const char *machine;   // versioned name
    const char *arch;
    guint max_vcpus;
    const char *const *cpu_models; // what <cpu mode='custom'> may name
    gsize n_cpu_models;
    gboolean pc; // sata and ide, beside virtio
    const DomainCapabilitiesPatch *patches;
    gsize n_patches;
} DomainCapabilities;

// Caller frees. Source: formatdomaincaps; <quasar> is ours, and unknown elements are for clients to ignore.
// Says of devices what domain_def_parse() takes.
char *domain_capabilities_format(const DomainCapabilities *capabilities);
