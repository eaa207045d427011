// SPDX-License-Identifier: LGPL-2.1-or-later
// The disks of a move: what the source has, what the destination must create, what the old side keeps.
#pragma once

#include "driver/domain.h"
#include "driver/migration/cookie.h"

// Whether a disk moves with its guest: it can be written.
gboolean disk_travels(const DomainDisk *disk);

// Source: describes every writable disk of the running guest into cookie->disks. Called without the domain's
// lock (reads images, may take as long as hashing the backing files the first time). `full`: with all that
// their backing files hold, also where the destination has those.
// VIR_ERR_CONFIG_UNSUPPORTED or VIR_ERR_MIGRATE_UNSAFE name the disk that cannot travel.
gboolean disks_describe(Domain *domain, gboolean full, Cookie *cookie, GError **error);

// Both: whether the cookie's disks are the definition's writable ones, each at its path. What the other host
// says is created, opened and renamed here, so it may name nothing else, and leave nothing out.
// VIR_ERR_OPERATION_FAILED names the disk.
gboolean disks_agree(const DomainDef *def, const Cookie *cookie, GError **error);

// The node of the disk's format layer in the running guest's emulator. NULL, with VIR_ERR_OPERATION_INVALID,
// when the guest has ended or has no such disk. Without the domain's lock; the caller frees it.
char *disks_format_node(Domain *domain, const char *target, GError **error);

// Destination: creates an image (O_EXCL) for each disk of the cookie at the path the source named, on the
// backing file that stands here if its bytes are the same, else without one (disk->full). `created` gets the
// paths made, also on failure; the caller removes them then. A file that exists is never touched:
// VIR_ERR_OPERATION_FAILED names it.
gboolean disks_create(Driver *driver, Cookie *cookie, GPtrArray *created, GError **error);

// Destination: read-only images (CD-ROMs) do not travel and must be here already.
gboolean disks_check_read_only(const DomainDef *def, GError **error);

// Destination: makes the definition's images agree with what was created (a full copy has no backing file).
void disks_adjust(DomainDef *def, const Cookie *cookie);

// What an image is called once its guest has left. Caller frees.
char *disks_superseded_path(const char *path);

// Source, after the guest has gone: renames each image that travelled to that name, replacing an older
// one of that name, so that nothing here opens it by mistake and the guest can come home to PATH. A path that
// is not there was renamed before.
void disks_supersede(char **paths);
