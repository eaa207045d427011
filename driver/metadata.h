// SPDX-License-Identifier: LGPL-2.1-or-later
// What users note in a definition while it stands: title, description, elements of applications.
#pragma once

#include "driver/domain.h"

// An entry point (lifecycle.h). type: virDomainMetadataType; `text` NULL: it is removed; `uri` and `key`: of
// an element. flags: virDomainModificationImpact. Emits METADATA_CHANGE.
gboolean metadata_set(Domain *domain, int type, const char *text, const char *key, const char *uri,
                      unsigned int flags, GError **error);
