// SPDX-License-Identifier: LGPL-2.1-or-later
// Crash points: places where a test makes this process die, wait or fail on purpose.
#pragma once

#include <glib.h>

// QUASAR_FAULT=STAGE:ACTION, or QUASAR_FAULT=@FILE: the file is read anew at each point and holds one
// STAGE:ACTION a line. Actions:
//   kill  this process is killed (SIGKILL), as by power failure
//   hold  FILE.held (or /run/quasar-fault.held) is created holding the stage's name, and this thread waits
//   until
//         that file is gone, 60 s at most
//   fail  the point reports failure
// A daemon started without QUASAR_FAULT pays one getenv() a point.
//
// Returns false, with an error naming the stage, for action fail; true otherwise.
gboolean fault_point(const char *stage, GError **error);
