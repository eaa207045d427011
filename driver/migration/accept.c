// SPDX-License-Identifier: LGPL-2.1-or-later
// Connections of peers: each is given to the move, and to that part of it, for which it comes.
#include "driver/migration/migration.h"

#include "base/error.h"
#include "driver/migration/anchor_home.h"
#include "driver/migration/conversation.h"
#include "driver/migration/incoming.h"
#include "driver/migration/nics.h"
#include "driver/migration/peer.h"
#include "driver/migration/resolve.h"

typedef struct {
    Driver *driver;
    Channel *channel;
} PeerTask;

static void
serve_peer(Driver *driver, Channel *channel)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PeerHello) hello = peer_receive_hello(channel, &error);
    if (hello && hello->kind == PEER_RESOLVE) {
        resolve_answer(driver, hello->token, channel);
        return;
    }
    if (hello && hello->kind == PEER_LINK) {
        anchor_home_answer(driver, hello->token, channel);
        return;
    }
    g_autoptr(Incoming) incoming = hello ? incoming_by_token(hello->token) : NULL;
    if (!incoming) {
        g_message("a peer connection is closed: %s", error ? error->message : "its token is unknown here");
        channel_free(channel);
        return;
    }
    if (hello->kind == PEER_CONTROL)
        conversation_hold(incoming, channel);
    else if (hello->kind == PEER_NIC)
        move_nics_receive(incoming, hello->name, channel);
    else {
        if (hello->kind == PEER_RAM)
            incoming_begin_writeback(incoming);
        incoming_relay(incoming, hello->name ? hello->name : "ram",
                       hello->kind == PEER_RAM ? "ram.sock" : "nbd.sock", channel);
    }
}

static gpointer
peer_main(gpointer data)
{
    g_autofree PeerTask *task = data;
    serve_peer(task->driver, task->channel);
    return NULL;
}

void
migration_accept_peer(Driver *driver, int fd, TlsSession *tls)
{
    PeerTask *task = g_new0(PeerTask, 1);
    task->driver = driver;
    task->channel = channel_new(fd, tls);
    g_thread_unref(g_thread_new("peer", peer_main, task));
}
