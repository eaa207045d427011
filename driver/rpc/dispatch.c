// SPDX-License-Identifier: LGPL-2.1-or-later
// From a frame to a procedure, and from its result to a reply.
#include <unistd.h>

#include "base/error.h"
#include "driver/rpc/internal.h"
#include "driver/rpc/remote.h"

RpcSession *
rpc_call_session(RpcCall *call)
{
    return call->session;
}

void
rpc_call_open_stream(RpcCall *call, RpcStream *stream, int fd, RpcStreamEnded ended, gpointer data)
{
    g_assert(!call->stream);
    rpc_stream_prepare(stream, fd, ended, data);
    call->stream = rpc_stream_ref(stream);
}

gboolean
rpc_call_pass_fd(RpcCall *call, int fd, GError **error)
{
    if (!call->session->can_pass_fds || call->n_fds == RPC_FDS_MAX) {
        close(fd);
        quasar_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                         "file descriptors can only be passed over a UNIX socket");
        return FALSE;
    }
    call->fds[call->n_fds++] = fd;
    return TRUE;
}

int
rpc_call_fd(RpcCall *call, guint n)
{
    return n < call->message->n_fds ? call->message->fds[n] : -1;
}

static void
call_free(RpcCall *call)
{
    for (guint i = 0; i < call->n_fds; i++)
        close(call->fds[i]);
    rpc_message_free(call->message);
    rpc_session_unref(call->session);
    g_free(call);
}

static RpcMessage *
reply_new(const RpcHeader *call, RpcType type, RpcStatus status)
{
    RpcHeader header = *call;
    header.type = type;
    header.status = status;
    return rpc_message_new(&header);
}

RpcMessage *
rpc_error_message(const RpcHeader *call, RpcType type, const GError *error)
{
    WireError wire = {0};
    // Clients know "unknown procedure" by the domain too.
    if (quasar_error_code(error) == VIR_ERR_NO_SUPPORT)
        rpc_error_encode_domain(&wire, error, VIR_FROM_RPC);
    else
        rpc_error_encode(&wire, error);
    RpcMessage *reply = reply_new(call, type, RPC_ERROR);
    if (!rpc_message_encode(reply, (xdrproc_t) xdr_WireError, &wire, NULL))
        g_warning("an error could not be encoded: %s", error->message);
    rpc_message_finish(reply);
    xdr_free((xdrproc_t) xdr_WireError, (char *) &wire);
    return reply;
}

// ---- on a worker ----

static RpcMessage *
call_handler(RpcCall *call, const void *args, void *ret, GError **error)
{
    const RpcProcedure *procedure = call->procedure;
    if (!procedure->handler(call, args, ret, error)) {
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s failed without a reason", procedure->name);
        return NULL;
    }
    g_autoptr(RpcMessage) reply =
        reply_new(&call->message->header, call->n_fds ? RPC_REPLY_WITH_FDS : RPC_REPLY, RPC_OK);
    if (ret && !rpc_message_encode(reply, procedure->ret_filter, ret, error))
        return NULL;
    for (guint i = 0; i < call->n_fds; i++)
        rpc_message_add_fd(reply, call->fds[i]);
    call->n_fds = 0;
    rpc_message_finish(reply);
    return g_steal_pointer(&reply);
}

static RpcMessage *
run(RpcCall *call, GError **error)
{
    const RpcProcedure *procedure = call->procedure;
    g_autofree void *args = procedure->args_filter ? g_malloc0(procedure->args_size) : NULL;
    g_autofree void *ret = procedure->ret_filter ? g_malloc0(procedure->ret_size) : NULL;
    RpcMessage *reply = NULL;
    if (!args || rpc_message_decode(call->message, procedure->args_filter, args, error))
        reply = call_handler(call, args, ret, error);
    if (args)
        xdr_free(procedure->args_filter, args);
    if (ret)
        xdr_free(procedure->ret_filter, ret);
    return reply;
}

typedef struct Answer {
    RpcHeader header;
    RpcMessage *reply;
    RpcStream *stream;
    gboolean open_stream; // else it only ends
} Answer;

static void
answer_free(gpointer data)
{
    Answer *answer = data;
    rpc_message_free(answer->reply);
    if (answer->stream)
        rpc_stream_end(answer->stream);
    rpc_stream_unref(answer->stream);
    g_free(answer);
}

static gboolean
answer_send(gpointer data)
{
    RpcSession *session = ((gpointer *) data)[0];
    Answer *answer = ((gpointer *) data)[1];
    session->requests--;
    rpc_session_queue(session, g_steal_pointer(&answer->reply));
    if (session->connection && answer->open_stream)
        rpc_stream_start(g_steal_pointer(&answer->stream), &answer->header);
    rpc_session_resume(session);
    return G_SOURCE_REMOVE;
}

