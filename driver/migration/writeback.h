// SPDX-License-Identifier: LGPL-2.1-or-later
// What a guest has written to its disks goes from a host's page cache to the images while the guest still
// runs.
//
// QEMU flushes each disk when it stops a guest; and at the destination, where the mirror has written all of
// it, when the mirror is ready, when it ends and when the guest has been loaded. A guest may go without a
// flush for long, and nobody hears it until all that has been written then. So while its memory is copied,
// either host flushes its images over and over, and little is left for the pause: what a host cannot write in
// that time.
#pragma once

#include "driver/domain.h"

typedef struct Writeback Writeback;

// Begins with the images that travel, but for those of cache='unsafe', which QEMU does not flush either. An
// image that cannot be opened or written is left to QEMU. Called without the domain's lock. NULL: there is
// nothing to do.
Writeback *writeback_begin(Domain *domain);

// No flush begins from now on. Does not wait for what is under way: mostly one piece (writeback.c) of an
// image, which may have another name by then, or none. NULL: nothing.
void writeback_end(Writeback *writeback);
