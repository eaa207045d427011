// SPDX-License-Identifier: LGPL-2.1-or-later
// A relay: bytes between an emulator's unix socket and a peer's TLS connection, both ways.
#pragma once

#include <glib.h>

#include "base/channel.h"

// Theory of operation: one thread runs one poll loop that owns both directions, because a GnuTLS session must
// not be used by two threads. Each direction holds one bounded buffer: what the peer has not taken stays in
// the emulator's socket, so QEMU never believes data sent that is only queued here.
typedef struct Relay Relay;

// Starts a relay between `local` (a connected unix socket; the relay takes it) and `peer` (the relay takes
// it).
Relay *relay_start(const char *name, int local, Channel *peer);

// The same for the first connection that `listener` (a listening unix socket; the relay takes it) accepts.
Relay *relay_start_listening(const char *name, int listener, Channel *peer);

// Cuts both sides at once; they see a closed connection. Safe from any thread, more than once.
void relay_cut(Relay *relay);

// Bytes from the emulator to the peer, and back; safe from any thread.
guint64 relay_bytes_out(Relay *relay);
guint64 relay_bytes_in(Relay *relay);

// Cuts, waits for the thread, frees.
void relay_free(Relay *relay);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Relay, relay_free)
