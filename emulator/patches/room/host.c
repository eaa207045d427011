/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Says what host this binary runs on: the name of a type, quasar-host-ARCH-ORDER-PAGESIZE.
 *
 * Only the process itself knows: run by an emulator of another architecture, it is not on its manager's host.
 */
#include "qemu/osdep.h"
#include <sys/utsname.h>
#include "qom/object.h"

static void register_host(void)
{
    struct utsname names;
    g_autofree char *name = NULL;

    uname(&names);
    name = g_strdup_printf("quasar-host-%s-%s-%zu", names.machine, HOST_BIG_ENDIAN ? "big" : "little",
                           (size_t)qemu_real_host_page_size());
    type_register(&(TypeInfo) {.name = name, .parent = "quasar-trait", .abstract = true});
}

type_init(register_host)
