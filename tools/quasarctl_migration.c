// SPDX-License-Identifier: LGPL-2.1-or-later
// quasarctl migration: moves that are open, and what is to become of one whose other host is dead.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/rpc/quasar.h"
#include "tools/quasarctl.h"

static json_t *
ask(const Ctl *ctl, GError **error)
{
    static const RpcProcedure procedure =
        RPC_PROCEDURE(QUASAR_MIGRATION_LIST, "migration list", QuasarListArgs, QuasarJsonRet, 0, NULL);
    const QuasarListArgs args = {0};
    return ctl_call(ctl, &procedure, &args, error);
}

static char *
since(const json_t *record)
{
    const json_t *value = json_object_get(record, "since");
    g_autoptr(GDateTime) time =
        json_is_integer(value) ? g_date_time_new_from_unix_local(json_integer_value(value)) : NULL;
    return time ? g_date_time_format(time, "%F %T") : g_strdup("-");
}

static char **
list_row(const json_t *record)
{
    static const char *const members[] = {"domain", "role", "state", "peer", "epoch", NULL};
    g_autoptr(GStrvBuilder) row = g_strv_builder_new();
    for (const char *const *member = members; *member; member++) {
        g_autofree char *text = ctl_text(record, *member);
        g_strv_builder_add(row, text);
    }
    g_autofree char *time = since(record), *who = ctl_text(record, "promoted-by");
    g_strv_builder_add_many(row, time, who, NULL);
    return g_strv_builder_end(row);
}

gboolean
ctl_migration_list(const Ctl *ctl, int argc, char **argv, GError **error)
{
    static const char *const head[] = {"DOMAIN", "ROLE",  "STATE",       "PEER",
                                       "EPOCH",  "SINCE", "PROMOTED BY", NULL};
    gboolean json = FALSE;
    const GOptionEntry options[] = {
        {"json", 0, 0, G_OPTION_ARG_NONE, &json, "Print all that is known as JSON", NULL}, {NULL}};
    if (!ctl_parse(&argc, &argv, options, "", 0, 0, error))
        return FALSE;
    g_autoptr(json_t) answer = ask(ctl, error);
    if (!answer)
        return FALSE;
    if (json) {
        ctl_print_json(answer);
        return TRUE;
    }
    const json_t *list = json_object_get(answer, "migrations"), *damaged = json_object_get(answer, "damaged");
    g_autoptr(CtlTable) table = ctl_table_new(head);
    for (gsize i = 0; i < json_array_size(list); i++)
        ctl_table_add(table, list_row(json_array_get(list, i)));
    ctl_table_print(table);
    for (gsize i = 0; i < json_array_size(damaged); i++)
        g_printerr("quasarctl: %s\n", json_string_value(json_array_get(damaged, i)));
    return TRUE;
}

// The peers of the guest's open moves, for the question; "" when nothing is open.
static char *
peers_of(const json_t *answer, const char *domain)
{
    const json_t *list = json_object_get(answer, "migrations");
    g_autoptr(GString) text = g_string_new(NULL);
    for (gsize i = 0; i < json_array_size(list); i++) {
        const json_t *record = json_array_get(list, i);
        if (g_strcmp0(json_string_value(json_object_get(record, "domain")), domain) != 0 &&
            g_strcmp0(json_string_value(json_object_get(record, "uuid")), domain) != 0)
            continue;
        g_autofree char *peer = ctl_text(record, "peer"), *role = ctl_text(record, "role");
        g_autofree char *state = ctl_text(record, "state"), *time = since(record);
        g_string_append_printf(text, "  the other host is %s; this one is the %s, %s since %s\n", peer, role,
                               state, time);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

// On the terminal, as nothing that is piped in by accident may be taken for it.
static gboolean
confirm(const Ctl *ctl, const char *domain, GError **error)
{
    g_autoptr(json_t) answer = ask(ctl, error);
    g_autofree char *peers = answer ? peers_of(answer, domain) : NULL;
    char line[16];
    if (!answer)
        return FALSE;
    if (!*peers) {
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "no migration of '%s' is open on this host", domain);
        return FALSE;
    }
    if (!isatty(STDIN_FILENO)) {
        quasar_set_error(error, VIR_ERR_OPERATION_DENIED,
                         "there is no terminal to ask on; say --yes if the other host is dead and fenced");
        return FALSE;
    }
    g_print(
        "%s:\n%s"
        "You say that the other host is dead and stays so: its power is off, or it is cut off from its disks "
        "and\n"
        "network. If the guest runs there, it will run twice, and its data is lost. A host that cannot be\n"
        "reached is not a dead one. Type \"dead\" if you have fenced it: ",
        domain, peers);
    if (fgets(line, sizeof(line), stdin) && g_str_equal(g_strstrip(line), "dead"))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_ABORTED, "nothing was changed");
    return FALSE;
}

gboolean
ctl_migration_resolve(const Ctl *ctl, int argc, char **argv, GError **error)
{
    static const RpcProcedure procedure = RPC_PROCEDURE(QUASAR_MIGRATION_RESOLVE, "migration resolve",
                                                        QuasarResolveArgs, QuasarJsonRet, 0, NULL);
    gboolean dead = FALSE, yes = FALSE;
    const GOptionEntry options[] = {
        {"peer-is-dead", 0, 0, G_OPTION_ARG_NONE, &dead, "The other host is dead: fence it first", NULL},
        {"yes", 0, 0, G_OPTION_ARG_NONE, &yes, "Do not ask whether it is", NULL},
        {NULL}};
    if (!ctl_parse(&argc, &argv, options, "DOMAIN", 1, 1, error) ||
        (dead && !yes && !confirm(ctl, argv[1], error)))
        return FALSE;
    const QuasarResolveArgs args = {.domain = argv[1], .flags = dead ? QUASAR_RESOLVE_PEER_IS_DEAD : 0};
    g_autoptr(json_t) answer = ctl_call(ctl, &procedure, &args, error);
    if (!answer)
        return FALSE;
    g_autofree char *done = ctl_text(answer, "done");
    g_print("%s: %s\n", argv[1], done);
    return TRUE;
}
