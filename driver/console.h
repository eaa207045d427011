// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens a guest's console or serial port: the slave side of QEMU's pty.
#pragma once

#include "driver/domain.h"

// Called when another session takes the console by force: the holder closes its stream. On the thread of the
// taker.
typedef void (*ConsoleLost)(gpointer data);

// `alias` as in the XML ("serial0", "console0"), NULL: the first console, else the first serial port.
// flags: VIR_DOMAIN_CONSOLE_FORCE, _SAFE. A console in use is VIR_ERR_OPERATION_FAILED "Active console
// session exists for this domain". Returns a non-blocking fd in raw mode, -1 on error; *token is given to
// console_close() afterwards. Without the lock.
int console_open(Domain *domain, const char *alias, unsigned int flags, ConsoleLost lost, gpointer data,
                 guint64 *token, GError **error);

// Frees the place; the fd is the caller's to close, before this call.
void console_close(Domain *domain, guint64 token);
