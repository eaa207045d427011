// SPDX-License-Identifier: LGPL-2.1-or-later
// The firmware that an emulator gives a guest, by content: it is part of what the guest is.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "xml/domain.h"

// The files that a guest of this definition gets, as {NAME: {"size": BYTES, "sha256": HEX}}: each from the
// first of the directories that has it, as the emulator itself looks for it. One that is nowhere is not
// named, nor is the boot code of a NIC that the guest is not started from. cache_directory: image_sha256()'s.
// The caller owns the answer.
json_t *emulator_firmware_describe(const char *const *directories, const DomainDef *def,
                                   const char *cache_directory);

// Whether a guest that has `source` finds the same at the destination. Unlike sizes never go (the emulator
// there would not load the guest's memory), unlike contents only with `unsafe`: the guest would get the other
// ones at its next reset. VIR_ERR_OPERATION_UNSUPPORTED names the file. NULL or no object: nothing is known,
// so nothing is compared.
gboolean emulator_firmware_agrees(const json_t *source, const json_t *destination, gboolean unsafe,
                                  GError **error);
