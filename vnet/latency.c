// SPDX-License-Identifier: LGPL-2.1-or-later
// The precedence of a process: among those of its group, and that of its group.
#include "vnet/latency.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NICE (-10)

// Where the kernel makes a group of each session (sched(7), "The autogroup feature"), a process's own value
// only counts within it. TRUE where it does not.
static gboolean
ask_for_group(void)
{
    g_autofree char *text = g_strdup_printf("%d", NICE);
    int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    const gboolean ok = write(fd, text, strlen(text)) >= 0;
    close(fd);
    return ok;
}

void
latency_ask(void)
{
    if (setpriority(PRIO_PROCESS, 0, NICE) != 0 || !ask_for_group())
        g_message("cannot have precedence on a busy host: %s", g_strerror(errno));
}
