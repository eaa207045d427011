// SPDX-License-Identifier: LGPL-2.1-or-later
// Trying what the emulator's user may open.
#include "emulator/access.h"

#include "base/error.h"
#include "emulator/child.h"

#define OPEN_MS 5000

gboolean
emulator_can_open(const char *path, const EmulatorUser *user, GError **error)
{
    // A mode that allows it is not enough: a device node without its driver fails only when it is opened.
    const char *argv[] = {"/bin/sh", "-c", "exec <>\"$0\"", path, NULL};
    g_autoptr(GError) problem = NULL;
    g_autoptr(Child) child = child_start(argv, user, -1, 0, &problem);
    if (child && child_finish(child, OPEN_MS, NULL, &problem))
        return TRUE;
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "the emulator's user (%u:%u) cannot open %s: %s",
                     (guint) user->uid, (guint) user->gid, path, problem->message);
    return FALSE;
}
