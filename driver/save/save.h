// SPDX-License-Identifier: LGPL-2.1-or-later
// Saving: a guest's memory and devices go into a file, and the guest ends here.
#pragma once

#include "driver/domain.h"

// Theory of operation. The guest is stopped, so that its memory is written once; the emulator writes its
// migration stream into a file that has no name yet (driver/save/file.h); what the disks are is noted; then
// the file gets its name, which is the moment from which on the guest is saved, and the emulator is ended.
// Whatever fails before leaves no file and the guest as it was. Links to the homes of its NICs stay
// (anchor_away.h) until it is restored, or is started anew.

// flags: virDomainSaveRestoreFlags. `path` is where to; NULL: it is the domain's managed save
// (driver/save/managed.h). `xml`: what it shall be when it is restored (driver/save/definition.h); NULL: what
// it is. Blocks until it is saved; virDomainAbortJob ends that (VIR_ERR_OPERATION_ABORTED).
gboolean save_domain(Domain *domain, const char *path, const char *xml, guint flags, GError **error);

// Of a save that another daemon has begun: the guest is saved (`domain` may be NULL: it is not known any
// more), or is not, and runs on if it `ran`. Both block.
void save_conclude(Driver *driver, Domain *domain, const char *uuid, gboolean managed);
void save_call_back(Domain *domain, gboolean ran);
