// SPDX-License-Identifier: LGPL-2.1-or-later
// The emulator's command line, from the domain's definition.
#pragma once

#include <glib.h>

#include "emulator/blockdev.h"
#include "xml/domain.h"

// What a run adds to the definition; all borrowed.
typedef struct EmulatorRun EmulatorRun;
struct EmulatorRun {
    const char *directory;     // run-time directory of this guest, holds the sockets
    const char *binary;        // NULL: def->emulator
    gboolean incoming;         // the state comes from elsewhere
    gboolean loses_tcg_stores; // of this binary (probe.h)
    gboolean serves_vhost;     // emulator_traits_serves_vhost() of this binary
    guint64 ram_kib;           // that the arriving guest has; 0: what the definition makes of it
};

// RAM that the guest gets for a definition of `memory_kib`; see the workaround's reason in command.c. Both
// ends of a move must agree.
guint64 emulator_ram_kib(guint64 memory_kib, gboolean tcg, gboolean loses_tcg_stores);

// The argument vector, [0] is the binary; caller frees (g_strfreev). The definition must have been assigned
// (domain_def_assign()) and disk formats known. VIR_ERR_CONFIG_UNSUPPORTED names what cannot be expressed.
char **emulator_command(const DomainDef *def, const EmulatorRun *run, GError **error);

// The QMP chardev of a serial alias ("charserial0"). Caller frees.
char *emulator_chardev(const char *alias);
