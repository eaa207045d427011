// SPDX-License-Identifier: LGPL-2.1-or-later
// Opens a guest's console or serial port: the slave side of QEMU's pty.
#pragma once

#include "driver/domain.h"

// Called when another session takes the console by force: the holder ends its stream. On the thread of the
// taker, without the domain's lock.
typedef void (*ConsoleLost)(gpointer data);

// `alias` as in the XML ("serial0", "console0"), NULL: the first console, else the first serial port.
// flags: VIR_DOMAIN_CONSOLE_FORCE, _SAFE. A console in use is VIR_ERR_OPERATION_FAILED "Active console
// session exists for this domain". Returns a non-blocking fd in raw mode and *token for console_close(), or
// -1. `data` is the place's from then on, also on error, and is released with `destroy` when it is given up,
// taken, or the guest ends; perhaps with the domain's lock held. Without the lock.
int console_open(Domain *domain, const char *alias, unsigned int flags, ConsoleLost lost, gpointer data,
                 GDestroyNotify destroy, guint64 *token, GError **error);

// Frees the place, if it has not been taken; the fd is the caller's to close, before this call.
void console_close(Domain *domain, guint64 token);