void
rpc_dispatch_run(gpointer data, gpointer server)
{
    RpcCall *call = data;
    RpcSession *session = call->session;
    g_autoptr(GError) error = NULL;
    RpcMessage *reply = run(call, &error);
    gboolean ok = reply != NULL;
    if (!ok) {
        g_debug("client %" G_GUINT64_FORMAT ": %s: %s", session->id, call->procedure->name, error->message);
        reply = rpc_error_message(&call->message->header, RPC_REPLY, error);
    }
    if (!ok && (call->procedure->flags & RPC_OPENS))
        g_atomic_int_set(&session->opened, 0);
    if (ok && (call->procedure->flags & RPC_OPENS))
        g_atomic_int_set(&session->opened, 2);

    Answer *answer = g_new0(Answer, 1);
    *answer = (Answer){call->message->header, reply, g_steal_pointer(&call->stream), FALSE};
    answer->open_stream = ok && answer->stream;
    rpc_session_post(session, answer_send, answer, answer_free);
    if (ok && (call->procedure->flags & RPC_CLOSES))
        rpc_session_close_after_reply(session);
    call_free(call);
}

// ---- on the I/O thread ----

static const RpcProgram *
find_program(RpcServer *server, const RpcHeader *header)
{
    for (gsize i = 0; i < server->n_programs; i++)
        if (server->programs[i].program == header->program && server->programs[i].version == header->version)
            return &server->programs[i];
    return NULL;
}

// Clients print "this function is not supported by the connection driver: " before it.
static void
refuse_procedure(const RpcProgram *program, guint number, GError **error)
{
    const char *name = program->procedure_name ? program->procedure_name(number) : NULL;
    if (name)
        quasar_set_error(error, VIR_ERR_NO_SUPPORT, "%s", name);
    else
        quasar_set_error(error, VIR_ERR_NO_SUPPORT, "unknown procedure: %u", number);
}

// The procedure to run, or NULL and the refusal. `opened`: 0 no, 1 being opened, 2 yes.
static const RpcProcedure *
admit(RpcSession *session, const RpcHeader *header, GError **error)
{
    const RpcProgram *program = find_program(session->server, header);
    int opened = g_atomic_int_get(&session->opened);
    if (!program) {
        quasar_set_error(error, VIR_ERR_NO_SUPPORT, "program 0x%08x version %u is not served here",
                         header->program, header->version);
        return NULL;
    }
    if (header->status != RPC_OK) {
        quasar_set_error(error, VIR_ERR_RPC, "unexpected status %u of a call", header->status);
        return NULL;
    }
    const RpcProcedure *procedure = rpc_program_find(program, header->procedure);
    if (!procedure || !procedure->handler)
        refuse_procedure(program, header->procedure, error);
    else if ((procedure->flags & RPC_OPENS) && opened)
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "the connection is open already");
    else if (!(procedure->flags & (RPC_BEFORE_OPEN | RPC_OPENS | RPC_CLOSES)) && opened != 2)
        quasar_set_error(error, VIR_ERR_INTERNAL_ERROR, "hypervisor connection not open");
    else if (!(procedure->flags & RPC_READ_ONLY_OK) && rpc_session_read_only(session))
        quasar_set_error(error, VIR_ERR_OPERATION_DENIED, "read only access prevents %s", procedure->name);
    else
        return procedure;
    return NULL;
}

static void
dispatch_call(RpcSession *session, RpcMessage *message)
{
    g_autoptr(GError) error = NULL;
    const RpcProcedure *procedure = admit(session, &message->header, &error);
    if (!procedure) {
        rpc_session_queue(session, rpc_error_message(&message->header, RPC_REPLY, error));
        rpc_message_free(message);
        return;
    }
    if (procedure->flags & RPC_OPENS)
        g_atomic_int_set(&session->opened, 1);
    RpcCall *call = g_new0(RpcCall, 1);
    call->session = rpc_session_ref(session);
    call->procedure = procedure;
    call->message = message;
    session->requests++;
    RpcServer *server = session->server;
    gboolean priority = (procedure->flags & RPC_PRIORITY) != 0;
    g_thread_pool_push(priority ? server->priority_workers : server->workers, call, NULL);
}

static void
dispatch_keepalive(RpcSession *session, const RpcHeader *header)
{
    if (header->type != RPC_MESSAGE || header->procedure != RPC_KEEPALIVE_PING)
        return;
    RpcMessage *pong = rpc_message_new(header);
    pong->header.procedure = RPC_KEEPALIVE_PONG;
    rpc_message_finish(pong);
    rpc_session_queue(session, pong);
}

void
rpc_dispatch(RpcSession *session, RpcMessage *message)
{
    switch (message->header.type) {
    case RPC_CALL:
    case RPC_CALL_WITH_FDS:
        dispatch_call(session, message);
        return;
    case RPC_STREAM:
    case RPC_STREAM_HOLE:
        rpc_stream_receive(session, message);
        break;
    default:
        // Replies and messages that nobody waits for are dropped, as libvirt's server does.
        if (message->header.program == RPC_PROGRAM_KEEPALIVE)
            dispatch_keepalive(session, &message->header);
    }
    rpc_message_free(message);
}
