// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures that save and restore domains: decode, call, encode.
#include <string.h>

#include "base/error.h"
#include "driver/procedures.h"
#include "driver/save/managed.h"
#include "driver/save/restore.h"
#include "driver/save/save.h"

HANDLER(save_domain_plain)
{
    const WireDomainTextArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && save_domain(domain, in->text, NULL, 0, error);
}

HANDLER(save_domain_flags)
{
    const WireDomainSaveArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && save_domain(domain, in->to, rpc_text_or_null(in->dxml), in->flags, error);
}

// Of virDomainSaveParams() and virDomainRestoreParams(); what is not carried out is refused by name. Strings
// are borrowed; *file may stay NULL.
static gboolean
params_decode(const WireParam *list, guint n, const char **file, const char **xml, GError **error)
{
    *file = *xml = NULL;
    for (guint i = 0; i < n; i++)
        if (strcmp(list[i].field, VIR_DOMAIN_SAVE_PARAM_FILE) != 0 &&
            strcmp(list[i].field, VIR_DOMAIN_SAVE_PARAM_DXML) != 0)
            return quasar_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                                    "parameter '%s' of a saved guest is not supported", list[i].field);
    return rpc_params_get_string(list, n, VIR_DOMAIN_SAVE_PARAM_FILE, file, error) &&
           rpc_params_get_string(list, n, VIR_DOMAIN_SAVE_PARAM_DXML, xml, error);
}

HANDLER(save_domain_params)
{
    const WireDomainSaveParamsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    const char *file, *xml;

    if (!domain || !params_decode(in->params.params_val, in->params.params_len, &file, &xml, error))
        return FALSE;
    // Without a file it is a managed save, as with libvirt.
    return save_domain(domain, file, xml, in->flags, error);
}

HANDLER(save_restore_plain)
{
    return restore_file(procedures_driver(call), ((const WireTextArgs *) args)->text, NULL, 0, error);
}

HANDLER(save_restore_flags)
{
    const WireDomainRestoreArgs *in = args;

    return restore_file(procedures_driver(call), in->from, rpc_text_or_null(in->dxml), in->flags, error);
}

HANDLER(save_restore_params)
{
    const WireDomainRestoreParamsArgs *in = args;
    const char *file, *xml;

    if (!params_decode(in->params.params_val, in->params.params_len, &file, &xml, error))
        return FALSE;
    if (!file)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "no file is named to restore from");
    return restore_file(procedures_driver(call), file, xml, in->flags, error);
}

static gboolean
check_xml_flags(guint flags, const char *call, GError **error)
{
    const guint known = VIR_DOMAIN_SAVE_IMAGE_XML_SECURE;
    return !(flags & ~known) ||
           quasar_set_error(error, VIR_ERR_INVALID_ARG, "unsupported flags (0x%x) in function %s",
                            flags & ~known, call);
}

HANDLER(save_image_get_xml)
{
    const WireTextFlagsArgs *in = args;
    WireTextRet *out = ret;

    return check_xml_flags(in->flags, "virDomainSaveImageGetXMLDesc", error) &&
           (out->text = restore_describe(in->text, error));
}

HANDLER(save_image_define)
{
    const WireSaveImageDefineArgs *in = args;

    return restore_redefine(procedures_driver(call), in->file, in->dxml, in->flags, error);
}

HANDLER(save_managed)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && save_domain(domain, NULL, NULL, in->flags, error);
}

HANDLER(save_managed_remove)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && managed_save_drop(domain, in->flags, error);
}

HANDLER(save_managed_get_xml)
{
    const WireDomainFlagsArgs *in = args;
    WireTextRet *out = ret;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain || !check_xml_flags(in->flags, "virDomainManagedSaveGetXMLDesc", error))
        return FALSE;
    if ((in->flags & VIR_DOMAIN_SAVE_IMAGE_XML_SECURE) && rpc_session_read_only(rpc_call_session(call)))
        return quasar_set_error(error, VIR_ERR_OPERATION_DENIED,
                                "virDomainManagedSaveGetXMLDesc with secure flag");
    return (out->text = managed_save_describe(domain, error)) != NULL;
}

HANDLER(save_managed_define)
{
    const WireManagedSaveDefineArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    return domain && managed_save_redefine(domain, rpc_text_or_null(in->dxml), in->flags, error);
}
