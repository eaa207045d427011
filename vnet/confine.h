// SPDX-License-Identifier: LGPL-2.1-or-later
// Gives up what vnet no longer needs: user, capabilities, system calls.
#pragma once

#include <glib.h>

// Becomes `user` (NULL: stays), without a way back (no_new_privs) and without any capability; but with
// CAP_SYS_NICE when `scheduled` (and there), whose only use afterwards is what confine_syscalls() lets
// through: to make this very process an ordinary one or one with a real-time priority.
gboolean confine_privileges(const char *user, gboolean scheduled, GError **error);

// From now on a system call outside the list kills the process.
gboolean confine_syscalls(GError **error);
