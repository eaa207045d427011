// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff's durable state machine: the table of legal moves, and its records.
#include "driver/migration/handoff.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/record.h"

#define UUID_LENGTH   36u
#define SHA256_LENGTH 64u
#define FORMAT        1

// The public part comes first, so that one pointer serves both.
typedef struct {
    Handoff public;
    Record *record;
} HandoffPrivate;

static const char *const role_names[] = {"source", "destination"};
static_assert(G_N_ELEMENTS(role_names) == HANDOFF_ROLES, "a name for each role");

static const char *const state_names[] = {
    "idle",     "intent",  "aborted", "released", "done",    "none",
    "prepared", "refused", "owned",   "starting", "running",
};
static_assert(G_N_ELEMENTS(state_names) == HANDOFF_STATES, "a name for each state");
static_assert(HANDOFF_SOURCE_DONE == 4 && HANDOFF_DESTINATION_NONE == 5, "the source's states come first");

#define TO(state) (1u << HANDOFF_##state)
static const guint legal_moves[] = {
    [HANDOFF_SOURCE_IDLE] = TO(SOURCE_INTENT),
    [HANDOFF_SOURCE_INTENT] = TO(SOURCE_ABORTED) | TO(SOURCE_RELEASED),
    [HANDOFF_SOURCE_ABORTED] = TO(SOURCE_RELEASED),
    [HANDOFF_SOURCE_RELEASED] = TO(SOURCE_DONE) | TO(SOURCE_ABORTED),
    [HANDOFF_SOURCE_DONE] = 0,
    [HANDOFF_DESTINATION_NONE] = TO(DESTINATION_PREPARED),
    [HANDOFF_DESTINATION_PREPARED] = TO(DESTINATION_REFUSED) | TO(DESTINATION_OWNED),
    [HANDOFF_DESTINATION_REFUSED] = 0,
    [HANDOFF_DESTINATION_OWNED] = TO(DESTINATION_STARTING) | TO(DESTINATION_REFUSED),
    [HANDOFF_DESTINATION_STARTING] = TO(DESTINATION_RUNNING),
    [HANDOFF_DESTINATION_RUNNING] = 0,
};
static_assert(G_N_ELEMENTS(legal_moves) == HANDOFF_STATES, "moves of each state");

const char *
handoff_role_name(HandoffRole role)
{
    g_return_val_if_fail((guint) role < HANDOFF_ROLES, "?");
    return role_names[role];
}

const char *
handoff_state_name(HandoffState state)
{
    g_return_val_if_fail((guint) state < HANDOFF_STATES, "?");
    return state_names[state];
}

gboolean
handoff_legal(HandoffState from, HandoffState to)
{
    if ((guint) from >= HANDOFF_STATES || (guint) to >= HANDOFF_STATES)
        return FALSE;
    return (legal_moves[from] & (1u << to)) != 0;
}

gboolean
handoff_owns_disk(HandoffState state)
{
    switch (state) {
    case HANDOFF_SOURCE_IDLE:
    case HANDOFF_SOURCE_INTENT:
    case HANDOFF_SOURCE_ABORTED:
    case HANDOFF_DESTINATION_OWNED:
    case HANDOFF_DESTINATION_STARTING:
    case HANDOFF_DESTINATION_RUNNING:
        return TRUE;
    case HANDOFF_SOURCE_RELEASED:
    case HANDOFF_SOURCE_DONE:
    case HANDOFF_DESTINATION_NONE:
    case HANDOFF_DESTINATION_PREPARED:
    case HANDOFF_DESTINATION_REFUSED:
    case HANDOFF_STATES:
        break;
    }
    return FALSE;
}

gboolean
handoff_is_end(HandoffState state)
{
    return state == HANDOFF_SOURCE_ABORTED || state == HANDOFF_SOURCE_DONE ||
           state == HANDOFF_DESTINATION_REFUSED || state == HANDOFF_DESTINATION_RUNNING;
}

static HandoffRole
state_role(HandoffState state)
{
    return state >= HANDOFF_DESTINATION_NONE ? HANDOFF_DESTINATION : HANDOFF_SOURCE;
}

static gboolean
is_hex(const char *text, gsize length)
{
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i]))
            return FALSE;
    }
    return text[length] == '\0';
}

// Lower case only: the UUID is a file's name here, and one guest must not have two.
static gboolean
uuid_valid(const char *uuid)
{
    if (strlen(uuid) != UUID_LENGTH || !g_uuid_string_is_valid(uuid))
        return FALSE;
    for (const char *p = uuid; *p; p++) {
        if (g_ascii_isupper(*p))
            return FALSE;
    }
    return TRUE;
}

