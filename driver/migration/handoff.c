// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff's records: created, opened and found on disk, moved from state to state, closed.
#include "driver/migration/handoff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/record.h"
#include "driver/migration/handoff_payload.h"

// The public part comes first, so that one pointer serves both.
typedef struct {
    Handoff public;
    Record *record;
} HandoffPrivate;

char *
handoff_directory(const char *state_dir)
{
    return g_build_filename(state_dir, "handoff", NULL);
}

static char *
handoff_path(const char *directory, const char *uuid, HandoffRole role)
{
    return g_strdup_printf("%s/%s.%s", directory, uuid, handoff_role_name(role));
}

static Handoff *
handoff_alloc(HandoffRole role, const char *uuid)
{
    HandoffPrivate *whole = g_new0(HandoffPrivate, 1);
    Handoff *handoff = &whole->public;
    handoff->role = role;
    handoff->state = role == HANDOFF_SOURCE ? HANDOFF_SOURCE_IDLE : HANDOFF_DESTINATION_NONE;
    handoff->uuid = g_strdup(uuid);
    return handoff;
}

static HandoffPrivate *
private_of(Handoff *handoff)
{
    return (HandoffPrivate *) handoff;
}

void
handoff_free(Handoff *handoff)
{
    if (!handoff)
        return;
    record_free(private_of(handoff)->record);
    g_free(handoff->uuid);
    g_free(handoff->token);
    g_free(handoff->name);
    g_free(handoff->peer_host);
    g_strfreev(handoff->peer_addresses);
    g_free(handoff->peer_sha256);
    g_free(handoff->xml_path);
    g_free(handoff->promoted_by);
    g_strfreev(handoff->images);
    g_free(private_of(handoff));
}

static gboolean
handoff_save(Handoff *handoff, HandoffState state, GError **error)
{
    char *text = handoff_payload_encode(handoff, state, error);
    gboolean saved = text && record_update(private_of(handoff)->record, text, strlen(text), error);
    free(text);
    return saved;
}

static Handoff *
handoff_create(const char *directory, HandoffRole role, const char *uuid, guint64 epoch, char *token,
               GError **error)
{
    g_autoptr(Handoff) handoff = handoff_alloc(role, uuid);
    handoff->epoch = epoch;
    handoff->token = token;
    g_autofree char *path = handoff_path(directory, uuid, role);
    if (g_file_test(path, G_FILE_TEST_EXISTS)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "domain %s has an open migration record as %s already (%s); see its messages", uuid,
                         handoff_role_name(role), path);
        return NULL;
    }
    if (!file_make_directory(directory, 0700, error))
        return NULL;
    private_of(handoff)->record = record_create(path, error);
    if (!private_of(handoff)->record)
        return NULL;
    if (!handoff_save(handoff, handoff->state, error)) {
        unlink(path);
        return NULL;
    }
    return g_steal_pointer(&handoff);
}

Handoff *
handoff_create_source(const char *directory, const char *uuid, guint64 epoch, GError **error)
{
    g_autofree char *parsed = NULL;
    g_autofree char *token = handoff_token_new(uuid, epoch);
    guint64 ignored = 0;
    if (!handoff_token_parse(token, &parsed, &ignored, error))
        return NULL;
    return handoff_create(directory, HANDOFF_SOURCE, uuid, epoch, g_steal_pointer(&token), error);
}

Handoff *
handoff_create_destination(const char *directory, const char *token, GError **error)
{
    g_autofree char *uuid = NULL;
    guint64 epoch = 0;
    if (!handoff_token_parse(token, &uuid, &epoch, error))
        return NULL;
    return handoff_create(directory, HANDOFF_DESTINATION, uuid, epoch, g_strdup(token), error);
}

static gboolean
handoff_decode(Handoff *handoff, const char *path, GError **error)
{
    // Its creator died before the first state was on disk, so the peer was told nothing.
    if (record_is_new(private_of(handoff)->record)) {
        handoff->token = handoff_token_new(handoff->uuid, 0);
        return TRUE;
    }
    gsize length = 0;
    const char *text = record_payload(private_of(handoff)->record, &length);
    return handoff_payload_decode(handoff, text, length, path, error);
}

Handoff *
handoff_open(const char *directory, const char *uuid, HandoffRole role, GError **error)
{
    if (!handoff_uuid_valid(uuid)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed UUID '%s'", uuid);
        return NULL;
    }
    g_autoptr(Handoff) handoff = handoff_alloc(role, uuid);
    g_autofree char *path = handoff_path(directory, uuid, role);
    if (access(path, F_OK) < 0 && errno == ENOENT) {
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "domain %s has no migration record as %s", uuid,
                         handoff_role_name(role));
        return NULL;
    }
    private_of(handoff)->record = record_open(path, error);
    if (!private_of(handoff)->record || !handoff_decode(handoff, path, error))
        return NULL;
    return g_steal_pointer(&handoff);
}

