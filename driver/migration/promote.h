// SPDX-License-Identifier: LGPL-2.1-or-later
// Open moves as administrators see them, and their word in place of a peer's that is dead.
#pragma once

#include <jansson.h>

#include "driver/migration/handoff.h"
#include "driver/driver.h"

// Theory of operation (tests/model has it as FENCE): a destination that holds the whole guest waits for
// COMMIT, and a source that has died for ever will never say it. An administrator who knows that it is dead,
// and has made sure that it stays so (fenced it), may say so: the destination goes on as if COMMIT had come,
// and its record bears who said so until the source, should it come back, has heard of it. That one asks
// before it starts anything of the guest (resolve.c), is answered "running", and gives it up: the copy that
// was promoted is the guest. A word that is not true (the source lives, and has the guest) makes two of it,
// so it is not taken while there is any sign of the peer. Nothing else is promoted: a source that has
// released the guest cannot know whether it has run at the destination.

// All records of open moves: {"migrations": [{"domain", "uuid", "role", "state", "peer", "epoch", "since"
// (wall clock, s; null), "promoted-by" (null)}], "damaged": [texts]}. The caller owns it.
json_t *promote_list(Driver *driver, GError **error);

// Settles what is open of the guest with this name or UUID: by asking the peer once more, or, with
// `peer_is_dead`, on the word of `who`. Returns what was done, as a sentence; the caller frees.
// VIR_ERR_NO_DOMAIN: nothing is open of it. VIR_ERR_OPERATION_INVALID: why it cannot be settled so. Blocks.
char *promote_resolve(Driver *driver, const char *name, gboolean peer_is_dead, const char *who,
                      GError **error);
