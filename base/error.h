// SPDX-License-Identifier: LGPL-2.1-or-later
// The one error contract: a GError whose code is libvirt's virErrorNumber.
#pragma once

#include <glib.h>
#include <libvirt/virterror.h>

// A function that can fail returns false, -1 or NULL and fills a GError of this domain. The message is
// built where the facts are, in words an administrator can act on, without the code's standing prefix
// ("Domain not found: "), which the wire adds.
#define QUASAR_ERROR quasar_error_quark()

GQuark quasar_error_quark(void);

// Sets *error (which may be NULL) unless it is set already. Returns FALSE, for functions that fail with it.
gboolean quasar_set_error(GError **error, virErrorNumber code, const char *format, ...) G_GNUC_PRINTF(3, 4);

// As above, and appends ": " and the text of errnum; code is VIR_ERR_SYSTEM_ERROR.
gboolean quasar_set_system_error(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

// The libvirt code of any GError; errors that are not ours (GIO, GLib) are VIR_ERR_INTERNAL_ERROR.
virErrorNumber quasar_error_code(const GError *error);

// The libvirt error domain that clients expect with a code (remote protocol, field `domain`).
virErrorDomain quasar_error_domain(virErrorNumber code);

// What messages of this code begin with on the wire ("Domain not found: "); "" when there is none.
const char *quasar_error_prefix(virErrorNumber code);

// The message as libvirt's clients print it: the code's standing prefix and the error's own text. Caller
// frees.
char *quasar_error_text(const GError *error);
