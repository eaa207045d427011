// SPDX-License-Identifier: LGPL-2.1-or-later
// quasarctl net: the NICs of guests, and of those whose frames this host forwards.
#include <string.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/rpc/quasar.h"
#include "tools/quasarctl.h"

static json_t *
ask(const Ctl *ctl, GError **error)
{
    static const RpcProcedure procedure =
        RPC_PROCEDURE(QUASAR_NET_LIST, "net list", QuasarListArgs, QuasarJsonRet, 0, NULL);
    const QuasarListArgs args = {0};
    g_autoptr(json_t) answer = ctl_call(ctl, &procedure, &args, error);
    json_t *list = json_object_get(answer, "nics");
    if (json_is_array(list))
        return json_incref(list);
    if (answer)
        quasar_set_error(error, VIR_ERR_RPC, "the daemon's answer holds no list of NICs");
    return NULL;
}

static char *
total_drops(const json_t *nic)
{
    json_int_t sum = json_integer_value(json_object_get(nic, "capture-drops"));
    json_t *drops = json_object_get(nic, "drops"), *value;
    const char *reason;
    if (!drops)
        return g_strdup("-");
    json_object_foreach(drops, reason, value) sum += json_integer_value(value);
    return g_strdup_printf("%" JSON_INTEGER_FORMAT, sum);
}

static char *
round_trip(const json_t *nic)
{
    const json_t *value = json_object_get(nic, "round-trip-us");
    return json_is_integer(value) ? g_strdup_printf("%.3f ms", (double) json_integer_value(value) / 1000)
                                  : g_strdup("-");
}

static char **
list_row(const json_t *nic)
{
    static const char *const members[] = {
        "domain",         "nic",         "mac",        "host-nic", "mode", "peer", "received.frames",
        "received.bytes", "sent.frames", "sent.bytes", NULL};
    g_autoptr(GStrvBuilder) row = g_strv_builder_new();
    for (const char *const *member = members; *member; member++) {
        g_autofree char *text = ctl_text_at(nic, *member);
        g_strv_builder_add(row, text);
    }
    g_autofree char *drops = total_drops(nic), *queue = ctl_text(nic, "queue"), *rtt = round_trip(nic);
    g_strv_builder_add_many(row, drops, queue, rtt, NULL);
    return g_strv_builder_end(row);
}

gboolean
ctl_net_list(const Ctl *ctl, int argc, char **argv, GError **error)
{
    static const char *const head[] = {"DOMAIN", "NIC",   "MAC",        "HOST NIC", "MODE",
                                       "PEER",   "RX",    "RX BYTES",   "TX",       "TX BYTES",
                                       "DROPS",  "QUEUE", "ROUND TRIP", NULL};
    gboolean json = FALSE;
    const GOptionEntry options[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print all that is known as JSON", NULL}, {NULL}};
    if (!ctl_parse(&argc, &argv, options, "", 0, 0, error))
        return FALSE;
    g_autoptr(json_t) list = ask(ctl, error);
    if (!list)
        return FALSE;
    if (json) {
        ctl_print_json(list);
        return TRUE;
    }
    g_autoptr(CtlTable) table = ctl_table_new(head);
    for (gsize i = 0; i < json_array_size(list); i++)
        ctl_table_add(table, list_row(json_array_get(list, i)));
    ctl_table_print(table);
    return TRUE;
}

static void
show_nic(const json_t *nic)
{
    static const struct {
        const char *label, *path;
    } lines[] = {
        {"Domain", "domain"},
        {"UUID", "uuid"},
        {"NIC", "nic"},
        {"MAC", "mac"},
        {"Host NIC", "host-nic"},
        {"Mode", "mode"},
        {"Peer", "peer"},
        {"Problem", "problem"},
        {"Received frames", "received.frames"},
        {"Received bytes", "received.bytes"},
        {"Received, dropped", "received.dropped"},
        {"Sent frames", "sent.frames"},
        {"Sent bytes", "sent.bytes"},
        {"Sent, dropped", "sent.dropped"},
        {"Frames waiting", "queue"},
        {"Lost by capture", "capture-drops"},
    };
    json_t *drops = json_object_get(nic, "drops"), *value;
    const char *reason;
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *text = ctl_text_at(nic, lines[i].path);
        g_print("%-18s %s\n", lines[i].label, text);
    }
    g_autofree char *rtt = round_trip(nic);
    g_print("%-18s %s\n", "Round trip", rtt);
    json_object_foreach(drops, reason, value)
    {
        g_autofree char *text = ctl_text(drops, reason);
        g_print("Dropped, %-9s %s\n", reason, text);
    }
}

// The texts by which a user may name a NIC.
static gboolean
nic_is(const json_t *nic, const char *name)
{
    g_autofree char *index = ctl_text(nic, "index");
    const char *alias = json_string_value(json_object_get(nic, "nic"));
    const char *mac = json_string_value(json_object_get(nic, "mac"));
    return g_strcmp0(alias, name) == 0 || g_strcmp0(index, name) == 0 ||
           (mac && g_ascii_strcasecmp(mac, name) == 0);
}

static gboolean
domain_is(const json_t *nic, const char *name)
{
    return g_strcmp0(json_string_value(json_object_get(nic, "domain")), name) == 0 ||
           g_strcmp0(json_string_value(json_object_get(nic, "uuid")), name) == 0;
}

gboolean
ctl_net_show(const Ctl *ctl, int argc, char **argv, GError **error)
{
    gboolean json = FALSE;
    const GOptionEntry options[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print all that is known as JSON", NULL}, {NULL}};
    if (!ctl_parse(&argc, &argv, options, "DOMAIN [NIC]", 1, 2, error))
        return FALSE;
    g_autoptr(json_t) list = ask(ctl, error), found = json_array();
    for (gsize i = 0; i < json_array_size(list); i++) {
        json_t *nic = json_array_get(list, i);
        if (domain_is(nic, argv[1]) && (argc < 3 || nic_is(nic, argv[2])))
            json_array_append(found, nic);
    }
    if (list && json_array_size(found) == 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "this host serves no NIC%s%s of a running domain '%s'",
                         argc < 3 ? "" : " ", argc < 3 ? "" : argv[2], argv[1]);
        return FALSE;
    }
    if (list && json)
        ctl_print_json(found);
    for (gsize i = 0; list && !json && i < json_array_size(found); i++) {
        if (i > 0)
            g_print("\n");
        show_nic(json_array_get(found, i));
    }
    return list != NULL;
}
