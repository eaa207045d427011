/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is translated of an emulated guest that moves is translated at the destination before it comes. */
#ifndef QUASAR_TRANSLATE_AHEAD_H
#define QUASAR_TRANSLATE_AHEAD_H

#include "exec/cpu-common.h"
#include "exec/exec-all.h"

/* What a translation block is found by. */
typedef struct QuasarBlock {
    uint64_t pc;
    uint64_t cs_base;
    ram_addr_t address; /* on this host, of its first byte; its RAM may be gone */
    uint32_t flags;
    const void *known; /* source: by what it is known here */
} QuasarBlock;

/* Source (watch.c). */

/* Whether vCPUs tell what they run; set and cleared by quasar_watch_begin() and _end(). */
extern bool quasar_watching;

void quasar_watch_begin(void);
void quasar_watch_end(void);

/* Notes what a vCPU's jump cache holds. Called when it is about to be emptied, from any thread. */
void quasar_watch_jumps(CPUState *cpu);

/*
 * What was noted since the last call, first what runs most, and then some of what else has been translated of its pages; the
 * caller frees the array. What is in the caches now comes with the next.
 */
GArray *quasar_watch_take(void);

/* Destination (ahead.c). */

/* The environment of the vCPU that translates ahead of the guest; NULL: none does. */
extern CPUArchState *quasar_ahead_env;

/* What was done, since the process began. */
typedef struct QuasarAheadFigures {
    uint32_t translated;  /* blocks */
    uint32_t across;      /* of them, that reach into a second page */
    uint32_t late;        /* blocks that had not been translated when the guest ran */
    uint32_t pages;       /* that were copied to translate from */
    uint32_t stale_pages; /* of them, that had changed when the guest came */
} QuasarAheadFigures;

extern QuasarAheadFigures quasar_ahead_figures;

/* The RAM that an address is in, NULL: none that both hosts have. With RCU's read lock. */
RAMBlock *quasar_ram_of(ram_addr_t address);

/* In place of get_page_addr_code_hostp(), for that one. Leaves the translation when there is no copy of the page to be had. */
tb_page_addr_t quasar_ahead_page(target_ulong address, void **host);

/* Whether a vCPU's thread is at it; what is queued and whose code has come sets it to work. With the BQL. */
bool quasar_ahead_works(void);

/* No more is translated of what is queued. */
void quasar_ahead_stop(void);

/*
 * Whether what has been translated is all ahead of the guest, and stale parts of it go when the guest begins to run: then nothing
 * has to be flushed because RAM was loaded.
 */
bool quasar_ahead_will_compare(void);

/* Queues blocks. With the BQL. */
void quasar_ahead_add(const GArray *blocks);

#endif
