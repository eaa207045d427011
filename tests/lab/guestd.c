// SPDX-License-Identifier: LGPL-2.1-or-later
// What works inside the lab's guest: file maker, memory dirtier, disk writer, UDP echo, clock, power button.
// Linked statically.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/input.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __powerpc64__
#define TICKS() __builtin_ppc_get_timebase()
#else
#include <x86intrin.h>
#define TICKS() __rdtsc()
#endif

// Theory of operation
//
// Everything written is a function of where and when: word I of page P in round R. A lost store leaves
// the word of an older round there, a stray one leaves a word of another page; the next visit finds either.
// States go to files by rename, so that a reader over HTTP sees a whole one.

enum { PAGE = 4096, WORDS = PAGE / 8 };

static uint64_t
mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void
fill_page(uint64_t *words, uint64_t page, uint64_t round)
{
    uint64_t seed = mix(page * UINT64_C(0x9e3779b97f4a7c15) + round);

    words[0] = round;
    words[1] = page;
    for (int i = 2; i < WORDS; i++)
        words[i] = seed + (uint64_t) i * UINT64_C(0x9e3779b97f4a7c15);
}

static int
check_page(const uint64_t *words, uint64_t page, uint64_t round)
{
    uint64_t seed = mix(page * UINT64_C(0x9e3779b97f4a7c15) + round);

    if (words[0] != round || words[1] != page)
        return 0;
    for (int i = 2; i < WORDS; i++) {
        if (words[i] != seed + (uint64_t) i * UINT64_C(0x9e3779b97f4a7c15))
            return 0;
    }
    return 1;
}

static void
report(const char *path, const char *text)
{
    char temporary[256];
    FILE *file;

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "w");
    if (!file)
        return;
    fputs(text, file);
    fclose(file);
    rename(temporary, path);
}

static void
console(const char *text)
{
    int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        fprintf(stderr, "guestd: console: %s\n", strerror(errno));
    close(fd);
}

static int
make_file(const char *path, uint64_t mib)
{
    static uint64_t block[1024 * 1024 / 8];
    FILE *file = fopen(path, "w");

    if (!file) {
        perror(path);
        return 1;
    }
    for (uint64_t m = 0; m < mib; m++) {
        for (uint64_t i = 0; i < sizeof(block) / 8; i++)
            block[i] = mix(m * sizeof(block) / 8 + i + 1);
        if (fwrite(block, sizeof(block), 1, file) != 1) {
            perror(path);
            return 1;
        }
    }
    return fclose(file) ? 1 : 0;
}

static int
dirty_memory(const char *status, uint64_t mib, uint64_t pages_per_second)
{
    const uint64_t pages = mib * 1024 * 1024 / PAGE;
    // A slow guest is spared the wakeups.
    const uint64_t slices = pages_per_second < 1000 ? 10 : 100;
    const uint64_t slice = pages_per_second / slices ? pages_per_second / slices : 1;
    uint64_t errors = 0, visited = 0;
    char text[128];
    uint64_t *buffer = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (buffer == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    for (uint64_t p = 0; p < pages; p++)
        fill_page(buffer + p * WORDS, p, 0);
    for (uint64_t round = 0;; round++) {
        for (uint64_t p = 0; p < pages; p++) {
            if (!check_page(buffer + p * WORDS, p, round)) {
                errors++;
                snprintf(text, sizeof(text), "MEMORY BROKEN page %" PRIu64 " round %" PRIu64 "\n", p, round);
                console(text);
            }
            fill_page(buffer + p * WORDS, p, round + 1);
            if (++visited % slice == 0) {
                snprintf(text, sizeof(text), "rounds %" PRIu64 " pages %" PRIu64 " errors %" PRIu64 "\n",
                         round, visited, errors);
                report(status, text);
                usleep((useconds_t) (1000000 / slices));
            }
        }
    }
}

static int
write_disk(const char *status, const char *device, uint64_t offset, uint64_t blocks, uint64_t pause_ms)
{
    uint64_t errors = 0;
    char text[128];
    void *page = NULL;
    int fd = open(device, O_RDWR | O_DIRECT);

    if (fd < 0 || posix_memalign(&page, PAGE, PAGE) != 0) {
        perror(device);
        return 1;
    }
    for (uint64_t sequence = 1;; sequence++) {
        off_t at = (off_t) (offset + sequence % blocks * PAGE);

        if (sequence > blocks &&
            (pread(fd, page, PAGE, at) != PAGE || !check_page(page, sequence % blocks, sequence - blocks)))
            errors++;
        fill_page(page, sequence % blocks, sequence);
        if (pwrite(fd, page, PAGE, at) != PAGE || fdatasync(fd) < 0)
            errors++;
        snprintf(text, sizeof(text), "acknowledged %" PRIu64 " errors %" PRIu64 "\n", sequence, errors);
        report(status, text);
        usleep((useconds_t) pause_ms * 1000);
    }
}

static int
wait_for_power_button(const char *device)
{
    struct input_event event;
    int fd = open(device, O_RDONLY);

    if (fd < 0)
        return 1;
    while (read(fd, &event, sizeof(event)) == (ssize_t) sizeof(event)) {
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
            console("power button\n");
            sync();
            reboot(RB_POWER_OFF);
        }
    }
    return 1;
}