// Splits UUID "-" EPOCH "-" RANDOM. *uuid is the caller's to free.
static gboolean
token_parse(const char *token, char **uuid, guint64 *epoch, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(strlen(token) > UUID_LENGTH ? token + UUID_LENGTH : "", "-", -1);
    g_autofree char *head = g_strndup(token, UUID_LENGTH);
    // An epoch of 18 digits at most also fits JSON's signed integers.
    gboolean valid =
        uuid_valid(head) && g_strv_length(parts) == 3 && parts[0][0] == '\0' && strlen(parts[1]) <= 18 &&
        g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXINT64, epoch, NULL) &&
        strlen(parts[2]) == 2 * HANDOFF_TOKEN_RANDOM && is_hex(parts[2], 2 * HANDOFF_TOKEN_RANDOM);
    if (!valid) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed migration token");
        return FALSE;
    }
    *uuid = g_steal_pointer(&head);
    return TRUE;
}

char *
handoff_token_new(const char *uuid, guint64 epoch)
{
    guint8 random[HANDOFF_TOKEN_RANDOM];
    char hex[2 * HANDOFF_TOKEN_RANDOM + 1];
    if (gnutls_rnd(GNUTLS_RND_KEY, random, sizeof(random)) < 0)
        g_error("no random numbers for a migration token");
    for (guint i = 0; i < HANDOFF_TOKEN_RANDOM; i++)
        g_snprintf(hex + 2 * i, 3, "%02x", random[i]);
    return g_strdup_printf("%s-%" G_GUINT64_FORMAT "-%s", uuid, epoch, hex);
}

// FALSE if the text is not UTF-8: a field must not be lost silently.
static gboolean
set_text(json_t *object, const char *member, const char *text)
{
    return !text || json_object_set_new(object, member, json_string(text)) == 0;
}

static gboolean
set_texts(json_t *object, const char *member, char **texts)
{
    if (!texts)
        return TRUE;
    json_t *array = json_array();
    gboolean utf8 = TRUE;
    for (char **p = texts; *p; p++)
        utf8 &= json_array_append_new(array, json_string(*p)) == 0;
    json_object_set_new(object, member, array);
    return utf8;
}

// The payload of a record that stands in `state`. Caller frees with free(); NULL if a field is not UTF-8.
static char *
payload_encode(const Handoff *handoff, HandoffState state)
{
    json_t *object = json_object();
    gboolean utf8 = TRUE;
    json_object_set_new(object, "format", json_integer(FORMAT));
    utf8 &= set_text(object, "role", role_names[handoff->role]);
    utf8 &= set_text(object, "state", state_names[state]);
    utf8 &= set_text(object, "uuid", handoff->uuid);
    json_object_set_new(object, "epoch", json_integer((json_int_t) handoff->epoch));
    utf8 &= set_text(object, "token", handoff->token);
    utf8 &= set_text(object, "name", handoff->name);
    utf8 &= set_text(object, "peer-host", handoff->peer_host);
    utf8 &= set_texts(object, "peer-addresses", handoff->peer_addresses);
    utf8 &= set_texts(object, "images", handoff->images);
    json_object_set_new(object, "peer-port", json_integer(handoff->peer_port));
    utf8 &= set_text(object, "peer-sha256", handoff->peer_sha256);
    json_object_set_new(object, "persist-dest", json_boolean(handoff->persist_dest));
    json_object_set_new(object, "undefine-source", json_boolean(handoff->undefine_source));
    json_object_set_new(object, "left", json_boolean(handoff->left));
    json_object_set_new(object, "claimed", json_boolean(handoff->claimed));
    json_object_set_new(object, "peer-refused", json_boolean(handoff->peer_refused));
    json_object_set_new(object, "peer-promoted", json_boolean(handoff->peer_promoted));
    utf8 &= set_text(object, "promoted-by", handoff->promoted_by);
    json_object_set_new(object, "since", json_integer(handoff->since));
    json_object_set_new(object, "run-state", json_integer(handoff->run_state));
    utf8 &= set_text(object, "xml-path", handoff->xml_path);
    char *text = utf8 ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

// Each reader returns FALSE for a member of the wrong type; an absent one leaves its field as it is.
static gboolean
get_text(const json_t *object, const char *member, char **field)
{
    const json_t *value = json_object_get(object, member);
    if (!value)
        return TRUE;
    if (!json_is_string(value))
        return FALSE;
    g_free(*field);
    *field = g_strdup(json_string_value(value));
    return TRUE;
}

static gboolean
get_number(const json_t *object, const char *member, gint64 maximum, gint64 *field)
{
    const json_t *value = json_object_get(object, member);
    if (!value)
        return TRUE;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > maximum)
        return FALSE;
    *field = json_integer_value(value);
    return TRUE;
}

