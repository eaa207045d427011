// SPDX-License-Identifier: LGPL-2.1-or-later
// The client half of the wire: one thread at the socket, callers that wait for their replies.
//
// Theory of operation: a caller encodes its message, puts it with a serial into `outgoing` and `pending` and
// wakes the thread by an eventfd. The thread alone touches the connection: it sends what is queued, hands
// each reply to the call with its serial, and answers keepalive. When the connection ends, for whatever
// reason, the thread notes why and wakes all callers.
#include "driver/rpc/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/connection.h"
#include "driver/rpc/message.h"
#include "driver/rpc/remote.h"

#define KEEPALIVE_INTERVAL_MS 5000
#define KEEPALIVE_GIVE_UP_MS  30000

typedef struct {
    RpcMessage *reply;
} Pending;

struct RpcClient {
    GThread *thread;
    int wake;                  // eventfd
    RpcConnection *connection; // the thread's
    gint64 last_received;      // the thread's, monotonic microseconds
    gint64 last_ping;          // the thread's

    GMutex lock; // what follows
    GCond changed;
    GHashTable *pending; // serial -> Pending, borrowed from the caller's stack
    GPtrArray *outgoing; // RpcMessage
    guint32 next_serial;
    guint callers;
    gboolean keepalive;
    gboolean stop;
    GError *ended; // why the connection is over
};

// ---- the thread ----

static void
wake_thread(RpcClient *client)
{
    // Can fail only when the counter is full, and then the thread is awake anyway.
    if (eventfd_write(client->wake, 1) < 0)
        return;
}

static void
queue_keepalive(RpcClient *client, guint32 procedure)
{
    const RpcHeader header = {
        .program = RPC_PROGRAM_KEEPALIVE, .version = 1, .procedure = procedure, .type = RPC_MESSAGE};
    RpcMessage *message = rpc_message_new(&header);
    rpc_message_finish(message);
    rpc_connection_queue(client->connection, message);
}

// Takes the message.
static void
handle_message(RpcClient *client, RpcMessage *taken)
{
    g_autoptr(RpcMessage) message = taken;
    const RpcHeader *header = &message->header;
    client->last_received = g_get_monotonic_time();
    if (header->program == RPC_PROGRAM_KEEPALIVE) {
        if (header->procedure == RPC_KEEPALIVE_PING)
            queue_keepalive(client, RPC_KEEPALIVE_PONG);
        return;
    }
    if (header->type != RPC_REPLY && header->type != RPC_REPLY_WITH_FDS)
        return; // events and streams were not asked for
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);
    Pending *pending = g_hash_table_lookup(client->pending, GUINT_TO_POINTER(header->serial));
    if (!pending || pending->reply)
        return; // its caller has given up
    pending->reply = g_steal_pointer(&message);
    g_cond_broadcast(&client->changed);
}

// FALSE: the client is shutting down.
static gboolean
take_outgoing(RpcClient *client)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);
    for (guint i = 0; i < client->outgoing->len; i++)
        rpc_connection_queue(client->connection, g_steal_pointer(&client->outgoing->pdata[i]));
    g_ptr_array_set_size(client->outgoing, 0);
    return !client->stop;
}

static gboolean
receive_all(RpcClient *client, GError **error)
{
    for (;;) {
        RpcMessage *message = NULL;
        switch (rpc_connection_receive(client->connection, &message, error)) {
        case RPC_IO_MESSAGE:
            handle_message(client, message);
            break;
        case RPC_IO_AGAIN:
            return TRUE;
        case RPC_IO_CLOSED:
            quasar_set_error(error, VIR_ERR_RPC, "the server closed the connection");
            return FALSE;
        default:
            return FALSE;
        }
    }
}

static gboolean
check_keepalive(RpcClient *client, GError **error)
{
    g_mutex_lock(&client->lock);
    gboolean enabled = client->keepalive;
    g_mutex_unlock(&client->lock);
    gint64 now = g_get_monotonic_time();
    gint64 silent_ms = (now - client->last_received) / 1000;
    if (!enabled || silent_ms < KEEPALIVE_INTERVAL_MS)
        return TRUE;
    if (silent_ms >= KEEPALIVE_GIVE_UP_MS) {
        quasar_set_error(error, VIR_ERR_RPC, "connection closed due to keepalive timeout");
        return FALSE;
    }
    if ((now - client->last_ping) / 1000 >= KEEPALIVE_INTERVAL_MS) {
        client->last_ping = now;
        queue_keepalive(client, RPC_KEEPALIVE_PING);
    }
    return TRUE;
}

static short
poll_events(GIOCondition condition)
{
    return (short) ((condition & G_IO_IN ? POLLIN : 0) | (condition & G_IO_OUT ? POLLOUT : 0));
}

// One round: send, receive, wait. FALSE: the connection is over, *error says why.
static gboolean
serve_once(RpcClient *client, GError **error)
{
    if (!take_outgoing(client)) {
        quasar_set_error(error, VIR_ERR_RPC, "the connection was shut down");
        return FALSE;
    }
    if (!receive_all(client, error) || !check_keepalive(client, error) ||
        rpc_connection_send(client->connection, error) == RPC_IO_FAILED)
        return FALSE;
    if (rpc_connection_pending(client->connection))
        return TRUE;
    struct pollfd fds[] = {
        {.fd = rpc_connection_fd(client->connection),
         .events = poll_events(rpc_connection_condition(client->connection, TRUE))},
        {.fd = client->wake, .events = POLLIN},
    };
    poll(fds, G_N_ELEMENTS(fds), KEEPALIVE_INTERVAL_MS);
    if (fds[1].revents) {
        eventfd_t count;
        eventfd_read(client->wake, &count);
    }
    return TRUE;
}

