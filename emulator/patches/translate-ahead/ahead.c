/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Translates blocks of a guest that is still on its way.
 *
 * Theory of operation. A vCPU's thread, which has nothing else to do yet, translates for a copy of its vCPU: flags are
 * the block's, and its RAM is a copy of the page as it has come so far. So a translation depends on that copy alone,
 * and is right if the page is the same when the guest begins to run: that is compared then, and what is on other
 * pages is thrown away. The emulator finds the blocks by address and flags, as if the guest had run them here before.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "cpu.h"
#include "exec/ramblock.h"
#include "sysemu/runstate.h"
#include "accel/tcg/internal.h"
#include "quasar/translate-ahead.h"

#define MAX_PAGES 8192          /* copies that are kept */
#define MAX_BLOCKS (256 * 1024) /* that are queued; more come a last time */

/* A page as it was translated. */
typedef struct {
    ram_addr_t address;
    const uint8_t *now; /* in the guest's RAM */
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
    bool translating;  /* it is at it: what follows after `next` is its own */
    GArray *blocks;    /* QuasarBlock */
    guint next;        /* of `blocks` */
    GHashTable *pages; /* Page, by itself */
    ArchCPU *model;    /* the copy of the vCPU */
    Page *page;        /* of the block that is being translated */
    target_ulong pc;   /* of the block */
} ahead;

static guint page_hash(gconstpointer page)
{
    return ((const Page *)page)->address >> TARGET_PAGE_BITS;
}

static gboolean page_equal(gconstpointer a, gconstpointer b)
{
    return ((const Page *)a)->address == ((const Page *)b)->address;
}

/* The copy that a block is translated from; NULL: there are too many. */
static Page *page_of(const QuasarBlock *block)
{
    uint64_t offset = block->offset & TARGET_PAGE_MASK;
    Page key = {.address = block->ram->offset + offset}, *page = g_hash_table_lookup(ahead.pages, &key);

    if (!page && g_hash_table_size(ahead.pages) < MAX_PAGES) {
        page = g_new(Page, 1);
        page->address = key.address;
        page->now = block->ram->host + offset;
        memcpy(page->then, page->now, sizeof(page->then));
        g_hash_table_add(ahead.pages, page);
    }
    return page;
}

tb_page_addr_t quasar_ahead_page(target_ulong address, void **host)
{
    target_ulong within = address & ~TARGET_PAGE_MASK;

    if ((address ^ ahead.pc) & TARGET_PAGE_MASK) {
        cpu_loop_exit(CPU(ahead.model));
    }
    if (host) {
        *host = ahead.page->then + within;
    }
    return ahead.page->address + within;
}

static void translate(const QuasarBlock *block)
{
    CPUState *cpu = CPU(ahead.model);

    ahead.page = page_of(block);
    ahead.pc = block->pc;
    if (!ahead.page) {
        return;
    }
    ahead.model->env.hflags = ahead.model->env.eflags = block->flags;
    if (sigsetjmp(cpu->jmp_env, 0) == 0) {
        tb_gen_code(cpu, block->pc, block->cs_base, block->flags, curr_cflags(cpu));
        quasar_ahead_figures.translated++;
    }
}

/* Takes the next block; false: there is none, or no time left. */
static bool next_block(QuasarBlock *block)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    ahead.translating = ahead.working = !ahead.enough && ahead.next < ahead.blocks->len;
    if (ahead.working) {
        *block = g_array_index(ahead.blocks, QuasarBlock, ahead.next++);
    } else {
        qemu_cond_signal(&ahead.idle);
    }
    return ahead.working;
}

/* On a vCPU's thread. Its state is not looked at, so the main thread goes on loading it meanwhile. */
static void work(CPUState *cpu, run_on_cpu_data unused)
{
    QuasarBlock block;

    qemu_mutex_unlock_iothread();
    while (next_block(&block)) {
        translate(&block);
    }
    qemu_mutex_lock_iothread();
}

/* A cache of addresses of its own: nothing that is done for the copy may reach the vCPU itself. */
static void make_model(void)
{
    ahead.model = g_memdup2(X86_CPU(first_cpu), sizeof(*ahead.model));
    cpu_set_cpustate_pointers(ahead.model);
    tlb_init(CPU(ahead.model));
    quasar_ahead_env = &ahead.model->env;
}

void quasar_ahead_add(GArray *blocks)
{
    g_autoptr(GArray) owned = blocks;

    QEMU_LOCK_GUARD(&ahead.lock);
    if (ahead.enough || !blocks->len || ahead.blocks->len > MAX_BLOCKS) {
        return;
    }
    if (!ahead.model) {
        make_model();
    }
    g_array_append_vals(ahead.blocks, blocks->data, blocks->len);
    if (!ahead.working) {
        ahead.working = true;
        async_run_on_cpu(first_cpu, work, RUN_ON_CPU_NULL);
    }
}

void quasar_ahead_stop(void)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    ahead.enough = true;
}

bool quasar_ahead_will_compare(void)
{
    QEMU_LOCK_GUARD(&ahead.lock);
    return ahead.model && !ahead.over;
}

/* The guest begins to run: what was translated of pages that came again since is thrown away. */
static void guest_runs(void *opaque, bool running, RunState state)
{
    GHashTableIter iter;
    Page *page;

    if (!running || ahead.over) {
        return;
    }
    QEMU_LOCK_GUARD(&ahead.lock);
    ahead.over = ahead.enough = true;
    while (ahead.translating) {
        qemu_cond_wait(&ahead.idle, &ahead.lock);
    }
    quasar_ahead_figures.late = ahead.blocks->len - ahead.next;
    quasar_ahead_figures.pages = g_hash_table_size(ahead.pages);
    g_hash_table_iter_init(&iter, ahead.pages);
    while (g_hash_table_iter_next(&iter, (gpointer *)&page, NULL)) {
        if (memcmp(page->then, page->now, sizeof(page->then)) != 0) {
            tb_invalidate_phys_range(page->address, page->address + TARGET_PAGE_SIZE);
            quasar_ahead_figures.stale_pages++;
        }
    }
    if (ahead.blocks->len) {
        info_report("translated %u blocks of code on %u pages before the guest came; %u pages have changed, %u blocks were late",
                    quasar_ahead_figures.translated, quasar_ahead_figures.pages, quasar_ahead_figures.stale_pages,
                    quasar_ahead_figures.late);
    }
    g_hash_table_remove_all(ahead.pages);
    g_array_set_size(ahead.blocks, 0);
}

static void __attribute__((constructor)) ahead_init(void)
{
    qemu_mutex_init(&ahead.lock);
    qemu_cond_init(&ahead.idle);
    ahead.blocks = g_array_new(false, false, sizeof(QuasarBlock));
    ahead.pages = g_hash_table_new_full(page_hash, page_equal, g_free, NULL);
    qemu_add_vm_change_state_handler(guest_runs, NULL);
}
