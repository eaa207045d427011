// SPDX-License-Identifier: LGPL-2.1-or-later
// User, capabilities and system calls: what is left once the capture is open.
#include "vnet/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"

// With the capabilities that were chosen.
static gboolean
change_user(const char *user, GError **error)
{
    errno = 0;
    const struct passwd *entry = getpwnam(user);
    if (!entry) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "there is no user '%s' on this host", user);
        return FALSE;
    }
    int result =
        capng_change_id((int) entry->pw_uid, (int) entry->pw_gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING);
    if (result != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot become user '%s' (step %d)", user, -result);
        return FALSE;
    }
    if (entry->pw_uid != 0 && setuid(0) == 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "user '%s' could become root again", user);
        return FALSE;
    }
    return TRUE;
}

gboolean
confine_privileges(const char *user, gboolean scheduled, GError **error)
{
    const gboolean keep = scheduled && capng_have_capability(CAPNG_PERMITTED, CAP_SYS_NICE);
    capng_clear(CAPNG_SELECT_BOTH);
    if (keep && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_NICE) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot keep the capability CAP_SYS_NICE");
        return FALSE;
    }
    if (user && !change_user(user, error))
        return FALSE;
    if (!user && capng_apply(CAPNG_SELECT_BOTH) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot drop capabilities");
        return FALSE;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        quasar_set_system_error(error, errno, "cannot give up privileges");
        return FALSE;
    }
    return TRUE;
}

#define ALLOWED_CALLS                                                                                        \
    ALLOW(poll)            /* the loop waits, on architectures that have it */                               \
    ALLOW(ppoll)           /* ... and on the others */                                                       \
    ALLOW(read)            /* control clients, QEMU */                                                       \
    ALLOW(write)           /* log, libpcap's wake-up counter */                                              \
    ALLOW(writev)          /* messages of the C library */                                                   \
    ALLOW(recvfrom)        /* QEMU, control clients, libpcap asking for a pending error */                   \
    ALLOW(recvmsg)         /* libpcap, descriptors from QEMU */                                              \
    ALLOW(recvmmsg)        /* frames */                                                                      \
    ALLOW(sendto)          /* frames, answers */                                                             \
    ALLOW(sendmsg)         /* frames */                                                                      \
    ALLOW(accept4)         /* control clients */                                                             \
    ALLOW(pidfd_open)      /* has the emulator ended, or lost its connection only? */                        \
    ALLOW(fstat)           /* is a file as long as the memory it is to be? */                                \
    ALLOW(close)           /* control clients */                                                             \
    ALLOW(shutdown)        /* the end */                                                                     \
    ALLOW(getsockname)     /* libpcap, when the NIC reports an error: does the device still exist? */        \
    ALLOW(getsockopt)      /* capture counters, pending errors */                                            \
    ALLOW(ioctl)           /* is the NIC still there? (libpcap asks too) */                                  \
    ALLOW(fcntl)           /* non-blocking mode */                                                           \
    ALLOW(clock_gettime)   /* time, where the vDSO has none */                                               \
    ALLOW(gettimeofday)    /* ... */                                                                         \
    ALLOW(clock_nanosleep) /* g_usleep() */                                                                  \
    ALLOW(restart_syscall) /* poll after a stop and continue */                                              \
    ALLOW(brk)             /* memory */                                                                      \
    ALLOW(mmap)            /* ... */                                                                         \
    ALLOW(munmap)          /* ... */                                                                         \
    ALLOW(mremap)          /* ... */                                                                         \
    ALLOW(madvise)         /* ... */                                                                         \
    ALLOW(mprotect)        /* the heap grows */                                                              \
    ALLOW(futex)           /* GLib's locks */                                                                \
    ALLOW(getrandom)       /* seeds of hash tables, TLS */                                                   \
    ALLOW(getrusage)       /* TLS: its random generator asks */                                              \
    ALLOW(getpid)          /* status, abort() */                                                             \
    ALLOW(gettid)          /* abort() */                                                                     \
    ALLOW(tgkill)          /* abort() */                                                                     \
    ALLOW(rt_sigaction)    /* abort() */                                                                     \
    ALLOW(rt_sigprocmask)  /* abort() */                                                                     \
    ALLOW(rt_sigreturn)    /* signals */                                                                     \
    ALLOW(sched_yield)     /* locks */                                                                       \
    ALLOW(exit)            /* the end */                                                                     \
    ALLOW(exit_group)      /* the end */

// libpcap's counters and the C library try files and go on without them; that is no reason to die.
#define REFUSED_CALLS                                                                                        \
    ALLOW(open)                                                                                              \
    ALLOW(openat)                                                                                            \
    ALLOW(access)                                                                                            \
    ALLOW(faccessat)                                                                                         \
    ALLOW(readlink)                                                                                          \
    ALLOW(readlinkat)                                                                                        \
    ALLOW(stat)                                                                                              \
    ALLOW(statx)                                                                                             \
    ALLOW(socket)

// Its own scheduling only (latency.h), of the two kinds that it has; which priority, a filter cannot see. And
// its bound.
static int
allow_scheduling(scmp_filter_ctx filter)
{
    static const int policies[] = {SCHED_OTHER, SCHED_RR};
    int result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, 0),
                                  SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, RLIMIT_RTTIME));
    for (gsize i = 0; result == 0 && i < G_N_ELEMENTS(policies); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sched_setscheduler), 2,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, 0),
                                  SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, (scmp_datum_t) policies[i]));
    return result;
}

gboolean
confine_syscalls(GError **error)
{
#define ALLOW(name) SCMP_SYS(name),
    static const int allowed[] = {ALLOWED_CALLS}, refused[] = {REFUSED_CALLS};
#undef ALLOW
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int result = filter ? 0 : -ENOMEM;
    // A call that this architecture lacks (poll on arm64) has a negative number and is skipped by libseccomp.
    for (gsize i = 0; result == 0 && i < G_N_ELEMENTS(allowed); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (gsize i = 0; result == 0 && i < G_N_ELEMENTS(refused); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    // fstat() of today's C libraries; of a path it is refused.
    if (result == 0)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                                  SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
    if (result == 0)
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(newfstatat), 1,
                                  SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, 0));
    if (result == 0)
        result = allow_scheduling(filter);
    if (result == 0)
        result = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (result != 0) {
        quasar_set_system_error(error, -result, "cannot load the system call filter");
        return FALSE;
    }
    return TRUE;
}
