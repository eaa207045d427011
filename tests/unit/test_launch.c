// SPDX-License-Identifier: LGPL-2.1-or-later
// The watch of an emulator's end, and in which order it is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emulator/launch.h"

#define PATIENCE_MS 30000

typedef struct {
    GMainContext *context;
    int ends[2]; // [0] is read by the context, [1] is the process's
    pid_t child;
    GString *order; // r: what it said was read, e: its end was told
} Fixture;

static gboolean
on_readable(int fd, GIOCondition condition, gpointer data)
{
    char byte;
    if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1)
        return G_SOURCE_REMOVE;
    g_string_append_c(((Fixture *) data)->order, 'r');
    return G_SOURCE_CONTINUE;
}

static void
on_exit_told(pid_t pid, gpointer data)
{
    g_string_append_c(((Fixture *) data)->order, 'e');
}

// A process that says three bytes when it is let go on, and ends.
static int
set_up(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    fixture->context = g_main_context_new();
    fixture->order = g_string_new(NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fixture->ends) < 0)
        return -1;
    fixture->child = fork();
    if (fixture->child == 0) {
        char byte;
        _exit(recv(fixture->ends[1], &byte, 1, 0) == 1 && send(fixture->ends[1], "bye", 3, 0) == 3 ? 0 : 1);
    }
    *state = fixture;
    return fixture->child > 0 ? 0 : -1;
}

static int
tear_down(void **state)
{
    Fixture *fixture = *state;
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
    g_main_context_unref(fixture->context);
    g_string_free(fixture->order, TRUE);
    close(fixture->ends[0]);
    close(fixture->ends[1]);
    g_free(fixture);
    return 0;
}

static EmulatorProcess
process_of(const Fixture *fixture)
{
    return (EmulatorProcess){.pid = fixture->child, .start_time = emulator_start_time(fixture->child)};
}

static void
let_end(Fixture *fixture, const EmulatorProcess *process)
{
    assert_int_equal(send(fixture->ends[0], "!", 1, 0), 1);
    assert_true(emulator_wait(process, PATIENCE_MS));
}

static GSource *
listen_to_it(Fixture *fixture)
{
    GSource *source = g_unix_fd_source_new(fixture->ends[0], G_IO_IN);
    g_source_set_callback(source, G_SOURCE_FUNC(on_readable), fixture, NULL);
    g_source_attach(source, fixture->context);
    return source;
}

static void
run_until_told(Fixture *fixture)
{
    for (guint round = 0; round < 20 && !strchr(fixture->order->str, 'e'); round++)
        g_main_context_iteration(fixture->context, FALSE);
}

static void
test_last_words_come_before_the_end(void **state)
{
    Fixture *fixture = *state;
    const EmulatorProcess process = process_of(fixture);
    // First, so that by the order of attaching alone it would be told first.
    g_autoptr(EmulatorWatch) watch = emulator_watch(&process, fixture->context, on_exit_told, fixture, NULL);
    assert_non_null(watch);
    g_autoptr(GSource) source = listen_to_it(fixture);
    let_end(fixture, &process);
    run_until_told(fixture);
    assert_string_equal(fixture->order->str, "rrre");
    g_source_destroy(source);
}

// As when poll() has looked at the socket before the words came and at the process after its end.
static void
test_words_that_one_round_has_missed(void **state)
{
    Fixture *fixture = *state;
    const EmulatorProcess process = process_of(fixture);
    g_autoptr(EmulatorWatch) watch = emulator_watch(&process, fixture->context, on_exit_told, fixture, NULL);
    assert_non_null(watch);
    let_end(fixture, &process);
    g_main_context_iteration(fixture->context, FALSE);
    assert_string_equal(fixture->order->str, "");
    g_autoptr(GSource) source = listen_to_it(fixture);
    run_until_told(fixture);
    assert_string_equal(fixture->order->str, "rrre");
    g_source_destroy(source);
}

static void
test_end_before_the_watch(void **state)
{
    Fixture *fixture = *state;
    const EmulatorProcess process = process_of(fixture);
    let_end(fixture, &process);
    waitpid(fixture->child, NULL, 0);
    g_autoptr(EmulatorWatch) watch = emulator_watch(&process, fixture->context, on_exit_told, fixture, NULL);
    assert_non_null(watch);
    run_until_told(fixture);
    assert_string_equal(fixture->order->str, "e");
}

static void
test_watch_that_was_ended_tells_nothing(void **state)
{
    Fixture *fixture = *state;
    const EmulatorProcess process = process_of(fixture);
    emulator_watch_free(emulator_watch(&process, fixture->context, on_exit_told, fixture, NULL));
    let_end(fixture, &process);
    run_until_told(fixture);
    assert_string_equal(fixture->order->str, "");
}

#define WATCHED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    // Every kernel that Debian 12 has knows this call; valgrind 3.19 does not.
    if (syscall(SYS_pidfd_open, getpid(), 0) < 0 && errno == ENOSYS)
        return 77; // skipped
    const struct CMUnitTest tests[] = {
        WATCHED(test_last_words_come_before_the_end),
        WATCHED(test_words_that_one_round_has_missed),
        WATCHED(test_end_before_the_watch),
        WATCHED(test_watch_that_was_ended_tells_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
