// SPDX-License-Identifier: LGPL-2.1-or-later
// The threads of an emulator that a guest's frames wait for, and no others, get another priority in a move.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/autogroup.h"
#include "driver/priority.h"

enum { VCPU, OTHER_VCPU, WORKER, N_THREADS };
static const char *const names[N_THREADS] = {"CPU 0/TCG", "CPU 1/KVM", "worker"};

// A process with the threads of an emulator, in a session of its own.
typedef struct {
    pid_t pid;
    pid_t threads[N_THREADS];
} Emulator;

static void *
be_thread(void *data)
{
    pid_t *tid = data;
    pthread_setname_np(pthread_self(), names[tid[1]]);
    tid[0] = gettid();
    pause();
    return NULL;
}

static void
be_emulator(int out)
{
    volatile pid_t told[N_THREADS][2] = {{0}};
    setsid();
    for (int i = 0; i < N_THREADS; i++) {
        pthread_t thread;
        told[i][1] = i;
        pthread_create(&thread, NULL, be_thread, (void *) told[i]);
        while (!told[i][0])
            usleep(1000);
        if (write(out, (const void *) &told[i][0], sizeof(pid_t)) != sizeof(pid_t))
            _exit(1);
    }
    pause();
    _exit(0);
}

static int
set_up(void **state)
{
    static Emulator emulator;
    int ends[2];
    if (pipe(ends) < 0)
        return -1;
    emulator.pid = fork();
    if (emulator.pid == 0)
        be_emulator(ends[1]);
    for (int i = 0; i < N_THREADS; i++)
        if (read(ends[0], &emulator.threads[i], sizeof(pid_t)) != sizeof(pid_t))
            return -1;
    close(ends[0]);
    close(ends[1]);
    *state = &emulator;
    return 0;
}

static int
tear_down(void **state)
{
    Emulator *emulator = *state;
    kill(emulator->pid, SIGKILL);
    waitpid(emulator->pid, NULL, 0);
    return 0;
}

static void
assert_thread(pid_t tid, int policy, int nice)
{
    assert_int_equal(sched_getscheduler(tid), policy);
    assert_int_equal(getpriority(PRIO_PROCESS, (id_t) tid), nice);
}

// What is asked for, or nothing where the kernel makes no groups.
static void
assert_group(pid_t pid, int nice)
{
    int now;
    if (autogroup_get_nice(pid, &now))
        assert_int_equal(now, nice);
}

static void
need_privilege(const Emulator *emulator)
{
    const struct sched_param param = {.sched_priority = 1}, none = {0};
    if (sched_setscheduler(emulator->threads[WORKER], SCHED_RR, &param) < 0)
        skip(); // without CAP_SYS_NICE
    assert_int_equal(sched_setscheduler(emulator->threads[WORKER], SCHED_OTHER, &none), 0);
}

static void
assert_usual(const Emulator *emulator)
{
    assert_thread(emulator->pid, SCHED_OTHER, 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_thread(emulator->threads[i], SCHED_OTHER, 0);
    assert_group(emulator->pid, 0);
}

static void
the_guest_precedes_what_copies_it(void **state)
{
    const Emulator *emulator = *state;
    need_privilege(emulator);
    priority_set(emulator->pid, PRIORITY_COPIED);
    assert_thread(emulator->threads[VCPU], SCHED_OTHER, -10);
    assert_thread(emulator->threads[OTHER_VCPU], SCHED_OTHER, -10);
    assert_thread(emulator->threads[WORKER], SCHED_OTHER, 0);
    assert_thread(emulator->pid, SCHED_OTHER, 0);
    assert_group(emulator->pid, -10);
    priority_set(emulator->pid, PRIORITY_USUAL);
    assert_usual(emulator);
}

static void
the_guest_precedes_all_when_it_arrives(void **state)
{
    const Emulator *emulator = *state;
    const int ours = SCHED_RR | SCHED_RESET_ON_FORK;
    need_privilege(emulator);
    // As when it left another host a moment ago and comes back.
    priority_set(emulator->pid, PRIORITY_COPIED);
    priority_set(emulator->pid, PRIORITY_ARRIVING);
    assert_thread(emulator->pid, ours, 0);
    assert_thread(emulator->threads[VCPU], ours, 0);
    assert_thread(emulator->threads[OTHER_VCPU], ours, 0);
    assert_thread(emulator->threads[WORKER], SCHED_OTHER, 0);
    priority_set(emulator->pid, PRIORITY_USUAL);
    assert_usual(emulator);
}

static void
what_an_administrator_set_is_kept(void **state)
{
    const Emulator *emulator = *state;
    const struct sched_param param = {.sched_priority = 5};
    need_privilege(emulator);
    assert_int_equal(sched_setscheduler(emulator->threads[VCPU], SCHED_RR, &param), 0);
    assert_int_equal(setpriority(PRIO_PROCESS, (id_t) emulator->threads[OTHER_VCPU], 5), 0);
    int grouped;
    if (autogroup_get_nice(emulator->pid, &grouped))
        assert_true(autogroup_set_nice(emulator->pid, 3));
    for (Priority priority = PRIORITY_USUAL; priority <= PRIORITY_ARRIVING; priority++) {
        priority_set(emulator->pid, priority);
        assert_thread(emulator->threads[VCPU], SCHED_RR, 0);
        assert_thread(emulator->threads[OTHER_VCPU], SCHED_OTHER, 5);
        assert_group(emulator->pid, 3);
    }
}

static void
who_has_gone_is_nothing(void **state)
{
    Emulator *emulator = *state;
    kill(emulator->pid, SIGKILL);
    waitpid(emulator->pid, NULL, 0);
    priority_set(emulator->pid, PRIORITY_ARRIVING);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), 0);
    assert_int_equal(set_up(state), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_guest_precedes_what_copies_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_guest_precedes_all_when_it_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_an_administrator_set_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_gone_is_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
