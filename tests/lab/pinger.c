// SPDX-License-Identifier: LGPL-2.1-or-later
// Pings an address every millisecond until SIGTERM and prints what became of the pings: sent, lost, the
// longest silence in microseconds, doubled, reordered, and which are missing.
#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "pings.h"
#include "ticks.h"

static volatile sig_atomic_t ending;

static void
end(int number)
{
    (void) number;
    ending = 1;
}

int
main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    int fd = pings_open(), timer = ticks_open(1);
    uint16_t id = (uint16_t) getpid();
    Account account;
    uint64_t sent = 0;

    if (argc != 2 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: pinger ADDRESS\n");
        return 2;
    }
    if (fd < 0 || timer < 0) {
        fprintf(stderr, "pinger: %s\n", strerror(errno));
        return 1;
    }
    signal(SIGTERM, end);
    signal(SIGINT, end);
    account_begin(&account);
    for (int64_t until = INT64_MAX; account_now() < until;) {
        struct pollfd polled[2] = {{fd, POLLIN, 0}, {timer, POLLIN, 0}};

        if (ending && until == INT64_MAX)
            until = account_now() + PINGS_LINGER_US;
        if (poll(polled, 2, 100) < 0)
            continue;
        pings_take(fd, id, &account, !ending);
        if (ending && account.silences.last + PINGS_LINGER_US > until)
            until = account.silences.last + PINGS_LINGER_US;
        if ((polled[1].revents & POLLIN) && ticks_wait(timer) > 0 && !ending)
            sent += pings_send(fd, &to, id, sent) ? 1 : 0;
    }
    account_tell(&account, sent, stdout);
    return 0;
}
