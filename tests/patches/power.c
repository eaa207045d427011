// SPDX-License-Identifier: LGPL-2.1-or-later
// A PowerPC guest without a system, for tests of the emulator: big-endian, one processor, machine pseries. It
// changes pages without pause, checks them, and says so whenever its timer has gone off twice more.
//
// Started with -kernel. On the first virtual terminal it writes lines as guest.c does: "q ROUNDS ERRORS 0 0
// TIMEBASE 000000 TICKS 0". TICKS is how often the decrementer went off, ten times a second; where it does
// not go off, nothing is written.
#include <stdint.h>

#define PAGE            4096u
#define PAGES           2048u
#define FIRST           (32u * 1024 * 1024)
#define TICK            51200000ul // of the time base's 512 MHz
#define H_PUT_TERM_CHAR 0x58ul

volatile uint64_t ticks;
static uint32_t want[PAGES];
uint8_t stack[16384] __attribute__((aligned(4096)));

// It is loaded at 4 MiB and linked for 0, where the interrupts go: it copies itself there.
__asm__(".section .head, \"ax\"\n"
        ".globl _start\n"
        "_start: bcl 20, 31, 1f\n"
        "1: mflr 3\n"
        "addi 3, 3, _start - 1b\n"
        "li 4, 0\n"
        "lis 5, _end@h\n"
        "ori 5, 5, _end@l\n"
        "2: ld 6, 0(3)\n"
        "std 6, 0(4)\n"
        "addi 3, 3, 8\n"
        "addi 4, 4, 8\n"
        "cmpld 4, 5\n"
        "blt 2b\n"
        "lis 3, begin@h\n"
        "ori 3, 3, begin@l\n"
        "mtctr 3\n"
        "bctr\n"
        // The decrementer's interrupt, with every register that it uses kept.
        ".org 0x900\n"
        "mtsprg 0, 3\n"
        "mtsprg 1, 4\n"
        "lis 3, ticks@h\n"
        "ori 3, 3, ticks@l\n"
        "ld 4, 0(3)\n"
        "addi 4, 4, 1\n"
        "std 4, 0(3)\n"
        "lis 3, 51200000@h\n"
        "ori 3, 3, 51200000@l\n"
        "mtdec 3\n"
        "mfsprg 3, 0\n"
        "mfsprg 4, 1\n"
        "rfid\n"
        ".org 0x1000\n"
        "begin: lis 1, stack@h\n"
        "ori 1, 1, stack@l\n"
        "addi 1, 1, 16384 - 256\n"
        "lis 12, run@h\n"
        "ori 12, 12, run@l\n"
        "mtctr 12\n"
        "bctr\n"
        ".text\n");

static void
put(uint64_t eight_characters)
{
    register uint64_t call __asm__("r3") = H_PUT_TERM_CHAR;
    register uint64_t terminal __asm__("r4") = 0;
    register uint64_t length __asm__("r5") = 8;
    register uint64_t first __asm__("r6") = eight_characters;

    // The hypervisor keeps r13 and above.
    __asm__ volatile("sc 1"
                     : "+r"(call), "+r"(terminal), "+r"(length), "+r"(first)
                     :
                     : "r0", "r7", "r8", "r9", "r10", "r11", "r12", "ctr", "xer", "cr0", "cr1", "cr5", "cr6",
                       "cr7", "memory");
}

typedef struct {
    char text[80]; // what "q", its numbers and a line feed take
    unsigned length;
} Line;

static void
add_number(Line *line, uint64_t number, unsigned digits)
{
    line->text[line->length++] = ' ';
    while (digits-- > 0) {
        unsigned digit = number >> 4 * digits & 15;
        line->text[line->length++] = (char) (digit < 10 ? '0' + digit : 'a' + digit - 10);
    }
}

static void
report(uint64_t rounds, uint64_t errors, uint64_t seen)
{
    Line line;

    line.text[0] = 'q';
    line.length = 1;
    add_number(&line, rounds, 8);
    add_number(&line, errors, 8);
    add_number(&line, 0, 8);
    add_number(&line, 0, 8);
    add_number(&line, __builtin_ppc_get_timebase(), 16);
    add_number(&line, 0, 6);
    add_number(&line, seen, 8);
    add_number(&line, 0, 8);
    line.text[line.length++] = '\n';
    for (unsigned i = 0; i < sizeof line.text; i += 8) {
        uint64_t eight = 0;
        for (unsigned j = 0; j < 8; j++)
            eight = eight << 8 | (uint8_t) line.text[i + j];
        put(eight);
    }
}

static uint64_t
change_pages(uint32_t round)
{
    uint64_t errors = 0;

    for (uint32_t i = 0; i < PAGES; i++) {
        volatile uint32_t *word = (volatile uint32_t *) (uintptr_t) (FIRST + i * PAGE + i % 64 * 4);
        errors += *word != want[i];
        *word = want[i] = round * 2654435761u + i;
    }
    return errors;
}

void
run(void)
{
    uint64_t errors = 0, last = 0;

    for (uint32_t i = 0; i < PAGES; i++)
        want[i] = *(volatile uint32_t *) (uintptr_t) (FIRST + i * PAGE + i % 64 * 4);
    __asm__ volatile("mtdec %0" : : "r"(TICK));
    // External interrupts on: the decrementer is one.
    __asm__ volatile("mfmsr 3\n ori 3, 3, 0x8000\n mtmsrd 3, 1" : : : "r3", "memory");
    for (uint32_t round = 1;; round++) {
        errors += change_pages(round);
        if (ticks >= last + 2) {
            last = ticks;
            report(round, errors, last);
        }
    }
}
