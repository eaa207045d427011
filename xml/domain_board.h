// SPDX-License-Identifier: LGPL-2.1-or-later
// The boards that machines are made of, and what a definition cannot ask of each.
#pragma once

#include "xml/domain.h"

typedef enum {
    DOMAIN_BOARD_I440FX = 0, // a PC
    DOMAIN_BOARD_Q35,        // a PC with PCI Express
    DOMAIN_BOARD_PSERIES,    // a PowerPC guest of PAPR firmware
} DomainBoard;

// Of a machine by any of its names ("q35", "pc-q35-7.2"). FALSE: none that is supported.
gboolean domain_board_find(const char *machine, DomainBoard *board);
// Of a definition whose machine has been assigned.
DomainBoard domain_def_board(const DomainDef *def);

// VIR_ERR_CONFIG_UNSUPPORTED names the element that asks for what the board has not.
gboolean domain_board_check(const DomainDef *def, DomainBoard board, GError **error);

// The least memory that the board can have and that is not below `kib`: pseries has it in blocks of 256 MiB.
guint64 domain_board_memory_kib(DomainBoard board, guint64 kib);
