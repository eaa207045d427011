// SPDX-License-Identifier: LGPL-2.1-or-later
// What an emulator says on its monitor: the first byte is the size of the pieces in which the rest arrives.
#include <stdint.h>

#include "emulator/qmp.h"

#define LINE_MAX_BYTES 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
    GString *texts; // every message, as it was understood
} Heard;

static void
hear(json_t *message, gpointer opaque)
{
    Heard *heard = opaque;
    g_assert_true(json_is_object(message));
    char *text = json_dumps(message, JSON_COMPACT | JSON_SORT_KEYS);
    g_string_append(heard->texts, text ? text : "?");
    g_string_append_c(heard->texts, '\n');
    free(text);
}

static gboolean
feed(const char *bytes, gsize length, gsize piece, GString *texts)
{
    g_autoptr(QmpParser) parser = qmp_parser_new(LINE_MAX_BYTES);
    Heard heard = {texts};
    for (gsize at = 0; at < length; at += piece) {
        g_autoptr(GError) error = NULL;
        gboolean ok = qmp_parser_feed(parser, bytes + at, MIN(piece, length - at), hear, &heard, &error);
        g_assert_true(ok == !error);
        if (!ok)
            return FALSE;
    }
    return TRUE;
}

// How the bytes were cut into pieces must not show.
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    g_autoptr(GString) whole = g_string_new(NULL);
    g_autoptr(GString) pieces = g_string_new(NULL);
    const char *bytes = (const char *) data + 1;
    gboolean ok = feed(bytes, size - 1, size, whole);
    g_assert_true(ok == feed(bytes, size - 1, data[0] % 64 + 1, pieces));
    g_assert_true(g_string_equal(whole, pieces));
    return 0;
}
