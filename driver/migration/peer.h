// SPDX-License-Identifier: LGPL-2.1-or-later
// Connections between two virtquasards: addresses, pinned certificates, and the first message.
#pragma once

#include <glib.h>
#include <jansson.h>

#include "base/channel.h"
#include "base/tls.h"
#include "vnet/client.h"

// What ALPN calls our protocol on the one TLS port.
#define PEER_ALPN    "quasar-peer/1"
#define PEER_VERSION 2

// How long a peer may take for anything that is not waiting for a guest.
#define PEER_TIMEOUT_MS 5000

// Where a peer listens and which certificate it shows; immutable.
typedef struct {
    char **addresses; // numeric, NULL-terminated, tried in parallel
    guint16 port;
    guint8 sha256[32]; // of the certificate (DER)
} PeerAddress;

void peer_address_free(PeerAddress *address);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerAddress, peer_address_free)
PeerAddress *peer_address_copy(const PeerAddress *address);

// {"addresses", "port", "sha256": 64 hex digits}; of NULL: NULL. Decoding gives NULL for anything else.
json_t *peer_address_encode(const PeerAddress *address);
PeerAddress *peer_address_decode(json_t *object);

// Every address of this host that others might reach: those of interfaces that are up, without loopback and
// link-local.
char **peer_local_addresses(void);

// What a connection is for. A disk's connection bears its target's name ("vda"), a NIC's its number ("0").
typedef enum {
    PEER_CONTROL,
    PEER_RAM,
    PEER_DISK,
    PEER_NIC,     // a tunnel between the two quasar-vnets of a moving guest
    PEER_RESOLVE, // ask about a handoff after its connection was lost
    PEER_LINK,    // about the link between a guest's quasar-vnet and its home anchor, whose token this is
    PEER_KIND_LAST
} PeerKind;

typedef struct {
    char *token;
    PeerKind kind;
    char *name; // PEER_DISK and PEER_NIC only
} PeerHello;

void peer_hello_free(PeerHello *hello);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerHello, peer_hello_free)

// Connects to the first address that answers, checks the pinned certificate, and sends {version, token,
// kind}. Blocks PEER_TIMEOUT_MS at most for each step. VIR_ERR_OPERATION_FAILED names every address tried.
Channel *peer_connect(const PeerAddress *address, TlsCredentials *credentials, const char *token,
                      PeerKind kind, const char *name, GError **error);

// Ends a connection as such: its socket goes to a quasar-vnet on each side, with a key that both sides make
// of the session. Takes the channel; the caller closes tunnel->fd.
gboolean peer_to_tunnel(Channel *channel, gboolean server, VnetTunnel *tunnel, GError **error);

// Reads the other end's first message, PEER_TIMEOUT_MS at most. VIR_ERR_RPC for anything that is not one.
PeerHello *peer_receive_hello(Channel *channel, GError **error);
