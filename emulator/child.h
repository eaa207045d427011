// SPDX-License-Identifier: LGPL-2.1-or-later
// Short-lived helper programs: run as the emulator's user, bounded in time, memory and output.
#pragma once

#include <glib.h>

#include "emulator/launch.h"

typedef struct Child Child;

// Starts argv[0] (an absolute path, or a name looked up in PATH) as `user` with no new privileges and a plain
// environment; it dies with the calling thread. `fd` >= 0 becomes its descriptor 3 and stays the caller's.
// memory_max: bound of its address space in bytes, 0: none. VIR_ERR_SYSTEM_ERROR.
Child *child_start(const char *const *argv, const EmulatorUser *user, int fd, guint64 memory_max,
                   GError **error);

// Collects what it writes to its standard output until it ends; TRUE when its status is 0. Blocks.
// VIR_ERR_OPERATION_TIMEOUT when timeout_ms is over, VIR_ERR_INTERNAL_ERROR with the end of its standard
// error output when it failed or wrote too much. `output` (caller frees; may be NULL) is set on success only.
gboolean child_finish(Child *child, int timeout_ms, char **output, GError **error);

// Kills it if it is still there; the end of what it wrote to standard error, on one line. Caller frees.
char *child_kill(Child *child);

// Kills it if it is still there.
void child_free(Child *child);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Child, child_free)
