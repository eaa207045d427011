// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulator a domain gets whose definition names none.
#pragma once

#include <glib.h>

// Of this architecture (<arch>; NULL: x86_64). The one that the environment names in QUASAR_EMULATOR (./run
// and tests; QUASAR_EMULATOR_I386 for i686, QUASAR_EMULATOR_PPC64 for ppc64 and ppc64le), else the bundled
// one when it is installed, else the distribution's: the one that configure was told, or the one beside it.
// Valid for the life of the process. VIR_ERR_CONFIG_UNSUPPORTED when there is none for it, but for x86_64,
// whose path tells what is missing.
const char *emulator_default(const char *arch, GError **error);
