// SPDX-License-Identifier: LGPL-2.1-or-later
// Traffic between a client and the lab's guest that accounts for each byte and each frame.
//
//   traffic serve PORT              in the guest
//   traffic listen GROUP UDP-PORT   in the guest: prints each datagram to a group, IPv4 or IPv6, as a line
//
// and at the client until SIGTERM, when each prints one line:
//
//   traffic download|upload ADDRESS PORT KB/S
//   traffic udp-in|udp-out ADDRESS PORT UDP-PORT FRAMES/S
//   traffic ping-back ADDRESS PORT
//
// and what a command prints in the guest, at once:
//
//   traffic run ADDRESS PORT COMMAND
//
// Each client has a connection of its own to the guest's server, on which it says what it wants, and whose
// half it closes when that shall end; what the guest has counted comes back on it. It is one more connection
// that has to live through a move. The guest reaches the client where the connection comes from. It has a
// processor to spare less than the client has: its flows are one process, since an emulated processor pays
// for each change of address space, and take what has come once in some ticks.
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flow.h"
#include "pings.h"

enum { BLOCK = 4096, BLOCK_TICKS = 10, FRAME = 64, TAKE_TICKS = 5, LINGER_MS = 500 };

static int serving;

// In the guest only the flow ends.
static void
die(const char *what)
{
    fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
    if (serving)
        pthread_exit(NULL);
    exit(1);
}

// Content: a function of where it is in the stream.
static void
fill(unsigned char *block, uint64_t offset)
{
    for (uint64_t i = 0; i < BLOCK / 8; i++) {
        uint64_t word = (offset / 8 + i + 1) * UINT64_C(0x9e3779b97f4a7c15);

        memcpy(block + i * 8, &word, 8);
    }
}

static int
readable(int fd, int wait_ms)
{
    struct pollfd polled = {fd, POLLIN, 0};

    return poll(&polled, 1, wait_ms) > 0;
}

static void
write_all(int fd, const void *data, size_t length)
{
    while (length) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno != EINTR)
            die("write");
        if (n > 0) {
            data = (const char *) data + n;
            length -= (size_t) n;
        }
    }
}

