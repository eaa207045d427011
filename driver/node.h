// SPDX-License-Identifier: LGPL-2.1-or-later
// What this host is: processors, memory, names, and what its emulator can do.
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>

#include "driver/driver.h"

// virNodeGetInfo: one NUMA cell; memory in KiB, MHz.
void node_info(virNodeInfo *info);

// Bytes of memory that could be used without swapping.
guint64 node_free_memory(void);

// The host name, its fully qualified form when the resolver knows one. Blocks on the resolver. Caller frees.
char *node_hostname(void);

// The host's UUID: from the firmware, else from the machine id. Caller frees.
char *node_uuid(void);

// The capabilities document; caller frees. Runs the emulator once if it was not asked yet: blocks. A host
// whose emulator does not answer has a document without guests.
char *node_capabilities(Driver *driver);

// The emulator's version as libvirt counts; 0 and an error when it does not answer.
gulong node_emulator_version(Driver *driver, GError **error);

// What virConnectGetDomainCapabilities tells; NULL arguments: our defaults. Caller frees.
// VIR_ERR_INVALID_ARG names what is not there. Blocks on the first use of an emulator.
char *node_domain_capabilities(Driver *driver, const char *emulator, const char *arch, const char *machine,
                               const char *virt_type, GError **error);

// "+UID:+GID" of emulators, as libvirt's model `dac` writes it. Caller frees.
char *node_security_label(Driver *driver);

// The processors that work: a bit each, lowest first; *present counts those that are there. Caller frees.
guint8 *node_cpu_map(gsize *length, guint *online, guint *present);
