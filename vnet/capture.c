// SPDX-License-Identifier: LGPL-2.1-or-later
// The NIC behind a capture: which one it is, whether it is still there, and the choice of backend.
#include "vnet/capture.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/capture_backend.h"

char *
capture_filter(const MacAddress *mac)
{
    g_autofree char *text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac->bytes[0], mac->bytes[1],
                                            mac->bytes[2], mac->bytes[3], mac->bytes[4], mac->bytes[5]);
    return g_strdup_printf("(ether dst %s or ether multicast) and not ether src %s", text, text);
}

void
capture_buffer(int fd, int force, int option, int size)
{
    if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) != 0)
        setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size));
}

gboolean
capture_refuse(const Capture *capture, GError **error)
{
    quasar_set_error(
        error, VIR_ERR_OPERATION_DENIED,
        "cannot capture on '%s': CAP_NET_RAW is missing; virtquasard must run as root, and nothing "
        "that confines it (unit, container) may take that capability away",
        capture->nic);
    return FALSE;
}

static gboolean
read_link(Capture *capture, GError **error)
{
    struct ifreq request = {0};
    g_strlcpy(request.ifr_name, capture->nic, sizeof(request.ifr_name));
    if (ioctl(capture->probe, SIOCGIFINDEX, &request) != 0) {
        quasar_set_system_error(error, errno, "cannot find '%s'", capture->nic);
        return FALSE;
    }
    capture->index = request.ifr_ifindex;
    if (ioctl(capture->probe, SIOCGIFMTU, &request) != 0) {
        quasar_set_system_error(error, errno, "cannot read the MTU of '%s'", capture->nic);
        return FALSE;
    }
    capture->mtu = (guint) request.ifr_mtu;
    return TRUE;
}

// Whether the NIC opened is still there, and whether it is up.
static gboolean
present(const Capture *capture, gboolean *up)
{
    struct ifreq request = {0};
    g_strlcpy(request.ifr_name, capture->nic, sizeof(request.ifr_name));
    if (ioctl(capture->probe, SIOCGIFINDEX, &request) != 0 || request.ifr_ifindex != capture->index)
        return FALSE;
    *up = ioctl(capture->probe, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP);
    return TRUE;
}

// Of protocol 0: it receives nothing.
static gboolean
open_marks(Capture *capture, GError **error)
{
    const struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = capture->index};
    capture->marks = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (capture->marks >= 0 && bind(capture->marks, (const struct sockaddr *) &address, sizeof(address)) == 0)
        return TRUE;
    return quasar_set_system_error(error, errno, "cannot send on '%s'", capture->nic);
}

Capture *
capture_open(CaptureKind kind, const char *nic, const MacAddress *mac, GError **error)
{
    static const CaptureBackend *const backends[] = {
        [CAPTURE_PACKET] = &capture_packet,
        [CAPTURE_PCAP] = &capture_pcap,
    };
    g_autoptr(Capture) capture = g_new0(Capture, 1);
    capture->fd = capture->marks = -1;
    capture->probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (strlen(nic) >= sizeof(capture->nic)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no name of a NIC", nic);
        return NULL;
    }
    g_strlcpy(capture->nic, nic, sizeof(capture->nic));
    if (!read_link(capture, error))
        return NULL;
    capture->backend = backends[kind];
    return capture->backend->open(capture, mac, error) && open_marks(capture, error)
               ? g_steal_pointer(&capture)
               : NULL;
}

void
capture_close(Capture *capture)
{
    if (!capture)
        return;
    if (capture->backend)
        capture->backend->close(capture);
    if (capture->probe >= 0)
        close(capture->probe);
    if (capture->marks >= 0)
        close(capture->marks);
    g_free(capture);
}

int
capture_fd(const Capture *capture)
{
    return capture->fd;
}

guint
capture_mtu(const Capture *capture)
{
    return capture->mtu;
}

gboolean
capture_read(Capture *capture, guint limit, CaptureFrame frame, void *data, GError **error)
{
    g_autofree char *problem = NULL;
    gboolean up;
    if (capture->backend->read(capture, limit, frame, data, &problem))
        return TRUE;
    // A link that goes down is an error to a capture; it may come up again.
    if (present(capture, &up) && !up)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' is gone: %s", capture->nic, problem);
    return FALSE;
}

void
capture_mark(Capture *capture, const guint8 *frame, gsize length)
{
    // One that is lost is missed by those who wait for it, and they do not wait for long.
    if (send(capture->marks, frame, length, MSG_DONTWAIT) < 0)
        g_debug("cannot send a marker: %s", g_strerror(errno));
}

gboolean
capture_takes_offload(const Capture *capture)
{
    return capture->backend->takes_offload;
}

CaptureSend
capture_send(Capture *capture, const Offload *offload, const struct iovec *parts, guint n)
{
    return capture->backend->send(capture, offload, parts, n);
}

void
capture_stats(Capture *capture, CaptureStats *stats)
{
    capture->backend->stats(capture, stats);
}

gboolean
capture_alive(Capture *capture, gboolean *up, GError **error)
{
    if (!present(capture, up)) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' is gone from this host", capture->nic);
        return FALSE;
    }
    capture->down = *up ? 0 : capture->down + 1;
    if (capture->down > CAPTURE_DOWN_MAX) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' has been down for %u s", capture->nic,
                         CAPTURE_DOWN_MAX);
        return FALSE;
    }
    return TRUE;
}