static gboolean
get_flag(const json_t *object, const char *member, gboolean *field)
{
    const json_t *value = json_object_get(object, member);
    if (!value)
        return TRUE;
    if (!json_is_boolean(value))
        return FALSE;
    *field = json_is_true(value);
    return TRUE;
}

static gboolean
get_texts(const json_t *object, const char *member, char ***field)
{
    const json_t *array = json_object_get(object, member);
    if (!array)
        return TRUE;
    if (!json_is_array(array))
        return FALSE;
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    for (gsize i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text)
            return FALSE;
        g_strv_builder_add(builder, text);
    }
    g_strfreev(*field);
    *field = g_strv_builder_end(builder);
    return TRUE;
}

// The state of that name for the role, or HANDOFF_STATES.
static HandoffState
state_parse(const char *name, HandoffRole role)
{
    for (guint i = 0; i < HANDOFF_STATES; i++) {
        if (strcmp(name, state_names[i]) == 0 && state_role((HandoffState) i) == role)
            return (HandoffState) i;
    }
    return HANDOFF_STATES;
}

// The members that make it the record of this guest. NULL if right, else the wrong member.
static const char *
decode_identity(Handoff *handoff, const json_t *object)
{
    g_autofree char *uuid = NULL, *role = NULL, *state = NULL, *token = NULL, *token_uuid = NULL;
    gint64 epoch = -1, format = 0;
    guint64 token_epoch = 0;
    if (!get_number(object, "format", FORMAT, &format) || format != FORMAT)
        return "format";
    if (!get_text(object, "role", &role) || g_strcmp0(role, role_names[handoff->role]) != 0)
        return "role";
    if (!get_text(object, "state", &state) || !state ||
        (handoff->state = state_parse(state, handoff->role)) == HANDOFF_STATES)
        return "state";
    if (!get_text(object, "uuid", &uuid) || g_strcmp0(uuid, handoff->uuid) != 0)
        return "uuid";
    if (!get_text(object, "token", &token) || !token ||
        !token_parse(token, &token_uuid, &token_epoch, NULL) || strcmp(token_uuid, uuid) != 0)
        return "token";
    if (!get_number(object, "epoch", G_MAXINT64, &epoch) || epoch < 0 || (guint64) epoch != token_epoch)
        return "epoch";
    handoff->epoch = token_epoch;
    handoff->token = g_steal_pointer(&token);
    return NULL;
}

static const char *
decode_rest(Handoff *handoff, const json_t *object)
{
    gint64 port = 0, run_state = 0, since = 0;
    if (!get_text(object, "name", &handoff->name))
        return "name";
    if (!get_text(object, "peer-host", &handoff->peer_host))
        return "peer-host";
    if (!get_texts(object, "peer-addresses", &handoff->peer_addresses))
        return "peer-addresses";
    if (!get_number(object, "peer-port", G_MAXUINT16, &port))
        return "peer-port";
    if (!get_text(object, "peer-sha256", &handoff->peer_sha256) ||
        (handoff->peer_sha256 &&
         (strlen(handoff->peer_sha256) != SHA256_LENGTH || !is_hex(handoff->peer_sha256, SHA256_LENGTH))))
        return "peer-sha256";
    if (!get_flag(object, "persist-dest", &handoff->persist_dest))
        return "persist-dest";
    if (!get_flag(object, "undefine-source", &handoff->undefine_source))
        return "undefine-source";
    if (!get_flag(object, "peer-refused", &handoff->peer_refused))
        return "peer-refused";
    if (!get_flag(object, "peer-promoted", &handoff->peer_promoted))
        return "peer-promoted";
    if (!get_text(object, "promoted-by", &handoff->promoted_by))
        return "promoted-by";
    if (!get_number(object, "since", G_MAXINT64, &since))
        return "since";
    if (!get_texts(object, "images", &handoff->images))
        return "images";
    if (!get_flag(object, "left", &handoff->left))
        return "left";
    if (!get_flag(object, "claimed", &handoff->claimed))
        return "claimed";
    if (!get_number(object, "run-state", G_MAXINT, &run_state))
        return "run-state";
    if (!get_text(object, "xml-path", &handoff->xml_path))
        return "xml-path";
    handoff->peer_port = (guint16) port;
    handoff->run_state = (int) run_state;
    handoff->since = since;
    return NULL;
}

char *
handoff_directory(const char *state_dir)
{
    return g_build_filename(state_dir, "handoff", NULL);
}

