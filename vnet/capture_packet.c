// SPDX-License-Identifier: LGPL-2.1-or-later
// Capture by a Linux packet socket, which tells with each frame what its sender has left to the NIC.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <pcap/pcap.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "vnet/capture_backend.h"

// Theory of operation: with PACKET_VNET_HDR each frame, in both directions, has virtio's header in front: a
// checksum to complete, a super-frame to segment. The kernel takes VLAN tags off and tells them beside
// (PACKET_AUXDATA); they are put back into the room kept in front of each frame. The socket's receive buffer
// is the ring: what the loop does not take waits there, then is dropped and counted. The filter is libpcap's
// compilation, attached before the socket is bound, so that no frame passes without it.
#define BATCH          16u
#define SNAPLEN        262144
#define RECEIVE_BUFFER (16 << 20)

typedef struct {
    guint8 header[OFFLOAD_HEADER];
    union {
        struct cmsghdr align;
        guint8 bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    } control;
    struct iovec parts[2];
    guint8 frame[PACKET_VLAN + OFFLOAD_FRAME_MAX];
} Slot;

typedef struct {
    struct mmsghdr messages[BATCH];
    Slot slots[BATCH];
    guint64 received, dropped;
} State;

static gboolean
attach_filter(int fd, const MacAddress *mac, GError **error)
{
    g_autofree char *expression = capture_filter(mac);
    struct bpf_program program;
    pcap_t *dead = pcap_open_dead(DLT_EN10MB, SNAPLEN);
    int result = dead ? pcap_compile(dead, &program, expression, 1, PCAP_NETMASK_UNKNOWN) : -1;
    if (dead)
        pcap_close(dead);
    if (result != 0) {
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot compile the capture's filter");
        return FALSE;
    }
    // Both are the BPF instruction of old; only the names differ.
    G_STATIC_ASSERT(sizeof(struct sock_filter) == sizeof(struct bpf_insn));
    const struct sock_fprog filter = {.len = (unsigned short) program.bf_len,
                                      .filter = (struct sock_filter *) program.bf_insns};
    result = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
    int problem = errno;
    pcap_freecode(&program);
    if (result != 0)
        quasar_set_system_error(error, problem, "cannot attach the capture's filter");
    return result == 0;
}

static gboolean
check_ethernet(const Capture *capture, GError **error)
{
    struct ifreq request = {0};
    g_strlcpy(request.ifr_name, capture->nic, sizeof(request.ifr_name));
    if (ioctl(capture->fd, SIOCGIFHWADDR, &request) == 0 && request.ifr_hwaddr.sa_family == ARPHRD_ETHER)
        return TRUE;
    quasar_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "'%s' is not an Ethernet NIC", capture->nic);
    return FALSE;
}

static gboolean
set_options(Capture *capture, GError **error)
{
    const int on = 1;
    const struct packet_mreq promiscuous = {.mr_ifindex = capture->index, .mr_type = PACKET_MR_PROMISC};
    if (setsockopt(capture->fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) != 0 ||
        setsockopt(capture->fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) != 0) {
        quasar_set_system_error(error, errno, "cannot capture on '%s'", capture->nic);
        return FALSE;
    }
    if (setsockopt(capture->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) != 0) {
        quasar_set_error(
            error, VIR_ERR_CONFIG_UNSUPPORTED,
            "'%s' has no promiscuous mode, so that frames for a guest do not reach this host: %s",
            capture->nic, g_strerror(errno));
        return FALSE;
    }
    capture_buffer(capture->fd, SO_SNDBUFFORCE, SO_SNDBUF, CAPTURE_SEND_BUFFER);
    capture_buffer(capture->fd, SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BUFFER);
    return TRUE;
}

static gboolean
bind_to_nic(Capture *capture, GError **error)
{
    const struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = capture->index};
    if (bind(capture->fd, (const struct sockaddr *) &address, sizeof(address)) == 0)
        return TRUE;
    quasar_set_system_error(error, errno, "cannot capture on '%s'", capture->nic);
    return FALSE;
}

static State *
make_slots(void)
{
    State *state = g_new0(State, 1);
    for (guint i = 0; i < BATCH; i++) {
        Slot *slot = &state->slots[i];
        slot->parts[0] = (struct iovec){slot->header, sizeof(slot->header)};
        slot->parts[1] = (struct iovec){slot->frame + PACKET_VLAN, OFFLOAD_FRAME_MAX};
        state->messages[i].msg_hdr = (struct msghdr){.msg_iov = slot->parts, .msg_iovlen = 2};
    }
    return state;
}

