/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translates blocks of a guest that is still on its way.
 *
 * Theory of operation. A vCPU's thread, which has nothing else to do yet, translates for a copy of its vCPU: flags are
 * the block's, and its RAM is a copy of the page as it has come so far. So a translation depends on that copy alone,
 * and is right if the page is the same when the guest begins to run: that is compared then, and what is on other
 * pages is thrown away. The emulator finds the blocks by address and flags, as if the guest had run them here before.
 *
 * Some reach into a second page. That is taken to be the next one of the RAM, as it is in a kernel; which page it really is the
 * emulator compares when it looks for a block.
 */
#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/cpu_ldst.h"
#include "exec/ramblock.h"
#include "exec/ramlist.h"
#include "hw/core/tcg-cpu-ops.h"
#include "sysemu/runstate.h"
#include "sysemu/sysemu.h"
#include "accel/tcg/internal.h"
#include "quasar/translate-ahead.h"

#define MAX_PAGES 8192          /* copies that are kept */
#define MAX_BLOCKS (256 * 1024) /* that are queued; more come a last time */
#define CODE_START 16           /* bytes, of which not all are zero where code is */
#define INSTRUCTION 15          /* bytes at most; one that may reach into the next page is a block of its own */
#define ROUND_PART 8            /* a round that finds less than one of so many is not followed by another at once */

/* A page as it was translated. */
typedef struct {
    ram_addr_t address;
    uint8_t then[TARGET_PAGE_SIZE];
} Page;

CPUArchState *quasar_ahead_env;
QuasarAheadFigures quasar_ahead_figures;

static struct {
    QemuMutex lock;
    QemuCond idle;     /* `translating` has become false */
    bool enough;       /* no more is to be translated */
    bool over;         /* the guest runs, or has run; then that is `enough`, too */
    bool working;      /* a vCPU's thread has been told to work */
    bool translating;  /* it is at it: what follows after `found` is its own */
    GArray *blocks;    /* QuasarBlock, in the order in which they were told: what runs most comes first */
    guint kept;        /* those before had to be passed over in this round, as their code had not come */
    guint cursor;      /* those from here on it has not reached; those between have been translated */
    guint found;       /* in this round */
    GHashTable *pages; /* Page, by itself */
    ArchCPU *model;    /* the copy of the vCPU */
    Page *page;        /* of the block that is being translated */
    target_ulong pc;   /* of the block */
    CPUTLBEntry *entries[2]; /* of the copy's TLB, that its block has needed */
    guint n_entries;
} ahead;

static guint page_hash(gconstpointer page)
{
    return ((const Page *)page)->address >> TARGET_PAGE_BITS;
}

static gboolean page_equal(gconstpointer a, gconstpointer b)
{
    return ((const Page *)a)->address == ((const Page *)b)->address;
}

RAMBlock *quasar_ram_of(ram_addr_t address)
{
    RAMBlock *ram;

    RAMBLOCK_FOREACH(ram) {
        if (address - ram->offset < ram->used_length) {
            return qemu_ram_is_migratable(ram) && ram->idstr[0] ? ram : NULL;
        }
    }
    return NULL;
}

/* What is at a page's address; NULL: nothing any more. With RCU's read lock. */
static const uint8_t *bytes_at(ram_addr_t address)
{
    const RAMBlock *ram = quasar_ram_of(address);
    ram_addr_t offset = ram ? address - ram->offset : 0;

    return ram && ram->used_length - offset >= TARGET_PAGE_SIZE ? ram->host + offset : NULL;
}

/* The copy that is translated from in place of a page; NULL: its RAM is gone, or there are too many. */
static Page *copy_of(ram_addr_t address)
{
    Page key = {.address = address}, *page = g_hash_table_lookup(ahead.pages, &key);
    const uint8_t *now = bytes_at(address);

    if (!page && now && g_hash_table_size(ahead.pages) < MAX_PAGES) {
        page = g_new(Page, 1);
        page->address = address;
        memcpy(page->then, now, sizeof(page->then));
        g_hash_table_add(ahead.pages, page);
    }
    return now ? page : NULL;
}

/* Of the page that an address in the block's code is on. */
static Page *copy_with(target_ulong address)
{
    switch ((address & TARGET_PAGE_MASK) - (ahead.pc & TARGET_PAGE_MASK)) {
    case 0:
        return ahead.page;
    case TARGET_PAGE_SIZE:
        return copy_of(ahead.page->address + TARGET_PAGE_SIZE);
    default:
        return NULL;
    }
}

tb_page_addr_t quasar_ahead_page(target_ulong address, void **host)
{
    target_ulong within = address & ~TARGET_PAGE_MASK;
    Page *page = copy_with(address);

    if (!page) {
        cpu_loop_exit(CPU(ahead.model));
    }
    if (host) {
        *host = page->then + within;
    }
    return page->address + within;
}

/*
 * What lies across the end of a page is read by way of the TLB. Any other address is on a third page: whatever the copy's
 * address space says, the guest's is another.
 */
