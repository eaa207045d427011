// SPDX-License-Identifier: LGPL-2.1-or-later
// Short-lived helper programs: start, collect, end.
#include "emulator/child.h"

#include <errno.h>
#include <glib-unix.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

#define OUTPUT_MAX   (4u << 20)
#define REAP_US      1000
#define COMPLAINT    512u // bytes of standard error that go into a message
#define COMPLAIN_MAX (64u << 10)

struct Child {
    char *program;
    pid_t pid; // 0: reaped
    int output_fd;
    int error_fd;
    GString *output;
    GString *complaint;
};

typedef struct Setup Setup;
struct Setup {
    EmulatorUser user;
    gboolean change_user;
    guint64 memory_max;
};

// In the child, between fork and exec: only async-signal-safe calls. Failing here must not lead to exec.
static void
set_up(gpointer opaque)
{
    const Setup *setup = opaque;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct rlimit no_core = {0, 0};
    struct rlimit memory = {setup->memory_max, setup->memory_max};
    if (setrlimit(RLIMIT_CORE, &no_core) < 0 || (setup->memory_max && setrlimit(RLIMIT_AS, &memory) < 0))
        _exit(126);
    const EmulatorUser *user = &setup->user;
    if (setup->change_user && (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
                               setresuid(user->uid, user->uid, user->uid) < 0))
        _exit(126);
    // After the change of user, which clears it.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        _exit(126);
}

Child *
child_start(const char *const *argv, const EmulatorUser *user, int fd, guint64 memory_max, GError **error)
{
    static const char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", NULL};
    Setup setup = {.user = *user, .change_user = geteuid() == 0, .memory_max = memory_max};
    const int target = 3;
    g_autoptr(Child) child = g_new0(Child, 1);
    child->program = g_strdup(argv[0]);
    child->output_fd = child->error_fd = -1;
    child->output = g_string_new(NULL);
    child->complaint = g_string_new(NULL);
    g_autoptr(GError) problem = NULL;
    if (!g_spawn_async_with_pipes_and_fds(NULL, argv, environment,
                                          G_SPAWN_SEARCH_PATH_FROM_ENVP | G_SPAWN_DO_NOT_REAP_CHILD, set_up,
                                          &setup, -1, -1, -1, &fd, &target, fd >= 0 ? 1 : 0, &child->pid,
                                          NULL, &child->output_fd, &child->error_fd, &problem)) {
        quasar_set_error(error, VIR_ERR_SYSTEM_ERROR, "cannot run '%s': %s", argv[0], problem->message);
        return NULL;
    }
    g_unix_set_fd_nonblocking(child->output_fd, TRUE, NULL);
    g_unix_set_fd_nonblocking(child->error_fd, TRUE, NULL);
    return g_steal_pointer(&child);
}

// Reads what is there; FALSE at the end of the file, when *fd is closed and -1.
static gboolean
drain(int *fd, GString *text, gsize max)
{
    char bytes[16384];
    for (;;) {
        ssize_t got = read(*fd, bytes, sizeof(bytes));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return TRUE;
        if (got <= 0) {
            close(*fd);
            *fd = -1;
            return FALSE;
        }
        // One byte more than allowed is kept, so that the caller sees the excess.
        if (text->len <= max)
            g_string_append_len(text, bytes, MIN((gsize) got, max + 1 - text->len));
    }
}

static int
left_ms(gint64 deadline_us)
{
    return CLAMP((deadline_us - g_get_monotonic_time()) / 1000, 0, G_MAXINT);
}

// Until both pipes are at their end: TRUE; FALSE: time is up or the output is too long.
static gboolean
collect(Child *child, gint64 deadline_us)
{
    while (child->output_fd >= 0 || child->error_fd >= 0) {
        struct pollfd items[] = {{.fd = child->output_fd, .events = POLLIN},
                                 {.fd = child->error_fd, .events = POLLIN}};
        int ready = poll(items, G_N_ELEMENTS(items), left_ms(deadline_us));
        if (ready == 0)
            return FALSE;
        if (ready < 0)
            continue;
        if (items[0].revents)
            drain(&child->output_fd, child->output, OUTPUT_MAX);
        if (items[1].revents)
            drain(&child->error_fd, child->complaint, COMPLAIN_MAX);
        if (child->output->len > OUTPUT_MAX || g_get_monotonic_time() >= deadline_us)
            return FALSE;
    }
    return TRUE;
}

static void
reap(Child *child)
{
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    child->pid = 0;
}

// Its pipes are at their end, so it is as good as gone: not worth a descriptor to wait with.
static gboolean
reap_by(Child *child, gint64 deadline_us, int *status)
{
    while (waitpid(child->pid, status, WNOHANG) != child->pid) {
        if (g_get_monotonic_time() >= deadline_us)
            return FALSE;
        g_usleep(REAP_US);
    }
    child->pid = 0;
    return TRUE;
}

char *
child_kill(Child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        reap(child);
    }
    if (child->error_fd >= 0)
        drain(&child->error_fd, child->complaint, COMPLAIN_MAX);
    const GString *text = child->complaint;
    g_autofree char *tail = g_utf8_make_valid(text->str + text->len - MIN(text->len, COMPLAINT), -1);
    return g_strdelimit(g_strdup(g_strstrip(tail)), "\r\n", ' ');
}

gboolean
child_finish(Child *child, int timeout_ms, char **output, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    gboolean collected = collect(child, deadline_us);
    if (!collected && child->output->len > OUTPUT_MAX) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "'%s' wrote more than %u bytes", child->program,
                         OUTPUT_MAX);
        return FALSE;
    }
    int status;
    if (!collected || !reap_by(child, deadline_us, &status)) {
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "'%s' did not end within %d ms", child->program,
                         timeout_ms);
        return FALSE;
    }
    g_autofree char *complaint = child_kill(child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        g_autofree char *how = WIFEXITED(status) ? g_strdup_printf("status %d", WEXITSTATUS(status))
                                                 : g_strdup_printf("signal %d", WTERMSIG(status));
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "'%s' failed with %s: %s", child->program, how,
                         *complaint ? complaint : "no reason given");
        return FALSE;
    }
    if (output)
        *output = g_strdup(child->output->str);
    return TRUE;
}

void
child_free(Child *child)
{
    if (!child)
        return;
    g_free(child_kill(child));
    if (child->output_fd >= 0)
        close(child->output_fd);
    if (child->error_fd >= 0)
        close(child->error_fd);
    g_string_free(child->output, TRUE);
    g_string_free(child->complaint, TRUE);
    g_free(child->program);
    g_free(child);
}
