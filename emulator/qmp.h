// SPDX-License-Identifier: LGPL-2.1-or-later
// The QMP client: one connection to one emulator, commands from any thread, events on the emulator thread.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "base/frame.h"

// Theory of operation: the socket belongs to the thread that iterates the GMainContext (the emulator thread).
// A command is written by its caller, which then sleeps on a condition until that thread has read the reply
// with its id. Events and the loss of the connection are reported on the emulator thread. After the loss
// every call fails with VIR_ERR_OPERATION_FAILED. Source: QEMU's QMP specification.
typedef struct Qmp Qmp;
typedef struct QmpWaiter QmpWaiter;

// The longest line taken from an emulator.
#define QMP_LINE_MAX (16u << 20)

// On the emulator thread; must not block. `data` (may be NULL) is borrowed; `received_us` is
// g_get_monotonic_time() when the bytes were read.
typedef void (*QmpEventFunc)(Qmp *qmp, const char *event, json_t *data, gint64 received_us, gpointer opaque);
// Once, on the emulator thread, when the connection is gone (not after qmp_close()).
typedef void (*QmpClosedFunc)(Qmp *qmp, gpointer opaque);

typedef struct QmpCallbacks QmpCallbacks;
struct QmpCallbacks {
    QmpEventFunc event;   // may be NULL
    QmpClosedFunc closed; // may be NULL
    gpointer opaque;
    // Frees opaque when no callback can come any more, also when no connection was made; may be NULL.
    GDestroyNotify destroy;
};

// Connects to `path`, trying while the socket is missing or refuses, and negotiates capabilities, all within
// timeout_ms. Blocks; not on the emulator thread. `pid` > 0: gives up at once when that process is gone.
// Events may come before it returns.
Qmp *qmp_connect(GMainContext *context, const char *path, GPid pid, int timeout_ms,
                 const QmpCallbacks *callbacks, GError **error);
// The same for a connected socket, which is taken (also on failure).
Qmp *qmp_new(GMainContext *context, int fd, int timeout_ms, const QmpCallbacks *callbacks, GError **error);

Qmp *qmp_ref(Qmp *qmp);
// The last reference closes. Any thread.
void qmp_unref(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_unref)

// Ends the connection: calls that wait fail, no callback starts any more. Any thread.
void qmp_close(Qmp *qmp);
gboolean qmp_is_connected(Qmp *qmp);

// Runs a command and returns its "return" value, which the caller owns. `arguments` is stolen and may be
// NULL. Any thread except the emulator thread; calls may overlap. timeout_ms -1: no bound. Errors:
// VIR_ERR_OPERATION_FAILED (emulator ended), VIR_ERR_OPERATION_TIMEOUT (no reply; a late one is dropped),
// VIR_ERR_INTERNAL_ERROR (the emulator refused).
json_t *qmp_execute(Qmp *qmp, const char *command, json_t *arguments, int timeout_ms, GError **error);
// The same for a command to which a file descriptor belongs ("getfd"); `fd` stays the caller's.
json_t *qmp_execute_with_fd(Qmp *qmp, const char *command, json_t *arguments, int fd, int timeout_ms,
                            GError **error);
// The first without interest in the value.
gboolean qmp_run(Qmp *qmp, const char *command, json_t *arguments, int timeout_ms, GError **error);

// Collects the named events (NULL-terminated; NULL: all) from now on. Holds a reference. One thread waits at
// a time.
QmpWaiter *qmp_waiter_new(Qmp *qmp, const char *const *events);
// The next one, in order: {"event": name, "data": object (if any), "at": arrival in monotonic us}.
// deadline_us is monotonic, -1 waits without bound. VIR_ERR_OPERATION_TIMEOUT; VIR_ERR_OPERATION_FAILED once
// the connection is gone and the queue empty; VIR_ERR_OPERATION_ABORTED after qmp_waiter_cancel().
json_t *qmp_waiter_next(QmpWaiter *waiter, gint64 deadline_us, GError **error);
// Makes the present and all later waits fail at once. Any thread.
void qmp_waiter_cancel(QmpWaiter *waiter);
void qmp_waiter_free(QmpWaiter *waiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpWaiter, qmp_waiter_free)

// The incremental parser beneath, on its own for tests and fuzzing.
typedef struct QmpParser QmpParser;
// `message` (a JSON object) is borrowed.
typedef void (*QmpMessageFunc)(json_t *message, gpointer opaque);
QmpParser *qmp_parser_new(gsize line_max);
void qmp_parser_free(QmpParser *parser);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(QmpParser, qmp_parser_free)
// Takes bytes and calls `message` for each whole line. VIR_ERR_INTERNAL_ERROR for a line that is too long, no
// JSON or no object; the parser is of no further use then.
gboolean qmp_parser_feed(QmpParser *parser, const char *bytes, gsize length, QmpMessageFunc message,
                         gpointer opaque, GError **error);
