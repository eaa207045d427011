// SPDX-License-Identifier: LGPL-2.1-or-later
// A guest without a system, for tests of the emulator: each processor changes pages of its own without pause,
// checks them all, and says so.
//
// Started with -kernel (multiboot). On the first serial port it writes, every few rounds, one line of
// hexadecimal numbers: "q ROUNDS0 ERRORS0 ROUNDS1 ERRORS1 TSC HHMMSS UPDATES WRITTEN". A page whose contents
// are not those of the last store to it is one error; its contents are then taken as right, so that errors
// are counted once. HHMMSS is the RTC's time and UPDATES how often it said that a second has begun. WRITTEN
// is how many sectors a virtio disk (legacy interface; none: 0) has taken; one request at a time, the
// sector's number in each of its words.
//
// Built with READ_CLOCK it does nothing but read the TSC, 10000 times a round. Built with REWRITE_CODE it
// also calls, in each round, code that it wrote in the last and then writes anew, on one page and across the
// end of one; code that is not what was last written is an error.
#include <stdint.h>

#define PAGE       4096u
#define WORDS      8u   // touched in each page, evenly spread
#define HOT        256u // pages that are changed again and again, so that their translations stay cached
#define SWEEPS     16u  // of the hot pages, in each round
#define FIRST      (16u * 1024 * 1024) // below are this program and its tables
#define MOST       8192u               // pages for each processor
#define TRAMPOLINE 0x8000u             // where a second processor begins, in real mode
#define APIC       0xfee00000u
#define SERIAL     0x3f8u

typedef struct {
    uint32_t rounds, errors;
    uint32_t *base; // of its pages
    uint32_t pages;
    uint32_t want[MOST];
} Processor;

static Processor processors[2] __attribute__((aligned(4096)));
uint8_t stacks[2][16384] __attribute__((aligned(4096)));
extern const uint8_t second_begin[], second_end[];

__asm__(".text\n"
        ".align 4\n"
        ".long 0x1badb002, 3, -(0x1badb002 + 3)\n" // multiboot: pages aligned, memory wanted
        ".globl _start\n"
        "_start: cli\n"
        "mov $stacks + 16384, %esp\n"
        "push %ebx\n"
        "call first\n"
        "second_begin:\n"
        ".code16\n"
        "cli\n"
        "xor %ax, %ax\n"
        "mov %ax, %ds\n"
        "lgdtl 0x8000 + table_at - second_begin\n"
        "mov %cr0, %eax\n"
        "or $1, %al\n"
        "mov %eax, %cr0\n"
        "ljmpl $8, $(0x8000 + protected - second_begin)\n"
        ".code32\n"
        "protected: mov $16, %ax\n"
        "mov %ax, %ds\n"
        "mov %ax, %es\n"
        "mov %ax, %ss\n"
        "mov $stacks + 32768, %esp\n"
        "mov $second, %eax\n"
        "call *%eax\n"
        ".align 8\n"
        "table: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff\n"
        "table_at: .word 23\n"
        ".long 0x8000 + table - second_begin\n"
        "second_end:\n");

static void
out(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}

static uint8_t
in(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint32_t
in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void
out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}

static void
out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}

static uint8_t
rtc(uint8_t index)
{
    out(0x70, index);
    return in(0x71);
}

static void
put(char c)
{
    while (!(in(SERIAL + 5) & 0x20))
        ;
    out(SERIAL, c);
}

static void
put_number(uint32_t number, unsigned digits)
{
    put(' ');
    while (digits-- > 0)
        put("0123456789abcdef"[number >> 4 * digits & 15]);
}

// The disk's queue in the layout of virtio 0.9.5: descriptors, available ring, and the used ring on a page of
// its own.
#define QUEUE 256

typedef struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
} Descriptor;

static struct {
    Descriptor descriptors[QUEUE];
    uint16_t available_flags, available, available_ring[QUEUE + 1];
    uint8_t gap[4096 - sizeof(uint16_t) * (3 + QUEUE) % 4096];
    volatile uint16_t used_flags, used;
    uint32_t used_ring[2 * QUEUE];
} queue __attribute__((aligned(4096)));

static struct {
    uint32_t type, priority;
    uint64_t sector;
    uint32_t data[128];
    uint8_t status;
} request;

static uint16_t disk_port;
static uint32_t disk_begun, disk_written;

static uint32_t
pci(uint32_t slot, uint32_t where)
{
    out32(0xcf8, 0x80000000u | slot << 11 | where);
    return in32(0xcfc);
}

static void
find_disk(void)
{
    for (uint32_t slot = 0; slot < 32; slot++)
        if (pci(slot, 0) == 0x10011af4)
            disk_port = pci(slot, 0x10) & 0xfffc;
    if (!disk_port)
        return;
    out(disk_port + 18, 3);
    out32(disk_port + 4, 0);
    out16(disk_port + 14, 0);
    out32(disk_port + 8, (uintptr_t) &queue / PAGE);
    out(disk_port + 18, 7);
}

// Takes what the disk has done and gives it the next sector.
static void
write_disk(void)
{
    if (!disk_port || queue.used != (uint16_t) disk_begun)
        return;
    if (disk_begun && request.status == 0)
        disk_written++;
    request.type = 1;
    request.sector = disk_begun % 2048;
    request.status = 0xff;
    for (int i = 0; i < 128; i++)
        request.data[i] = disk_begun;
    queue.descriptors[0] = (Descriptor){(uintptr_t) &request, 16, 1, 1};
    queue.descriptors[1] = (Descriptor){(uintptr_t) request.data, 512, 1, 2};
    queue.descriptors[2] = (Descriptor){(uintptr_t) &request.status, 1, 2, 0};
    __asm__ volatile("" ::: "memory");
    queue.available = ++disk_begun;
    __asm__ volatile("" ::: "memory");
    out16(disk_port + 16, 0);
}