static gboolean
packet_open(Capture *capture, const MacAddress *mac, GError **error)
{
    capture->state = make_slots();
    capture->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (capture->fd < 0 && errno == EPERM)
        return capture_refuse(capture, error);
    if (capture->fd < 0) {
        quasar_set_system_error(error, errno, "cannot capture on '%s'", capture->nic);
        return FALSE;
    }
    return check_ethernet(capture, error) && attach_filter(capture->fd, mac, error) &&
           set_options(capture, error) && bind_to_nic(capture, error);
}

static void
packet_close(Capture *capture)
{
    if (capture->fd >= 0)
        close(capture->fd);
    g_free(capture->state);
}

static void
hand_over(Slot *slot, struct mmsghdr *message, CaptureFrame frame, void *data)
{
    guint8 *start = slot->frame + PACKET_VLAN;
    gsize length = message->msg_len > OFFLOAD_HEADER ? message->msg_len - OFFLOAD_HEADER : 0;
    Offload offload;
    offload_decode(slot->header, FALSE, &offload);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message->msg_hdr); part;
         part = CMSG_NXTHDR(&message->msg_hdr, part)) {
        struct tpacket_auxdata aux;
        if (part->cmsg_level != SOL_PACKET || part->cmsg_type != PACKET_AUXDATA || length < PACKET_HEADER)
            continue;
        memcpy(&aux, CMSG_DATA(part), sizeof(aux));
        if (aux.tp_status & TP_STATUS_VLAN_VALID) {
            guint16 type = aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q;
            start = packet_insert_vlan(start, type, aux.tp_vlan_tci);
            length += PACKET_VLAN;
            offload_shift(&offload, PACKET_VLAN);
        }
    }
    frame(start, length, &offload, (message->msg_hdr.msg_flags & MSG_TRUNC) != 0, data);
}

static gboolean
packet_read(Capture *capture, guint limit, CaptureFrame frame, void *data, char **problem)
{
    State *state = capture->state;
    while (limit > 0) {
        guint batch = MIN(limit, BATCH);
        for (guint i = 0; i < batch; i++) {
            state->messages[i].msg_hdr.msg_control = &state->slots[i].control;
            state->messages[i].msg_hdr.msg_controllen = sizeof(state->slots[i].control);
        }
        int n = recvmmsg(capture->fd, state->messages, batch, MSG_DONTWAIT, NULL);
        // EINVAL: a super-frame of a kind that virtio's header cannot tell; it is gone already.
        if (n < 0 && (errno == EINTR || errno == EINVAL)) {
            state->dropped += errno == EINVAL;
            limit--;
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return TRUE;
        if (n < 0) {
            *problem = g_strdup(g_strerror(errno));
            return FALSE;
        }
        for (int i = 0; i < n; i++)
            hand_over(&state->slots[i], &state->messages[i], frame, data);
        if ((guint) n < batch)
            return TRUE;
        limit -= (guint) n;
    }
    return TRUE;
}

static CaptureSend
packet_send(Capture *capture, const Offload *offload, const struct iovec *parts, guint n)
{
    guint8 header[OFFLOAD_HEADER];
    struct iovec all[1 + CAPTURE_PARTS];
    if (n > CAPTURE_PARTS)
        return CAPTURE_DROPPED;
    offload_encode(offload, FALSE, header);
    all[0] = (struct iovec){header, sizeof(header)};
    memcpy(&all[1], parts, n * sizeof(*parts));
    const struct msghdr message = {.msg_iov = all, .msg_iovlen = 1 + n};
    return sendmsg(capture->fd, &message, MSG_DONTWAIT) >= 0 ? CAPTURE_SENT : CAPTURE_DROPPED;
}

static void
packet_stats(Capture *capture, CaptureStats *stats)
{
    State *state = capture->state;
    struct tpacket_stats values = {0}; // since the last look
    socklen_t length = sizeof(values);
    if (getsockopt(capture->fd, SOL_PACKET, PACKET_STATISTICS, &values, &length) == 0) {
        state->received += values.tp_packets;
        state->dropped += values.tp_drops;
    }
    *stats = (CaptureStats){state->received, state->dropped, 0};
}

const CaptureBackend capture_packet = {
    .takes_offload = TRUE,
    .open = packet_open,
    .close = packet_close,
    .read = packet_read,
    .send = packet_send,
    .stats = packet_stats,
};
