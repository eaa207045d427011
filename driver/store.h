// SPDX-License-Identifier: LGPL-2.1-or-later
// What domains leave on disk: definitions, autostart links, and the status of running ones.
#pragma once

#include "driver/domain.h"

// With the domain locked, all of them. Replaces are atomic and synced. What goes to the disk of /etc drops
// the lock meanwhile, so everything else about the domain may have changed after; of two writers of a
// definition, the one who called last wins, in memory and on disk.

// Makes `def` (taken) the persistent definition. On failure the former one stands, or there is none.
gboolean store_define(Domain *domain, DomainDef *def, GError **error);
// Writes what is the persistent definition already.
gboolean store_save_definition(Domain *domain, const DomainDef *def, GError **error);
// Ends the persistent definition, and its autostart link. On failure it stands.
gboolean store_undefine(Domain *domain, GError **error);
// The caller holds a job.
gboolean store_set_autostart(Domain *domain, gboolean autostart, GError **error);

// The status of a running domain: its XML with everything needed to find its processes again after a restart.
// It is about this boot and lies on the tmpfs of /run, where nothing has to be waited for: the lock is kept.
gboolean store_save_status(Domain *domain, GError **error);
// The same by a worker, as soon as the lock is free; failures are logged. For moments that must not wait.
void store_save_status_soon(Domain *domain);
void store_remove_status(Domain *domain);

// At start-up, before anything is served: reads all definitions, then finds the running guests again and
// cleans up after those that ended while no daemon watched. A file that cannot be read is logged and left
// alone.
void store_load(Driver *driver);
// Afterwards, when the records of migrations have been read: ends the jobs that running guests had when the
// last daemon ended, but for those of a migration that is still open.
void store_settle_jobs(Driver *driver);
// One status file: creates or finds the domain and fills its run-time fields. NULL on error. Returns a
// reference.
Domain *store_read_status(Driver *driver, const char *path, GError **error);
