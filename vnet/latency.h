// SPDX-License-Identifier: LGPL-2.1-or-later
// How soon this process runs when a frame wakes it on a host whose processors are busy.
#pragma once

// Asks the kernel for precedence, for good: a guest hears nothing while this process waits for its turn
// behind emulators and copies of memory, and it needs little of a processor. One whose guest or segment
// floods it takes that precedence too, as Open vSwitch's daemon does, which has the same; with a bound, since
// it is no real-time process. Needs CAP_SYS_NICE; without it nothing changes, which is logged.
void latency_ask(void);
