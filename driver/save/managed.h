// SPDX-License-Identifier: LGPL-2.1-or-later
// Managed saves: one file a domain, at a place of ours, from which its next start restores it.
#pragma once

#include "driver/domain.h"

// Caller frees.
char *managed_save_path(const Domain *domain);

// Makes the directory; the path, or NULL. Caller frees.
char *managed_save_prepare(const Domain *domain, GError **error);

// Without the domain's lock, with its job: removes the file. No error if there is none.
gboolean managed_save_remove(Domain *domain, GError **error);

// virDomainManagedSaveRemove(): as above, with a job of its own, and the links that the guest had (it will be
// started anew, if at all) are ended too.
gboolean managed_save_drop(Domain *domain, guint flags, GError **error);

// The XML of the saved guest, as restore_describe() and restore_redefine() have it (`xml` NULL: only whether
// it is to run is changed). VIR_ERR_OPERATION_INVALID: there is no managed save. Block.
char *managed_save_describe(Domain *domain, GError **error);
gboolean managed_save_redefine(Domain *domain, const char *xml, guint flags, GError **error);

// At start-up: which domains have one.
void managed_save_scan(Driver *driver);
