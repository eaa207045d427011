// SPDX-License-Identifier: LGPL-2.1-or-later
// Consoles: one holder for each, or the last one who insists.
#include "driver/console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#include "base/error.h"
#include "emulator/launch.h"

typedef struct {
    guint64 token;
    ConsoleLost lost;
    gpointer data;
    GDestroyNotify destroy;
} ConsoleHolder;

static void
holder_free(gpointer data)
{
    ConsoleHolder *holder = data;
    if (holder->destroy)
        holder->destroy(holder->data);
    g_free(holder);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ConsoleHolder, holder_free)

// The emulator names the path, and it is not trusted: a terminal of its own, or nothing. To open another
// device might do something already, so what is there is looked at before.
static gboolean
check_pty(const Domain *domain, int place, const char *path, GError **error)
{
    const EmulatorProcess emulator = {.pid = domain->pid, .start_time = domain->pid_start};
    struct stat st;
    struct statfs system;
    uid_t uid;
    if (fstat(place, &st) < 0 || fstatfs(place, &system) < 0) {
        quasar_set_system_error(error, errno, "cannot look at console %s", path);
        return FALSE;
    }
    if (S_ISCHR(st.st_mode) && system.f_type == DEVPTS_SUPER_MAGIC && emulator_process_uid(&emulator, &uid) &&
        st.st_uid == uid)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_DENIED,
                     "console %s is no terminal of the emulator of domain '%s'", path, domain->name);
    return FALSE;
}

static int
open_pty(const Domain *domain, const char *path, GError **error)
{
    struct termios raw;
    int place = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    if (place < 0) {
        quasar_set_system_error(error, errno, "cannot open console %s", path);
        return -1;
    }
    // What was checked is what is opened.
    g_autofree char *checked = g_strdup_printf("/proc/self/fd/%d", place);
    int fd = -1;
    if (check_pty(domain, place, path, error)) {
        fd = open(checked, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            quasar_set_system_error(error, errno, "cannot open console %s", path);
    }
    close(place);
    if (fd >= 0 && tcgetattr(fd, &raw) == 0) {
        cfmakeraw(&raw);
        tcsetattr(fd, TCSANOW, &raw);
    }
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

// Opens the console and takes its place, locked. Keyed by path: a serial port and the console that it is are
// one. Takes *holder over on success, and gives the former one out.
static int
take_place(Domain *domain, const char *alias, gboolean force, ConsoleHolder **holder, ConsoleHolder **former,
           GError **error)
{
    g_autofree char *path = find_path(domain, alias, error);
    if (!path)
        return -1;
    if (!domain->consoles)
        domain->consoles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, holder_free);
    if (!force && g_hash_table_contains(domain->consoles, path)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "Active console session exists for this domain");
        return -1;
    }
    int fd = open_pty(domain, path, error);
    if (fd < 0)
        return -1;
    g_autofree gpointer old_path = NULL;
    g_hash_table_steal_extended(domain->consoles, path, &old_path, (gpointer *) former);
    g_hash_table_insert(domain->consoles, g_steal_pointer(&path), g_steal_pointer(holder));
    return fd;
}

// Unique in the process, over all domains.
static guint64
next_token(void)
{
    static guint64 last;
    static GMutex lock;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&lock);
    return ++last;
}

int
console_open(Domain *domain, const char *alias, unsigned int flags, ConsoleLost lost, gpointer data,
             GDestroyNotify destroy, guint64 *token, GError **error)
{
    g_autoptr(ConsoleHolder) holder = g_new0(ConsoleHolder, 1);
    g_autoptr(ConsoleHolder) former = NULL;
    *holder = (ConsoleHolder){next_token(), lost, data, destroy};
    *token = holder->token;
    if (flags & ~(unsigned int) (VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "unsupported flags (0x%x) in function virDomainOpenConsole", flags);
        return -1;
    }
    domain_lock(domain);
    int fd = take_place(domain, alias, (flags & VIR_DOMAIN_CONSOLE_FORCE) != 0, &holder, &former, error);
    domain_unlock(domain);
    if (former && former->lost)
        former->lost(former->data);
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