static bool fill_tlb(CPUState *cpu, vaddr address, int size, MMUAccessType access, int mmu_index, bool probe, uintptr_t from)
{
    CPUTLBEntry *entry = tlb_entry(cpu->env_ptr, mmu_index, address);
    bool room = access == MMU_INST_FETCH && ahead.n_entries < ARRAY_SIZE(ahead.entries);
    Page *page = room ? copy_with(address) : NULL;

    if (!page) {
        cpu_loop_exit(cpu);
    }
    entry->addr_code = address & TARGET_PAGE_MASK;
    entry->addend = (uintptr_t)page->then - entry->addr_code;
    ahead.entries[ahead.n_entries++] = entry;
    return true;
}

/* The next block's addresses may be another address space's. */
static void empty_tlb(void)
{
    while (ahead.n_entries) {
        memset(ahead.entries[--ahead.n_entries], -1, sizeof(CPUTLBEntry));
    }
}

/* Whether there is room for more. */
static bool translate(const QuasarBlock *block)
{
    CPUState *cpu = CPU(ahead.model);

    ahead.page = copy_of(block->address & TARGET_PAGE_MASK);
    ahead.pc = block->pc;
    if (!ahead.page) {
        return true;
    }
    ahead.model->env.hflags = ahead.model->env.eflags = block->flags;
    cpu->exception_index = -1;
    if (sigsetjmp(cpu->jmp_env, 0) == 0) {
        const TranslationBlock *made = tb_gen_code(cpu, block->pc, block->cs_base, block->flags, curr_cflags(cpu));

        quasar_ahead_figures.translated++;
        quasar_ahead_figures.across += tb_page_addr1(made) != -1;
    }
    empty_tlb();
    /* What it says when it wants all translations flushed; for this vCPU nobody does. */
    return cpu->exception_index != EXCP_INTERRUPT;
}

static void work(CPUState *cpu, run_on_cpu_data unused);

/* Has this vCPU's thread other work to do, it comes back to this afterwards. */
static bool others_wait(CPUState *cpu)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    if (ahead.enough || QSIMPLEQ_EMPTY_ATOMIC(&cpu->work_list)) {
        return false;
    }
    ahead.translating = false;
    qemu_cond_signal(&ahead.idle);
    async_run_on_cpu(cpu, work, RUN_ON_CPU_NULL);
    return true;
}

/* Whether code is at the beginning of a page. */
static bool begins_with_code(ram_addr_t address)
{
    const uint8_t *page = bytes_at(address);

    return page && !buffer_is_zero(page, CODE_START);
}

/* Whether the code is there, all of it: RAM that has not come is zero. With RCU's read lock. */
static bool has_come(const QuasarBlock *block)
{
    ram_addr_t page = block->address & TARGET_PAGE_MASK, within = block->address & ~TARGET_PAGE_MASK;
    const uint8_t *bytes = bytes_at(page);

    return bytes && bytes[within] &&
           (within <= TARGET_PAGE_SIZE - INSTRUCTION || begins_with_code(page + TARGET_PAGE_SIZE));
}

/* With the lock: the next block whose code is there. */
static bool find_block(QuasarBlock *block)
{
    while (ahead.cursor < ahead.blocks->len) {
        const QuasarBlock *found = &g_array_index(ahead.blocks, QuasarBlock, ahead.cursor++);

        if (has_come(found)) {
            *block = *found;
            ahead.found++;
            return true;
        }
        g_array_index(ahead.blocks, QuasarBlock, ahead.kept++) = *found;
    }
    return false;
}

/* With the lock. */
static void begin_round(void)
{
    if (ahead.cursor > ahead.kept) {
        g_array_remove_range(ahead.blocks, ahead.kept, ahead.cursor - ahead.kept);
    }
    ahead.kept = ahead.cursor = ahead.found = 0;
}

/* With the lock: how many have not been translated. */
static guint blocks_left(void)
{
    return ahead.kept + ahead.blocks->len - ahead.cursor;
}

/*
 * Takes the next block; false: there is none, or no time left. After a round that found little RAM has to come first: the
 * next part of the section, or the question whether there is more, begins another.
 */
static bool next_block(QuasarBlock *block)
{
    RCU_READ_LOCK_GUARD();
    QEMU_LOCK_GUARD(&ahead.lock);
    ahead.working = !ahead.enough && find_block(block);
    if (!ahead.working && !ahead.enough && ahead.found * ROUND_PART > blocks_left()) {
        begin_round();
        ahead.working = find_block(block);
    }
    ahead.translating = ahead.working;
    if (!ahead.working) {
        qemu_cond_signal(&ahead.idle);
    }
    return ahead.working;
}

