// SPDX-License-Identifier: LGPL-2.1-or-later
// What a handoff's record holds: its members as JSON, and the token that names the move.
#include "driver/migration/handoff_payload.h"

#include <gnutls/crypto.h>
#include <jansson.h>
#include <string.h>

#include "base/error.h"
#include "base/frame.h"

#define SHA256_LENGTH 64u
#define FORMAT        1

typedef enum { TEXT, TEXTS, FLAG, PORT, INTEGER, TIME } FieldType;

// Members that need no more than the right type; absent ones leave their field as it is.
static const struct {
    const char *member;
    FieldType type;
    gsize offset;
} fields[] = {
    {"name", TEXT, offsetof(Handoff, name)},
    {"peer-host", TEXT, offsetof(Handoff, peer_host)},
    {"peer-addresses", TEXTS, offsetof(Handoff, peer_addresses)},
    {"peer-port", PORT, offsetof(Handoff, peer_port)},
    {"peer-sha256", TEXT, offsetof(Handoff, peer_sha256)},
    {"persist-dest", FLAG, offsetof(Handoff, persist_dest)},
    {"undefine-source", FLAG, offsetof(Handoff, undefine_source)},
    {"peer-refused", FLAG, offsetof(Handoff, peer_refused)},
    {"peer-promoted", FLAG, offsetof(Handoff, peer_promoted)},
    {"promoted-by", TEXT, offsetof(Handoff, promoted_by)},
    {"since", TIME, offsetof(Handoff, since)},
    {"images", TEXTS, offsetof(Handoff, images)},
    {"left", FLAG, offsetof(Handoff, left)},
    {"claimed", FLAG, offsetof(Handoff, claimed)},
    {"run-state", INTEGER, offsetof(Handoff, run_state)},
    {"xml-path", TEXT, offsetof(Handoff, xml_path)},
};

static gboolean
is_hex(const char *text, gsize length)
{
    for (gsize i = 0; i < length; i++) {
        if (!g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i]))
            return FALSE;
    }
    return text[length] == '\0';
}

// Of the peer's certificate; not known is right too.
static gboolean
fingerprint_valid(const char *sha256)
{
    return !sha256 || (strlen(sha256) == SHA256_LENGTH && is_hex(sha256, SHA256_LENGTH));
}

// Lower case only: the UUID is a file's name here, and one guest must not have two.
gboolean
handoff_uuid_valid(const char *uuid)
{
    if (strlen(uuid) != HANDOFF_UUID_LENGTH || !g_uuid_string_is_valid(uuid))
        return FALSE;
    for (const char *p = uuid; *p; p++) {
        if (g_ascii_isupper(*p))
            return FALSE;
    }
    return TRUE;
}

// Splits UUID "-" EPOCH "-" RANDOM. *uuid is the caller's to free.
gboolean
handoff_token_parse(const char *token, char **uuid, guint64 *epoch, GError **error)
{
    g_auto(GStrv) parts =
        g_strsplit(strlen(token) > HANDOFF_UUID_LENGTH ? token + HANDOFF_UUID_LENGTH : "", "-", -1);
    g_autofree char *head = g_strndup(token, HANDOFF_UUID_LENGTH);
    // An epoch of 18 digits at most also fits JSON's signed integers.
    gboolean valid =
        handoff_uuid_valid(head) && g_strv_length(parts) == 3 && parts[0][0] == '\0' &&
        strlen(parts[1]) <= 18 && g_ascii_string_to_unsigned(parts[1], 10, 0, G_MAXINT64, epoch, NULL) &&
        strlen(parts[2]) == 2 * HANDOFF_TOKEN_RANDOM && is_hex(parts[2], 2 * HANDOFF_TOKEN_RANDOM);
    if (!valid)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed migration token");
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

// NULL if it is not UTF-8: a field must not be lost silently.
static json_t *
texts_encode(char **texts)
{
    g_autoptr(json_t) array = json_array();
    for (char **p = texts; *p; p++) {
        if (json_array_append_new(array, json_string(*p)) < 0)
            return NULL;
    }
    return g_steal_pointer(&array);
}

// Whether `object` holds the field that `at` points to, or there is nothing to hold.
static gboolean
field_encode(json_t *object, const char *member, FieldType type, const void *at)
{
    char *const *text = at;
    char **const *texts = at;
    switch (type) {
    case TEXT:
        return !*text || json_object_set_new(object, member, json_string(*text)) == 0;
    case TEXTS:
        return !*texts || json_object_set_new(object, member, texts_encode(*texts)) == 0;
    case FLAG:
        return json_object_set_new(object, member, json_boolean(*(const gboolean *) at)) == 0;
    case PORT:
        return json_object_set_new(object, member, json_integer(*(const guint16 *) at)) == 0;
    case INTEGER:
        return json_object_set_new(object, member, json_integer(*(const int *) at)) == 0;
    case TIME:
        return json_object_set_new(object, member, json_integer(*(const gint64 *) at)) == 0;
    }
    return FALSE;
}

// What decoding would refuse must not be written: the record would be damaged by its own owner.
static gboolean
is_right(const Handoff *handoff, GError **error)
{
    if (!fingerprint_valid(handoff->peer_sha256))
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "malformed SHA-256 of the peer's certificate");
    if (handoff->run_state < 0)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG, "invalid run state %d in a migration record",
                                handoff->run_state);
    return TRUE;
}