static void say(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
say(int fd, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    write_all(fd, text, strlen(text));
}

// Until the other end closes its half.
static void
copy_rest(int from, int to)
{
    char data[4096];
    ssize_t n;

    while ((n = read(from, data, sizeof(data))) > 0)
        write_all(to, data, (size_t) n);
    if (n < 0)
        die("the guest's answer");
}

// One line, without its end.
static void
read_line(int fd, char *line, size_t size)
{
    size_t n = 0;

    while (n + 1 < size && read(fd, line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = '\0';
}

// Flows. Each goes on until something can be read from `stop`.

static uint64_t
send_bytes(int fd, int stop, uint64_t kb_per_second)
{
    unsigned char block[BLOCK];
    uint64_t offset = 0, due = 0;
    int timer = ticks_open(BLOCK_TICKS);

    if (timer < 0)
        die("timer");
    while (!readable(stop, 0)) {
        // Who was kept from writing is not to write it all at once.
        uint64_t ticks = ticks_wait(timer) > 1 ? 2 : 1;

        for (due += ticks * BLOCK_TICKS * kb_per_second * 1000 * TICK_US / 1000000; due >= BLOCK;
             due -= BLOCK) {
            fill(block, offset);
            write_all(fd, block, BLOCK);
            offset += BLOCK;
        }
    }
    close(timer);
    shutdown(fd, SHUT_WR);
    return offset;
}

// Until the end of the stream. When `stop` (-1: none) can be read the other end is told to stop.
static void
take_bytes(int fd, int stop, FILE *out)
{
    unsigned char block[BLOCK], expected[BLOCK];
    uint64_t bytes = 0, wrong = 0;
    Silences silences;

    for (silences_begin(&silences);;) {
        struct pollfd polled[2] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
        ssize_t n;

        if (poll(polled, 2, -1) < 0)
            die("poll");
        if (polled[1].revents) {
            shutdown(fd, SHUT_WR);
            stop = -1;
        }
        if (!polled[0].revents)
            continue;
        n = read(fd, block, BLOCK - bytes % BLOCK);
        if (n < 0)
            die("read");
        if (n == 0)
            break;
        silences_end(&silences, 1);
        fill(expected, bytes - bytes % BLOCK);
        wrong += memcmp(block, expected + bytes % BLOCK, (size_t) n) != 0;
        bytes += (uint64_t) n;
    }
    fprintf(out, "bytes %" PRIu64 " wrong %" PRIu64 " longest %" PRId64 " ", bytes, wrong, silences.longest);
    if (serving)
        fprintf(out, "\n"); // nobody asks the guest for them
    else
        silences_tell(&silences, out);
    fflush(out);
}

static int
udp_socket(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), buffer = 16 << 20;

    // After a pause many come at once.
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0 ||
        bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
        die("UDP");
    return fd;
}

typedef struct {
    Flow flow;
    int fd;
    struct sockaddr_in to;
    uint64_t per_second, due, sent;
} FramesOut;

static void
step_frames_out(Flow *self, uint64_t ticks)
{
    FramesOut *out = (FramesOut *) self;
    unsigned char frame[FRAME] = {0};

    for (out->due += ticks * out->per_second; out->due >= 1000000 / TICK_US; out->due -= 1000000 / TICK_US) {
        memcpy(frame, &out->sent, sizeof(out->sent));
        if (sendto(out->fd, frame, FRAME, MSG_DONTWAIT, (struct sockaddr *) &out->to, sizeof(out->to)) ==
            FRAME)
            out->sent++;
    }
}

static uint64_t
send_frames(struct sockaddr_in to, uint16_t port, uint64_t per_second, int stop)
{
    FramesOut out = {{step_frames_out, NULL}, udp_socket(0), to, per_second, 0, 0};

    out.to.sin_port = htons(port);
    if (flow_run(&out.flow, stop) < 0)
        die("ticks");
    close(out.fd);
    return out.sent;
}

// All that have come.
static void
take_frames(int fd, Account *account, int live)
{
    unsigned char frame[FRAME];
    uint64_t number;

    while (recv(fd, frame, FRAME, MSG_DONTWAIT) == FRAME) {
        memcpy(&number, frame, sizeof(number));
        account_add(account, number, live && account->distinct > 0);
    }
}

// Each when it comes.
static void
hear_frames(int fd, Account *account, int stop)
{
    struct pollfd polled[2] = {{stop, POLLIN, 0}, {fd, POLLIN, 0}};

    account_begin(account);
    while (poll(polled, 2, -1) >= 0 && !polled[0].revents)
        take_frames(fd, account, 1);
}

static void
take_late_frames(int fd, Account *account)
{
    while (readable(fd, LINGER_MS))
        take_frames(fd, account, 0);
}

// The guest's side.

static void
tell(Account *account, uint64_t sent, int fd)
{
    FILE *out = fdopen(dup(fd), "w");

    account_tell(account, sent, out);
    fclose(out);
    free(account->seen);
}

typedef struct {
    Flow flow;
    int fd;
    struct sockaddr_in to;
    uint16_t id;
    uint64_t sent, ticks;
    Account account;
} Pings;

static void
step_pings(Flow *self, uint64_t ticks)
{
    Pings *pings = (Pings *) self;

    pings->sent += (uint64_t) pings_send(pings->fd, &pings->to, pings->id, pings->sent);
    if ((pings->ticks += ticks) < TAKE_TICKS)
        return;
    pings->ticks = 0;
    pings_take(pings->fd, pings->id, &pings->account, 1);
}

static void
serve_pings(int fd, struct sockaddr_in to)
{
    Pings pings = {
        .flow = {step_pings, NULL}, .fd = pings_open(), .to = to, .id = (uint16_t) (getpid() + fd)};

    account_begin(&pings.account);
    if (pings.fd < 0 || flow_run(&pings.flow, fd) < 0)
        die("pings");
    while (readable(pings.fd, PINGS_LINGER_US / 1000))
        pings_take(pings.fd, pings.id, &pings.account, 0);
    tell(&pings.account, pings.sent, fd);
    close(pings.fd);
}

typedef struct {
    Flow flow;
    int fd;
    uint64_t ticks;
    Account account;
} FramesIn;

static void
step_frames_in(Flow *self, uint64_t ticks)
{
    FramesIn *in = (FramesIn *) self;

    if ((in->ticks += ticks) < TAKE_TICKS)
        return;
    in->ticks = 0;
    take_frames(in->fd, &in->account, 1);
}

static void
serve_frames_in(int fd, uint16_t port)
{
    FramesIn in = {.flow = {step_frames_in, NULL}, .fd = udp_socket(port)};
    char line[64];

    say(fd, "ready\n");
    account_begin(&in.account);
    if (flow_run(&in.flow, fd) < 0)
        die("ticks");
    read_line(fd, line, sizeof(line));
    take_late_frames(in.fd, &in.account);
    tell(&in.account, strtoull(line, NULL, 10), fd);
    close(in.fd);
}

static void
serve_command(int fd, char *command)
{
    pid_t child = fork();

    if (child == 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        close(fd);
        execlp("sh", "sh", "-c", command, (char *) NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
}

static void
serve_bytes(int fd)
{
    FILE *out = fdopen(dup(fd), "w");

    take_bytes(fd, -1, out);
    fclose(out);
}

static void
serve_one(int fd, struct sockaddr_in peer)
{
    char line[1024];
    unsigned port = 0, rate = 0;

    read_line(fd, line, sizeof(line));
    if (sscanf(line, "send %u", &rate) == 1)
        send_bytes(fd, fd, rate);
    else if (strcmp(line, "take") == 0)
        serve_bytes(fd);
    else if (sscanf(line, "udp-out %u %u", &port, &rate) == 2)
        say(fd, "%" PRIu64 "\n", send_frames(peer, (uint16_t) port, rate, fd));
    else if (sscanf(line, "udp-in %u", &port) == 1)
        serve_frames_in(fd, (uint16_t) port);
    else if (strncmp(line, "run ", 4) == 0)
        serve_command(fd, line + 4);
    else if (strcmp(line, "ping") == 0)
        serve_pings(fd, peer);
}

typedef struct {
    int fd;
    struct sockaddr_in peer;
} Client;

static void
end_client(void *data)
{
    close(((Client *) data)->fd);
    free(data);
}

static void *
serve_client(void *data)
{
    Client *client = data;

    pthread_cleanup_push(end_client, client);
    serve_one(client->fd, client->peer);
    pthread_cleanup_pop(1);
    return NULL;
}

static void
begin_client(int fd, struct sockaddr_in peer)
{
    Client *client = malloc(sizeof(*client));
    pthread_t thread;

    if (!client)
        abort();
    *client = (Client){fd, peer};
    if (pthread_create(&thread, NULL, serve_client, client) == 0)
        pthread_detach(thread);
    else
        end_client(client);
}

static void
serve(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    serving = 1;
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
        bind(listener, (struct sockaddr *) &address, sizeof(address)) < 0 || listen(listener, 16) < 0)
        die("listen");
    for (;;) {
        socklen_t size = sizeof(address);
        int fd = accept4(listener, (struct sockaddr *) &address, &size, SOCK_CLOEXEC);

        if (fd >= 0)
            begin_client(fd, address);
    }
}

static int
join4(struct in_addr group, uint16_t port)
{
    struct ip_mreqn request = {.imr_multiaddr = group, .imr_ifindex = (int) if_nametoindex("eth0")};
    int fd = udp_socket(port);

    return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) == 0 ? fd : -1;
}

static int
join6(struct in6_addr group, uint16_t port)
{
    struct ipv6_mreq request = {.ipv6mr_multiaddr = group, .ipv6mr_interface = if_nametoindex("eth0")};
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0), yes = 1;

    // The other family's group has a listener of its own.
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0 ||
        bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
        return -1;
    return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &request, sizeof(request)) == 0 ? fd : -1;
}