/* On a vCPU's thread, as if it ran. Its state is not looked at, so the main thread goes on loading it meanwhile. */
static void work(CPUState *cpu, run_on_cpu_data unused)
{
    QuasarBlock block;

    qemu_mutex_unlock_iothread();
    while (!others_wait(cpu) && next_block(&block)) {
        cpu_exec_start(cpu);
        WITH_RCU_READ_LOCK_GUARD() {
            if (!translate(&block)) {
                quasar_ahead_stop();
            }
        }
        cpu_exec_end(cpu);
    }
    qemu_mutex_lock_iothread();
}

/* Nothing that is done for the copy may reach the vCPU itself, or devices. */
static void make_model(void)
{
    static CPUClass class;
    static struct TCGCPUOps ops;
    CPUState *cpu;

    ahead.model = g_memdup2(X86_CPU(first_cpu), sizeof(*ahead.model));
    cpu_set_cpustate_pointers(ahead.model);
    cpu = CPU(ahead.model);
    class = *cpu->cc;
    ops = *class.tcg_ops;
    ops.tlb_fill = fill_tlb;
    class.tcg_ops = &ops;
    cpu->cc = &class;
    cpu->in_exclusive_context = cpu->running = cpu->has_waiter = false;
    qemu_mutex_init(&cpu->work_mutex);
    QSIMPLEQ_INIT(&cpu->work_list);
    QTAILQ_INIT(&cpu->breakpoints);
    QTAILQ_INIT(&cpu->watchpoints);
    tlb_init(cpu);
    qatomic_set(&quasar_ahead_env, &ahead.model->env);
}

/* With the lock and the BQL. */
static void begin_work(void)
{
    if (!ahead.enough && !ahead.working && blocks_left()) {
        ahead.working = true;
        begin_round();
        async_run_on_cpu(first_cpu, work, RUN_ON_CPU_NULL);
    }
}

void quasar_ahead_add(const GArray *blocks)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    if (ahead.enough) {
        return;
    }
    if (!ahead.model) {
        make_model();
    }
    /* What was passed over is first again, if its code has come: it runs more than what is told now. */
    begin_round();
    if (blocks_left() <= MAX_BLOCKS) {
        g_array_append_vals(ahead.blocks, blocks->data, blocks->len);
    }
    begin_work();
}

void quasar_ahead_stop(void)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    ahead.enough = true;
}

bool quasar_ahead_works(void)
{
    bool more = false;

    RCU_READ_LOCK_GUARD();
    QEMU_LOCK_GUARD(&ahead.lock);
    for (guint i = 0; i < ahead.blocks->len && !more; i++) {
        more = (i < ahead.kept || i >= ahead.cursor) && has_come(&g_array_index(ahead.blocks, QuasarBlock, i));
    }
    if (more) {
        begin_work();
    }
    return ahead.working;
}

bool quasar_ahead_will_compare(void)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    return ahead.model && !ahead.over;
}

/* With the lock. No translation is under way any more then, and none comes. */
static void finish(void)
{
    ahead.over = ahead.enough = true;
    while (ahead.translating) {
        qemu_cond_wait(&ahead.idle, &ahead.lock);
    }
}

/* The guest begins to run: what was translated of pages that came again since is thrown away. */
static void guest_runs(void *opaque, bool running, RunState state)
{
    GHashTableIter iter;
    Page *page;

    if (!running || ahead.over) {
        return;
    }
    RCU_READ_LOCK_GUARD();
    QEMU_LOCK_GUARD(&ahead.lock);
    finish();
    quasar_ahead_figures.late = blocks_left();
    quasar_ahead_figures.pages = g_hash_table_size(ahead.pages);
    g_hash_table_iter_init(&iter, ahead.pages);
    while (g_hash_table_iter_next(&iter, (gpointer *)&page, NULL)) {
        const uint8_t *now = bytes_at(page->address);

        if (!now || memcmp(page->then, now, sizeof(page->then)) != 0) {
            tb_invalidate_phys_range(page->address, page->address + TARGET_PAGE_SIZE);
            quasar_ahead_figures.stale_pages++;
        }
    }
    if (ahead.model) {
        info_report("translated %u blocks of code on %u pages before the guest came, %u across two; %u pages have changed, "
                    "%u blocks were late", quasar_ahead_figures.translated, quasar_ahead_figures.pages,
                    quasar_ahead_figures.across, quasar_ahead_figures.stale_pages, quasar_ahead_figures.late);
    }
    g_hash_table_remove_all(ahead.pages);
    g_array_set_size(ahead.blocks, 0);
    ahead.kept = ahead.cursor = 0;
}

/* RAM goes away next. */
static void emulator_exits(Notifier *notifier, void *data)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    finish();
}

static Notifier exit_notifier = {.notify = emulator_exits};

static void __attribute__((constructor)) ahead_init(void)
{
    qemu_add_exit_notifier(&exit_notifier);
    qemu_mutex_init(&ahead.lock);
    qemu_cond_init(&ahead.idle);
    ahead.blocks = g_array_new(false, false, sizeof(QuasarBlock));
    ahead.pages = g_hash_table_new_full(page_hash, page_equal, g_free, NULL);
    qemu_add_vm_change_state_handler(guest_runs, NULL);
}
