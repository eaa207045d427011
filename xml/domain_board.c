// SPDX-License-Identifier: LGPL-2.1-or-later
// The boards that machines are made of, and what a definition cannot ask of each.
#include "xml/domain_board.h"

#include <string.h>

#include "base/error.h"

gboolean
domain_board_find(const char *machine, DomainBoard *board)
{
    if (strstr(machine, "q35"))
        *board = DOMAIN_BOARD_Q35;
    else if (strstr(machine, "i440fx") || strcmp(machine, "pc") == 0)
        *board = DOMAIN_BOARD_I440FX;
    else if (g_str_has_prefix(machine, "pseries"))
        *board = DOMAIN_BOARD_PSERIES;
    else
        return FALSE;
    return TRUE;
}

DomainBoard
domain_def_board(const DomainDef *def)
{
    DomainBoard board = DOMAIN_BOARD_Q35;
    if (def->machine)
        domain_board_find(def->machine, &board);
    return board;
}

static gboolean
refuse(const DomainDef *def, const char *element, const char *what, GError **error)
{
    return quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "element <%s>: machine '%s' has %s", element,
                            def->machine, what);
}

gboolean
domain_board_check(const DomainDef *def, DomainBoard board, GError **error)
{
    if (board != DOMAIN_BOARD_PSERIES)
        return TRUE;
    if (def->acpi)
        return refuse(def, "acpi", "no ACPI", error);
    if (def->suspend_to_mem != TRISTATE_ABSENT || def->suspend_to_disk != TRISTATE_ABSENT)
        return refuse(def, "pm", "no ACPI", error);
    if (def->timers->len > 0)
        return refuse(def, "timer", "no timers that can be chosen", error);
    if (def->virt_type == DOMAIN_VIRT_QEMU && def->cpu.threads > 1)
        return refuse(def, "topology", "one thread in a core, when it is emulated", error);
    return def->cpu.dies <= 1 || refuse(def, "topology", "no dies", error);
}

guint64
domain_board_memory_kib(DomainBoard board, guint64 kib)
{
    const guint64 block = 256 * 1024;
    return board == DOMAIN_BOARD_PSERIES ? (kib + block - 1) / block * block : kib;
}
