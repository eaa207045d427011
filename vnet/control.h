// SPDX-License-Identifier: LGPL-2.1-or-later
// vnet's control socket: requests decoded, answers framed, several clients one after the other.
#pragma once

#include <glib.h>
#include <jansson.h>
#include <poll.h>

#include "base/frame.h"
#include "base/tls.h"
#include "vnet/packet.h"

#define CONTROL_MAX       65536u
#define CONTROL_CLIENTS   6u
#define CONTROL_ADDRESSES 16u

typedef enum {
    CONTROL_STATUS,
    CONTROL_ACTIVATE,
    CONTROL_STANDBY,
    CONTROL_HOLD,
    CONTROL_PAIR,
    CONTROL_HAND_OVER,
    CONTROL_RECEIVE,
    CONTROL_AWAY,
    CONTROL_RELINK,
    CONTROL_SHARE,
    CONTROL_WATCH,
    CONTROL_QUIT,
} ControlCommand;

typedef struct {
    ControlCommand command;
    gboolean announce;
    int fd; // the descriptor that came with it, or -1; whoever takes it sets it to -1
    gboolean has_key;
    guint8 key[TLS_KEY];
    gboolean server;
    guint n_addresses;
    NetAddress addresses[CONTROL_ADDRESSES];
} ControlRequest;

// {"cmd": "status" | "activate" | "standby" | "hold" | "pair" | "hand-over" | "receive" | "away" | "relink" |
// "share" | "watch" | "quit", "announce": bool, "addresses": [text ...], "key": 64 hex digits, "server":
// bool}. VIR_ERR_RPC for anything else. A descriptor may be passed with a message's last byte.
gboolean control_decode(json_t *message, ControlRequest *request, GError **error);

// Answers a request; the caller of this function owns what it returns.
typedef json_t *(*ControlHandler)(ControlRequest *request, void *data);

typedef struct Control Control;

// Listens on `path`, mode 0600; a socket left there is replaced.
Control *control_open(const char *path, GError **error);
void control_free(Control *control);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_free)

// Fills in up to CONTROL_CLIENTS + 1 entries of what to wait for; control_serve() takes them back with their
// revents. A client that breaks the rules or reads too slowly is closed; vnet goes on.
guint control_poll(Control *control, struct pollfd *fds);
void control_serve(Control *control, const struct pollfd *fds, guint n, ControlHandler handler, void *data);

// Tells it (borrowed) to all clients that have asked to watch. Their own requests go on being answered.
void control_tell(Control *control, json_t *message);
