// SPDX-License-Identifier: LGPL-2.1-or-later
// How soon this process runs when a frame wakes it on a host whose processors are busy.
#pragma once

// Asks the kernel for precedence, as Open vSwitch's daemon has it. It needs little of a processor, but a
// guest hears nothing while it waits for its turn behind emulators and copies of memory. Needs CAP_SYS_NICE;
// without it nothing changes.
void latency_ask(void);
