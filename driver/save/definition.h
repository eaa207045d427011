// SPDX-License-Identifier: LGPL-2.1-or-later
// The XML of a saved guest, and what a user may change in it.
#pragma once

#include "driver/driver.h"
#include "xml/domain.h"

// The guest of `xml` as it may be restored here: `own` is what the guest is, `xml` (NULL: nothing is changed)
// a user's. Only what the guest does not see may differ: where images, networks and the emulator are, titles
// and other texts, what is to happen at the guest's end. VIR_ERR_CONFIG_UNSUPPORTED otherwise. Blocks.
DomainDef *save_definition(Driver *driver, const char *own, const char *xml, GError **error);

// As a saved guest's XML is kept; caller frees.
char *save_definition_format(const DomainDef *def);
