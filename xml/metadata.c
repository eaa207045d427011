// SPDX-License-Identifier: LGPL-2.1-or-later
// What applications keep in a domain's <metadata>.
#include "xml/metadata.h"

#include <string.h>

#include "base/error.h"
#include "xml/node.h"

static gboolean
node_has_namespace(const xmlNode *node, const char *uri)
{
    return node->ns && node->ns->href && strcmp((const char *) node->ns->href, uri) == 0;
}

// The namespace tells applications' elements apart; who asks for one knows it.
static void
node_strip_namespace(xmlNode *node, const char *uri)
{
    if (node_has_namespace(node, uri))
        node->ns = NULL;
    for (xmlNode *child = node->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE)
            node_strip_namespace(child, uri);
    }
}

// An attribute points to the declaration of its prefix, which has to stay then.
static gboolean
attributes_use(const xmlNode *node, const xmlNs *ns)
{
    for (const xmlAttr *attribute = node->properties; attribute; attribute = attribute->next)
        if (attribute->ns == ns)
            return TRUE;
    for (const xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE && attributes_use(child, ns))
            return TRUE;
    return FALSE;
}

static void
node_drop_declaration(xmlNode *node, const char *uri)
{
    for (xmlNs **link = &node->nsDef; *link; link = &(*link)->next) {
        if (strcmp((const char *) (*link)->href, uri) != 0 || attributes_use(node, *link))
            continue;
        xmlNs *dropped = *link;
        *link = dropped->next;
        dropped->next = NULL;
        xmlFreeNs(dropped);
        return;
    }
}

char *
metadata_element(const char *metadata, const char *uri)
{
    g_autoptr(NodeDocument) document = metadata ? node_document_parse(metadata, "metadata", NULL) : NULL;

    if (!document)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(document);
    for (xmlNode *node = root->children; node; node = node->next) {
        if (node->type != XML_ELEMENT_NODE || !node_has_namespace(node, uri))
            continue;
        node_strip_namespace(node, uri);
        node_drop_declaration(node, uri);
        return node_verbatim(node);
    }
    return NULL;
}

static void
set_namespace(xmlNode *node, xmlNs *ns)
{
    if (node->ns == NULL)
        xmlSetNs(node, ns);
    for (xmlNode *child = node->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE)
            set_namespace(child, ns);
}

// The one element that `text` is, in a document of its own that keeps it.
static xmlNode *
parse_element(const char *text, NodeDocument **document, GError **error)
{
    g_autofree char *wrapped = g_strdup_printf("<metadata>%s</metadata>", text);
    *document = node_document_parse(wrapped, "metadata", error);
    xmlNode *root = *document ? xmlDocGetRootElement(*document) : NULL;
    xmlNode *element = root ? xmlFirstElementChild(root) : NULL;
    if (root && (element == NULL || xmlNextElementSibling(element)))
        quasar_set_error(error, VIR_ERR_XML_ERROR, "metadata must be one element");
    return element && !xmlNextElementSibling(element) ? element : NULL;
}

static void
remove_elements(xmlNode *root, const char *uri)
{
    xmlNode *next;
    for (xmlNode *node = xmlFirstElementChild(root); node; node = next) {
        next = xmlNextElementSibling(node);
        if (!node_has_namespace(node, uri))
            continue;
        xmlUnlinkNode(node);
        xmlFreeNode(node);
    }
}

gboolean
metadata_replace(const char *metadata, const char *uri, const char *key, const char *element, char **out,
                 GError **error)
{
    g_autoptr(NodeDocument) document =
        node_document_parse(metadata ? metadata : "<metadata/>", "metadata", error);
    g_autoptr(NodeDocument) from = NULL;
    xmlNode *given = element && document ? parse_element(element, &from, error) : NULL;
    if (!document || (element && !given))
        return FALSE;
    xmlNode *root = xmlDocGetRootElement(document);
    remove_elements(root, uri);
    if (given) {
        xmlNode *added = xmlAddChild(root, xmlDocCopyNode(given, document, 1));
        xmlNs *ns = xmlNewNs(added, (const xmlChar *) uri, (const xmlChar *) key);
        if (ns == NULL) {
            quasar_set_error(error, VIR_ERR_XML_ERROR, "the prefix '%s' is in use in the metadata", key);
            return FALSE;
        }
        set_namespace(added, ns);
    }
    *out = xmlFirstElementChild(root) ? node_verbatim(root) : NULL;
    return TRUE;
}
