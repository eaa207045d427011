// SPDX-License-Identifier: LGPL-2.1-or-later
// The log writer: one line an entry, written with one write() so that threads do not mix.
#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

static GLogLevelFlags log_level = G_LOG_LEVEL_MESSAGE;
static int log_fd = STDERR_FILENO;

static const char *
level_name(GLogLevelFlags level)
{
    if (level & G_LOG_LEVEL_ERROR)
        return "fatal";
    if (level & G_LOG_LEVEL_CRITICAL)
        return "error";
    if (level & G_LOG_LEVEL_WARNING)
        return "warning";
    if (level & G_LOG_LEVEL_MESSAGE)
        return "notice";
    return level & G_LOG_LEVEL_INFO ? "info" : "debug";
}

static const char *
field_value(const GLogField *fields, gsize n_fields, const char *key)
{
    for (gsize i = 0; i < n_fields; i++)
        if (g_str_equal(fields[i].key, key))
            return fields[i].value;
    return NULL;
}

static GLogWriterOutput
write_entry(GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
    // GLib orders its levels from the gravest (low bit) to the least.
    if ((level & G_LOG_LEVEL_MASK) > log_level)
        return G_LOG_WRITER_HANDLED;
    const char *message = field_value(fields, n_fields, "MESSAGE");
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *stamp = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
    g_autofree char *line = g_strdup_printf("%s %s: %s\n", stamp, level_name(level), message ? message : "");
    // Some of a message may be a client's words, which must not begin an entry of their own.
    for (char *at = line; at[0] && at[1]; at++)
        if (g_ascii_iscntrl(*at))
            *at = ' ';
    if (write(log_fd, line, strlen(line)) < 0)
        return G_LOG_WRITER_UNHANDLED;
    return G_LOG_WRITER_HANDLED;
}

void
log_init(GLogLevelFlags level, const char *file)
{
    log_level = level;
    if (file) {
        int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0)
            log_fd = fd;
    }
    g_log_set_writer_func(write_entry, NULL, NULL);
}
