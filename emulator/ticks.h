// SPDX-License-Identifier: LGPL-2.1-or-later
// The rate of this host's time stamp counter.
#pragma once

#include <glib.h>

// In Hz, measured once in a process (20 ms or a few times that, then at once). 0: this processor has none
// that always ticks at one rate, or it could not be measured well.
guint64 emulator_ticks_hz(void);
