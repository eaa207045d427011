// SPDX-License-Identifier: LGPL-2.1-or-later
// Writing documents: indented elements with escaped attributes.
#include "xml/writer.h"

#include <stdarg.h>
#include <string.h>

static void
indent(Writer *writer)
{
    for (guint i = 0; i < writer->depth; i++)
        g_string_append(writer->text, "  ");
}

static void
close_tag(Writer *writer)
{
    if (writer->open)
        g_string_append(writer->text, ">\n");
    writer->open = FALSE;
}

// Of what is valid UTF-8: the characters that XML leaves out, U+FFFE and U+FFFF among them.
static gsize
length_of_forbidden(const char *text)
{
    if ((guchar) *text < 0x20)
        return 1;
    return g_str_has_prefix(text, "\xef\xbf\xbe") || g_str_has_prefix(text, "\xef\xbf\xbf") ? 3 : 0;
}

// Attributes stand in single quotes; line breaks and tabs must survive attribute normalisation.
// What XML cannot carry (bad UTF-8, control characters) is replaced, so that a document can always be read
// back.
static void
append_escaped(GString *out, const char *raw, gboolean attribute)
{
    g_autofree char *valid = g_utf8_make_valid(raw, -1);
    for (const char *text = valid; *text; text++) {
        gsize forbidden;
        switch (*text) {
        case '&':
            g_string_append(out, "&amp;");
            break;
        case '<':
            g_string_append(out, "&lt;");
            break;
        case '>':
            g_string_append(out, "&gt;");
            break;
        case '\r':
            g_string_append(out, "&#13;");
            break;
        case '\'':
            g_string_append(out, attribute ? "&apos;" : "'");
            break;
        case '\n':
            g_string_append(out, attribute ? "&#10;" : "\n");
            break;
        case '\t':
            g_string_append(out, attribute ? "&#9;" : "\t");
            break;
        default:
            forbidden = length_of_forbidden(text);
            g_string_append_c(out, forbidden ? '?' : *text);
            text += forbidden ? forbidden - 1 : 0;
        }
    }
}

void
writer_init(Writer *writer)
{
    writer->text = g_string_new(NULL);
    writer->names = g_ptr_array_new();
    writer->depth = 0;
    writer->open = FALSE;
}

char *
writer_finish(Writer *writer)
{
    g_ptr_array_unref(writer->names);
    char *text = g_string_free(writer->text, FALSE);
    memset(writer, 0, sizeof *writer);
    return text;
}

void
writer_begin(Writer *writer, const char *name)
{
    close_tag(writer);
    indent(writer);
    g_string_append_printf(writer->text, "<%s", name);
    g_ptr_array_add(writer->names, (gpointer) name);
    writer->depth++;
    writer->open = TRUE;
}

void
writer_end(Writer *writer)
{
    const char *name = g_ptr_array_steal_index(writer->names, writer->names->len - 1);
    writer->depth--;
    if (writer->open) {
        g_string_append(writer->text, "/>\n");
    } else {
        indent(writer);
        g_string_append_printf(writer->text, "</%s>\n", name);
    }
    writer->open = FALSE;
}

void
writer_attribute(Writer *writer, const char *name, const char *value)
{
    if (value == NULL)
        return;
    g_string_append_printf(writer->text, " %s='", name);
    append_escaped(writer->text, value, TRUE);
    g_string_append_c(writer->text, '\'');
}

void
writer_attributef(Writer *writer, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *value = g_strdup_vprintf(format, ap);
    va_end(ap);
    writer_attribute(writer, name, value);
}

void
writer_content(Writer *writer, const char *text)
{
    const char *name = g_ptr_array_steal_index(writer->names, writer->names->len - 1);
    writer->depth--;
    writer->open = FALSE;
    g_string_append_c(writer->text, '>');
    append_escaped(writer->text, text, FALSE);
    g_string_append_printf(writer->text, "</%s>\n", name);
}

void
writer_text(Writer *writer, const char *name, const char *text)
{
    if (text == NULL)
        return;
    writer_begin(writer, name);
    writer_content(writer, text);
}

void
writer_textf(Writer *writer, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    writer_text(writer, name, text);
}

void
writer_empty(Writer *writer, const char *name)
{
    writer_begin(writer, name);
    writer_end(writer);
}

void
writer_verbatim(Writer *writer, const char *xml)
{
    close_tag(writer);
    indent(writer);
    g_string_append(writer->text, xml);
    if (!g_str_has_suffix(xml, "\n"))
        g_string_append_c(writer->text, '\n');
}
