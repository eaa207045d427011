// SPDX-License-Identifier: LGPL-2.1-or-later
// Numbered pings, and what becomes of them.
#pragma once

#include <arpa/inet.h>
#include <linux/icmp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "account.h"

// How long replies are waited for after the last one: a guest that has had no processor has many to send.
enum { PINGS_LINGER_US = 500000 };

typedef struct {
    struct icmphdr header;
    uint64_t number;
} Ping;

// -1 with errno.
static inline int
pings_open(void)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP), buffer = 4 << 20;
    struct icmp_filter others = {~(1U << ICMP_ECHOREPLY)};

    // After a pause all replies come at once; the default holds some 270, and what it drops would count as
    // lost.
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    // Whoever is pinged himself is not to wake for that too.
    if (fd >= 0)
        setsockopt(fd, SOL_RAW, ICMP_FILTER, &others, sizeof(others));
    return fd;
}

static inline uint16_t
pings_checksum(const void *data, size_t length)
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

static inline int
pings_send(int fd, const struct sockaddr_in *to, uint16_t id, uint64_t number)
{
    Ping ping;

    memset(&ping, 0, sizeof(ping));
    ping.header.type = ICMP_ECHO;
    ping.header.un.echo.id = htons(id);
    ping.header.un.echo.sequence = htons((uint16_t) number);
    ping.number = number;
    ping.header.checksum = pings_checksum(&ping, sizeof(ping));
    return sendto(fd, &ping, sizeof(ping), MSG_DONTWAIT, (const struct sockaddr *) to, sizeof(*to)) ==
           (ssize_t) sizeof(ping);
}

static inline void
pings_take(int fd, uint16_t id, Account *account, int live)
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
