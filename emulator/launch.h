// SPDX-License-Identifier: LGPL-2.1-or-later
// Starting, recognising, watching and ending emulator processes.
#pragma once

#include <glib.h>
#include <sys/types.h>

// The account that emulators run as.
typedef struct EmulatorUser EmulatorUser;
struct EmulatorUser {
    uid_t uid;
    gid_t gid;
};
// Looks up names or numbers; NULL: QUASAR_EMULATOR_USER and its own group. Not root's duty: when we are not
// root ourselves, it is us.
gboolean emulator_user_lookup(const char *user, const char *group, EmulatorUser *result, GError **error);

// A process, recognisable after a restart of ours: pids are reused, the pair is not.
typedef struct EmulatorProcess EmulatorProcess;
struct EmulatorProcess {
    pid_t pid;
    guint64 start_time; // clock ticks after boot (/proc/PID/stat, field 22)
    goffset log_start;  // where what it says begins in its log file; of emulator_launch() only
};

// Runs argv detached from us, as `user`, with no capabilities, in a session of its own, its output appended
// to `log_file` (which is created, and gets the command line first). The process is running (exec succeeded)
// on return.
gboolean emulator_launch(const char *const *argv, const EmulatorUser *user, const char *log_file,
                         EmulatorProcess *process, GError **error);

// Field 22; 0 when there is no such process (a zombie counts as none).
guint64 emulator_start_time(pid_t pid);
gboolean emulator_is_alive(const EmulatorProcess *process);
// Its real user, whatever our settings say today; FALSE when it is gone.
gboolean emulator_process_uid(const EmulatorProcess *process, uid_t *uid);

// Called once, on the context's thread, when the process has ended and sources of the default priority have
// nothing more to read; also for processes that are not our children.
typedef struct EmulatorWatch EmulatorWatch;
typedef void (*EmulatorExitFunc)(pid_t pid, gpointer opaque);
// A process that is gone already is reported by the callback all the same.
EmulatorWatch *emulator_watch(const EmulatorProcess *process, GMainContext *context, EmulatorExitFunc exited,
                              gpointer opaque, GError **error);
// Ends the watch; from another thread, a callback under way may still finish.
void emulator_watch_free(EmulatorWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EmulatorWatch, emulator_watch_free)

// Waits until it has ended: TRUE; FALSE: timeout_ms is over. Blocks.
gboolean emulator_wait(const EmulatorProcess *process, int timeout_ms);
// TERM, then KILL after grace_ms (0: KILL at once); returns when it is gone. Blocks; FALSE when it did not
// die within 10 s after KILL.
gboolean emulator_kill(const EmulatorProcess *process, int grace_ms, GError **error);

// Creates the guest's run-time directory (0750, the user's), empty: leftovers of a dead run are removed.
gboolean emulator_run_directory_create(const char *path, const EmulatorUser *user, GError **error);
void emulator_run_directory_remove(const char *path);
// BASE/domain-ID-SHORTNAME, the name cut to 20 bytes so that socket paths fit in sun_path. Caller frees.
char *emulator_run_directory_path(const char *base, int id, const char *name);

// The end of a log file from byte `start` on, at most `max` bytes, on one line, for error messages. Caller
// frees; "" when there is none.
char *emulator_log_tail(const char *log_file, goffset start, gsize max);
