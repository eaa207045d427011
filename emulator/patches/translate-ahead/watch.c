/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What code a guest runs while it is being moved.
 *
 * Nothing counts how often a block runs. But a jump to another page, and every return, goes through the vCPU's
 * jump cache, which is emptied with each change of address space; so what is in it then has run since the last
 * time. From there, links between blocks lead to those of the same page that are jumped to directly.
 *
 * What else has been translated of such a page ran here once, or in a move before: the guest may well come to it at the
 * destination, where it has more to catch up with than here. It is told after the rest, as there is room.
 */
#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "cpu.h"
#include "hw/core/cpu.h"
#include "exec/exec-all.h"
#include "accel/tcg/internal.h"
#include "accel/tcg/tb-jmp-cache.h"
#include "quasar/translate-ahead.h"

#define FILL_UP 2048 /* blocks that are told at once, if fewer were noted; about what a vCPU translates until the next time */

bool quasar_watching;

static struct {
    QemuMutex lock;
    GHashTable *known;  /* translation blocks that were met, or told -> how often */
    GArray *noted;      /* QuasarBlock, not taken yet */
    GHashTable *pages;  /* numbers of those that blocks were noted of; a set */
    GArray *page_list;  /* the same in the order in which they were noted */
    guint next_page;    /* of page_list, of which not all has been told */
    GPtrArray *todo;    /* scratch: blocks whose links have not been followed */
} watch;

static void __attribute__((constructor)) watch_init(void)
{
    qemu_mutex_init(&watch.lock);
}

/* Whether all of it is on one page, or on one and the next, where the destination looks for the rest. */
static bool is_in_one_place(const TranslationBlock *block)
{
    tb_page_addr_t second = tb_page_addr1(block);

    return second == -1 || second == (tb_page_addr0(block) & TARGET_PAGE_MASK) + TARGET_PAGE_SIZE;
}

/* Blocks that were made for one run only are left to the destination's guest. */
static void note(GArray *noted, const CPUState *cpu, const TranslationBlock *block)
{
    tb_page_addr_t address = tb_page_addr0(block);

    if (tb_cflags(block) == cpu->tcg_cflags && address != -1 && is_in_one_place(block)) {
        g_array_append_vals(noted, &(QuasarBlock) {
            .pc = tb_pc(block), .cs_base = block->cs_base, .flags = block->flags, .address = address,
            .known = block}, 1);
    }
}

static guint times_met(gconstpointer block)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(watch.known, block));
}

static void meet(TranslationBlock *block)
{
    guint times = block ? times_met(block) : 0;

    if (!block) {
        return;
    }
    g_hash_table_insert(watch.known, block, GUINT_TO_POINTER(times + 1));
    if (!times) {
        g_ptr_array_add(watch.todo, block);
    }
}

static gint most_met_first(gconstpointer a, gconstpointer b)
{
    guint times_a = times_met(((const QuasarBlock *)a)->known), times_b = times_met(((const QuasarBlock *)b)->known);

    return times_a < times_b ? 1 : times_a > times_b ? -1 : 0;
}

/*
 * Whether all blocks may be thrown away meanwhile. A vCPU that runs, or has all others stopped, cannot be overtaken by that; nor
 * can a thread that is none, which comes here with the lock of a page of blocks. But a vCPU's thread between two runs can.
 */
static bool may_be_overtaken(void)
{
    return current_cpu && !qatomic_read(&current_cpu->running) && !current_cpu->in_exclusive_context;
}

void quasar_watch_jumps(CPUState *cpu)
{
    CPUJumpCache *jumps = cpu->tb_jmp_cache;

    if (!jumps || may_be_overtaken()) {
        return;
    }
    QEMU_LOCK_GUARD(&watch.lock);
    if (!quasar_watching) {
        return;
    }
    for (int i = 0; i < TB_JMP_CACHE_SIZE; i++) {
        meet(tb_jmp_cache_get_tb(jumps, i));
    }
    while (watch.todo->len) {
        TranslationBlock *block = g_ptr_array_remove_index_fast(watch.todo, watch.todo->len - 1);

        note(watch.noted, cpu, block);
        for (int i = 0; i < ARRAY_SIZE(block->jmp_dest); i++) {
            /* The lowest bit says that the block is being thrown away. */
            meet((TranslationBlock *)(qatomic_read(&block->jmp_dest[i]) & ~(uintptr_t)1));
        }
    }
}

