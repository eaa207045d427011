// SPDX-License-Identifier: LGPL-2.1-or-later
// What the protocol's procedures are called in libvirt's API, also those that we do not serve.
#pragma once

#include <glib.h>

// NULL: no function of libvirt 9.0 (remote_protocol.x, qemu_protocol.x) has this number. Static; any thread.
const char *procedure_name_remote(guint number);
const char *procedure_name_qemu(guint number);
