// SPDX-License-Identifier: LGPL-2.1-or-later
// Reading documents: bounded libxml2, and accessors whose errors name element and line.
#pragma once

#include <glib.h>
#include <libxml/tree.h>

#include "xml/domain.h"

// Documents above this are refused before they are parsed, in bytes.
#define NODE_DOCUMENT_LIMIT (4 * 1024 * 1024)

typedef xmlDoc NodeDocument;
void node_document_free(NodeDocument *document);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NodeDocument, node_document_free)

// Parses `xml` without network, external entities or DTD (a DTD is refused: entities can grow without bound)
// and checks that the root is called `root`. VIR_ERR_XML_ERROR.
NodeDocument *node_document_parse(const char *xml, const char *root, GError **error);

// First child element of that name, NULL when there is none. Elements of other namespaces are not seen.
xmlNode *node_child(xmlNode *node, const char *name);
// Iterates child elements: `node_next(NULL, parent)` is the first.
xmlNode *node_next(xmlNode *previous, xmlNode *parent);
gboolean node_is(const xmlNode *node, const char *name);
const char *node_name(const xmlNode *node);

// NULL when absent. Caller frees.
char *node_attribute(const xmlNode *node, const char *name);
char *node_text(xmlNode *node);
char *node_child_text(xmlNode *node, const char *name);

// The element and all below as text, as it stands in the document; namespaces that elements around it declare
// are declared by it. Caller frees.
char *node_verbatim(xmlNode *node);

// Sets VIR_ERR_XML_ERROR / VIR_ERR_CONFIG_UNSUPPORTED with "element <name> on line N: " before the message.
// Both return FALSE for `return node_error(...)`.
gboolean node_error(const xmlNode *node, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
gboolean node_unsupported(const xmlNode *node, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);

// Attribute readers: absent leaves *value as it is. FALSE when what stands there is not of the type.
gboolean node_uint(const xmlNode *node, const char *name, guint *value, GError **error);
gboolean node_int(const xmlNode *node, const char *name, int *value, GError **error);
gboolean node_int64(const xmlNode *node, const char *name, gint64 *value, GError **error);
gboolean node_tristate(const xmlNode *node, const char *name, Tristate *value, GError **error);
// One of a NULL-terminated list; *index is the place in it.
gboolean node_enum(const xmlNode *node, const char *name, const char *const *names, guint *index,
                   GError **error);

// Content readers of the element itself.
gboolean node_content_uint64(xmlNode *node, guint64 *value, GError **error);
// A size with `unit` (default KiB; b, KB, k, KiB, MB, M, MiB, GB, G, GiB, TB, T, TiB), rounded up to KiB.
gboolean node_content_kib(xmlNode *node, guint64 *kib, GError **error);

// Attributes and text that must be there: *value is replaced. FALSE with an error when absent or empty.
gboolean node_require(const xmlNode *node, const char *name, char **value, GError **error);
