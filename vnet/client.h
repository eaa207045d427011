// SPDX-License-Identifier: LGPL-2.1-or-later
// The driver's side of quasar-vnet: starts one process for each guest NIC, and tells it what to pass.
#pragma once

#include <glib.h>
#include <jansson.h>
#include <sys/types.h>

#include "base/tls.h"

// A client may be used by any thread, one call at a time (calls are serialised inside). Each call blocks, 5 s
// at most (spawn: 15 s); none may be made from the main GMainContext. quasar-vnet outlives the client and the
// daemon: it ends when QEMU closes its socket, when told to quit, or when the host's NIC is gone.
typedef struct VnetClient VnetClient;

// What to start. All strings are borrowed for the call.
typedef struct {
    const char *name;        // the domain's name, for the process list and the log
    const char *nic;         // the host's NIC, e.g. "eth0"
    const char *mac;         // the guest's MAC, "52:54:00:12:34:56"
    const char *stream_path; // Unix socket where QEMU listens (-netdev stream,server=on); tried for 10 s; or
    const char *vhost_path;  // Unix socket that vnet creates for QEMU (-netdev vhost-user): start vnet before
                             // it Neither: the guest is away, and this is its home anchor, whose link is down
    gboolean offload;        // with vhost_path: the NIC's feature set is offload, not portable; else FALSE
    gboolean pcap;           // capture by libpcap (vnet/capture.h)
    pid_t emulator; // with vhost_path: QEMU's process when it runs already; vnet ends with it. 0: it does not
    const char *control_path; // Unix socket that vnet creates (mode 0600); a stale one is removed
    const char *user;     // the user it becomes once everything is open; NULL: stays who it is (tests only)
    const char *log_path; // appended to; NULL: inherits standard error
} VnetSpec;

// Starts quasar-vnet and returns when it is connected to QEMU, or listens for it (with vhost_path: 60 s at
// most, and 10 s when the connection was lost and QEMU lives), confined and in standby: nothing passes until
// vnet_client_activate(). VIR_ERR_OPERATION_FAILED carries vnet's own words (no such NIC, QEMU does not
// listen ...).
VnetClient *vnet_client_spawn(const VnetSpec *spec, GError **error);

// Connects to a vnet that is running already (the daemon restarted). VIR_ERR_OPERATION_FAILED when none
// listens.
VnetClient *vnet_client_attach(const char *control_path, GError **error);

// The same for one who would rather do without an answer: each call, and this one, waits timeout_ms at most.
VnetClient *vnet_client_attach_briefly(const char *control_path, int timeout_ms, GError **error);

// The last reference closes the connection; vnet lives on.
VnetClient *vnet_client_ref(VnetClient *client);
void vnet_client_unref(VnetClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VnetClient, vnet_client_unref)

// Frames pass both ways from now on. With `announce`, the guest is about to start running here, after a move:
// frames wait until its end takes them, and vnet tells the segment where the guest is: RARP, and gratuitous
// ARP or unsolicited neighbour advertisements for `addresses` (IPv4 and IPv6 texts, NULL-terminated; NULL:
// none). The first round has left the host when this returns; four more follow within 550 ms.
gboolean vnet_client_activate(VnetClient *client, gboolean announce, const char *const *addresses,
                              GError **error);

// One end of a tunnel to another host's vnet: a connected stream socket (borrowed for the call), and the key
// of the TLS session that the two vnets are to have on it. One end is the server.
typedef struct {
    int fd;
    guint8 key[TLS_KEY];
    gboolean server;
} VnetTunnel;

// A move without lost frames (vnet/switch.h has the theory). Before the guest is stopped the vnets of both
// hosts get the ends of a tunnel, the destination's first, and find out whether they are on one segment
// (status: "place").
gboolean vnet_client_pair(VnetClient *client, const VnetTunnel *tunnel, GError **error);
gboolean vnet_client_receive(VnetClient *client, const VnetTunnel *tunnel, GError **error);

// The source, just before the guest is stopped: frames for the guest are kept from now on (stream) or from
// its stop on (vhost-user), since what QEMU's stream reads for a stopped guest is lost; whether it has taken
// what came before, vnet_client_status() tells. Undone by vnet_client_activate(), which gives them to the
// guest.
gboolean vnet_client_hold(VnetClient *client, GError **error);

// The source, when the guest has been released: nothing of it goes out any more; what was kept, and all that
// still comes for it here, goes through the tunnel. VIR_ERR_OPERATION_FAILED: there is none.
gboolean vnet_client_hand_over(VnetClient *client, GError **error);

// A vnet that starts in the place of another, before vnet_client_activate(): the guest is away from its
// segment.
gboolean vnet_client_away(VnetClient *client, GError **error);

// The next tunnel between a guest that is away and its home; the one before it may still stand.
gboolean vnet_client_relink(VnetClient *client, const VnetTunnel *tunnel, GError **error);

// An anchor, and the destination's vnet of the guest that comes home to the anchor's NIC: told to both when
// the tunnel of the move is there.
gboolean vnet_client_share(VnetClient *client, GError **error);

// From now on this connection is told when the link comes up and goes down, and is of no other use. *up: how
// it is now. vnet_client_wait() waits for the next word: 1 it has come, 0 timeout_ms (-1: no bound) have
// passed, -1 vnet has ended, or vnet_client_cut() was called, by any thread.
gboolean vnet_client_watch(VnetClient *client, gboolean *up, GError **error);
int vnet_client_wait(VnetClient *client, int timeout_ms, gboolean *up);
void vnet_client_cut(VnetClient *client);

// Nothing passes any more: when this returns, all that a stopped guest has sent is out, and no further frame
// of it goes out.
gboolean vnet_client_standby(VnetClient *client, GError **error);

// The caller owns the object: "mode" ("active", "standby", "holding", "leaving", "arriving", "settling",
// "away", "anchor", "passing"), "away" (the guest is not on its segment), "place" (of a move: "unknown",
// "here", "away"), "strays" (the segment still sends the guest's frames to where it came from), "link" (null
// or {"up", "waiting": bytes, "round-trip": us or -1}),
// "pid", "nic", "mac", "mtu", "to_guest" and "from_guest" {"frames", "bytes"}, "drops" {reason: count},
// "capture" {"received", "dropped", "ifdropped"}, "port" {"kind": "stream" or "vhost-user", "ready",
// "taken" (stream: QEMU has read all that was sent to it), ...},
// "waiting", "duplicates", "addresses" [texts: what the guest was seen to own, for vnet_client_activate() at
// the destination].
json_t *vnet_client_status(VnetClient *client, GError **error);

// vnet answers, then ends with code 0.
gboolean vnet_client_quit(VnetClient *client, GError **error);

// The process, as the peer of the control socket; start time in clock ticks since boot (/proc/PID/stat, field
// 22).
pid_t vnet_client_pid(const VnetClient *client);
guint64 vnet_client_start_time(const VnetClient *client);

// The NIC of the IPv4 default route (lowest metric); caller frees. VIR_ERR_CONFIG_UNSUPPORTED when there is
// none, saying that the domain's XML must name one.
char *vnet_default_nic(GError **error);

// Whether a guest can be put on this NIC: it exists and is Ethernet, no loopback, and as far as can be told
// frames for foreign MACs come by it: not wireless (access points drop them), no macvlan or ipvlan.
// VIR_ERR_CONFIG_UNSUPPORTED with the reason.
gboolean vnet_check_nic(const char *nic, GError **error);
