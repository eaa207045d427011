// SPDX-License-Identifier: LGPL-2.1-or-later
// Gives up what vnet no longer needs: user, capabilities, system calls.
#pragma once

#include <glib.h>

// Becomes `user` (NULL: stays), without any capability and without a way back (no_new_privs).
gboolean confine_privileges(const char *user, GError **error);

// From now on a system call outside the list kills the process.
gboolean confine_syscalls(GError **error);
