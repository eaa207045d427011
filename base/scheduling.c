// SPDX-License-Identifier: LGPL-2.1-or-later
// The scheduling groups of sessions: /proc/PID/autogroup.
#include "base/scheduling.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *
path_of(pid_t pid)
{
    return pid ? g_strdup_printf("/proc/%d/autogroup", pid) : g_strdup("/proc/self/autogroup");
}

gboolean
scheduling_get_group_nice(pid_t pid, int *nice)
{
    g_autofree char *path = path_of(pid);
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) && sscanf(text, "/autogroup-%*d nice %d", nice) == 1;
}

gboolean
scheduling_set_group_nice(pid_t pid, int nice)
{
    g_autofree char *path = path_of(pid);
    g_autofree char *text = g_strdup_printf("%d", nice);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    const gboolean ok = write(fd, text, strlen(text)) >= 0;
    const int reason = errno;
    close(fd);
    errno = reason;
    return ok;
}