static gpointer
client_thread(gpointer data)
{
    RpcClient *client = data;
    g_autoptr(GError) error = NULL;
    while (serve_once(client, &error))
        ;
    if (!error)
        quasar_set_error(&error, VIR_ERR_RPC, "the connection to the server was lost");
    error->code = VIR_ERR_RPC; // also for what the system said of the socket
    g_clear_pointer(&client->connection, rpc_connection_free);
    g_mutex_lock(&client->lock);
    client->ended = g_steal_pointer(&error);
    g_cond_broadcast(&client->changed);
    g_mutex_unlock(&client->lock);
    return NULL;
}

// ---- life ----

RpcClient *
rpc_client_new(int fd, TlsSession *tls)
{
    RpcClient *client = g_new0(RpcClient, 1);
    g_mutex_init(&client->lock);
    g_cond_init(&client->changed);
    client->pending = g_hash_table_new(NULL, NULL);
    client->outgoing = g_ptr_array_new_with_free_func((GDestroyNotify) rpc_message_free);
    client->connection = rpc_connection_new(fd, tls);
    client->last_received = g_get_monotonic_time();
    client->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->wake < 0)
        g_error("cannot create an eventfd: %s", g_strerror(errno));
    client->thread = g_thread_new("rpc-client", client_thread, client);
    return client;
}

void
rpc_client_start_keepalive(RpcClient *client)
{
    g_mutex_lock(&client->lock);
    client->keepalive = TRUE;
    g_mutex_unlock(&client->lock);
}

void
rpc_client_shutdown(RpcClient *client)
{
    g_mutex_lock(&client->lock);
    client->stop = TRUE;
    g_mutex_unlock(&client->lock);
    wake_thread(client);
}

void
rpc_client_free(RpcClient *client)
{
    if (!client)
        return;
    rpc_client_shutdown(client);
    g_thread_join(client->thread);
    g_mutex_lock(&client->lock);
    while (client->callers > 0)
        g_cond_wait(&client->changed, &client->lock);
    g_mutex_unlock(&client->lock);
    close(client->wake);
    g_hash_table_unref(client->pending);
    g_ptr_array_unref(client->outgoing);
    g_clear_error(&client->ended);
    g_cond_clear(&client->changed);
    g_mutex_clear(&client->lock);
    g_free(client);
}

gboolean
rpc_client_alive(RpcClient *client)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);
    return !client->stop && !client->ended;
}

// ---- calls ----

// Takes the finished message; returns its reply, or NULL.
static RpcMessage *
exchange(RpcClient *client, RpcMessage *message, guint32 serial, int timeout_ms, GError **error)
{
    Pending pending = {NULL};
    gint64 end = g_get_monotonic_time() + (gint64) timeout_ms * 1000;
    gboolean in_time = TRUE;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&client->lock);
    client->callers++;
    g_hash_table_insert(client->pending, GUINT_TO_POINTER(serial), &pending);
    g_ptr_array_add(client->outgoing, message);
    wake_thread(client);
    while (!pending.reply && !client->ended && in_time) {
        if (timeout_ms < 0)
            g_cond_wait(&client->changed, &client->lock);
        else
            in_time = g_cond_wait_until(&client->changed, &client->lock, end);
    }
    g_hash_table_remove(client->pending, GUINT_TO_POINTER(serial));
    if (!pending.reply && client->ended && error)
        *error = g_error_copy(client->ended);
    else if (!pending.reply)
        quasar_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the server did not reply within %d ms",
                         timeout_ms);
    client->callers--;
    g_cond_broadcast(&client->changed);
    return pending.reply;
}

static gboolean
decode_reply(const RpcMessage *reply, guint32 program, const RpcProcedure *procedure, void *ret,
             GError **error)
{
    const RpcHeader *header = &reply->header;
    if (header->program != program || header->procedure != procedure->number) {
        quasar_set_error(error, VIR_ERR_RPC, "the reply to %s is for procedure %u of program 0x%x",
                         procedure->name, header->procedure, header->program);
        return FALSE;
    }
    if (header->status == RPC_OK)
        return !procedure->ret_filter || rpc_message_decode(reply, procedure->ret_filter, ret, error);
    WireError wire = {0};
    if (rpc_message_decode(reply, (xdrproc_t) xdr_WireError, &wire, error))
        g_propagate_error(error, rpc_error_decode(&wire));
    xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    return FALSE;
}

gboolean
rpc_client_call(RpcClient *client, const RpcProcedure *procedure, const void *args, void *ret, int timeout_ms,
                GError **error)
{
    return rpc_client_call_program(client, RPC_PROGRAM_REMOTE, procedure, args, ret, timeout_ms, error);
}

gboolean
rpc_client_call_program(RpcClient *client, guint32 program, const RpcProcedure *procedure, const void *args,
                        void *ret, int timeout_ms, GError **error)
{
    if (ret && procedure->ret_filter)
        memset(ret, 0, procedure->ret_size);
    g_mutex_lock(&client->lock);
    // 0 is what keepalive and events carry.
    if (++client->next_serial == 0)
        client->next_serial = 1;
    guint32 serial = client->next_serial;
    g_mutex_unlock(&client->lock);
    const RpcHeader header = {
        .program = program, .version = 1, .procedure = procedure->number, .type = RPC_CALL, .serial = serial};
    g_autoptr(RpcMessage) message = rpc_message_new(&header);
    if (procedure->args_filter && !rpc_message_encode(message, procedure->args_filter, args, error))
        return FALSE;
    rpc_message_finish(message);
    g_autoptr(RpcMessage) reply = exchange(client, g_steal_pointer(&message), serial, timeout_ms, error);
    return reply && decode_reply(reply, program, procedure, ret, error);
}
