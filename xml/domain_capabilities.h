// SPDX-License-Identifier: LGPL-2.1-or-later
// The domain capabilities document: what a domain of one kind may ask for here.
#pragma once

#include <glib.h>

// All strings are borrowed for the call.
typedef struct {
    const char *emulator;
    const char *virt_type; // qemu, kvm
    const char *machine;   // versioned name
    const char *arch;
    guint max_vcpus;
    const char *const *cpu_models; // what <cpu mode='custom'> may name
    gsize n_cpu_models;
} DomainCapabilities;

// Caller frees. Source: formatdomaincaps. Says of devices what domain_def_parse() takes.
char *domain_capabilities_format(const DomainCapabilities *capabilities);