char *
handoff_payload_encode(const Handoff *handoff, HandoffState state, GError **error)
{
    if (!is_right(handoff, error))
        return NULL;
    g_autoptr(json_t) object =
        json_pack("{s:i, s:s, s:s, s:s, s:I, s:s}", "format", FORMAT, "role",
                  handoff_role_name(handoff->role), "state", handoff_state_name(state), "uuid", handoff->uuid,
                  "epoch", (json_int_t) handoff->epoch, "token", handoff->token);
    gboolean whole = object != NULL;
    for (guint i = 0; whole && i < G_N_ELEMENTS(fields); i++)
        whole =
            field_encode(object, fields[i].member, fields[i].type, (const char *) handoff + fields[i].offset);
    char *text = whole ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text)
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot encode the migration record of %s",
                         handoff->uuid);
    return text;
}

static gboolean
text_decode(const json_t *value, char **field)
{
    if (!json_is_string(value))
        return FALSE;
    g_free(*field);
    *field = g_strdup(json_string_value(value));
    return TRUE;
}

static gboolean
texts_decode(const json_t *array, char ***field)
{
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

static gboolean
flag_decode(const json_t *value, gboolean *field)
{
    *field = json_is_true(value);
    return json_is_boolean(value);
}

static gboolean
number_is_right(const json_t *value, gint64 maximum)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= maximum;
}

// FALSE for a value of the wrong type.
static gboolean
field_decode(const json_t *value, FieldType type, void *at)
{
    static const gint64 maximum[] = {[PORT] = G_MAXUINT16, [INTEGER] = G_MAXINT, [TIME] = G_MAXINT64};
    switch (type) {
    case TEXT:
        return text_decode(value, at);
    case TEXTS:
        return texts_decode(value, at);
    case FLAG:
        return flag_decode(value, at);
    case PORT:
        *(guint16 *) at = (guint16) json_integer_value(value);
        break;
    case INTEGER:
        *(int *) at = (int) json_integer_value(value);
        break;
    case TIME:
        *(gint64 *) at = json_integer_value(value);
        break;
    }
    return number_is_right(value, maximum[type]);
}

// The state of that name for the role, or HANDOFF_STATES.
static HandoffState
state_parse(const char *name, HandoffRole role)
{
    const guint first = role == HANDOFF_SOURCE ? HANDOFF_SOURCE_IDLE : HANDOFF_DESTINATION_NONE;
    const guint end = role == HANDOFF_SOURCE ? HANDOFF_DESTINATION_NONE : HANDOFF_STATES;
    for (guint i = first; i < end; i++) {
        if (g_strcmp0(name, handoff_state_name((HandoffState) i)) == 0)
            return (HandoffState) i;
    }
    return HANDOFF_STATES;
}

static const char *
text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

// The members that make it the record of this guest. NULL if right, else the wrong member.
static const char *
identity_decode(Handoff *handoff, const json_t *object)
{
    g_autofree char *token_uuid = NULL;
    const char *token = text_of(object, "token");
    const json_t *epoch = json_object_get(object, "epoch");
    if (json_integer_value(json_object_get(object, "format")) != FORMAT)
        return "format";
    if (g_strcmp0(text_of(object, "role"), handoff_role_name(handoff->role)) != 0)
        return "role";
    handoff->state = state_parse(text_of(object, "state"), handoff->role);
    if (handoff->state == HANDOFF_STATES)
        return "state";
    if (g_strcmp0(text_of(object, "uuid"), handoff->uuid) != 0)
        return "uuid";
    if (!token || !handoff_token_parse(token, &token_uuid, &handoff->epoch, NULL) ||
        strcmp(token_uuid, handoff->uuid) != 0)
        return "token";
    if (!json_is_integer(epoch) || (guint64) json_integer_value(epoch) != handoff->epoch)
        return "epoch";
    handoff->token = g_strdup(token);
    return NULL;
}

static const char *
fields_decode(Handoff *handoff, const json_t *object)
{
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
        const json_t *value = json_object_get(object, fields[i].member);
        if (value && !field_decode(value, fields[i].type, (char *) handoff + fields[i].offset))
            return fields[i].member;
    }
    return fingerprint_valid(handoff->peer_sha256) ? NULL : "peer-sha256";
}

gboolean
handoff_payload_decode(Handoff *handoff, const char *text, gsize length, const char *path, GError **error)
{
    json_error_t where;
    g_autoptr(json_t) object = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(object))
        return quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s is not a migration record: %s", path,
                                object ? "not an object" : where.text);
    const char *wrong = identity_decode(handoff, object);
    if (!wrong)
        wrong = fields_decode(handoff, object);
    if (wrong)
        return quasar_set_error(
            error, VIR_ERR_INTERNAL_ERROR,
            "%s is not a migration record of this domain: member '%s' is missing or wrong", path, wrong);
    return TRUE;
}
