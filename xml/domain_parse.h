// SPDX-License-Identifier: LGPL-2.1-or-later
// What the two halves of the domain document's parser share; for them only.
#pragma once

#include <glib.h>
#include <libxml/tree.h>

#include "xml/domain.h"
#include "xml/node.h"

// All FALSE with VIR_ERR_XML_ERROR or VIR_ERR_CONFIG_UNSUPPORTED, which name the element.

// An attribute that ends up as an identifier on a command line, into *value (on the heap), which it replaces.
// An absent one leaves it alone.
gboolean parse_token(const xmlNode *node, const char *name, char **value, GError **error);

// An attribute that is one of the names (NULL-terminated), or absent, which leaves NULL.
gboolean parse_choice(const xmlNode *node, const char *name, const char *const *names, char **value,
                      GError **error);

// Refuses children that are not in the list (NULL-terminated).
gboolean parse_known_children(xmlNode *parent, const char *const *known, GError **error);

// Refuses attributes that are not in the list (NULL-terminated).
gboolean parse_known_attributes(const xmlNode *node, const char *const *known, GError **error);

// An attribute that a document may spell out, with the only value that guests get. Neither the node (NULL)
// nor the attribute need be there.
gboolean parse_only(const xmlNode *node, const char *name, const char *value, GError **error);

// `<devices>` of a domain, which need not be there, into the lists of `def`.
gboolean parse_devices(xmlNode *root, DomainDef *def, GError **error);
