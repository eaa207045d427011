// SPDX-License-Identifier: LGPL-2.1-or-later
// What applications keep in a domain's <metadata>.
#pragma once

#include <glib.h>

// The child of `metadata` (the whole element, NULL: absent) whose namespace is `uri`, as a document without
// that namespace. NULL: there is none. Caller frees. Source: virDomainGetMetadata.
char *metadata_element(const char *metadata, const char *uri);

// `metadata` with `element` (a document; NULL: nothing) in the place of the child whose namespace is `uri`;
// what of it has no namespace gets that one, under the prefix `key`. An empty result is NULL in *out; caller
// frees. VIR_ERR_XML_ERROR. Source: virDomainSetMetadata.
gboolean metadata_replace(const char *metadata, const char *uri, const char *key, const char *element,
                          char **out, GError **error);