static int
listen_to(const char *group, uint16_t port)
{
    struct in6_addr six;
    struct in_addr four;
    char text[256];
    ssize_t length;
    int fd = -1;

    if (inet_pton(AF_INET, group, &four) == 1)
        fd = join4(four, port);
    else if (inet_pton(AF_INET6, group, &six) == 1)
        fd = join6(six, port);
    if (fd < 0)
        die(group);
    while ((length = recv(fd, text, sizeof(text), 0)) >= 0) {
        printf("%.*s\n", (int) length, text);
        fflush(stdout);
    }
    return 1;
}

// The client's side.

static struct sockaddr_in
parse_address(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(port))};

    if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
        fprintf(stderr, "traffic: %s is no address\n", address);
        exit(2);
    }
    return to;
}

static int
open_connection(const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *) to, sizeof(*to)) < 0)
        die("connect");
    return fd;
}

// Becomes readable with SIGTERM.
static int
stop_signal(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    fd = signalfd(-1, &set, 0);
    if (fd < 0)
        die("signalfd");
    return fd;
}

static void
receive_frames(int fd, int stop, uint16_t port, unsigned rate)
{
    Account account;
    char line[64];
    int socket = udp_socket(port);

    say(fd, "udp-out %u %u\n", port, rate);
    hear_frames(socket, &account, stop);
    shutdown(fd, SHUT_WR);
    read_line(fd, line, sizeof(line));
    take_late_frames(socket, &account);
    account_tell(&account, strtoull(line, NULL, 10), stdout);
}

