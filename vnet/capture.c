// SPDX-License-Identifier: LGPL-2.1-or-later
// libpcap on the host's NIC.
#include "vnet/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <pcap/pcap.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

// Theory of operation: in immediate mode libpcap's ring on Linux has slots of one size, that of the longest
// frame: the MTU's, or the snapshot length when the NIC merges or splits segments. A ring for 1024 of the
// latter takes 66 MiB; with the former the same memory holds some 40000 frames. The default of 2 MiB would be
// 32 slots.
#define CAPTURE_SNAPLEN 65535
#define CAPTURE_RING    (1024 * (CAPTURE_SNAPLEN + 1 + 2048))
#define CAPTURE_SEND    (4 << 20)

struct Capture {
    pcap_t *pcap;
    int probe; // any socket: takes the ioctls that ask for the NIC's state
    int fd;
    guint mtu;
    int index;
    guint down; // calls of capture_alive() in a row that found it down
    char nic[IFNAMSIZ];
};

char *
capture_filter(const MacAddress *mac)
{
    g_autofree char *text = g_strdup_printf("%02x:%02x:%02x:%02x:%02x:%02x", mac->bytes[0], mac->bytes[1],
                                            mac->bytes[2], mac->bytes[3], mac->bytes[4], mac->bytes[5]);
    return g_strdup_printf("(ether dst %s or ether multicast) and not ether src %s", text, text);
}

static gboolean
set_filter(Capture *capture, const MacAddress *mac, GError **error)
{
    g_autofree char *expression = capture_filter(mac);
    struct bpf_program program;
    if (pcap_compile(capture->pcap, &program, expression, 1, PCAP_NETMASK_UNKNOWN) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot compile the filter of '%s': %s",
                         capture->nic, pcap_geterr(capture->pcap));
        return FALSE;
    }
    int result = pcap_setfilter(capture->pcap, &program);
    pcap_freecode(&program);
    if (result != 0)
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot set the filter of '%s': %s", capture->nic,
                         pcap_geterr(capture->pcap));
    return result == 0;
}

static gboolean
activate(Capture *capture, GError **error)
{
    pcap_set_snaplen(capture->pcap, CAPTURE_SNAPLEN);
    pcap_set_promisc(capture->pcap, 1);
    pcap_set_immediate_mode(capture->pcap, 1);
    pcap_set_buffer_size(capture->pcap, CAPTURE_RING);
    int result = pcap_activate(capture->pcap);
    if (result < 0) {
        const char *text = pcap_geterr(capture->pcap);
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot capture on '%s': %s%s%s", capture->nic,
                         pcap_statustostr(result), text[0] ? ": " : "", text);
        return FALSE;
    }
    if (result == PCAP_WARNING_PROMISC_NOTSUP) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                         "'%s' has no promiscuous mode, so that frames for a guest do not reach this host",
                         capture->nic);
        return FALSE;
    }
    if (pcap_datalink(capture->pcap) != DLT_EN10MB) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' is not an Ethernet NIC", capture->nic);
        return FALSE;
    }
    return TRUE;
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

// Sends must not stop the loop when the NIC stands still: a full socket drops and counts, so the socket is
// made large.
static gboolean
prepare_socket(Capture *capture, GError **error)
{
    char text[PCAP_ERRBUF_SIZE];
    int size = CAPTURE_SEND;
    if (pcap_setnonblock(capture->pcap, 1, text) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot capture on '%s': %s", capture->nic, text);
        return FALSE;
    }
    capture->fd = pcap_get_selectable_fd(capture->pcap);
    if (setsockopt(capture->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0)
        setsockopt(capture->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    if (fcntl(capture->fd, F_SETFL, fcntl(capture->fd, F_GETFL) | O_NONBLOCK) != 0) {
        quasar_set_system_error(error, errno, "cannot capture on '%s'", capture->nic);
        return FALSE;
    }
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

Capture *
capture_open(const char *nic, const MacAddress *mac, GError **error)
{
    g_autoptr(Capture) capture = g_new0(Capture, 1);
    char text[PCAP_ERRBUF_SIZE] = "";
    capture->probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (strlen(nic) >= sizeof(capture->nic)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no name of a NIC", nic);
        return NULL;
    }
    g_strlcpy(capture->nic, nic, sizeof(capture->nic));
    if (!read_link(capture, error))
        return NULL;
    capture->pcap = pcap_create(nic, text);
    if (!capture->pcap) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot capture on '%s': %s", nic, text);
        return NULL;
    }
    if (!activate(capture, error) || !set_filter(capture, mac, error) || !prepare_socket(capture, error))
        return NULL;
    return g_steal_pointer(&capture);
}

void
capture_close(Capture *capture)
{
    if (!capture)
        return;
    if (capture->pcap)
        pcap_close(capture->pcap);
    if (capture->probe >= 0)
        close(capture->probe);
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

typedef struct {
    CaptureFrame frame;
    void *data;
} Delivery;

static void
deliver(u_char *user, const struct pcap_pkthdr *header, const u_char *bytes)
{
    // The ring's slot is ours until this returns, so that a frame may be changed in place.
    const Delivery *delivery = (const Delivery *) user;
    delivery->frame((guint8 *) bytes, header->caplen, header->caplen < header->len, delivery->data);
}

gboolean
capture_read(Capture *capture, int limit, CaptureFrame frame, void *data, GError **error)
{
    Delivery delivery = {frame, data};
    if (pcap_dispatch(capture->pcap, limit, deliver, (u_char *) &delivery) >= 0)
        return TRUE;
    gboolean up;
    g_autofree char *text = g_strdup(pcap_geterr(capture->pcap));
    // A link that goes down is an error to older versions of libpcap; it may come up again.
    if (present(capture, &up) && !up)
        return TRUE;
    quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "'%s' is gone: %s", capture->nic, text);
    return FALSE;
}

CaptureSend
capture_send(Capture *capture, const guint8 *frame, gsize length)
{
    return pcap_inject(capture->pcap, frame, length) == (int) length ? CAPTURE_SENT : CAPTURE_DROPPED;
}

void
capture_stats(Capture *capture, CaptureStats *stats)
{
    struct pcap_stat values = {0};
    pcap_stats(capture->pcap, &values);
    *stats = (CaptureStats){values.ps_recv, values.ps_drop, values.ps_ifdrop};
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
