// SPDX-License-Identifier: LGPL-2.1-or-later
// Which emulator a domain gets whose definition names none.
#pragma once

// The one that the environment names in QUASAR_EMULATOR (./run and tests), else the bundled one when it is
// installed, else the one that configure was told. Valid for the life of the process.
const char *emulator_default(void);
