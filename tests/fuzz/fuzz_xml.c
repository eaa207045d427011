// SPDX-License-Identifier: LGPL-2.1-or-later
// A domain's document: parsed, completed, written and read again.
#include <stdint.h>
#include <string.h>

#include "xml/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fixed_bytes(guint8 *bytes, gsize size, gpointer opaque)
{
    guint8 *next = opaque;
    for (gsize i = 0; i < size; i++)
        bytes[i] = (*next)++;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const archs[] = {"x86_64", "ppc64le", NULL};
    guint8 next = 1;
    const DomainDefaults defaults = {
        .arch = "x86_64",
        .archs = archs,
        .emulator = "/usr/bin/qemu-system-x86_64",
        .random_bytes = fixed_bytes,
        .opaque = &next,
    };
    g_autofree char *xml = g_strndup((const char *) data, size);
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def = domain_def_parse(xml, &error);
    g_assert_true(def ? !error : error != NULL);
    if (!def || !domain_def_assign(def, &defaults, NULL))
        return 0;
    g_autofree char *text = domain_def_format(def, 0, 1);
    g_autofree char *inactive = domain_def_format(def, DOMAIN_FORMAT_INACTIVE, -1);
    g_autoptr(DomainDef) again = domain_def_parse(text, &error);
    g_assert_no_error(error);
    return 0;
}
