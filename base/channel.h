// SPDX-License-Identifier: LGPL-2.1-or-later
// A blocking byte channel over a socket, with or without TLS, whose waits are bounded.
#pragma once

#include <glib.h>

#include "base/tls.h"

// One thread reads and writes a channel at a time. channel_shutdown() may come from any thread and makes the
// others' calls fail at once.
typedef struct Channel Channel;

// Takes `fd` (made non-blocking) and `tls` (NULL: plain; its handshake is done).
Channel *channel_new(int fd, TlsSession *tls);
void channel_free(Channel *channel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Channel, channel_free)

int channel_fd(const Channel *channel);
TlsSession *channel_tls(const Channel *channel);

// Gives fd and TLS session back to the caller and frees the channel.
void channel_steal(Channel *channel, int *fd, TlsSession **tls);

// Ends the TLS session in order, which the other side does too at this point of its protocol, and gives back
// the socket, on which nothing has been read beyond the session. Frees the channel; -1 with an error.
int channel_end_tls(Channel *channel, int timeout_ms, GError **error);

// Writes all of it within timeout_ms (-1: no bound).
gboolean channel_write(Channel *channel, const void *data, gsize length, int timeout_ms, GError **error);

// Reads exactly `length` bytes within timeout_ms (-1: no bound). A peer that closes is VIR_ERR_RPC "closed";
// time running out is VIR_ERR_OPERATION_TIMEOUT.
gboolean channel_read(Channel *channel, void *data, gsize length, int timeout_ms, GError **error);

// Waits until a read would not block: 1 readable (or closed), 0 time is up, -1 error.
int channel_wait(Channel *channel, int timeout_ms, GError **error);

// Ends both directions of the socket; safe from any thread.
void channel_shutdown(Channel *channel);
