// SPDX-License-Identifier: LGPL-2.1-or-later
// Restoring: a guest whose memory and devices are in a file runs here again.
#pragma once

#include "driver/domain.h"

// Theory of operation. All that can be looked at is looked at before anything is started: the file, the
// emulator (as for a move), the disks (driver/save/disks.h), who owns the guest (domain_may_run()). The
// emulator reads the file; until it has, the domain's status says that its start is not over, so that a
// daemon that comes after us ends it and nothing has happened. Then the NICs pass frames again, those of
// other segments by a link to their homes, and the guest runs.

// flags: virDomainSaveRestoreFlags. `xml` as save_domain()'s. The file stays. A domain that is not known is
// transient. Blocks.
gboolean restore_file(Driver *driver, const char *path, const char *xml, guint flags, GError **error);

// A start of a domain that has a managed save, which is removed: locked, with the job of a start; drops the
// lock meanwhile. flags: VIR_DOMAIN_START_PAUSED, _BYPASS_CACHE.
gboolean restore_managed(Domain *domain, guint flags, GError **error);

// The XML of a saved guest (virDomainSaveImageGetXMLDesc()); caller frees.
char *restore_describe(const char *path, GError **error);

// Changes it (NULL: not), and with VIR_DOMAIN_SAVE_RUNNING or _PAUSED whether it shall run. Blocks.
gboolean restore_redefine(Driver *driver, const char *path, const char *xml, guint flags, GError **error);
