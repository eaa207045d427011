// SPDX-License-Identifier: LGPL-2.1-or-later
// Disk images as the emulator's block nodes.
#pragma once

#include <glib.h>

#include "xml/domain.h"

// Node names of the disk with this index in def->disks ("libvirt-1-format"); the second is the file node.
// Caller frees.
char *emulator_format_node(const DomainDef *def, guint disk);
char *emulator_file_node(const DomainDef *def, guint disk);

// The -blockdev JSON objects that make up an image and its chain, outermost first is last (dependencies come
// first), as GPtrArray of char *; used by the command line. Empty for a drive without medium. Caller unrefs.
// VIR_ERR_CONFIG_UNSUPPORTED when a format is not known or cannot have what the definition says.
GPtrArray *emulator_blockdevs(const DomainDef *def, guint disk, GError **error);