static void
scan_file(const char *directory, const char *file, GPtrArray *found, GStrvBuilder *damaged)
{
    g_autofree char *uuid = g_strndup(file, HANDOFF_UUID_LENGTH);
    const char *suffix = strlen(file) > HANDOFF_UUID_LENGTH + 1 && file[HANDOFF_UUID_LENGTH] == '.'
                             ? file + HANDOFF_UUID_LENGTH + 1
                             : "";
    for (guint role = 0; role < HANDOFF_ROLES; role++) {
        if (strcmp(suffix, handoff_role_name((HandoffRole) role)) != 0 || !handoff_uuid_valid(uuid))
            continue;
        g_autoptr(GError) error = NULL;
        Handoff *handoff = handoff_open(directory, uuid, (HandoffRole) role, &error);
        if (handoff)
            g_ptr_array_add(found, handoff);
        else
            g_strv_builder_add(damaged, error->message);
    }
}

GPtrArray *
handoff_scan(const char *directory, char ***damaged, GError **error)
{
    *damaged = NULL;
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify) handoff_free);
    g_autoptr(GStrvBuilder) messages = g_strv_builder_new();
    g_autoptr(GError) local = NULL;
    g_autoptr(GDir) dir = g_dir_open(directory, 0, &local);
    if (!dir) {
        if (g_error_matches(local, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return g_steal_pointer(&found);
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "cannot read the migration records: %s",
                         local->message);
        return NULL;
    }
    const char *file;
    while ((file = g_dir_read_name(dir)))
        scan_file(directory, file, found, messages);
    g_auto(GStrv) list = g_strv_builder_end(messages);
    if (list[0])
        *damaged = g_steal_pointer(&list);
    return g_steal_pointer(&found);
}

// What the table allows, and only of a peer that has said the word for it.
static gboolean
may_enter(const Handoff *handoff, HandoffState state, GError **error)
{
    if (!handoff_legal(handoff->state, state))
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "migration of domain %s: the %s cannot go from '%s' to '%s'", handoff->uuid,
                                handoff_role_name(handoff->role), handoff_state_name(handoff->state),
                                (guint) state < HANDOFF_STATES ? handoff_state_name(state) : "?");
    if (handoff->state == HANDOFF_SOURCE_RELEASED && state == HANDOFF_SOURCE_ABORTED &&
        !handoff->peer_refused)
        return quasar_set_error(
            error, VIR_ERR_OPERATION_INVALID,
            "migration of domain %s: the source cannot go from 'released' to 'aborted' before the "
            "destination has refused the guest",
            handoff->uuid);
    if (handoff->state == HANDOFF_SOURCE_ABORTED && !handoff->peer_promoted)
        return quasar_set_error(
            error, VIR_ERR_OPERATION_INVALID,
            "migration of domain %s: the source cannot go from 'aborted' to 'released' unless the "
            "destination was promoted",
            handoff->uuid);
    return TRUE;
}

gboolean
handoff_transition(Handoff *handoff, HandoffState state, GError **error)
{
    if (!may_enter(handoff, state, error))
        return FALSE;
    const gint64 before = handoff->since;
    handoff->since = g_get_real_time() / G_USEC_PER_SEC;
    if (!handoff_save(handoff, state, error)) {
        handoff->since = before;
        return FALSE;
    }
    handoff->state = state;
    return TRUE;
}

gboolean
handoff_store(Handoff *handoff, GError **error)
{
    return handoff_save(handoff, handoff->state, error);
}

gboolean
handoff_close(Handoff *handoff, GError **error)
{
    gboolean untold = handoff->state == HANDOFF_SOURCE_IDLE || handoff->state == HANDOFF_DESTINATION_NONE;
    if (!untold && !handoff_is_end(handoff->state))
        return quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                                "migration of domain %s: the %s's record cannot be removed in state '%s'",
                                handoff->uuid, handoff_role_name(handoff->role),
                                handoff_state_name(handoff->state));
    if (!file_remove(record_path(private_of(handoff)->record), error))
        return FALSE;
    if (handoff->xml_path && !file_remove(handoff->xml_path, NULL))
        g_warning("cannot remove %s", handoff->xml_path);
    handoff_free(handoff);
    return TRUE;
}
