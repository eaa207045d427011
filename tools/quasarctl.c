// SPDX-License-Identifier: LGPL-2.1-or-later
// quasarctl: what virsh has no words for.
#include "tools/quasarctl.h"

#include <config.h> // not driver/config.h
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"
#include "driver/rpc/client.h"
#include "driver/rpc/quasar.h"

#define SYSTEM_URI      "quasar:///system"
#define READ_ONLY_URI   SYSTEM_URI "?socket=/run/libvirt/virtquasard-sock-ro"
#define CALL_TIMEOUT_MS 120000

// The whole of the program: usage, completion (--commands) and the test of the man page are made from it.
static const struct {
    const char *group, *name, *arguments, *summary;
    CtlRun run;
} commands[] = {
    {"net", "list", "[--json]", "the NICs of guests, and how their frames fare", ctl_net_list},
    {"net", "show", "[--json] DOMAIN [NIC]", "one guest's NICs in full", ctl_net_show},
    {"migration", "list", "[--json]", "moves that are open on this host", ctl_migration_list},
    {"migration", "resolve", "[--peer-is-dead] [--yes] DOMAIN", "settles one that is open",
     ctl_migration_resolve},
};

gboolean
ctl_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *arguments, int least, int most,
          GError **error)
{
    g_autoptr(GOptionContext) context = g_option_context_new(arguments);
    g_autoptr(GError) problem = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &problem)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "%s", problem->message);
        return FALSE;
    }
    if (*argc - 1 >= least && *argc - 1 <= most)
        return TRUE;
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "too %s arguments: say quasarctl %s %s",
                     *argc - 1 < least ? "few" : "many", (*argv)[0], arguments);
    return FALSE;
}

json_t *
ctl_call(const Ctl *ctl, const RpcProcedure *procedure, const void *args, GError **error)
{
    const char *uri = ctl->uri ? ctl->uri : ctl->read_only ? READ_ONLY_URI : SYSTEM_URI;
    g_autoptr(RpcClient) client = rpc_client_connect(uri, NULL, error);
    QuasarJsonRet ret = {0};
    json_error_t where;
    if (!client ||
        !rpc_client_call_program(client, RPC_PROGRAM_QUASAR, procedure, args, &ret, CALL_TIMEOUT_MS, error))
        return NULL;
    json_t *answer = json_loads(ret.json, JSON_REJECT_DUPLICATES, &where);
    xdr_free((xdrproc_t) xdr_QuasarJsonRet, (char *) &ret);
    if (json_is_object(answer))
        return answer;
    json_decref(answer);
    quasar_set_error(error, VIR_ERR_RPC, "the daemon's answer to %s is no JSON object", procedure->name);
    return NULL;
}

static char *
describe(void)
{
    GString *text = g_string_new("Commands:\n");
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
        g_string_append_printf(text, "  %s %s %s\n      %s\n", commands[i].group, commands[i].name,
                               commands[i].arguments, commands[i].summary);
    return g_string_free(text, FALSE);
}

static gboolean
run_command(const Ctl *ctl, int argc, char **argv, GError **error)
{
    for (gsize i = 0; argc >= 3 && i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(commands[i].group, argv[1]) != 0 || strcmp(commands[i].name, argv[2]) != 0)
            continue;
        g_autofree char *name = g_strdup_printf("%s %s", argv[1], argv[2]);
        g_autofree char *program = g_strdup_printf("quasarctl %s", name);
        argv[2] = name;
        g_set_prgname(program); // what --help says
        return commands[i].run(ctl, argc - 2, argv + 2, error);
    }
    quasar_set_error(error, VIR_ERR_INVALID_ARG, "%s%s%s%s: say quasarctl --help",
                     argc < 2 ? "no command is given" : "no such command: ", argc < 2 ? "" : argv[1],
                     argc < 3 ? "" : " ", argc < 3 ? "" : argv[2]);
    return FALSE;
}

static gboolean
run(int argc, char **argv, GError **error)
{
    g_autofree char *uri = NULL, *summary = describe();
    gboolean read_only = FALSE, version = FALSE, list = FALSE;
    const GOptionEntry options[] = {
        {"connect", 'c', 0, G_OPTION_ARG_STRING, &uri, "The daemon to ask (" SYSTEM_URI ")", "URI"},
        {"readonly", 'r', 0, G_OPTION_ARG_NONE, &read_only, "Use the socket that only answers questions",
         NULL},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &version, "Print the version", NULL},
        {"commands", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &list, "For completion", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("GROUP COMMAND ...");
    g_autoptr(GError) problem = NULL;
    g_option_context_set_strict_posix(context, TRUE); // what follows the command is the command's
    g_option_context_add_main_entries(context, options, NULL);
    g_option_context_set_description(context, summary);
    if (!g_option_context_parse(context, &argc, &argv, &problem)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "%s", problem->message);
        return FALSE;
    }
    for (gsize i = 0; list && i < G_N_ELEMENTS(commands); i++)
        g_print("%s %s %s\n", commands[i].group, commands[i].name, commands[i].arguments);
    if (version)
        g_print("quasarctl %s\n", PACKAGE_VERSION);
    const Ctl ctl = {.uri = uri, .read_only = read_only};
    return version || list || run_command(&ctl, argc, argv, error);
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    setlocale(LC_ALL, "");
    signal(SIGPIPE, SIG_IGN); // a connection that is lost is told as an error
    if (run(argc, argv, &error))
        return EXIT_SUCCESS;
    g_printerr("quasarctl: %s\n", error->message);
    return EXIT_FAILURE;
}
