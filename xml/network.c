// SPDX-License-Identifier: LGPL-2.1-or-later
// The network document, parsed and formatted.
#include "xml/network.h"

#include <string.h>

#include "base/error.h"
#include "xml/domain.h"
#include "xml/node.h"
#include "xml/writer.h"

void
network_def_free(NetworkDef *def)
{
    if (def == NULL)
        return;
    g_free(def->name);
    g_free(def->uuid);
    g_free(def->title);
    g_free(def->description);
    g_free(def->interface);
    g_free(def->bridge);
    g_free(def);
}

NetworkDef *
network_def_new(const char *name, const char *interface)
{
    NetworkDef *def = g_new0(NetworkDef, 1);
    def->name = g_strdup(name);
    def->interface = g_strdup(interface);
    return def;
}

NetworkDef *
network_def_copy(const NetworkDef *def)
{
    NetworkDef *copy = network_def_new(def->name, def->interface);
    copy->uuid = g_strdup(def->uuid);
    memcpy(copy->uuid_bytes, def->uuid_bytes, sizeof copy->uuid_bytes);
    copy->title = g_strdup(def->title);
    copy->description = g_strdup(def->description);
    copy->bridge = g_strdup(def->bridge);
    return copy;
}

static gboolean
parse_names(NetworkDef *def, xmlNode *root, GError **error)
{
    def->name = node_child_text(root, "name");
    if (domain_name_problem(def->name))
        return node_error(root, error, "<name> is missing or not usable as a file name");
    g_autofree char *uuid = node_child_text(root, "uuid");
    if (uuid) {
        if (!domain_uuid_parse(uuid, def->uuid_bytes))
            return node_error(node_child(root, "uuid"), error, "'%s' is not a UUID", uuid);
        def->uuid = domain_uuid_format(def->uuid_bytes);
    }
    def->title = node_child_text(root, "title");
    def->description = node_child_text(root, "description");
    return TRUE;
}

static gboolean
parse_forward(NetworkDef *def, xmlNode *root, GError **error)
{
    xmlNode *forward = node_child(root, "forward");
    if (forward == NULL)
        return node_unsupported(root, error,
                                "<forward mode='bridge'/> is missing, other networks are not supported");
    static const char *const modes[] = {"bridge", NULL};
    g_autofree char *mode = node_attribute(forward, "mode");
    guint index = 0;
    if (mode == NULL)
        return node_unsupported(forward, error, "mode='bridge' is missing, other modes are not supported");
    if (!node_enum(forward, "mode", modes, &index, error))
        return FALSE;
    def->interface = node_attribute(forward, "dev");
    for (xmlNode *node = node_next(NULL, forward); node; node = node_next(node, forward)) {
        if (!node_is(node, "interface"))
            return node_unsupported(node, error, "not supported in <forward>");
        if (!node_require(node, "dev", &def->interface, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
parse_bridge(NetworkDef *def, xmlNode *root, GError **error)
{
    xmlNode *bridge = node_child(root, "bridge");
    if (bridge == NULL)
        return TRUE;
    if (def->interface)
        return node_error(bridge, error, "a network has a bridge or an interface, not both");
    return node_require(bridge, "name", &def->bridge, error);
}

// What would promise the guest something that a bridged network does not give.
static gboolean
refuse_unsupported(xmlNode *root, GError **error)
{
    static const char *const refused[] = {"ip",   "dns",       "route",    "virtualport",
                                          "vlan", "portgroup", "bandwidth"};
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        xmlNode *node = node_child(root, refused[i]);
        if (node)
            return node_unsupported(node, error, "not supported in a network that is bridged");
    }
    return TRUE;
}

NetworkDef *
network_def_parse(const char *xml, GError **error)
{
    g_autoptr(NodeDocument) document = node_document_parse(xml, "network", error);
    if (document == NULL)
        return NULL;
    xmlNode *root = xmlDocGetRootElement(document);
    g_autoptr(NetworkDef) def = g_new0(NetworkDef, 1);
    if (!parse_names(def, root, error) || !refuse_unsupported(root, error) ||
        !parse_forward(def, root, error) || !parse_bridge(def, root, error))
        return NULL;
    return g_steal_pointer(&def);
}

void
network_def_assign(NetworkDef *def)
{
    if (def->uuid)
        return;
    def->uuid = g_uuid_string_random();
    domain_uuid_parse(def->uuid, def->uuid_bytes);
}

char *
network_def_format(const NetworkDef *def, guint connections)
{
    Writer writer;
    writer_init(&writer);
    writer_begin(&writer, "network");
    if (connections > 0)
        writer_attributef(&writer, "connections", "%u", connections);
    writer_text(&writer, "name", def->name);
    writer_text(&writer, "uuid", def->uuid);
    writer_text(&writer, "title", def->title);
    writer_text(&writer, "description", def->description);
    writer_begin(&writer, "forward");
    writer_attribute(&writer, "dev", def->interface);
    writer_attribute(&writer, "mode", "bridge");
    if (def->interface) {
        writer_begin(&writer, "interface");
        writer_attribute(&writer, "dev", def->interface);
        writer_end(&writer);
    }
    writer_end(&writer);
    if (def->bridge) {
        writer_begin(&writer, "bridge");
        writer_attribute(&writer, "name", def->bridge);
        writer_end(&writer);
    }
    writer_end(&writer);
    return writer_finish(&writer);
}
