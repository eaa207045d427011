// SPDX-License-Identifier: LGPL-2.1-or-later
// Reading documents: bounded libxml2, and accessors whose errors name element and line.
#include "xml/node.h"

#include <libxml/parser.h>
#include <stdarg.h>
#include <string.h>

#include "base/error.h"

void
node_document_free(NodeDocument *document)
{
    xmlFreeDoc(document);
}

static void
set_parser_error(xmlParserCtxt *context, GError **error)
{
    const xmlError *last = xmlCtxtGetLastError(context);
    g_autofree char *message = g_strdup(last && last->message ? last->message : "not well-formed");
    quasar_set_error(error, VIR_ERR_XML_ERROR, "line %d: %s", last ? last->line : 0, g_strstrip(message));
}

static NodeDocument *
read_document(const char *xml, gsize length, GError **error)
{
    xmlParserCtxt *context = xmlNewParserCtxt();
    if (context == NULL) {
        quasar_set_error(error, VIR_ERR_NO_MEMORY, "cannot create an XML parser");
        return NULL;
    }
    int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
    NodeDocument *document = xmlCtxtReadMemory(context, xml, (int) length, NULL, NULL, options);
    if (document == NULL)
        set_parser_error(context, error);
    xmlFreeParserCtxt(context);
    return document;
}

NodeDocument *
node_document_parse(const char *xml, const char *root, GError **error)
{
    gsize length = strlen(xml);
    if (length > NODE_DOCUMENT_LIMIT) {
        quasar_set_error(error, VIR_ERR_XML_ERROR, "document of %zu bytes is too long, the limit is %d",
                         length, NODE_DOCUMENT_LIMIT);
        return NULL;
    }
    g_autoptr(NodeDocument) document = read_document(xml, length, error);
    if (document == NULL)
        return NULL;
    if (document->intSubset || document->extSubset) {
        quasar_set_error(error, VIR_ERR_XML_ERROR, "a document type declaration is not accepted");
        return NULL;
    }
    xmlNode *top = xmlDocGetRootElement(document);
    if (top == NULL || !node_is(top, root)) {
        quasar_set_error(error, VIR_ERR_XML_ERROR, "unexpected root element <%s>, expecting <%s>",
                         top ? node_name(top) : "", root);
        return NULL;
    }
    return g_steal_pointer(&document);
}

const char *
node_name(const xmlNode *node)
{
    return (const char *) node->name;
}

gboolean
node_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && node->ns == NULL && strcmp(node_name(node), name) == 0;
}

xmlNode *
node_next(xmlNode *previous, xmlNode *parent)
{
    xmlNode *node = previous ? previous->next : parent->children;
    while (node && (node->type != XML_ELEMENT_NODE || node->ns != NULL))
        node = node->next;
    return node;
}

xmlNode *
node_child(xmlNode *parent, const char *name)
{
    for (xmlNode *node = node_next(NULL, parent); node; node = node_next(node, parent))
        if (node_is(node, name))
            return node;
    return NULL;
}

static char *
take(xmlChar *text)
{
    char *copy = g_strdup((const char *) text);
    xmlFree(text);
    return copy;
}

char *
node_attribute(const xmlNode *node, const char *name)
{
    return take(xmlGetNoNsProp((xmlNode *) node, (const xmlChar *) name));
}

char *
node_text(xmlNode *node)
{
    return take(xmlNodeGetContent(node));
}

char *
node_child_text(xmlNode *node, const char *name)
{
    xmlNode *child = node_child(node, name);
    if (child == NULL)
        return NULL;
    char *text = node_text(child);
    if (text && *text)
        return text;
    g_free(text);
    return NULL;
}

char *
node_verbatim(xmlNode *node)
{
    xmlBuffer *buffer = xmlBufferCreate();
    // A copy brings along the prefixes that elements around the node declare.
    xmlNode *copy = xmlDocCopyNode(node, node->doc, 1);
    xmlNodeDump(buffer, node->doc, copy, 0, 0);
    char *text = g_strdup((const char *) xmlBufferContent(buffer));
    xmlFreeNode(copy);
    xmlBufferFree(buffer);
    return text;
}

static void
set_node_error(const xmlNode *node, virErrorNumber code, GError **error, const char *format, va_list ap)
{
    g_autofree char *message = g_strdup_vprintf(format, ap);
    quasar_set_error(error, code, "element <%s> on line %ld: %s", node_name(node),
                     xmlGetLineNo((xmlNode *) node), message);
}

gboolean
node_error(const xmlNode *node, GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_node_error(node, VIR_ERR_XML_ERROR, error, format, ap);
    va_end(ap);
    return FALSE;
}

