// SPDX-License-Identifier: LGPL-2.1-or-later
// What users may ask of a migration: flags, parameters, and the way that its data is to take.
#pragma once

#include <glib.h>

#include "driver/migration/peer.h"

// The typed parameters of virDomainMigrate3() that travel on the wire; absent ones are NULL or 0. Strings are
// owned.
typedef struct {
    char *uri;   // migrate_uri: what the user gave, then what Prepare returned
    char *dname; // destination_name
    char *dest_xml;
    char *persist_xml;
    char *listen_address;
    guint64 bandwidth; // MiB/s
    char **migrate_disks;
    char *ignored; // parameters that have no effect here, and why, in words for the log; NULL: none
} MigrationParams;

void migration_params_free(MigrationParams *params);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MigrationParams, migration_params_free)

// Of a parameter that has come: VIR_ERR_ARGUMENT_UNSUPPORTED if its user would get something else than he
// asked for, VIR_ERR_INVALID_ARG if nobody knows it. What does no harm is added to params->ignored.
gboolean migration_note_param(MigrationParams *params, const char *name, GError **error);

// VIR_ERR_ARGUMENT_UNSUPPORTED names the flags (virDomainMigrateFlags) that are not carried out.
gboolean migration_check_flags(guint flags, GError **error);

// VIR_ERR_ARGUMENT_UNSUPPORTED names what was given and cannot be had.
gboolean migration_check_params(const MigrationParams *params, GError **error);

// Source: `uri` is the user's (tcp:HOST, tcp://HOST:PORT), or what our own Prepare has returned; NULL: none.
// One that names another host than `hostname` (the destination's name of itself) leaves of `peer` only that
// host's addresses: the user chooses a network. Everything travels to virtquasard's one port, whatever the
// URI's. Blocks for the name service.
gboolean migration_choose_way(const char *uri, const char *hostname, PeerAddress *peer, GError **error);

// Destination: leaves of `own` only the address that it is to be reached at. NULL and wildcards: all.
gboolean migration_choose_listener(const char *listen_address, PeerAddress *own, GError **error);
