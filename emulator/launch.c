// SPDX-License-Identifier: LGPL-2.1-or-later
// Starting, recognising, watching and ending emulator processes.
#include "config.h"

#include "emulator/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

#define KILL_WAIT_MS 10000

static gboolean
parse_id(const char *text, guint32 *id)
{
    guint64 value;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32 - 1, &value, NULL))
        return FALSE;
    *id = value;
    return TRUE;
}

gboolean
emulator_user_lookup(const char *user, const char *group, EmulatorUser *result, GError **error)
{
    if (geteuid() != 0) {
        *result = (EmulatorUser){.uid = geteuid(), .gid = getegid()};
        return TRUE;
    }
    if (!user)
        user = QUASAR_EMULATOR_USER;
    char space[16384];
    struct passwd entry, *found = NULL;
    guint32 id = 0;
    gboolean numeric = parse_id(user, &id);
    if (numeric)
        getpwuid_r(id, &entry, space, sizeof(space), &found);
    else
        getpwnam_r(user, &entry, space, sizeof(space), &found);
    if (!found && !(numeric && group)) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no user '%s' to run emulators as",
                         user);
        return FALSE;
    }
    result->uid = found ? found->pw_uid : id;
    result->gid = found ? found->pw_gid : 0;
    if (!group || (parse_id(group, &id) && (result->gid = id, TRUE)))
        return TRUE;
    struct group group_entry, *group_found = NULL;
    getgrnam_r(group, &group_entry, space, sizeof(space), &group_found);
    if (!group_found) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no group '%s' to run emulators in",
                         group);
        return FALSE;
    }
    result->gid = group_found->gr_gid;
    return TRUE;
}

guint64
emulator_start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    // The program's name may hold blanks and brackets; fields are counted from the last bracket.
    const char *rest = strrchr(text, ')');
    g_auto(GStrv) fields = rest && rest[1] ? g_strsplit(rest + 2, " ", 21) : NULL;
    if (!fields || g_strv_length(fields) < 21 || fields[0][0] == 'Z' || fields[0][0] == 'X')
        return 0;
    return g_ascii_strtoull(fields[19], NULL, 10);
}

gboolean
emulator_is_alive(const EmulatorProcess *process)
{
    return process->pid > 0 && process->start_time != 0 &&
           emulator_start_time(process->pid) == process->start_time;
}

gboolean
emulator_process_uid(const EmulatorProcess *process, uid_t *uid)
{
    static const char key[] = "\nUid:\t";
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int) process->pid);
    g_autofree char *text = NULL;
    // Not the owner of /proc/PID: a process can make that root.
    const char *line = g_file_get_contents(path, &text, NULL, NULL) ? strstr(text, key) : NULL;
    if (!line || !emulator_is_alive(process))
        return FALSE;
    *uid = (uid_t) g_ascii_strtoull(line + strlen(key), NULL, 10);
    return TRUE;
}

static int
open_log(const char *log_file, const char *const *argv, GError **error)
{
    int fd = open(log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        quasar_set_system_error(error, errno, "cannot open the emulator's log '%s'", log_file);
        return -1;
    }
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *stamp = g_date_time_format(now, "%Y-%m-%d %H:%M:%S+0000");
    g_autoptr(GString) text = g_string_new(stamp);
    g_string_append(text, ": starting up\n");
    for (gsize i = 0; argv[i]; i++) {
        g_autofree char *quoted = g_shell_quote(argv[i]);
        g_string_append_printf(text, "%s%s", i ? " \\\n" : "", quoted);
    }
    g_string_append_c(text, '\n');
    if (write(fd, text->str, text->len) < 0)
        g_warning("cannot write to '%s': %s", log_file, g_strerror(errno));
    return fd;
}

// What the child tells through the pipe: its pid, or an error and where it happened.
typedef struct ChildReport ChildReport;
struct ChildReport {
    pid_t pid;
    int problem;
    char where[24];
};

G_GNUC_NORETURN static void
child_fail(int report_fd, const char *where)
{
    ChildReport report = {.pid = 0, .problem = errno};
    strncpy(report.where, where, sizeof(report.where) - 1);
    if (write(report_fd, &report, sizeof(report)) < 0)
        _exit(126);
    _exit(127);
}

