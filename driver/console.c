// SPDX-License-Identifier: LGPL-2.1-or-later
// Consoles: one holder for each, or the last one who insists.
#include "driver/console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"

typedef struct {
    guint64 token;
    ConsoleLost lost;
    gpointer data;
} ConsoleHolder;

static int
open_pty(const char *path, GError **error)
{
    struct stat st;
    struct termios raw;
    int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0 || tcgetattr(fd, &raw) < 0) {
        quasar_set_system_error(error, errno, "cannot open console %s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    // The emulator names the path, and it is not trusted: tcgetattr() above has shown that it is a terminal.
    cfmakeraw(&raw);
    tcsetattr(fd, TCSANOW, &raw);
    return fd;
}

static char *
find_path(Domain *domain, const char *alias, GError **error)
{
    if (!domain_check_active(domain, error))
        return NULL;
    const DomainChardev *chardev = domain_find_console(domain->live, alias);
    if (!chardev) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot find console device '%s'",
                         alias ? alias : "default");
        return NULL;
    }
    if (!chardev->source_path) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "character device %s is not using a PTY",
                         chardev->info.alias ? chardev->info.alias : "console");
        return NULL;
    }
    return g_strdup(chardev->source_path);
}

// Keyed by path: a serial port and the console that it is are one.
static gboolean
take_place(Domain *domain, const char *path, gboolean force, ConsoleHolder *former, GError **error)
{
    if (!domain->consoles)
        domain->consoles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    const ConsoleHolder *holder = g_hash_table_lookup(domain->consoles, path);
    if (holder && !force) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "Active console session exists for this domain");
        return FALSE;
    }
    if (holder)
        *former = *holder;
    return TRUE;
}

int
console_open(Domain *domain, const char *alias, unsigned int flags, ConsoleLost lost, gpointer data,
             guint64 *token, GError **error)
{
    static guint64 last_token; // under the domain's lock it would not be unique, so:
    static GMutex token_lock;
    if (flags & ~(unsigned int) (VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "unsupported flags (0x%x) in function virDomainOpenConsole", flags);
        return -1;
    }
    ConsoleHolder former = {0};
    domain_lock(domain);
    g_autofree char *path = find_path(domain, alias, error);
    int fd = -1;
    if (path && take_place(domain, path, (flags & VIR_DOMAIN_CONSOLE_FORCE) != 0, &former, error))
        fd = open_pty(path, error);
    if (fd >= 0) {
        ConsoleHolder *holder = g_new0(ConsoleHolder, 1);
        g_mutex_lock(&token_lock);
        holder->token = *token = ++last_token;
        g_mutex_unlock(&token_lock);
        holder->lost = lost;
        holder->data = data;
        g_hash_table_replace(domain->consoles, g_steal_pointer(&path), holder);
    }
    domain_unlock(domain);
    if (fd >= 0 && former.lost)
        former.lost(former.data);
    return fd;
}

static gboolean
has_token(gpointer path G_GNUC_UNUSED, gpointer value, gpointer token)
{
    return ((const ConsoleHolder *) value)->token == *(const guint64 *) token;
}

void
console_close(Domain *domain, guint64 token)
{
    domain_lock(domain);
    if (domain->consoles)
        g_hash_table_foreach_remove(domain->consoles, has_token, &token);
    domain_unlock(domain);
}
