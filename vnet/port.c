// SPDX-License-Identifier: LGPL-2.1-or-later
// Calls of a port, handed to its kind.
#include "vnet/port.h"

void
port_close(Port *port)
{
    if (port)
        port->ops->close(port);
}

guint
port_poll(Port *port, struct pollfd *fds)
{
    return port->ops->poll(port, fds);
}

int
port_wait_ms(const Port *port)
{
    return port->ops->wait_ms ? port->ops->wait_ms(port) : -1;
}

PortState
port_serve(Port *port, const struct pollfd *fds, guint n, GError **error)
{
    return port->ops->serve(port, fds, n, error);
}

gboolean
port_takes(const Port *port, const Offload *offload)
{
    return port->ops->takes(port, offload);
}

PortDelivery
port_deliver(Port *port, guint8 *frame, gsize length, const Offload *offload)
{
    return port->ops->deliver(port, frame, length, offload);
}

gboolean
port_has_room(const Port *port)
{
    return port->ops->has_room(port);
}

void
port_flush(Port *port)
{
    port->ops->flush(port);
}

json_t *
port_status(const Port *port)
{
    return port->ops->status(port);
}

gboolean
port_is_ready(const Port *port)
{
    return port->ops->is_ready(port);
}

gboolean
port_tells_exactly(const Port *port)
{
    return port->ops->tells_exactly;
}

void
port_drain(Port *port)
{
    port->ops->drain(port);
}

void
port_take_back(Port *port, PortTaken taken, void *data)
{
    if (port->ops->take_back)
        port->ops->take_back(port, taken, data);
}
