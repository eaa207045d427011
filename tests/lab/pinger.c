// SPDX-License-Identifier: LGPL-2.1-or-later
// Pings an address every millisecond until SIGTERM and prints what became of the pings: sent, lost, the
// longest silence in microseconds, doubled, reordered, and which are missing.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "account.h"

typedef struct {
    struct icmphdr header;
    uint64_t number;
} Ping;

static volatile sig_atomic_t ending;

static void
end(int number)
{
    (void) number;
    ending = 1;
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
send_ping(int fd, const struct sockaddr_in *to, uint16_t id, uint64_t number)
{
    Ping ping;

    memset(&ping, 0, sizeof(ping));
    ping.header.type = ICMP_ECHO;
    ping.header.un.echo.id = htons(id);
    ping.header.un.echo.sequence = htons((uint16_t) number);
    ping.number = number;
    ping.header.checksum = checksum(&ping, sizeof(ping));
    return sendto(fd, &ping, sizeof(ping), 0, (const struct sockaddr *) to, sizeof(*to)) ==
           (ssize_t) sizeof(ping);
}

static void
take_replies(int fd, uint16_t id, Account *account, int live)
{
    unsigned char packet[256];
    Ping reply;
    ssize_t length;

    while ((length = recv(fd, packet, sizeof(packet), MSG_DONTWAIT)) > 0) {
        size_t header = (size_t) (packet[0] & 15) * 4;

        if ((size_t) length < header + sizeof(reply))
            continue;
        memcpy(&reply, packet + header, sizeof(reply));
        if (reply.header.type == ICMP_ECHOREPLY && reply.header.un.echo.id == htons(id))
            account_add(account, reply.number, live);
    }
}

int
main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    int fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    int timer = timerfd_create(CLOCK_MONOTONIC, 0);
    uint16_t id = (uint16_t) getpid();
    Account account;
    int buffer = 4 << 20;
    uint64_t sent = 0, ticks;

    if (argc != 2 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: pinger ADDRESS\n");
        return 2;
    }
    if (fd < 0 || timer < 0 || timerfd_settime(timer, 0, &every, NULL) < 0) {
        fprintf(stderr, "pinger: %s\n", strerror(errno));
        return 1;
    }
    // After a pause all replies come at once; the default holds some 270, and what it drops would count as
    // lost.
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    signal(SIGTERM, end);
    signal(SIGINT, end);
    account_begin(&account);
    // After the signal replies are waited for until half a second has brought none: a guest that has had no
    // processor has many to send.
    for (int64_t until = INT64_MAX; account_now() < until;) {
        struct pollfd polled[2] = {{fd, POLLIN, 0}, {timer, POLLIN, 0}};

        if (ending && until == INT64_MAX)
            until = account_now() + 500000;
        if (poll(polled, 2, 100) < 0)
            continue;
        take_replies(fd, id, &account, !ending);
        if (ending && account.last + 500000 > until)
            until = account.last + 500000;
        if ((polled[1].revents & POLLIN) && read(timer, &ticks, sizeof(ticks)) > 0 && !ending)
            sent += send_ping(fd, &to, id, sent) ? 1 : 0;
    }
    account_tell(&account, sent, stdout);
    return 0;
}
