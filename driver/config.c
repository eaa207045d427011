// SPDX-License-Identifier: LGPL-2.1-or-later
// The two configuration files, virtquasard.conf and quasar.conf, in libvirt's syntax.
#include "driver/config.h"

#include <string.h>

#include "base/error.h"

typedef struct {
    char *where; // "file:line", for complaints about the value later
    gboolean is_number;
    gint64 number;
    char *string; // NULL: number or list
    char **list;
} ConfigValue;

struct Config {
    GHashTable *values;
};

typedef struct {
    const char *name;
    const char *at;
    guint line;
} ConfigReader;

static void
config_value_free(gpointer data)
{
    ConfigValue *value = data;

    if (!value)
        return;
    g_free(value->where);
    g_free(value->string);
    g_strfreev(value->list);
    g_free(value);
}

static gboolean
config_syntax(const ConfigReader *reader, const char *what, GError **error)
{
    quasar_set_error(error, VIR_ERR_CONF_SYNTAX, "%s:%u: %s", reader->name, reader->line, what);
    return FALSE;
}

// Skips blanks and, with `lines`, comments and ends of lines too.
static void
config_skip(ConfigReader *reader, gboolean lines)
{
    for (;; reader->at++) {
        if (lines && *reader->at == '#')
            reader->at += strcspn(reader->at, "\n");
        if (*reader->at == '\n' && lines)
            reader->line++;
        else if (*reader->at != ' ' && *reader->at != '\t' && *reader->at != '\r')
            return;
    }
}

static char *
config_read_string(ConfigReader *reader, GError **error)
{
    const char quote = *reader->at;
    g_autoptr(GString) text = g_string_new(NULL);

    for (reader->at++; *reader->at != quote; reader->at++) {
        if (*reader->at == '\0' || *reader->at == '\n') {
            config_syntax(reader, "string without closing quote", error);
            return NULL;
        }
        if (*reader->at == '\\' && quote == '"' && (reader->at[1] == '"' || reader->at[1] == '\\'))
            reader->at++;
        g_string_append_c(text, *reader->at);
    }
    reader->at++;
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static gboolean
config_read_list(ConfigReader *reader, ConfigValue *value, GError **error)
{
    g_autoptr(GPtrArray) items = g_ptr_array_new_with_free_func(g_free);

    reader->at++;
    for (config_skip(reader, TRUE); *reader->at != ']'; config_skip(reader, TRUE)) {
        if (*reader->at != '"' && *reader->at != '\'')
            return config_syntax(reader, "a list holds quoted strings", error);
        char *item = config_read_string(reader, error);
        if (!item)
            return FALSE;
        g_ptr_array_add(items, item);
        config_skip(reader, TRUE);
        if (*reader->at == ',')
            reader->at++;
        else if (*reader->at != ']')
            return config_syntax(reader, "',' or ']' expected in a list", error);
    }
    reader->at++;
    g_ptr_array_add(items, NULL);
    value->list = (char **) g_ptr_array_free(g_steal_pointer(&items), FALSE);
    return TRUE;
}

static gboolean
config_read_value(ConfigReader *reader, ConfigValue *value, GError **error)
{
    if (*reader->at == '"' || *reader->at == '\'')
        return (value->string = config_read_string(reader, error)) != NULL;
    if (*reader->at == '[')
        return config_read_list(reader, value, error);

    char *end = NULL;
    value->is_number = TRUE;
    value->number = g_ascii_strtoll(reader->at, &end, 10);
    if (end == reader->at)
        return config_syntax(reader, "a value is a \"string\", a number or a [list]", error);
    reader->at = end;
    return TRUE;
}

static gboolean
config_read_entry(ConfigReader *reader, GHashTable *values, GError **error)
{
    const gsize length =
        strspn(reader->at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
    g_autofree char *key = g_strndup(reader->at, length);
    ConfigValue *value = g_new0(ConfigValue, 1);

    if (length == 0) {
        config_value_free(value);
        return config_syntax(reader, "a key was expected here", error);
    }
    value->where = g_strdup_printf("%s:%u", reader->name, reader->line);
    g_hash_table_insert(values, g_strdup(key), value);

    reader->at += length;
    config_skip(reader, FALSE);
    if (*reader->at != '=')
        return config_syntax(reader, "'=' expected after the key", error);
    reader->at++;
    config_skip(reader, FALSE);
    if (!config_read_value(reader, value, error))
        return FALSE;
    config_skip(reader, FALSE);
    if (*reader->at != '\0' && *reader->at != '\n' && *reader->at != '#')
        return config_syntax(reader, "nothing more may follow the value", error);
    return TRUE;
}

Config *
config_new(void)
{
    Config *config = g_new0(Config, 1);

    config->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, config_value_free);
    return config;
}

void
config_free(Config *config)
{
    if (!config)
        return;
    g_hash_table_unref(config->values);
    g_free(config);
}

gboolean
config_parse(Config *config, const char *name, const char *text, GError **error)
{
    g_autoptr(GHashTable) values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, config_value_free);
    ConfigReader reader = {.name = name, .at = text, .line = 1};
    GHashTableIter iter;
    gpointer key, value;

    for (config_skip(&reader, TRUE); *reader.at; config_skip(&reader, TRUE)) {
        if (!config_read_entry(&reader, values, error))
            return FALSE;
    }
    g_hash_table_iter_init(&iter, values);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_hash_table_iter_steal(&iter);
        g_hash_table_replace(config->values, key, value);
    }
    return TRUE;
}

gboolean
config_load(Config *config, const char *path, gboolean optional, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) failure = NULL;

    if (!g_file_get_contents(path, &text, NULL, &failure)) {
        if (optional && g_error_matches(failure, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            return TRUE;
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "cannot read configuration: %s", failure->message);
        return FALSE;
    }
    return config_parse(config, path, text, error);
}

static gboolean
config_wrong_type(const ConfigValue *value, const char *key, const char *wanted, GError **error)
{
    quasar_set_error(error, VIR_ERR_CONF_SYNTAX, "%s: '%s' must be %s", value->where, key, wanted);
    return FALSE;
}

gboolean
config_string(const Config *config, const char *key, const char **value, GError **error)
{
    const ConfigValue *found = g_hash_table_lookup(config->values, key);

    if (!found)
        return TRUE;
    if (!found->string)
        return config_wrong_type(found, key, "a \"string\"", error);
    *value = found->string;
    return TRUE;
}

gboolean
config_number(const Config *config, const char *key, gint64 *value, GError **error)
{
    const ConfigValue *found = g_hash_table_lookup(config->values, key);

    if (!found)
        return TRUE;
    if (!found->is_number)
        return config_wrong_type(found, key, "a number", error);
    *value = found->number;
    return TRUE;
}

gboolean
config_list(const Config *config, const char *key, const char *const **value, GError **error)
{
    ConfigValue *found = g_hash_table_lookup(config->values, key);

    if (!found)
        return TRUE;
    if (!found->list)
        return config_wrong_type(found, key, "a [list] of strings", error);
    *value = (const char *const *) found->list;
    return TRUE;
}
