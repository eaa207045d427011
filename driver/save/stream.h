// SPDX-License-Identifier: LGPL-2.1-or-later
// The emulator's migration stream, into a file and out of it.
#pragma once

#include "driver/domain.h"

// A stopped guest's, from where `fd` stands; `path` is for messages. Its domain has the async job, whose
// statistics follow. VIR_ERR_OPERATION_ABORTED: the job was to end; VIR_ERR_OPERATION_FAILED otherwise. Then
// the emulator may be at it still (monitor_migrate_call_off()). Blocks as long as it takes.
gboolean save_stream_write(Domain *domain, Qmp *qmp, int fd, const char *path, GError **error);

// Into an emulator that waits (-incoming defer). Blocks as long as it takes.
gboolean save_stream_read(Domain *domain, int fd, const char *path, GError **error);

// With the domain locked. FALSE: its async job is to end.
gboolean save_stream_check_abort(const Domain *domain, GError **error);
