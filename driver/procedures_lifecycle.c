// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures that make, start, change and end domains: decode, call, encode.
#include "driver/lifecycle.h"
#include "driver/procedures.h"

HANDLER(domain_define)
{
    return procedures_answer_domain(
        ret, lifecycle_define(procedures_driver(call), ((const WireTextArgs *) args)->text, 0, error));
}

HANDLER(domain_define_flags)
{
    const WireTextFlagsArgs *in = args;

    return procedures_answer_domain(ret,
                                    lifecycle_define(procedures_driver(call), in->text, in->flags, error));
}

// A connection that went while its guest was being started was told of before the guest was known as its own.
static void
check_owner(RpcCall *call)
{
    if (rpc_session_closed(rpc_call_session(call)))
        lifecycle_owner_gone(procedures_driver(call), rpc_call_session(call));
}

HANDLER(domain_create_xml)
{
    const WireTextFlagsArgs *in = args;
    Domain *domain =
        lifecycle_create_xml(procedures_driver(call), in->text, in->flags, rpc_call_session(call), error);

    check_owner(call);
    return procedures_answer_domain(ret, domain);
}

// Handlers that only act on a domain: without flags, and with them.
#define ACTION(handler, Args, expression)                                                                    \
    HANDLER(handler)                                                                                         \
    {                                                                                                        \
        const Args *in = args;                                                                               \
        g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);                                 \
                                                                                                             \
        return domain && (expression);                                                                       \
    }

ACTION(domain_create, WireDomainArgs, lifecycle_start(domain, 0, NULL, error))
ACTION(domain_undefine, WireDomainArgs, lifecycle_undefine(domain, 0, error))
ACTION(domain_undefine_flags, WireDomainFlagsArgs, lifecycle_undefine(domain, in->flags, error))
ACTION(domain_destroy, WireDomainArgs, lifecycle_destroy(domain, 0, error))
ACTION(domain_destroy_flags, WireDomainFlagsArgs, lifecycle_destroy(domain, in->flags, error))
ACTION(domain_shutdown, WireDomainArgs, lifecycle_shutdown(domain, 0, error))
ACTION(domain_shutdown_flags, WireDomainFlagsArgs, lifecycle_shutdown(domain, in->flags, error))
ACTION(domain_reboot, WireDomainFlagsArgs, lifecycle_reboot(domain, in->flags, error))
ACTION(domain_reset, WireDomainFlagsArgs, lifecycle_reset(domain, in->flags, error))
ACTION(domain_suspend, WireDomainArgs, lifecycle_suspend(domain, error))
ACTION(domain_resume, WireDomainArgs, lifecycle_resume(domain, error))
ACTION(domain_set_autostart, WireDomainIntArgs, lifecycle_set_autostart(domain, in->value != 0, error))

HANDLER(domain_create_flags)
{
    const WireDomainFlagsArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);

    if (!domain || !lifecycle_start(domain, in->flags, rpc_call_session(call), error))
        return FALSE;
    check_owner(call);
    return procedures_answer_domain(ret, domain_ref(domain));
}