// Only async-signal-safe calls: other threads of the daemon may hold any lock.
G_GNUC_NORETURN static void
child_exec(const char *const *argv, const EmulatorUser *user, gboolean change_user, int null_fd, int log_fd,
           int report_fd)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(0027);
    if (chdir("/") < 0)
        child_fail(report_fd, "chdir");
    if (dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 || dup2(log_fd, 2) < 0)
        child_fail(report_fd, "dup2");
    // Closed by exec, so that the report's pipe lives until then.
    if (syscall(SYS_close_range, 3u, ~0u, 4u) < 0)
        child_fail(report_fd, "close_range");
    if (change_user && (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
                        setresuid(user->uid, user->uid, user->uid) < 0))
        child_fail(report_fd, "changing the user");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail(report_fd, "no_new_privs");
    ChildReport report = {.pid = getpid()};
    if (write(report_fd, &report, sizeof(report)) != (ssize_t) sizeof(report))
        _exit(126);
    execv(argv[0], (char *const *) argv);
    child_fail(report_fd, "exec");
}

static gboolean
read_report(int fd, ChildReport *report)
{
    ssize_t got;
    do
        got = read(fd, report, sizeof(*report));
    while (got < 0 && errno == EINTR);
    return got == (ssize_t) sizeof(*report);
}

gboolean
emulator_launch(const char *const *argv, const EmulatorUser *user, const char *log_file,
                EmulatorProcess *process, GError **error)
{
    int pipe_fds[2];
    int log_fd = open_log(log_file, argv, error);
    if (log_fd < 0)
        return FALSE;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0 || !g_unix_open_pipe(pipe_fds, FD_CLOEXEC, NULL)) {
        quasar_set_system_error(error, errno, "cannot prepare the start of '%s'", argv[0]);
        close(log_fd);
        if (null_fd >= 0)
            close(null_fd);
        return FALSE;
    }
    gboolean change_user = geteuid() == 0;
    const goffset log_start = lseek(log_fd, 0, SEEK_END);
    pid_t middle = fork();
    if (middle == 0) {
        // The middle process ends at once, so that the emulator is init's child and outlives us in peace.
        if (setsid() < 0)
            child_fail(pipe_fds[1], "setsid");
        pid_t child = fork();
        if (child < 0)
            child_fail(pipe_fds[1], "fork");
        if (child == 0)
            child_exec(argv, user, change_user, null_fd, log_fd, pipe_fds[1]);
        _exit(0);
    }
    int fork_problem = errno;
    close(pipe_fds[1]);
    close(null_fd);
    close(log_fd);
    ChildReport started = {0}, failed = {0};
    if (middle > 0) {
        while (waitpid(middle, NULL, 0) < 0 && errno == EINTR)
            ;
        // The first report is the pid; then exec closes the pipe, or a second report says why it failed.
        if (read_report(pipe_fds[0], &started) && !started.problem && !read_report(pipe_fds[0], &failed)) {
            close(pipe_fds[0]);
            *process = (EmulatorProcess){.pid = started.pid,
                                         .start_time = emulator_start_time(started.pid),
                                         .log_start = MAX(log_start, 0)};
            return TRUE;
        }
    }
    close(pipe_fds[0]);
    const ChildReport *cause = started.problem ? &started : &failed;
    quasar_set_system_error(error, middle < 0 ? fork_problem : cause->problem, "cannot start '%s' (%s)",
                            argv[0], middle < 0 ? "fork" : cause->where);
    return FALSE;
}

static int
open_pidfd(const EmulatorProcess *process)
{
    int fd = syscall(SYS_pidfd_open, process->pid, 0);
    // The pid may have been reused before the fd was open; after that it cannot.
    if (fd >= 0 && !emulator_is_alive(process)) {
        close(fd);
        errno = ESRCH;
        return -1;
    }
    return fd;
}

// What a process said last is in its sockets before its pidfd tells of its end, and must be read first, or a
// shutdown looks like a crash. Sources of sockets have the default priority, so that in one round of the
// context they come before the end. But poll() may look at a socket before, and at the pidfd after all that
// has happened; so the end counts only in the round after the one that saw it.
#define AFTER_SOCKETS G_PRIORITY_DEFAULT_IDLE

struct EmulatorWatch {
    gint refs; // the caller's and the source's
    pid_t pid;
    int fd;        // -1: the process was gone already
    gboolean seen; // the end was, by one round of the context
    GSource *source;
    EmulatorExitFunc exited;
    gpointer opaque;
};

static void
watch_release(gpointer data)
{
    EmulatorWatch *watch = data;
    if (!g_atomic_int_dec_and_test(&watch->refs))
        return;
    if (watch->fd >= 0)
        close(watch->fd);
    g_free(watch);
}

