// SPDX-License-Identifier: LGPL-2.1-or-later
// One table of procedures serves both halves of the wire: our server and our own client.
#pragma once

#include <glib.h>
#include <rpc/types.h>
#include <rpc/xdr.h>

#define RPC_PROGRAM_REMOTE    0x20008086u
#define RPC_PROGRAM_QEMU      0x20008087u
#define RPC_PROGRAM_KEEPALIVE 0x6b656570u

// Our own: what libvirt's API has no words for (driver/rpc/quasar.x). It reads "quas". A program's number has
// a meaning only between the two ends of a connection, and this one is called only after CONNECT_OPEN has
// taken our name, so that only virtquasard is ever asked; and libvirt's clients, which may be asked to talk
// to us, use the three above and no other. Nor is it another that libvirt has given out: those are 0x20008086
// and up, 0x00068000 (LXC), 0x06900690 (administration) and 0x0EA7BEEF (locks).
#define RPC_PROGRAM_QUASAR 0x71756173u

#define RPC_TLS_PORT 16514 // of libvirt, unless configured

typedef struct RpcCall RpcCall;
typedef struct RpcSession RpcSession;

enum {
    RPC_READ_ONLY_OK = 1 << 0, // allowed on a read-only connection
    RPC_PRIORITY = 1 << 1,     // never waits for a guest: runs on the reserved workers
    RPC_BEFORE_OPEN = 1 << 2,  // allowed before CONNECT_OPEN
    RPC_OPENS = 1 << 3,  // its success opens the connection; a second one is refused (implies BEFORE_OPEN)
    RPC_CLOSES = 1 << 4, // the connection is closed after its reply
};

// Runs on a worker thread and may block. `args` is decoded, `ret` zeroed; both are released with xdr_free(),
// so what a handler puts into `ret` comes from malloc() (g_malloc() is the same allocator). Either is NULL
// when the procedure has none.
typedef gboolean (*RpcHandler)(RpcCall *call, const void *args, void *ret, GError **error);

typedef struct RpcProcedure {
    guint number;
    const char *name; // as in libvirt's API, for messages: "virDomainCreate"
    gsize args_size;  // 0 with a NULL filter: no arguments
    xdrproc_t args_filter;
    gsize ret_size;
    xdrproc_t ret_filter;
    guint flags;
    RpcHandler handler; // NULL: the server answers NO_SUPPORT (known only to our client)
} RpcProcedure;

typedef struct RpcProgram {
    guint32 program;
    guint32 version;
    const RpcProcedure *procedures; // sorted by number or not
    gsize n;
    // The API's name of a procedure, served or not, for refusals; NULL: it has none. Static, from any thread.
    const char *(*procedure_name)(guint number); // may be NULL
} RpcProgram;

// One row: RPC_PROCEDURE(WIRE_DOMAIN_CREATE, "virDomainCreate", WireDomainArgs, RpcVoid, 0, domain_create).
// RpcVoid stands for no arguments or no result.
typedef char RpcVoid;
#define xdr_RpcVoid NULL
#define RPC_PROCEDURE(num, text, Args, Ret, bits, function)                                                  \
    {                                                                                                        \
        .number = (num), .name = (text), .args_size = sizeof(Args), .args_filter = (xdrproc_t) xdr_##Args,   \
        .ret_size = sizeof(Ret), .ret_filter = (xdrproc_t) xdr_##Ret, .flags = (bits), .handler = (function) \
    }

const RpcProcedure *rpc_program_find(const RpcProgram *program, guint number);

// ---- for handlers ----

RpcSession *rpc_call_session(RpcCall *call);

// A stream between the client of a call and a descriptor. Reference-counted; safe from any thread.
typedef struct RpcStream RpcStream;

// Not open yet, but it can be aborted already.
RpcStream *rpc_stream_new(RpcCall *call);
RpcStream *rpc_stream_ref(RpcStream *stream);
void rpc_stream_unref(RpcStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RpcStream, rpc_stream_unref)

// Runs once, on the I/O thread: the stream was finished, aborted or lost with its client, or could not be
// opened. The descriptor is closed. Must not block.
typedef void (*RpcStreamEnded)(gpointer data);

// After a successful reply, moves bytes both ways between `fd` (taken over, made non-blocking) and the client
// until either side ends. Once a call at most. The program ignores SIGPIPE.
void rpc_call_open_stream(RpcCall *call, RpcStream *stream, int fd, RpcStreamEnded ended, gpointer data);

// Ends a stream with an error for its client; one that has ended stays as it is. Copies the error.
void rpc_stream_abort(RpcStream *stream, const GError *error);

// Sends `fd` (taken over) with the reply. FALSE when the connection cannot carry it (no UNIX socket).
gboolean rpc_call_pass_fd(RpcCall *call, int fd, GError **error);

// The nth descriptor that came with the call, or -1; stays the call's.
int rpc_call_fd(RpcCall *call, guint n);
