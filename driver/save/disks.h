// SPDX-License-Identifier: LGPL-2.1-or-later
// The disks of a saved guest: its memory belongs to what was on them, and to nothing later.
#pragma once

#include "driver/save/image.h"
#include "xml/domain.h"

// What the images are that this guest writes to, now that it does not any more; replaces what was noted
// before. Block devices and disks shared with others are not noted. VIR_ERR_SYSTEM_ERROR names the image.
// Blocks.
gboolean save_disks_note(SaveImage *image, const DomainDef *def, GError **error);

// Whether the images that `def` (the guest as it is to be restored) has for those disks are as they were
// noted: they may have other names, but not another size or time of their last change. A time without parts
// of a second was put back by a tool that knows none. VIR_ERR_OPERATION_INVALID says which is not, and what
// to do. Blocks.
gboolean save_disks_check(const SaveImage *image, const DomainDef *def, GError **error);