static gboolean
on_gone(gpointer data)
{
    EmulatorWatch *watch = data;
    watch->exited(watch->pid, watch->opaque);
    return G_SOURCE_REMOVE;
}

static gboolean
on_pidfd(int fd, GIOCondition condition, gpointer data)
{
    EmulatorWatch *watch = data;
    if (watch->seen)
        return on_gone(data);
    watch->seen = TRUE;
    return G_SOURCE_CONTINUE;
}

EmulatorWatch *
emulator_watch(const EmulatorProcess *process, GMainContext *context, EmulatorExitFunc exited,
               gpointer opaque, GError **error)
{
    int fd = open_pidfd(process);
    if (fd < 0 && errno != ESRCH) {
        quasar_set_system_error(error, errno, "cannot watch process %d", (int) process->pid);
        return NULL;
    }
    EmulatorWatch *watch = g_new0(EmulatorWatch, 1);
    *watch = (EmulatorWatch){.refs = 2, .pid = process->pid, .fd = fd, .exited = exited, .opaque = opaque};
    if (fd >= 0) {
        watch->source = g_unix_fd_source_new(fd, G_IO_IN);
        g_source_set_callback(watch->source, G_SOURCE_FUNC(on_pidfd), watch, watch_release);
    } else {
        watch->source = g_idle_source_new();
        g_source_set_callback(watch->source, on_gone, watch, watch_release);
    }
    g_source_set_priority(watch->source, AFTER_SOCKETS);
    g_source_attach(watch->source, context);
    return watch;
}

void
emulator_watch_free(EmulatorWatch *watch)
{
    if (!watch)
        return;
    g_source_destroy(watch->source);
    g_source_unref(watch->source);
    watch_release(watch);
}

gboolean
emulator_wait(const EmulatorProcess *process, int timeout_ms)
{
    int fd = open_pidfd(process);
    if (fd < 0)
        return !emulator_is_alive(process);
    struct pollfd item = {.fd = fd, .events = POLLIN};
    int ready = poll(&item, 1, timeout_ms);
    close(fd);
    return ready > 0;
}

static void
send_signal(const EmulatorProcess *process, int number)
{
    int fd = open_pidfd(process);
    if (fd < 0)
        return;
    if (syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) < 0 && errno != ESRCH)
        g_warning("cannot signal process %d: %s", (int) process->pid, g_strerror(errno));
    close(fd);
}

gboolean
emulator_kill(const EmulatorProcess *process, int grace_ms, GError **error)
{
    if (grace_ms > 0) {
        send_signal(process, SIGTERM);
        if (emulator_wait(process, grace_ms))
            return TRUE;
    }
    send_signal(process, SIGKILL);
    if (emulator_wait(process, KILL_WAIT_MS))
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "process %d did not end when it was killed",
                     (int) process->pid);
    return FALSE;
}

void
emulator_run_directory_remove(const char *path)
{
    g_autoptr(GDir) directory = g_dir_open(path, 0, NULL);
    const char *name;
    while (directory && (name = g_dir_read_name(directory))) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        unlink(file);
    }
    rmdir(path);
}

gboolean
emulator_run_directory_create(const char *path, const EmulatorUser *user, GError **error)
{
    emulator_run_directory_remove(path);
    if (g_mkdir(path, 0750) < 0) {
        quasar_set_system_error(error, errno, "cannot create run-time directory '%s'", path);
        return FALSE;
    }
    // Against our umask; and the owner last, because it may then change the rest.
    if (chmod(path, 0750) < 0 || (geteuid() == 0 && chown(path, user->uid, user->gid) < 0)) {
        quasar_set_system_error(error, errno, "cannot set the owner of '%s'", path);
        rmdir(path);
        return FALSE;
    }
    return TRUE;
}

char *
emulator_run_directory_path(const char *base, int id, const char *name)
{
    return g_strdup_printf("%s/domain-%d-%.20s", base, id, name);
}

char *
emulator_log_tail(const char *log_file, goffset start, gsize max)
{
    g_autofree char *text = NULL;
    gsize length = 0;
    if (!g_file_get_contents(log_file, &text, &length, NULL) || (gsize) start >= length)
        return g_strdup("");
    gsize from = MAX((gsize) start, length > max ? length - max : 0);
    g_autofree char *tail = g_utf8_make_valid(text + from, length - from);
    return g_strdelimit(g_strdup(g_strstrip(tail)), "\r\n", ' ');
}
