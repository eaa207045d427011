// SPDX-License-Identifier: LGPL-2.1-or-later
// What applications keep in a domain's <metadata>.
#pragma once

#include <glib.h>

// The child of `metadata` (the whole element, NULL: absent) whose namespace is `uri`, as a document without
// that namespace. NULL: there is none. Caller frees. Source: virDomainGetMetadata.
char *metadata_element(const char *metadata, const char *uri);
