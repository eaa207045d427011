// SPDX-License-Identifier: LGPL-2.1-or-later
// Procedures of our own program (driver/rpc/quasar.x): what quasarctl asks.
#include "base/error.h"
#include "base/frame.h"
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
