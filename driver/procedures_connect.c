// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures about the connection and the host.
#include <libvirt/libvirt.h>
#include <string.h>

#include "base/error.h"
#include "driver/node.h"
#include "driver/procedures.h"

HANDLER(connect_auth_list)
{
    WireAuthListRet *out = ret;

    // NONE: access to the socket, or a verified certificate, is the authentication.
    out->types.types_val = g_new0(int, 1);
    out->types.types_len = 1;
    return TRUE;
}

HANDLER(connect_open)
{
    static const char *const names[] = {"quasar:///system", "quasar:///session", "qemu:///system",
                                        "qemu:///session"};
    const WireOpenArgs *in = args;
    const char *name = rpc_text_or_null(in->name);
    gboolean known = !name || !*name;

    for (gsize i = 0; !known && i < G_N_ELEMENTS(names); i++) {
        const gsize length = strlen(names[i]);
        known = strncmp(name, names[i], length) == 0 && (name[length] == '\0' || name[length] == '?');
    }
    if (!known) {
        quasar_set_error(error, VIR_ERR_NO_CONNECT, "'%s' is not served here, try quasar:///system", name);
        return FALSE;
    }
    if (in->flags & VIR_CONNECT_RO)
        rpc_session_make_read_only(rpc_call_session(call));
    return TRUE;
}

HANDLER(connect_nothing)
{
    return TRUE;
}

HANDLER(connect_get_type)
{
    ((WireTextRet *) ret)->text = g_strdup("QEMU");
    return TRUE;
}

HANDLER(connect_get_version)
{
    const gulong version = node_emulator_version(procedures_driver(call), error);

    ((WireHyperRet *) ret)->value = version;
    return version != 0;
}

HANDLER(connect_get_lib_version)
{
    ((WireHyperRet *) ret)->value = LIBVIR_VERSION_NUMBER;
    return TRUE;
}

HANDLER(connect_get_hostname)
{
    ((WireTextRet *) ret)->text = node_hostname();
    return TRUE;
}

HANDLER(connect_get_uri)
{
    ((WireTextRet *) ret)->text = g_strdup("quasar:///system");
    return TRUE;
}

HANDLER(connect_get_max_vcpus)
{
    // The limit of q35 machines without further configuration.
    ((WireIntRet *) ret)->value = 255;
    return TRUE;
}

HANDLER(connect_get_capabilities)
{
    ((WireTextRet *) ret)->text = node_capabilities(procedures_driver(call));
    return TRUE;
}

HANDLER(connect_is_secure)
{
    ((WireIntRet *) ret)->value = rpc_session_secure(rpc_call_session(call));
    return TRUE;
}

// Numbers are libvirt's internal driver features; CLIENT-SURFACE 2.4 lists who asks for them and when. Not
// 12, which libvirt has: a definition does not move without its guest, and so clients say it before they
// begin.
HANDLER(connect_supports_feature)
{
    const WireIntArgs *in = args;
    static const guint yes =
        1u << 4 /* p2p */ | 1u << 6 /* v3 */ | 1u << 7 /* change protection */ | 1u << 8 /* fd passing */ |
        1u << 9 /* typed strings */ | 1u << 10 /* keepalive */ | 1u << 11 /* migratable XML */ |
        1u << 13 /* migration params */ | 1u << 14 /* event callbacks */ | 1u << 15 /* close callback */;

    ((WireIntRet *) ret)->value = in->value >= 0 && in->value < 32 && (yes >> in->value & 1);
    if (in->value == 10)
        rpc_session_start_keepalive(rpc_call_session(call));
    return TRUE;
}

HANDLER(node_get_info)
{
    WireNodeInfoRet *out = ret;
    virNodeInfo info;

    node_info(&info);
    memcpy(out->model, info.model, sizeof(out->model));
    out->memory = info.memory;
    out->cpus = (int) info.cpus;
    out->mhz = (int) info.mhz;
    out->nodes = (int) info.nodes;
    out->sockets = (int) info.sockets;
    out->cores = (int) info.cores;
    out->threads = (int) info.threads;
    return TRUE;
}

HANDLER(connect_get_domain_capabilities)
{
    const WireDomainCapabilitiesArgs *in = args;
    WireTextRet *out = ret;

    out->text = node_domain_capabilities(procedures_driver(call), rpc_text_or_null(in->emulator),
                                         rpc_text_or_null(in->arch), rpc_text_or_null(in->machine),
                                         rpc_text_or_null(in->virttype), error);
    return out->text != NULL;
}

HANDLER(node_get_cpu_map)
{
    const WireNodeCpuMapArgs *in = args;
    WireNodeCpuMapRet *out = ret;
    gsize length;
    guint online, present;
    g_autofree guint8 *map = node_cpu_map(&length, &online, &present);

    if (in->need_map) {
        out->cpumap.cpumap_val = (char *) g_steal_pointer(&map);
        out->cpumap.cpumap_len = (u_int) length;
    }
    if (in->need_online)
        out->online = online;
    out->ret = (int) present;
    return TRUE;
}

HANDLER(node_get_free_memory)
{
    ((WireHyperRet *) ret)->value = node_free_memory();
    return TRUE;
}

// A guest is confined by whom its processes run as.
HANDLER(node_get_security_model)
{
    WireNodeSecurityModelRet *out = ret;

    out->model.model_val = g_strdup("dac");
    out->model.model_len = sizeof("dac");
    out->doi.doi_val = g_strdup("0");
    out->doi.doi_len = sizeof("0");
    return TRUE;
}
