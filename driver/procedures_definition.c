// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures that tell what a domain's definition says: decode, call, encode.
#include "base/error.h"
#include "driver/metadata.h"
#include "driver/procedures.h"
#include "xml/metadata.h"

HANDLER(domain_get_xml)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = NULL;
    const guint known = VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_UPDATE_CPU |
                        VIR_DOMAIN_XML_MIGRATABLE;
    guint format = 0;

    if (in->flags & ~known) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "unsupported flags (0x%x) in function virDomainGetXMLDesc", in->flags & ~known);
        return FALSE;
    }
    if ((in->flags & VIR_DOMAIN_XML_SECURE) && rpc_session_read_only(rpc_call_session(call))) {
        quasar_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainGetXMLDesc with secure flag");
        return FALSE;
    }
    domain = procedures_domain(call, &in->dom, error);
    if (!domain)
        return FALSE;
    domain_lock(domain);
    const gboolean inactive = (in->flags & VIR_DOMAIN_XML_INACTIVE) || !domain_is_active(domain);
    const DomainDef *def = inactive && domain->persistent ? domain->persistent : domain_def(domain);
    if (inactive)
        format |= DOMAIN_FORMAT_INACTIVE;
    if (in->flags & VIR_DOMAIN_XML_MIGRATABLE)
        format |= DOMAIN_FORMAT_MIGRATABLE;
    if (in->flags & VIR_DOMAIN_XML_SECURE)
        format |= DOMAIN_FORMAT_SECURE;
    if (def)
        ((WireTextRet *) ret)->text = domain_def_format(def, format, domain->id);
    domain_unlock(domain);
    if (!def)
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "domain '%s' was removed", domain->name);
    return def != NULL;
}

// The text of a kind of metadata, on the heap; NULL: there is none.
static char *
metadata_text(const DomainDef *def, int type, const char *uri)
{
    switch (type) {
    case VIR_DOMAIN_METADATA_DESCRIPTION:
        return g_strdup(def->description);
    case VIR_DOMAIN_METADATA_TITLE:
        return g_strdup(def->title);
    default:
        return uri ? metadata_element(def->metadata, uri) : NULL;
    }
}

// What AFFECT_LIVE and AFFECT_CONFIG choose; borrowed under the domain's lock.
static const DomainDef *
chosen_definition(Domain *domain, guint flags, GError **error)
{
    const DomainDef *def = (flags & VIR_DOMAIN_AFFECT_CONFIG) ? domain->persistent : domain_def(domain);

    if ((flags & VIR_DOMAIN_AFFECT_LIVE) && !domain_check_active(domain, error))
        return NULL;
    if (!def)
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "transient domains do not have any persistent config");
    return def;
}

HANDLER(domain_get_vcpus_flags)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain)
        return FALSE;
    if (in->flags & VIR_DOMAIN_VCPU_GUEST) {
        quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                         "what the guest makes of its vCPUs is not known, as no guest agent is spoken to");
        return FALSE;
    }
    domain_lock(domain);
    const DomainDef *def = chosen_definition(domain, in->flags, error);
    if (def)
        ((WireIntRet *) ret)->value =
            (int) (in->flags & VIR_DOMAIN_VCPU_MAXIMUM ? def->max_vcpus : def->vcpus);
    domain_unlock(domain);
    return def != NULL;
}

HANDLER(domain_get_metadata)
{
    const WireDomainMetadataArgs *in = args;
    WireTextRet *out = ret;
    g_autoptr(Domain) domain = NULL;

    if (in->type < VIR_DOMAIN_METADATA_DESCRIPTION || in->type > VIR_DOMAIN_METADATA_ELEMENT) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "unknown metadata type '%d'", in->type);
        return FALSE;
    }
    domain = procedures_domain(call, &in->dom, error);
    if (!domain)
        return FALSE;
    domain_lock(domain);
    const DomainDef *def = chosen_definition(domain, in->flags, error);
    if (def && !(out->text = metadata_text(def, in->type, rpc_text_or_null(in->uri))))
        quasar_set_error(error, VIR_ERR_NO_DOMAIN_METADATA, "Requested metadata element is not present");
    domain_unlock(domain);
    return out->text != NULL;
}

HANDLER(domain_set_metadata)
{
    const WireDomainSetMetadataArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && metadata_set(domain, in->type, rpc_text_or_null(in->metadata), rpc_text_or_null(in->key),
                                  rpc_text_or_null(in->uri), in->flags, error);
}
