// SPDX-License-Identifier: LGPL-2.1-or-later
// Image files in use: lent to the emulator's user, given back to their owner after the last guest.
#pragma once

#include <glib.h>

#include "xml/domain.h"

typedef struct Domain Domain;
typedef struct Driver Driver;

// Who owned what before it was lent, and which guests use it: a file in the state directory, because a chown
// survives what a run-time directory does not. Self-locking.
typedef struct ImageLedger ImageLedger;

// Reads `directory`/image-owners.json. A file that cannot be understood is put aside and said; what it held
// stays the emulator's user's.
ImageLedger *image_ledger_new(const char *directory);
void image_ledger_free(ImageLedger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImageLedger, image_ledger_free)

// Gives every file that the definition's guest opens to the emulator's user, where it could not open it
// otherwise. VIR_ERR_SYSTEM_ERROR names the file; what was lent until then is given back by
// images_give_back(). Without the domain's lock; blocks.
gboolean images_lend(Domain *domain, const DomainDef *def, GError **error);

// Ends this guest's use of all that it was lent. A file whose owner was changed meanwhile is left alone.
void images_give_back(Domain *domain);

// So that an image can be looked at which only its owner may read: lends it, if it must be, until
// images_end_probe() is told of *loan (caller frees). A crash in between is mended as for guests.
gboolean images_lend_for_probe(Driver *driver, const char *path, char **loan, GError **error);
void images_end_probe(Driver *driver, char *loan);

// After a restart, when the running guests are known: ends the use of those that are not among them.
void images_give_back_unused(Driver *driver);

// Who has the file open: "domain 'web'" or "process qemu-nbd (pid 7)"; NULL: nobody that can be seen. Looks
// at all processes of the host. Caller frees. Without any domain's lock.
char *images_find_holder(const Domain *except, const char *path);
