// SPDX-License-Identifier: LGPL-2.1-or-later
// Capture by libpcap: portable, and blind to what a sender has left to its NIC.
#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "vnet/capture_backend.h"

// Theory of operation: in immediate mode libpcap's ring on Linux has slots of one size, that of the longest
// frame: the MTU's, or the snapshot length when the NIC merges or splits segments. A ring for 1024 of the
// latter takes 66 MiB; with the former the same memory holds some 40000 frames. The default of 2 MiB would be
// 32 slots. Checksums left to a NIC are recognised by holding the pseudo-header's sum, super-frames by their
// length: a guess, but one that a receiver's own check of the checksum proves.
#define SNAPLEN 65535
#define RING    (1024 * (SNAPLEN + 1 + 2048))

static gboolean
set_filter(Capture *capture, const MacAddress *mac, GError **error)
{
    g_autofree char *expression = capture_filter(mac);
    pcap_t *pcap = capture->state;
    struct bpf_program program;
    if (pcap_compile(pcap, &program, expression, 1, PCAP_NETMASK_UNKNOWN) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot compile the filter of '%s': %s",
                         capture->nic, pcap_geterr(pcap));
        return FALSE;
    }
    int result = pcap_setfilter(pcap, &program);
    pcap_freecode(&program);
    if (result != 0)
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot set the filter of '%s': %s", capture->nic,
                         pcap_geterr(pcap));
    return result == 0;
}

static gboolean
activate(Capture *capture, GError **error)
{
    pcap_t *pcap = capture->state;
    pcap_set_snaplen(pcap, SNAPLEN);
    pcap_set_promisc(pcap, 1);
    pcap_set_immediate_mode(pcap, 1);
    pcap_set_buffer_size(pcap, RING);
    int result = pcap_activate(pcap);
    if (result == PCAP_ERROR_PERM_DENIED || result == PCAP_ERROR_PROMISC_PERM_DENIED)
        return capture_refuse(capture, error);
    if (result < 0) {
        const char *text = pcap_geterr(pcap);
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
    if (pcap_datalink(pcap) != DLT_EN10MB) {
        quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' is not an Ethernet NIC", capture->nic);
        return FALSE;
    }
    return TRUE;
}

// Sends must not stop the loop when the NIC stands still: a full socket drops and counts, so the socket is
// made large.
static gboolean
prepare_socket(Capture *capture, GError **error)
{
    char text[PCAP_ERRBUF_SIZE];
    if (pcap_setnonblock(capture->state, 1, text) != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot capture on '%s': %s", capture->nic, text);
        return FALSE;
    }
    capture->fd = pcap_get_selectable_fd(capture->state);
    capture_buffer(capture->fd, SO_SNDBUFFORCE, SO_SNDBUF, CAPTURE_SEND_BUFFER);
    if (fcntl(capture->fd, F_SETFL, fcntl(capture->fd, F_GETFL) | O_NONBLOCK) != 0) {
        quasar_set_system_error(error, errno, "cannot capture on '%s'", capture->nic);
        return FALSE;
    }
    return TRUE;
}

static gboolean
pcap_backend_open(Capture *capture, const MacAddress *mac, GError **error)
{
    char text[PCAP_ERRBUF_SIZE] = "";
    capture->state = pcap_create(capture->nic, text);
    if (!capture->state) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot capture on '%s': %s", capture->nic, text);
        return FALSE;
    }
    return activate(capture, error) && set_filter(capture, mac, error) && prepare_socket(capture, error);
}

static void
pcap_backend_close(Capture *capture)
{
    if (capture->state)
        pcap_close(capture->state);
}

typedef struct {
    CaptureFrame frame;
    void *data;
    guint mtu;
} Delivery;

static void
deliver(u_char *user, const struct pcap_pkthdr *header, const u_char *bytes)
{
    const Delivery *delivery = (const Delivery *) user;
    guint8 *frame = (guint8 *) bytes; // the ring's slot is ours until this returns
    gsize length = header->caplen;
    Offload offload = {0};
    // The pseudo-header's sum of a super-frame is that of its own length, so the sum is not looked at there.
    if (length <= packet_limit(delivery->mtu) || !offload_guess(frame, length, delivery->mtu, &offload))
        packet_complete_checksum(frame, length);
    delivery->frame(frame, length, &offload, header->caplen < header->len, delivery->data);
}

static gboolean
pcap_backend_read(Capture *capture, guint limit, CaptureFrame frame, void *data, char **problem)
{
    Delivery delivery = {frame, data, capture->mtu};
    if (pcap_dispatch(capture->state, (int) limit, deliver, (u_char *) &delivery) >= 0)
        return TRUE;
    *problem = g_strdup(pcap_geterr(capture->state));
    return FALSE;
}

static CaptureSend
pcap_backend_send(Capture *capture, const Offload *offload, const struct iovec *parts, guint n)
{
    guint8 gathered[OFFLOAD_FRAME_MAX];
    gsize length = 0;
    for (guint i = 0; i < n; i++) {
        if (parts[i].iov_len > sizeof(gathered) - length)
            return CAPTURE_DROPPED;
        memcpy(gathered + length, parts[i].iov_base, parts[i].iov_len);
        length += parts[i].iov_len;
    }
    return pcap_inject(capture->state, gathered, length) == (int) length ? CAPTURE_SENT : CAPTURE_DROPPED;
}

static void
pcap_backend_stats(Capture *capture, CaptureStats *stats)
{
    struct pcap_stat values = {0};
    pcap_stats(capture->state, &values);
    *stats = (CaptureStats){values.ps_recv, values.ps_drop, values.ps_ifdrop};
}

const CaptureBackend capture_pcap = {
    .takes_offload = FALSE,
    .open = pcap_backend_open,
    .close = pcap_backend_close,
    .read = pcap_backend_read,
    .send = pcap_backend_send,
    .stats = pcap_backend_stats,
};