static char *
handoff_path(const char *directory, const char *uuid, HandoffRole role)
{
    return g_strdup_printf("%s/%s.%s", directory, uuid, role_names[role]);
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
    if (handoff->peer_sha256 &&
        (strlen(handoff->peer_sha256) != SHA256_LENGTH || !is_hex(handoff->peer_sha256, SHA256_LENGTH))) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed SHA-256 of the peer's certificate");
        return FALSE;
    }
    // What decoding would refuse must not be written: the record would be damaged by its own owner.
    if (handoff->run_state < 0) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "invalid run state %d in a migration record",
                         handoff->run_state);
        return FALSE;
    }
    char *text = payload_encode(handoff, state);
    if (!text) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot encode the migration record of %s",
                         handoff->uuid);
        return FALSE;
    }
    gboolean saved = record_update(private_of(handoff)->record, text, strlen(text), error);
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
                         role_names[role], path);
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
    if (!token_parse(token, &parsed, &ignored, error))
        return NULL;
    return handoff_create(directory, HANDOFF_SOURCE, uuid, epoch, g_steal_pointer(&token), error);
}

Handoff *
handoff_create_destination(const char *directory, const char *token, GError **error)
{
    g_autofree char *uuid = NULL;
    guint64 epoch = 0;
    if (!token_parse(token, &uuid, &epoch, error))
        return NULL;
    return handoff_create(directory, HANDOFF_DESTINATION, uuid, epoch, g_strdup(token), error);
}

static gboolean
handoff_decode(Handoff *handoff, const char *path, GError **error)
{
    gsize length = 0;
    const char *text = record_payload(private_of(handoff)->record, &length);
    // Its creator died before the first state was on disk, so the peer was told nothing.
    if (record_is_new(private_of(handoff)->record)) {
        handoff->token = handoff_token_new(handoff->uuid, 0);
        return TRUE;
    }
    json_error_t where;
    json_t *object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(object)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s is not a migration record: %s", path,
                         object ? "not an object" : where.text);
        json_decref(object);
        return FALSE;
    }
    const char *wrong = decode_identity(handoff, object);
    if (!wrong)
        wrong = decode_rest(handoff, object);
    json_decref(object);
    if (wrong) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR,
                         "%s is not a migration record of this domain: member '%s' is missing or wrong", path,
                         wrong);
        return FALSE;
    }
    return TRUE;
}

Handoff *
handoff_open(const char *directory, const char *uuid, HandoffRole role, GError **error)
{
    if (!uuid_valid(uuid)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed UUID '%s'", uuid);
        return NULL;
    }
    g_autoptr(Handoff) handoff = handoff_alloc(role, uuid);
    g_autofree char *path = handoff_path(directory, uuid, role);
    if (access(path, F_OK) < 0 && errno == ENOENT) {
        quasar_set_error(error, VIR_ERR_NO_DOMAIN, "domain %s has no migration record as %s", uuid,
                         role_names[role]);
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
    g_autofree char *uuid = g_strndup(file, UUID_LENGTH);
    const char *suffix =
        strlen(file) > UUID_LENGTH + 1 && file[UUID_LENGTH] == '.' ? file + UUID_LENGTH + 1 : "";
    for (guint role = 0; role < HANDOFF_ROLES; role++) {
        if (strcmp(suffix, role_names[role]) != 0 || !uuid_valid(uuid))
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

gboolean
handoff_transition(Handoff *handoff, HandoffState state, GError **error)
{
    if (!handoff_legal(handoff->state, state)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "migration of domain %s: the %s cannot go from '%s' to '%s'", handoff->uuid,
                         role_names[handoff->role], state_names[handoff->state],
                         (guint) state < HANDOFF_STATES ? state_names[state] : "?");
        return FALSE;
    }
    if (handoff->state == HANDOFF_SOURCE_RELEASED && state == HANDOFF_SOURCE_ABORTED &&
        !handoff->peer_refused) {
        quasar_set_error(
            error, VIR_ERR_OPERATION_INVALID,
            "migration of domain %s: the source cannot go from 'released' to 'aborted' before the "
            "destination has refused the guest",
            handoff->uuid);
        return FALSE;
    }
    if (handoff->state == HANDOFF_SOURCE_ABORTED && !handoff->peer_promoted) {
        quasar_set_error(
            error, VIR_ERR_OPERATION_INVALID,
            "migration of domain %s: the source cannot go from 'aborted' to 'released' unless the "
            "destination was promoted",
            handoff->uuid);
        return FALSE;
    }
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
    if (!untold && !handoff_is_end(handoff->state)) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "migration of domain %s: the %s's record cannot be removed in state '%s'",
                         handoff->uuid, role_names[handoff->role], state_names[handoff->state]);
        return FALSE;
    }
    if (!file_remove(record_path(private_of(handoff)->record), error))
        return FALSE;
    if (handoff->xml_path && !file_remove(handoff->xml_path, NULL))
        g_warning("cannot remove %s", handoff->xml_path);
    handoff_free(handoff);
    return TRUE;
}
