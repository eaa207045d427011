// SPDX-License-Identifier: LGPL-2.1-or-later
// The port of a guest that has never been here: a home anchor's.
#include "vnet/port.h"

static void
none_close(Port *port)
{
    g_free(port);
}

static guint
none_poll(Port *port G_GNUC_UNUSED, struct pollfd *fds G_GNUC_UNUSED)
{
    return 0;
}

static PortState
none_serve(Port *port G_GNUC_UNUSED, const struct pollfd *fds G_GNUC_UNUSED, guint n G_GNUC_UNUSED,
           GError **error G_GNUC_UNUSED)
{
    return PORT_CLOSED;
}

static gboolean
none_takes(const Port *port G_GNUC_UNUSED, const Offload *offload G_GNUC_UNUSED)
{
    return TRUE;
}

static PortDelivery
none_deliver(Port *port G_GNUC_UNUSED, guint8 *frame G_GNUC_UNUSED, gsize length G_GNUC_UNUSED,
             const Offload *offload G_GNUC_UNUSED)
{
    return PORT_UNREADY;
}

static gboolean
none_has_room(const Port *port G_GNUC_UNUSED)
{
    return TRUE;
}

static void
none_flush(Port *port G_GNUC_UNUSED)
{
}

static json_t *
none_status(const Port *port G_GNUC_UNUSED)
{
    return json_pack("{s:s, s:b}", "kind", "none", "ready", 0);
}

static const PortOps none_ops = {
    .close = none_close,
    .poll = none_poll,
    .serve = none_serve,
    .takes = none_takes,
    .deliver = none_deliver,
    .has_room = none_has_room,
    .flush = none_flush,
    .status = none_status,
    .is_ready = none_has_room,
    .drain = none_flush,
};

Port *
port_none_open(void)
{
    Port *port = g_new0(Port, 1);
    port->ops = &none_ops;
    return port;
}
