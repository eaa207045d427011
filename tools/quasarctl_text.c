// SPDX-License-Identifier: LGPL-2.1-or-later
// quasarctl's output: members of answers as text, and tables of them.
#include <string.h>

#include "base/frame.h"
#include "tools/quasarctl.h"

// Takes the text.
static char *
printable(char *text)
{
    g_autofree char *own = text;
    GString *clean = g_string_new(NULL);
    for (const char *p = own; *p; p = g_utf8_next_char(p)) {
        const gunichar c = g_utf8_get_char_validated(p, -1);
        if (c == (gunichar) -1 || c == (gunichar) -2)
            break; // JSON's texts are UTF-8
        g_string_append_unichar(clean, g_unichar_isprint(c) ? c : '?');
    }
    return g_string_free(clean, FALSE);
}

static char *
value_text(const json_t *value)
{
    if (json_is_string(value) && *json_string_value(value))
        return printable(g_strdup(json_string_value(value)));
    if (json_is_integer(value))
        return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return json_is_boolean(value) ? g_strdup(json_is_true(value) ? "yes" : "no") : g_strdup("-");
}

char *
ctl_text(const json_t *object, const char *member)
{
    return value_text(json_object_get(object, member));
}

char *
ctl_text_at(const json_t *object, const char *path)
{
    g_auto(GStrv) steps = g_strsplit(path, ".", -1);
    for (char **step = steps; *step; step++)
        object = json_object_get(object, *step);
    return value_text(object);
}

void
ctl_print_json(const json_t *value)
{
    g_autofree char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    g_print("%s\n", text ? text : "null");
}

struct CtlTable {
    guint columns;
    GPtrArray *rows; // GStrv
};

CtlTable *
ctl_table_new(const char *const *head)
{
    CtlTable *table = g_new0(CtlTable, 1);
    table->rows = g_ptr_array_new_with_free_func((GDestroyNotify) g_strfreev);
    table->columns = g_strv_length((char **) head);
    g_ptr_array_add(table->rows, g_strdupv((char **) head));
    return table;
}

void
ctl_table_add(CtlTable *table, char **row)
{
    g_assert(g_strv_length(row) == table->columns);
    g_ptr_array_add(table->rows, row);
}

static glong
column_width(const CtlTable *table, guint column)
{
    glong width = 0;
    for (guint i = 0; i < table->rows->len; i++)
        width = MAX(width, g_utf8_strlen(((char **) g_ptr_array_index(table->rows, i))[column], -1));
    return width;
}

void
ctl_table_print(const CtlTable *table)
{
    for (guint i = 0; i < table->rows->len; i++) {
        char **row = g_ptr_array_index(table->rows, i);
        g_autoptr(GString) line = g_string_new(NULL);
        for (guint column = 0; column < table->columns; column++) {
            const glong fill = column_width(table, column) - g_utf8_strlen(row[column], -1);
            g_string_append_printf(line, "%s%*s", row[column], (int) fill + 2, "");
        }
        g_print("%s\n", g_strchomp(line->str));
    }
}

void
ctl_table_free(CtlTable *table)
{
    g_ptr_array_unref(table->rows);
    g_free(table);
}