// Sends each datagram back.
static int
echo_datagrams(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int buffer = 4 << 20;
    char data[2048];

    // After a pause many come at once.
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
        perror("guestd: echo");
        return 1;
    }
    for (;;) {
        socklen_t size = sizeof(address);
        ssize_t length = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *) &address, &size);

        if (length >= 0 && sendto(fd, data, (size_t) length, 0, (struct sockaddr *) &address, size) < 0)
            perror("guestd: echo");
    }
}

enum { CLOCKS = 4 };

// Nanoseconds, and the processor's own count.
static void
read_clocks(uint64_t found[CLOCKS])
{
    static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME};
    struct timespec now;

    for (int i = 0; i < CLOCKS - 1; i++) {
        clock_gettime(ids[i], &now);
        found[i] = (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
    }
    found[CLOCKS - 1] = TICKS();
}

// What the kernel goes by: it gives up a clock source that it does not trust.
static void
read_source(char *name, size_t size)
{
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");

    if (!file || !fgets(name, (int) size, file))
        snprintf(name, size, "none");
    name[strcspn(name, "\n")] = '\0';
    if (file)
        fclose(file);
}

// Answers each datagram, a number, with it, the clocks, how often one went backwards, and the clock source.
static int
tell_clocks(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct pollfd item = {.fd = socket(AF_INET, SOCK_DGRAM, 0), .events = POLLIN};
    uint64_t last[CLOCKS] = {0}, found[CLOCKS], backwards = 0;
    char number[32], source[32], answer[256];

    if (item.fd < 0 || bind(item.fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
        perror("guestd: clock");
        return 1;
    }
    for (;;) {
        socklen_t size = sizeof(address);
        ssize_t length = -1;
        int ready = poll(&item, 1, 10);

        if (ready > 0)
            length = recvfrom(item.fd, number, sizeof(number) - 1, 0, (struct sockaddr *) &address, &size);
        read_clocks(found);
        for (int i = 0; i < CLOCKS; i++)
            backwards += found[i] < last[i];
        memcpy(last, found, sizeof(last));
        if (length < 0)
            continue;
        number[length] = '\0';
        read_source(source, sizeof(source));
        length = snprintf(answer, sizeof(answer),
                          "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %s", number,
                          found[0], found[1], found[2], found[3], backwards, source);
        if (sendto(item.fd, answer, (size_t) length, 0, (struct sockaddr *) &address, size) < 0)
            perror("guestd: clock");
    }
}

int
main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    if (strcmp(what, "file") == 0 && argc == 4)
        return make_file(argv[2], strtoull(argv[3], NULL, 10));
    if (strcmp(what, "memory") == 0 && argc == 5)
        return dirty_memory(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    if (strcmp(what, "disk") == 0 && argc == 7)
        return write_disk(argv[2], argv[3], strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10),
                          strtoull(argv[6], NULL, 10));
    if (strcmp(what, "power") == 0 && argc == 3)
        return wait_for_power_button(argv[2]);
    if (strcmp(what, "echo") == 0 && argc == 3)
        return echo_datagrams((uint16_t) strtoul(argv[2], NULL, 10));
    if (strcmp(what, "clock") == 0 && argc == 3)
        return tell_clocks((uint16_t) strtoul(argv[2], NULL, 10));
    fprintf(stderr, "usage: guestd file PATH MIB | memory STATUS MIB PAGES_PER_SECOND | "
                    "disk STATUS DEVICE OFFSET BLOCKS PAUSE_MS | power DEVICE | echo PORT | clock PORT\n");
    return 2;
}
