// SPDX-License-Identifier: LGPL-2.1-or-later
// Where each device of a guest is; a part of domain_def_assign().
#pragma once

#include "xml/domain_board.h"

// Gives each controller its number and each device its place; adds the controllers that this takes.
// VIR_ERR_XML_ERROR and VIR_ERR_CONFIG_UNSUPPORTED when places collide,
// do not exist or are too few.
gboolean domain_assign_addresses(DomainDef *def, DomainBoard board, GError **error);

// 0 for "vda", 26 for "vdaa".
guint domain_disk_index(const char *target);
