// SPDX-License-Identifier: LGPL-2.1-or-later
// The threads of an emulator that a guest's frames wait for, and no others, get another priority in a move.
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/scheduling.h"
#include "driver/priority.h"

enum { VCPU, OTHER_VCPU, WORKER, N_THREADS };
static const char *const names[N_THREADS] = {"CPU 0/TCG", "CPU 1/KVM", "worker"};

// A process with the threads of an emulator, in a session of its own.
typedef struct {
    EmulatorProcess process;
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
    prctl(PR_SET_PDEATHSIG, SIGKILL);
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
    emulator.process.pid = fork();
    if (emulator.process.pid == 0)
        be_emulator(ends[1]);
    emulator.process.start_time = emulator_start_time(emulator.process.pid);
    close(ends[1]);
    for (int i = 0; i < N_THREADS; i++)
        if (read(ends[0], &emulator.threads[i], sizeof(pid_t)) != sizeof(pid_t))
            return -1;
    close(ends[0]);
    *state = &emulator;
    return 0;
}

static int
tear_down(void **state)
{
    Emulator *emulator = *state;
    kill(emulator->process.pid, SIGKILL);
    waitpid(emulator->process.pid, NULL, 0);
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
    if (scheduling_get_group_nice(pid, &now))
        assert_int_equal(now, nice);
}

static void
assert_usual(const Emulator *emulator)
{
    assert_thread(emulator->process.pid, SCHED_OTHER, 0);
    for (int i = 0; i < N_THREADS; i++)
        assert_thread(emulator->threads[i], SCHED_OTHER, 0);
    assert_group(emulator->process.pid, 0);
}

// Without CAP_SYS_NICE, or started with a priority of its own, there is nothing to try.
static void
need_privilege(const Emulator *emulator)
{
    const struct sched_param param = {.sched_priority = 1}, none = {0};
    if (getpriority(PRIO_PROCESS, 0) != 0 || sched_getscheduler(0) != SCHED_OTHER ||
        sched_setscheduler(emulator->threads[WORKER], SCHED_RR, &param) < 0)
        skip();
    assert_int_equal(sched_setscheduler(emulator->threads[WORKER], SCHED_OTHER, &none), 0);
    assert_usual(emulator);
}

static void
the_guest_precedes_what_copies_it(void **state)
{
    const Emulator *emulator = *state;
    need_privilege(emulator);
    priority_copy(&emulator->process);
    assert_thread(emulator->threads[VCPU], SCHED_OTHER | SCHED_RESET_ON_FORK, -5);
    assert_thread(emulator->threads[OTHER_VCPU], SCHED_OTHER | SCHED_RESET_ON_FORK, -5);
    assert_thread(emulator->threads[WORKER], SCHED_OTHER, 0);
    assert_thread(emulator->process.pid, SCHED_OTHER, 0);
    assert_group(emulator->process.pid, -6);
    priority_end(&emulator->process);
    assert_usual(emulator);
}

static void
wait_for_end(const Emulator *emulator)
{
    const gint64 last = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;
    while (sched_getscheduler(emulator->process.pid) != SCHED_OTHER && g_get_monotonic_time() < last)
        g_usleep(1000);
    assert_usual(emulator);
}

// Where this process does not come to look at it in time, it is tried again.
static void
the_guest_precedes_all_when_it_arrives(void **state)
{
    const Emulator *emulator = *state;
    const int real_time = SCHED_RR | SCHED_RESET_ON_FORK;
    const int expected[N_THREADS] = {real_time, real_time, SCHED_OTHER};
    int seen[N_THREADS], seen_of_main = -1;
    struct sched_param of_vcpu = {0}, of_main = {0};
    gint64 took = G_MAXINT64;
    need_privilege(emulator);
    for (int tries = 0; tries < 100 && took >= PRIORITY_ARRIVING_MS * 1000 / 2; tries++) {
        wait_for_end(emulator);
        const gint64 began = g_get_monotonic_time();
        priority_arrive(&emulator->process);
        for (int i = 0; i < N_THREADS; i++)
            seen[i] = sched_getscheduler(emulator->threads[i]);
        seen_of_main = sched_getscheduler(emulator->process.pid);
        sched_getparam(emulator->threads[VCPU], &of_vcpu);
        sched_getparam(emulator->process.pid, &of_main);
        took = g_get_monotonic_time() - began;
    }
    assert_memory_equal(seen, expected, sizeof(seen));
    assert_int_equal(seen_of_main, real_time);
    // A busy vCPU does not keep it from interrupting the guest.
    assert_true(of_main.sched_priority > of_vcpu.sched_priority);
    wait_for_end(emulator);
}