/* On the vCPU's thread, as if it ran. */
static void look(CPUState *cpu, run_on_cpu_data unused)
{
    qemu_mutex_unlock_iothread();
    cpu_exec_start(cpu);
    quasar_watch_jumps(cpu);
    cpu_exec_end(cpu);
    qemu_mutex_lock_iothread();
}

static void look_at_all(void)
{
    CPUState *cpu;

    RCU_READ_LOCK_GUARD();
    CPU_FOREACH(cpu) {
        async_run_on_cpu(cpu, look, RUN_ON_CPU_NULL);
    }
}

void quasar_watch_begin(void)
{
    quasar_watch_end();
    WITH_QEMU_LOCK_GUARD(&watch.lock) {
        watch.known = g_hash_table_new(NULL, NULL);
        watch.noted = g_array_new(false, false, sizeof(QuasarBlock));
        watch.pages = g_hash_table_new(NULL, NULL);
        watch.page_list = g_array_new(false, false, sizeof(gulong));
        watch.next_page = 0;
        watch.todo = g_ptr_array_new();
        qatomic_set(&quasar_watching, true);
    }
    look_at_all();
}

void quasar_watch_end(void)
{
    QEMU_LOCK_GUARD(&watch.lock);
    qatomic_set(&quasar_watching, false);
    g_clear_pointer(&watch.known, g_hash_table_unref);
    g_clear_pointer(&watch.noted, g_array_unref);
    g_clear_pointer(&watch.pages, g_hash_table_unref);
    g_clear_pointer(&watch.page_list, g_array_unref);
    g_clear_pointer(&watch.todo, g_ptr_array_unref);
}

/* With the lock. */
static void remember_page(gulong number)
{
    if (g_hash_table_add(watch.pages, GSIZE_TO_POINTER(number))) {
        g_array_append_val(watch.page_list, number);
    }
}

static GArray *take_noted(void)
{
    GArray *empty = g_array_new(false, false, sizeof(QuasarBlock)), *taken = empty;

    QEMU_LOCK_GUARD(&watch.lock);
    if (!quasar_watching) {
        return taken;
    }
    taken = watch.noted;
    watch.noted = empty;
    g_array_sort(taken, most_met_first);
    for (guint i = 0; i < taken->len; i++) {
        remember_page(g_array_index(taken, QuasarBlock, i).address >> TARGET_PAGE_BITS);
    }
    return taken;
}

static bool take_page(gulong *number)
{
    QEMU_LOCK_GUARD(&watch.lock);
    if (!quasar_watching || watch.next_page == watch.page_list->len) {
        return false;
    }
    *number = g_array_index(watch.page_list, gulong, watch.next_page++);
    return true;
}

/* Without the lock: quasar_watch_jumps() may be called with a page's, which keeps the page's blocks meanwhile. */
static void note_page(GArray *noted, gulong number)
{
    PageDesc *page = page_find(number);
    TranslationBlock *block;
    int n;

    if (!page) {
        return;
    }
    page_lock(page);
    PAGE_FOR_EACH_TB(page, block, n) {
        note(noted, first_cpu, block);
    }
    page_unlock(page);
}

/* Those that have not been told. They are known from then on, and no longer told when they are met. */
static void add_unknown(GArray *taken, const GArray *rest)
{
    QEMU_LOCK_GUARD(&watch.lock);
    for (guint i = 0; i < rest->len && quasar_watching; i++) {
        const QuasarBlock *block = &g_array_index(rest, QuasarBlock, i);

        if (!times_met(block->known)) {
            g_hash_table_insert(watch.known, (gpointer)block->known, GUINT_TO_POINTER(1));
            g_array_append_vals(taken, block, 1);
        }
    }
}

GArray *quasar_watch_take(void)
{
    g_autoptr(GArray) rest = g_array_new(false, false, sizeof(QuasarBlock));
    GArray *taken;
    gulong page;

    look_at_all();
    taken = take_noted();
    while (taken->len < FILL_UP && take_page(&page)) {
        g_array_set_size(rest, 0);
        note_page(rest, page);
        add_unknown(taken, rest);
    }
    return taken;
}