static void
give_frames(int fd, int stop, const struct sockaddr_in *to, uint16_t port, unsigned rate)
{
    char line[64];

    say(fd, "udp-in %u\n", port);
    read_line(fd, line, sizeof(line));
    say(fd, "%" PRIu64 "\n", send_frames(*to, port, rate, stop));
    copy_rest(fd, STDOUT_FILENO);
}

int
main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct sockaddr_in to;
    unsigned rate, port;
    int fd, stop;

    signal(SIGPIPE, SIG_IGN);
    if (strcmp(what, "serve") == 0 && argc == 3)
        serve((uint16_t) atoi(argv[2]));
    if (strcmp(what, "listen") == 0 && argc == 4)
        return listen_to(argv[2], (uint16_t) atoi(argv[3]));
    if (argc < 4) {
        fprintf(stderr,
                "usage: traffic serve PORT | listen GROUP UDP-PORT | download|upload ADDRESS PORT KB/S | "
                "udp-in|udp-out ADDRESS PORT UDP-PORT FRAMES/S | ping-back ADDRESS PORT | run "
                "ADDRESS PORT COMMAND\n");
        return 2;
    }
    stop = stop_signal();
    to = parse_address(argv[2], argv[3]);
    port = argc > 5 ? (unsigned) atoi(argv[4]) : 0;
    rate = argc > 4 ? (unsigned) atoi(argv[argc - 1]) : 0;
    fd = open_connection(&to);
    if (strcmp(what, "download") == 0) {
        say(fd, "send %u\n", rate);
        take_bytes(fd, stop, stdout);
    } else if (strcmp(what, "upload") == 0) {
        say(fd, "take\n");
        printf("sent %" PRIu64 " ", send_bytes(fd, stop, rate));
        fflush(stdout);
        copy_rest(fd, STDOUT_FILENO);
    } else if (strcmp(what, "udp-in") == 0) {
        receive_frames(fd, stop, (uint16_t) port, rate);
    } else if (strcmp(what, "udp-out") == 0) {
        give_frames(fd, stop, &to, (uint16_t) port, rate);
    } else if (strcmp(what, "ping-back") == 0) {
        say(fd, "ping\n");
        readable(stop, -1);
        shutdown(fd, SHUT_WR);
        copy_rest(fd, STDOUT_FILENO);
    } else if (strcmp(what, "run") == 0 && argc == 5) {
        say(fd, "run %s\n", argv[4]);
        copy_rest(fd, STDOUT_FILENO);
    }
    return 0;
}
