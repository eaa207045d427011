// SPDX-License-Identifier: LGPL-2.1-or-later
// How large a disk is: to the guest, and on its host.
#pragma once

#include <glib.h>

#include "xml/domain.h"

// Bytes.
typedef struct {
    guint64 capacity;   // what the guest sees
    guint64 allocation; // what the host has given to the file
    guint64 physical;   // the length of the file or of the block device
} BlockInfo;

// Of the outermost image. Reads the first bytes of the file and nothing else; blocks as far as the file
// system does. VIR_ERR_SYSTEM_ERROR when it cannot be opened, VIR_ERR_INTERNAL_ERROR when it is not what the
// definition says. A drive without medium is VIR_ERR_INVALID_ARG.
gboolean block_info(const DomainImage *image, BlockInfo *info, GError **error);
