// SPDX-License-Identifier: LGPL-2.1-or-later
// What two programs need for a message there and back over TCP, each of which sleeps until one comes.
//
//   exchange PORT                    answers one connection's messages until it ends
//   exchange ADDRESS PORT COUNT MS   prints the round trip of COUNT messages, in ms, one each MS ms
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SIZE 130 // about what a ping takes in a tunnel

static int
fail(const char *what)
{
    perror(what);
    return 1;
}

static double
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec * 1e3 + (double) now.tv_nsec / 1e6;
}

// Waits for a message; what there is of it, or less than 1.
static ssize_t
receive(int fd, char *data)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    poll(&poller, 1, -1);
    return read(fd, data, SIZE);
}

static int
answer(struct sockaddr_in *address)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, fd;
    char data[SIZE];
    ssize_t length;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *) address, sizeof(*address)) < 0 || listen(listener, 1) < 0)
        return fail("exchange");
    printf("listening\n");
    fflush(stdout);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return fail("exchange");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while ((length = receive(fd, data)) > 0)
        if (write(fd, data, (size_t) length) != length)
            return fail("exchange");
    return 0;
}

static int
ask(struct sockaddr_in *address, unsigned long count, unsigned long wait_ms)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    char data[SIZE] = "";

    if (connect(fd, (struct sockaddr *) address, sizeof(*address)) < 0)
        return fail("exchange");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    for (unsigned long i = 0; i < count; i++) {
        usleep((useconds_t) wait_ms * 1000);
        double begin = now_ms();
        if (write(fd, data, SIZE) != SIZE || receive(fd, data) != SIZE)
            return fail("exchange");
        printf("%.3f\n", now_ms() - begin);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    if (argc != 2 && argc != 5)
        return 2;
    address.sin_port = htons((uint16_t) strtoul(argv[argc > 2 ? 2 : 1], NULL, 10));
    if (argc == 2)
        return answer(&address);
    if (inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
        return 2;
    return ask(&address, strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
}