static uint32_t rtc_updates;

static void
say(void)
{
    rtc_updates += rtc(12) >> 4 & 1;
    write_disk();
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    put('q');
    for (int i = 0; i < 2; i++) {
        put_number(processors[i].rounds, 8);
        put_number(processors[i].errors, 8);
    }
    put_number(high, 8);
    for (int shift = 28; shift >= 0; shift -= 4)
        put("0123456789abcdef"[low >> shift & 15]);
    put_number((uint32_t) rtc(4) << 16 | (uint32_t) rtc(2) << 8 | rtc(0), 6);
    put_number(rtc_updates, 8);
    put_number(disk_written, 8);
    put('\n');
}

static void
check(Processor *p, uint32_t page)
{
    volatile uint32_t *words = p->base + page * (PAGE / 4);
    int bad = 0;
    for (uint32_t i = 0; i < WORDS; i++)
        if (words[i * (PAGE / 4 / WORDS)] != p->want[page])
            bad = 1;
    if (!bad)
        return;
    p->errors++;
    p->want[page]++;
    for (uint32_t i = 0; i < WORDS; i++)
        words[i * (PAGE / 4 / WORDS)] = p->want[page];
}

static void
change(Processor *p, uint32_t page)
{
    volatile uint32_t *words = p->base + page * (PAGE / 4);
    uint32_t value = ++p->want[page];
    for (uint32_t i = 0; i < WORDS; i++)
        words[i * (PAGE / 4 / WORDS)] = value;
}

#ifdef REWRITE_CODE
#define ACROSS (PAGE - 3) // what changes of the code there is on the second page

// mov $value, %eax; ret. The upper half of the value is written.
static uint8_t code[PAGE] __attribute__((aligned(4096))) = {[0] = 0xb8, [5] = 0xc3};
static uint8_t two_pages[2 * PAGE] __attribute__((aligned(4096))) = {[ACROSS] = 0xb8, [ACROSS + 5] = 0xc3};

static uint32_t
run_code(const uint8_t *begin)
{
    uint32_t (*volatile run)(void) = (uint32_t(*)(void))(uintptr_t) begin;
    return run();
}

static void
write_code(uint8_t *begin, uint32_t value)
{
    volatile uint8_t *half = begin + 3;
    half[0] = (uint8_t) (value >> 16);
    half[1] = (uint8_t) (value >> 24);
}

static void
rewrite_code(Processor *p, uint8_t *begin, uint32_t *last)
{
    if (*last && run_code(begin) != *last)
        p->errors++;
    write_code(begin, *last = (p->rounds + 1) << 16);
    if (run_code(begin) != *last)
        p->errors++;
}

static void
rewrite_all_code(Processor *p)
{
    static uint32_t last, last_across;
    rewrite_code(p, code, &last);
    rewrite_code(p, two_pages + ACROSS, &last_across);
}
#endif

static void
work(Processor *p)
{
    // The firmware leaves something in some of them.
    for (uint32_t page = 0; page < p->pages; page++)
        change(p, page);
    for (uint32_t begin = 0;; begin = (begin + HOT / 4) % (p->pages - HOT)) {
        for (uint32_t sweep = 0; sweep < SWEEPS; sweep++)
            for (uint32_t page = begin; page < begin + HOT; page++) {
                check(p, page);
                change(p, page);
            }
        for (uint32_t page = 0; page < p->pages; page++)
            check(p, page);
#ifdef REWRITE_CODE
        if (p == processors)
            rewrite_all_code(p);
#endif
        p->rounds++;
        if (p == processors && p->rounds % 4 == 0)
            say();
    }
}

void second(void);

void
second(void)
{
    work(&processors[1]);
}

#ifdef READ_CLOCK
static void
read_clock(void)
{
    for (;;) {
        for (int i = 0; i < 10000; i++)
            __asm__ volatile("rdtsc" ::: "eax", "edx");
        if (++processors[0].rounds % 64 == 0)
            say();
    }
}
#endif

static void
wake_second(void)
{
    volatile uint32_t *apic = (volatile uint32_t *) (uintptr_t) APIC;
    volatile uint8_t *trampoline = (volatile uint8_t *) (uintptr_t) TRAMPOLINE;
    for (uint32_t i = 0; i < (uint32_t) (second_end - second_begin); i++)
        trampoline[i] = second_begin[i];
    apic[0xf0 / 4] |= 0x100;
    static const uint32_t commands[] = {0x4500, 0x4600 | TRAMPOLINE / PAGE};
    for (int i = 0; i < 2; i++) {
        apic[0x310 / 4] = 1 << 24;
        apic[0x300 / 4] = commands[i];
        for (int delay = 0; delay < 20000; delay++)
            in(0x80);
    }
}

void first(const uint32_t *info);

void
first(const uint32_t *info)
{
    // `info` counts from 1 MiB, so this leaves out the last one, where the firmware's tables are.
    uint32_t pages = (info[2] * 1024u - FIRST) / PAGE / 2;
    for (uint32_t i = 0; i < 2; i++) {
        // Each from its end of the memory, so that high pages are among them.
        processors[i].pages = pages < MOST ? pages : MOST;
        uint32_t top = FIRST + 2 * pages * PAGE;
        uint32_t base = i == 0 ? FIRST : top - processors[i].pages * PAGE;
        processors[i].base = (uint32_t *) (uintptr_t) base;
    }
#ifdef READ_CLOCK
    read_clock();
#endif
    find_disk();
    wake_second();
    work(&processors[0]);
}
