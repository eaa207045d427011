// SPDX-License-Identifier: LGPL-2.1-or-later
// Writing documents: indented elements with escaped attributes.
#pragma once

#include <glib.h>

typedef struct Writer Writer;
struct Writer {
    GString *text;
    guint depth;
    gboolean open; // the last element's tag is not closed yet
    GPtrArray *names;
};

void writer_init(Writer *writer);
// The text; the writer is cleared. Caller frees.
char *writer_finish(Writer *writer);

// `<name` (borrowed until its end); attributes may follow, then children or writer_end, which writes `/>`
// when there was no child.
void writer_begin(Writer *writer, const char *name);
void writer_end(Writer *writer);

// NULL values write nothing.
void writer_attribute(Writer *writer, const char *name, const char *value);
void writer_attributef(Writer *writer, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
// An element with text content, or nothing when the text is NULL.
void writer_text(Writer *writer, const char *name, const char *text);
void writer_textf(Writer *writer, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
// Content of the element begun last, and its end.
void writer_content(Writer *writer, const char *text);
// An element without anything.
void writer_empty(Writer *writer, const char *name);
// Lines as they are, at the present depth.
void writer_verbatim(Writer *writer, const char *xml);
