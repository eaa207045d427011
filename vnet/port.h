// SPDX-License-Identifier: LGPL-2.1-or-later
// The guest's end of its NIC, whatever carries frames to the emulator.
#pragma once

#include <glib.h>
#include <jansson.h>
#include <poll.h>
#include <sys/uio.h>

#include "vnet/offload.h"

typedef struct Port Port;

// One frame from the guest. The first part is a private copy that the guest cannot change any more: all of
// the frame, or at least PORT_HEAD bytes; the parts behind may change while they are read.
#define PORT_HEAD 128u
typedef void (*PortFrame)(const struct iovec *parts, guint n, gsize length, const Offload *offload,
                          void *data);

typedef enum {
    PORT_GOES_ON,
    PORT_CLOSED, // the emulator ended
    PORT_BROKEN, // ... or broke the rules: the error says how
} PortState;

typedef enum {
    PORT_DELIVERED,
    PORT_UNREADY, // nobody has ever been there to take it
    PORT_FULL,
} PortDelivery;

// One frame that the guest has not got.
typedef void (*PortTaken)(guint8 *frame, gsize length, const Offload *offload, void *data);

#define PORT_FDS 4u

// What a kind of port provides; each function's rules are those of the port_*() below.
typedef struct {
    void (*close)(Port *port);
    guint (*poll)(Port *port, struct pollfd *fds);
    int (*wait_ms)(const Port *port); // may be NULL: for ever
    PortState (*serve)(Port *port, const struct pollfd *fds, guint n, GError **error);
    gboolean (*takes)(const Port *port, const Offload *offload);
    PortDelivery (*deliver)(Port *port, guint8 *frame, gsize length, const Offload *offload);
    gboolean (*has_room)(const Port *port);
    void (*flush)(Port *port);
    json_t *(*status)(const Port *port);
    gboolean tells_exactly;
    gboolean (*is_ready)(const Port *port);
    void (*drain)(Port *port);
    void (*take_back)(Port *port, PortTaken taken, void *data); // may be NULL: what was delivered is gone
} PortOps;

// Each port begins with this.
struct Port {
    const PortOps *ops;
    PortFrame frame;
    void *data;
};

void port_close(Port *port);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Port, port_close)

// Fills in up to PORT_FDS entries of what to wait for; port_serve() takes them back with their revents and
// hands the guest's frames over.
guint port_poll(Port *port, struct pollfd *fds);
int port_wait_ms(const Port *port); // -1: until one of them is ready
PortState port_serve(Port *port, const struct pollfd *fds, guint n, GError **error);

// Whether the guest takes a frame with this work left; if not, it is to be done before port_deliver().
gboolean port_takes(const Port *port, const Offload *offload);
PortDelivery port_deliver(Port *port, guint8 *frame, gsize length, const Offload *offload);

// FALSE: frames are better left where they are until the guest has made room, which shows in port_poll()'s
// entries.
gboolean port_has_room(const Port *port);

// To be called when the last of several frames was delivered.
void port_flush(Port *port);

// Whether the guest's end takes frames now.
gboolean port_is_ready(const Port *port);

// Whether a frame that was delivered while the port was ready has reached the guest's memory for certain.
gboolean port_tells_exactly(const Port *port);

// Hands over all frames that the guest, which stands still, has sent.
void port_drain(Port *port);

// Takes out what was delivered and has not reached the guest, as far as that is known.
void port_take_back(Port *port, PortTaken taken, void *data);

// What `status` shows of it; the caller owns it.
json_t *port_status(const Port *port);

// Listens on `path` for an emulator (-netdev vhost-user, its chardev a client that reconnects), mode 0600.
Port *port_vhost_open(const char *path, gboolean offload, PortFrame frame, void *data, GError **error);

// Of a port_vhost_open(): the emulator that is to come runs already, and its end is the end, also before it
// has come.
gboolean port_vhost_expect(Port *port, pid_t emulator, GError **error);

// The emulator listens on `path` (-netdev stream); tried for 10 s.
Port *port_stream_open(const char *path, PortFrame frame, void *data, GError **error);

// Of no emulator: whoever is at its other end is elsewhere.
Port *port_none_open(void);