static void
an_arrival_is_ended_by_another_daemon(void **state)
{
    const Emulator *emulator = *state;
    const struct sched_param param = {.sched_priority = 1};
    need_privilege(emulator);
    assert_int_equal(sched_setscheduler(emulator->threads[VCPU], SCHED_RR | SCHED_RESET_ON_FORK, &param), 0);
    priority_end(&emulator->process);
    assert_usual(emulator);
}

static void
move(const Emulator *emulator)
{
    priority_copy(&emulator->process);
    priority_end(&emulator->process);
    priority_arrive(&emulator->process);
    priority_end(&emulator->process);
}

static void
what_an_administrator_gave_a_thread_is_kept(void **state)
{
    const Emulator *emulator = *state;
    const struct sched_param param = {.sched_priority = 5};
    need_privilege(emulator);
    assert_int_equal(sched_setscheduler(emulator->threads[VCPU], SCHED_RR, &param), 0);
    assert_int_equal(setpriority(PRIO_PROCESS, (id_t) emulator->threads[OTHER_VCPU], -5), 0);
    priority_copy(&emulator->process);
    assert_group(emulator->process.pid, 0); // there is no vCPU to precede what copies it
    move(emulator);
    assert_thread(emulator->threads[VCPU], SCHED_RR, 0);
    assert_thread(emulator->threads[OTHER_VCPU], SCHED_OTHER, -5);
    assert_thread(emulator->process.pid, SCHED_OTHER, 0);
    assert_group(emulator->process.pid, 0);
}

static void
what_an_administrator_gave_the_group_is_kept(void **state)
{
    const Emulator *emulator = *state;
    int nice;
    need_privilege(emulator);
    if (!scheduling_get_group_nice(emulator->process.pid, &nice))
        skip();
    assert_true(scheduling_set_group_nice(emulator->process.pid, -5));
    move(emulator);
    assert_group(emulator->process.pid, -5);
    assert_true(scheduling_set_group_nice(emulator->process.pid, 0));
    assert_usual(emulator);
}

static void
who_has_gone_is_nothing(void **state)
{
    const Emulator *emulator = *state;
    const int nice = getpriority(PRIO_PROCESS, 0), policy = sched_getscheduler(0);
    kill(emulator->process.pid, SIGKILL);
    waitpid(emulator->process.pid, NULL, 0);
    move(emulator);
    assert_thread(0, policy, nice);
    assert_int_equal(set_up(state), 0);
}

// Its pid is another process's now.
static void
another_process_is_left_alone(void **state)
{
    const Emulator *emulator = *state;
    need_privilege(emulator);
    const EmulatorProcess before = {.pid = emulator->process.pid,
                                    .start_time = emulator->process.start_time - 1};
    priority_copy(&before);
    priority_arrive(&before);
    assert_usual(emulator);
}

// The last test: no arrival has a priority after it.
static void
a_daemon_that_ends_waits_for_arrivals(void **state)
{
    const Emulator *emulator = *state;
    need_privilege(emulator);
    priority_arrive(&emulator->process);
    priority_drain();
    assert_usual(emulator);
    priority_arrive(&emulator->process);
    assert_usual(emulator);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_guest_precedes_what_copies_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_guest_precedes_all_when_it_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_arrival_is_ended_by_another_daemon, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_an_administrator_gave_a_thread_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_an_administrator_gave_the_group_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_gone_is_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_process_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_daemon_that_ends_waits_for_arrivals, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
