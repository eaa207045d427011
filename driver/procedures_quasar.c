// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures of our own program (driver/rpc/quasar.x): what quasarctl asks.
#include <pwd.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/migration/promote.h"
#include "driver/nic_report.h"
#include "driver/procedures.h"
#include "driver/rpc/quasar.h"

static gboolean
check_flags(guint flags, guint known, GError **error)
{
    if (!(flags & ~known))
        return TRUE;
    quasar_set_error(error, VIR_ERR_INVALID_ARG,
                     "unsupported flags 0x%x: is quasarctl newer than virtquasard?", flags & ~known);
    return FALSE;
}

// Takes the object.
static gboolean
answer_json(void *ret, json_t *object, GError **error)
{
    g_autoptr(json_t) own = object;
    char *text = json_dumps(own, JSON_COMPACT);
    ((QuasarJsonRet *) ret)->json = text;
    if (!text)
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the answer cannot be written as text");
    return text != NULL;
}

static void
add_nic(const NicEntry *entry, gpointer list)
{
    json_array_append_new(list, nic_entry_encode(entry));
}

HANDLER(quasar_net_list)
{
    const QuasarListArgs *in = args;

    if (!check_flags(in->flags, 0, error))
        return FALSE;
    json_t *list = json_array();
    nic_report_each(procedures_driver(call), add_nic, list);
    return answer_json(ret, json_pack("{s:o}", "nics", list), error);
}

HANDLER(quasar_migration_list)
{
    const QuasarListArgs *in = args;

    if (!check_flags(in->flags, 0, error))
        return FALSE;
    json_t *list = promote_list(procedures_driver(call), error);
    return list && answer_json(ret, list, error);
}

// Who is at the other end, for the record; the caller frees.
static char *
caller_name(RpcCall *call)
{
    const RpcSession *session = rpc_call_session(call);
    const char *dn = rpc_session_peer_dn(session);
    const uid_t uid = rpc_session_peer_uid(session);
    struct passwd entry, *found = NULL;
    char space[4096];

    if (dn)
        return g_strndup(dn, 256);
    if (getpwuid_r(uid, &entry, space, sizeof(space), &found) == 0 && found &&
        g_utf8_validate(found->pw_name, -1, NULL))
        return g_strdup_printf("%.64s (uid %u)", found->pw_name, (guint) uid);
    return g_strdup_printf("uid %u", (guint) uid);
}

HANDLER(quasar_migration_resolve)
{
    const QuasarResolveArgs *in = args;
    g_autofree char *who = caller_name(call);

    if (!check_flags(in->flags, QUASAR_RESOLVE_PEER_IS_DEAD, error))
        return FALSE;
    g_autofree char *done = promote_resolve(procedures_driver(call), in->domain,
                                            (in->flags & QUASAR_RESOLVE_PEER_IS_DEAD) != 0, who, error);
    return done && answer_json(ret, json_pack("{s:s}", "done", done), error);
}
