// SPDX-License-Identifier: LGPL-2.1-or-later
// The procedure that opens a console, and its stream's hold on the place there.
#include "base/error.h"
#include "driver/console.h"
#include "driver/procedures.h"

// The place at a console, as long as its stream lives.
typedef struct {
    Domain *domain;
    guint64 token;
} ConsolePlace;

static void
console_lost(gpointer stream)
{
    g_autoptr(GError) error = NULL;
    quasar_set_error(&error, VIR_ERR_OPERATION_ABORTED, "another session took over this console");
    rpc_stream_abort(stream, error);
}

static void
console_ended(gpointer data)
{
    g_autofree ConsolePlace *place = data;
    console_close(place->domain, place->token);
    domain_unref(place->domain);
}

HANDLER(domain_open_console)
{
    const WireDomainOpenConsoleArgs *in = args;
    g_autoptr(Domain) domain = procedures_domain(call, &in->dom, error);
    guint64 token;

    if (!domain)
        return FALSE;
    g_autoptr(RpcStream) stream = rpc_stream_new(call);
    const int fd = console_open(domain, rpc_text_or_null(in->device), in->flags, console_lost,
                                rpc_stream_ref(stream), (GDestroyNotify) rpc_stream_unref, &token, error);
    if (fd < 0)
        return FALSE;
    ConsolePlace *place = g_new(ConsolePlace, 1);
    *place = (ConsolePlace){g_steal_pointer(&domain), token};
    rpc_call_open_stream(call, stream, fd, console_ended, place);
    return TRUE;
}
