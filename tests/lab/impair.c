// SPDX-License-Identifier: LGPL-2.1-or-later
// A bad cable: carries frames between a NIC and a tap that it makes, late, at a bounded rate, and not all of
// them.
//
// For kernels without netem, and for what netem does not tell: the counts are in a file, renewed as they
// change.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { QUEUE = 2048, FRAME_MAX = 2048 };

typedef struct {
    int64_t due; // ns
    size_t length;
    unsigned char bytes[FRAME_MAX];
} Frame;

// One direction.
typedef struct {
    int from, to;
    int from_nic; // a packet socket, not a tap
    Frame *frames;
    unsigned first, n;
    int64_t sent_until; // when the last frame's last bit is on the cable, ns
    uint64_t passed, lost, overflowed;
} Way;

static int64_t delay_ns, rate_bps;
static double loss;

static void
die(const char *what)
{
    fprintf(stderr, "impair: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static int
open_nic(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    struct packet_mreq promiscuous = {.mr_type = PACKET_MR_PROMISC};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    int buffer = 16 << 20, yes = 1;

    address.sll_ifindex = promiscuous.mr_ifindex = (int) if_nametoindex(name);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &yes, sizeof(yes)) < 0 ||
        bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) < 0)
        die(name);
    return fd;
}

static int
open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
        die(name);
    return fd;
}

// A VLAN's tag, which the kernel took off, is put back. Returns the new length.
static size_t
put_tag_back(struct msghdr *message, unsigned char *bytes, size_t length)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        struct tpacket_auxdata aux;
        uint16_t tag[2];

        if (part->cmsg_level != SOL_PACKET || part->cmsg_type != PACKET_AUXDATA)
            continue;
        memcpy(&aux, CMSG_DATA(part), sizeof(aux));
        if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
            continue;
        tag[0] = htons(aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q);
        tag[1] = htons(aux.tp_vlan_tci);
        memmove(bytes + 16, bytes + 12, length - 12);
        memcpy(bytes + 12, tag, sizeof(tag));
        return length + sizeof(tag);
    }
    return length;
}

// One frame; 0 when there is none.
static size_t
receive(const Way *way, unsigned char bytes[FRAME_MAX])
{
    char control[256];
    struct iovec whole = {bytes, FRAME_MAX - 4};
    struct msghdr message = {
        .msg_iov = &whole, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t length = way->from_nic ? recvmsg(way->from, &message, 0) : read(way->from, bytes, FRAME_MAX);

    if (length < ETH_HLEN)
        return 0;
    return way->from_nic ? put_tag_back(&message, bytes, (size_t) length) : (size_t) length;
}

static void
take(Way *way)
{
    unsigned char bytes[FRAME_MAX];
    size_t length;

    while ((length = receive(way, bytes)) > 0) {
        Frame *frame = &way->frames[(way->first + way->n) % QUEUE];
        int64_t now = now_ns();

        if (drand48() < loss) {
            way->lost++;
            continue;
        }
        if (way->n == QUEUE) {
            way->overflowed++;
            continue;
        }
        if (way->sent_until < now)
            way->sent_until = now;
        if (rate_bps)
            way->sent_until += (int64_t) length * 8 * 1000000000 / rate_bps;
        frame->due = way->sent_until + delay_ns;
        frame->length = length;
        memcpy(frame->bytes, bytes, length);
        way->n++;
    }
}

// Passes on what is due; returns when the next frame is, INT64_MAX when there is none.
static int64_t
give(Way *way)
{
    while (way->n) {
        Frame *frame = &way->frames[way->first];

        if (frame->due > now_ns())
            return frame->due;
        if (write(way->to, frame->bytes, frame->length) == (ssize_t) frame->length)
            way->passed++;
        else
            way->overflowed++;
        way->first = (way->first + 1) % QUEUE;
        way->n--;
    }
    return INT64_MAX;
}

// In and out as seen from the NIC's other end: `out` is what came from there.
static void
tell(int fd, const Way *out, const Way *in)
{
    static uint64_t told = UINT64_MAX;
    char text[256];
    uint64_t sum = out->passed + out->lost + out->overflowed + in->passed + in->lost + in->overflowed;
    int length;

    if (sum == told)
        return;
    told = sum;
    // Of fixed length, so that a reader never sees the end of an older one.
    length = snprintf(text, sizeof(text),
                      "%20" PRIu64 "%20" PRIu64 "%20" PRIu64 "%20" PRIu64 "%20" PRIu64 "%20" PRIu64 "\n",
                      out->passed, out->lost, out->overflowed, in->passed, in->lost, in->overflowed);
    if (pwrite(fd, text, (size_t) length, 0) != length)
        die("counts");
}

int
main(int argc, char **argv)
{
    Way out = {0}, in = {0};
    int counts;

    if (argc != 7) {
        fprintf(stderr, "usage: impair NIC TAP COUNTS-FILE DELAY_US LOSS_PERCENT RATE_KBIT\n");
        return 2;
    }
    delay_ns = strtoll(argv[4], NULL, 10) * 1000;
    loss = strtod(argv[5], NULL) / 100;
    rate_bps = strtoll(argv[6], NULL, 10) * 1000;
    counts = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (counts < 0)
        die(argv[3]);
    srand48(getpid());
    out.from_nic = 1;
    out.from = in.to = open_nic(argv[1]);
    out.to = in.from = open_tap(argv[2]);
    out.frames = calloc(QUEUE, sizeof(Frame));
    in.frames = calloc(QUEUE, sizeof(Frame));
    if (!out.frames || !in.frames)
        die("memory");
    tell(counts, &out, &in);
    for (;;) {
        struct pollfd polled[2] = {{out.from, POLLIN, 0}, {in.from, POLLIN, 0}};
        int64_t due_out = give(&out), due_in = give(&in);
        int64_t due = due_out < due_in ? due_out : due_in, wait = due - now_ns();
        struct timespec timeout = {wait / 1000000000, wait % 1000000000};

        tell(counts, &out, &in);
        if (wait <= 0)
            timeout = (struct timespec){0};
        if (ppoll(polled, 2, due == INT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            die("poll");
        take(&out);
        take(&in);
    }
}
