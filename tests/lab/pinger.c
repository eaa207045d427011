// SPDX-License-Identifier: LGPL-2.1-or-later
// Pings an address every millisecond until SIGTERM and prints sent, lost and the longest silence in
// microseconds.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t ending;

static void
end(int number)
{
    (void) number;
    ending = 1;
}

static int64_t
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint16_t
checksum(const void *data, size_t length)
{
    const unsigned char *bytes = data;
    uint32_t sum = 0;

    for (size_t i = 0; i + 1 < length; i += 2) {
        uint16_t word;

        memcpy(&word, bytes + i, sizeof(word));
        sum += word;
    }
    sum = (sum >> 16) + (sum & 0xffff);
    sum += sum >> 16;
    return (uint16_t) ~sum;
}

static int
send_ping(int fd, const struct sockaddr_in *to, uint16_t id, uint16_t sequence)
{
    struct icmphdr ping;

    memset(&ping, 0, sizeof(ping));
    ping.type = ICMP_ECHO;
    ping.un.echo.id = htons(id);
    ping.un.echo.sequence = htons(sequence);
    ping.checksum = checksum(&ping, sizeof(ping));
    return sendto(fd, &ping, sizeof(ping), 0, (const struct sockaddr *) to, sizeof(*to)) ==
           (ssize_t) sizeof(ping);
}

// Returns how many replies to us were waiting.
static int
take_replies(int fd, uint16_t id)
{
    unsigned char packet[256];
    struct icmphdr reply;
    ssize_t length;
    int count = 0;

    while ((length = recv(fd, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
        size_t header = (size_t) (packet[0] & 15) * 4;

        if ((size_t) length < header + sizeof(reply))
            continue;
        memcpy(&reply, packet + header, sizeof(reply));
        count += reply.type == ICMP_ECHOREPLY && reply.un.echo.id == htons(id);
    }
    return count;
}

int
main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    uint16_t id = (uint16_t) getpid();
    int64_t last, longest = 0;
    int buffer = 4 << 20;
    uint64_t sent = 0, received = 0, ticks;

    if (argc != 2 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: pinger ADDRESS\n");
        return 2;
    }
    if (fd < 0 || timer < 0 || timerfd_settime(timer, 0, &every, NULL) < 0) {
        fprintf(stderr, "pinger: %s\n", strerror(errno));
        return 1;
    }
    // After a pause all replies come at once; the default holds some 270, and what it drops would count as lost.
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    signal(SIGTERM, end);
    signal(SIGINT, end);
    last = now_us();
    // After the signal half a second is left for replies that are on their way.
    for (int64_t until = INT64_MAX; now_us() < until;) {
        struct pollfd polled[2] = {{fd, POLLIN, 0}, {timer, POLLIN, 0}};
        int count;

        if (ending && until == INT64_MAX)
            until = now_us() + 500000;
        if (poll(polled, 2, 100) < 0)
            continue;
        count = take_replies(fd, id);
        if (count > 0) {
            int64_t at = now_us();

            if (!ending && at - last > longest)
                longest = at - last;
            last = at;
            received += (uint64_t) count;
        }
        if ((polled[1].revents & POLLIN) && read(timer, &ticks, sizeof(ticks)) > 0 && !ending)
            sent += send_ping(fd, &to, id, (uint16_t) sent) ? 1 : 0;
    }
    printf("sent %llu lost %lld longest %lld\n", (unsigned long long) sent,
           (long long) (sent > received ? sent - received : 0), (long long) longest);
    return 0;
}