gboolean
node_unsupported(const xmlNode *node, GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    set_node_error(node, VIR_ERR_CONFIG_UNSUPPORTED, error, format, ap);
    va_end(ap);
    return FALSE;
}

// Decimal, or hexadecimal after 0x as in addresses. An octal reading of 010 would surprise.
static gboolean
parse_int64(const char *text, gint64 low, gint64 high, gint64 *value)
{
    gboolean hex = g_str_has_prefix(text, "0x");
    if (hex)
        return g_ascii_string_to_signed(text + 2, 16, low, high, value, NULL);
    return g_ascii_string_to_signed(text, 10, low, high, value, NULL);
}

static gboolean
ranged(const xmlNode *node, const char *name, gint64 low, gint64 high, gint64 *value, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL || parse_int64(text, low, high, value))
        return TRUE;
    return node_error(node, error, "attribute '%s' is not a valid number: '%s'", name, text);
}

gboolean
node_uint(const xmlNode *node, const char *name, guint *value, GError **error)
{
    gint64 wide = *value;
    if (!ranged(node, name, 0, G_MAXUINT, &wide, error))
        return FALSE;
    *value = (guint) wide;
    return TRUE;
}

gboolean
node_int(const xmlNode *node, const char *name, int *value, GError **error)
{
    gint64 wide = *value;
    if (!ranged(node, name, 0, G_MAXINT, &wide, error))
        return FALSE;
    *value = (int) wide;
    return TRUE;
}

gboolean
node_int64(const xmlNode *node, const char *name, gint64 *value, GError **error)
{
    return ranged(node, name, G_MININT64, G_MAXINT64, value, error);
}

gboolean
node_tristate(const xmlNode *node, const char *name, Tristate *value, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL)
        return TRUE;
    if (strcmp(text, "on") == 0 || strcmp(text, "yes") == 0)
        *value = TRISTATE_ON;
    else if (strcmp(text, "off") == 0 || strcmp(text, "no") == 0)
        *value = TRISTATE_OFF;
    else
        return node_error(node, error, "attribute '%s' must be on or off, not '%s'", name, text);
    return TRUE;
}

gboolean
node_enum(const xmlNode *node, const char *name, const char *const *names, guint *index, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL)
        return TRUE;
    for (guint i = 0; names[i]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *index = i;
            return TRUE;
        }
    }
    g_autofree char *known = g_strjoinv(", ", (char **) names);
    return node_unsupported(node, error, "%s='%s' is not supported, only %s", name, text, known);
}

gboolean
node_content_uint64(xmlNode *node, guint64 *value, GError **error)
{
    g_autofree char *text = node_text(node);
    if (text && g_ascii_string_to_unsigned(g_strstrip(text), 10, 0, G_MAXUINT64, value, NULL))
        return TRUE;
    return node_error(node, error, "'%s' is not a valid number", text ? text : "");
}

static gboolean
unit_bytes(const char *unit, guint64 *bytes)
{
    static const struct {
        const char *name;
        guint64 bytes;
    } units[] = {
        {"b", 1},          {"bytes", 1},        {"KB", 1000},
        {"k", 1024},       {"KiB", 1024},       {"MB", 1000000},
        {"M", 1 << 20},    {"MiB", 1 << 20},    {"GB", 1000000000},
        {"G", 1 << 30},    {"GiB", 1 << 30},    {"TB", 1000000000000},
        {"T", 1ULL << 40}, {"TiB", 1ULL << 40}, {"PB", 1000000000000000},
        {"P", 1ULL << 50}, {"PiB", 1ULL << 50}, {"EB", 1000000000000000000},
        {"E", 1ULL << 60}, {"EiB", 1ULL << 60},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(units); i++) {
        if (g_ascii_strcasecmp(unit, units[i].name) == 0) {
            *bytes = units[i].bytes;
            return TRUE;
        }
    }
    return FALSE;
}

gboolean
node_content_kib(xmlNode *node, guint64 *kib, GError **error)
{
    guint64 count, scale = 1024, bytes;
    g_autofree char *unit = node_attribute(node, "unit");
    if (unit && !unit_bytes(unit, &scale))
        return node_error(node, error, "unknown unit '%s'", unit);
    if (!node_content_uint64(node, &count, error))
        return FALSE;
    if (!g_uint64_checked_mul(&bytes, count, scale) || bytes > (guint64) G_MAXINT64)
        return node_error(node, error, "size is too large");
    *kib = (bytes + 1023) / 1024;
    return TRUE;
}

gboolean
node_require(const xmlNode *node, const char *name, char **value, GError **error)
{
    g_autofree char *text = node_attribute(node, name);
    if (text == NULL || *text == '\0')
        return node_error(node, error, "attribute '%s' is missing", name);
    g_free(*value);
    *value = g_steal_pointer(&text);
    return TRUE;
}
