// SPDX-License-Identifier: LGPL-2.1-or-later
// Where g_debug(), g_info(), g_message(), g_warning() and g_critical() go.
#pragma once

#include <glib.h>

// Sends GLib's log to `file` (NULL: standard error), one line an entry, with a UTC time stamp of microseconds
// and the level; control characters become spaces; entries below `level` are dropped. Call once, before any
// thread is started. Secrets never go into a log entry.
void log_init(GLogLevelFlags level, const char *file);
