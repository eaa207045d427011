// SPDX-License-Identifier: LGPL-2.1-or-later
// What the destination says and hears on the control connection of a move.
#pragma once

#include "driver/migration/incoming.h"

// The conversation on the control connection, until it ends. Takes the channel. Blocks: a thread's own work.
void conversation_hold(Incoming *incoming, Channel *control);
