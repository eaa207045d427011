// SPDX-License-Identifier: LGPL-2.1-or-later
// What the subcommands of quasarctl share.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "driver/rpc/program.h"

// What was said before the subcommand.
typedef struct {
    const char *uri; // NULL: the system's daemon here
    gboolean read_only;
} Ctl;

// Of a subcommand. `argv` begins with its name; options are parsed by it. FALSE, with an error, is exit
// code 1.
typedef gboolean (*CtlRun)(const Ctl *ctl, int argc, char **argv, GError **error);

gboolean ctl_net_list(const Ctl *ctl, int argc, char **argv, GError **error);
gboolean ctl_net_show(const Ctl *ctl, int argc, char **argv, GError **error);

gboolean ctl_migration_list(const Ctl *ctl, int argc, char **argv, GError **error);
gboolean ctl_migration_resolve(const Ctl *ctl, int argc, char **argv, GError **error);

// Parses a subcommand's options. `arguments` is what its usage says of the rest, of which there must be from
// `least` to `most`; argv[1] is then the first of them.
gboolean ctl_parse(int *argc, char ***argv, const GOptionEntry *entries, const char *arguments, int least,
                   int most, GError **error);

// Calls a procedure of our program whose result is a QuasarJsonRet: the object, which the caller owns.
json_t *ctl_call(const Ctl *ctl, const RpcProcedure *procedure, const void *args, GError **error);

// A member as text for people: "-" when it is null or absent. What a terminal would not print, as it came
// from another host, is replaced. The caller frees.
char *ctl_text(const json_t *object, const char *member);
// The same by way of members within members, as in "received.bytes".
char *ctl_text_at(const json_t *object, const char *path);

void ctl_print_json(const json_t *value);

// Rows of texts, printed in columns as wide as they must be; the first row is the head.
typedef struct CtlTable CtlTable;
CtlTable *ctl_table_new(const char *const *head);
// Takes the texts, as many as the head has.
void ctl_table_add(CtlTable *table, char **row);
void ctl_table_print(const CtlTable *table);
void ctl_table_free(CtlTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CtlTable, ctl_table_free)
