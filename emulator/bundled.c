// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulator a domain gets whose definition names none.
#include <config.h>

#include "emulator/bundled.h"

#include <glib.h>

#define BUNDLED LIBEXECDIR "/emulator/bin/qemu-system-x86_64"

const char *
emulator_default(void)
{
    const char *named = g_getenv("QUASAR_EMULATOR");
    if (named && *named)
        return named;
    return g_file_test(BUNDLED, G_FILE_TEST_IS_EXECUTABLE) ? BUNDLED : QUASAR_EMULATOR;
}
