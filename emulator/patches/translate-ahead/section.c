/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The section of the stream that tells the destination what to translate, and the object that switches it on:
 * /quasar-translate-ahead, whose property `tell` is set before a move to a destination that knows the section. The guest
 * is watched from then on, so that most is told before its RAM is. With `linger` such a migration does not stop a guest
 * that runs, however little of it is left to send: whoever moves it stops it when the destination is ready.
 *
 * A part of the section begins with what it is (a byte). PART_BLOCKS: a count (be32), and of each block the name of its
 * RAM (counted string, empty: the last one's), its offset there, pc, cs_base (be64) and flags (be32). PART_ENOUGH: the
 * guest has stopped, so the destination has better things to do now.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "cpu.h"
#include "exec/ramblock.h"
#include "migration/misc.h"
#include "migration/qemu-file-types.h"
#include "migration/register.h"
#include "qom/object.h"
#include "sysemu/runstate.h"
#include "sysemu/sysemu.h"
#include "sysemu/tcg.h"
#include "migration/qemu-file.h"
#include "quasar/translate-ahead.h"

#define PAUSE_NS (50 * SCALE_MS) /* from one part to the next */
#define MAX_BLOCKS (1u << 20)    /* of a part */
#define PASS_NS (10 * SCALE_MS)  /* what a pass over the memory takes at least, while the guest lingers */
#define LOOK_US 500              /* how soon it is seen meanwhile that the guest was stopped */

enum { PART_BLOCKS, PART_ENOUGH };

static struct {
    bool tell;        /* the next migration has the section */
    bool begun;       /* the one that runs has */
    bool linger;      /* it does not stop the guest */
    int64_t told_ns;  /* when the last part went, on the realtime clock */
    int64_t asked_ns; /* when it was asked last what is left to send */
} section;

static bool is_active(void *opaque)
{
    return section.tell;
}

static bool has_news(void *opaque)
{
    return section.begun && qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - section.told_ns >= PAUSE_NS;
}

/* Those whose RAM both hosts have. With RCU's read lock. */
static void leave_out(GArray *blocks)
{
    guint kept = 0;

    for (guint i = 0; i < blocks->len && kept < MAX_BLOCKS; i++) {
        const QuasarBlock *block = &g_array_index(blocks, QuasarBlock, i);

        if (quasar_ram_of(block->address)) {
            g_array_index(blocks, QuasarBlock, kept++) = *block;
        }
    }
    g_array_set_size(blocks, kept);
}

static int save_part(QEMUFile *file, void *opaque)
{
    g_autoptr(GArray) blocks = quasar_watch_take();
    const RAMBlock *last = NULL;

    RCU_READ_LOCK_GUARD();
    leave_out(blocks);
    section.told_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    qemu_put_byte(file, PART_BLOCKS);
    qemu_put_be32(file, blocks->len);
    for (guint i = 0; i < blocks->len; i++) {
        const QuasarBlock *block = &g_array_index(blocks, QuasarBlock, i);
        const RAMBlock *ram = quasar_ram_of(block->address);

        qemu_put_counted_string(file, ram == last ? "" : ram->idstr);
        last = ram;
        qemu_put_be64(file, block->address - ram->offset);
        qemu_put_be64(file, block->pc);
        qemu_put_be64(file, block->cs_base);
        qemu_put_be32(file, block->flags);
    }
    return 1;
}

static int save_setup(QEMUFile *file, void *opaque)
{
    section.begun = true;
    save_part(file, opaque);
    return 0;
}

static int save_complete(QEMUFile *file, void *opaque)
{
    qemu_put_byte(file, PART_ENOUGH);
    return 0;
}

static bool lingers(void)
{
    return qatomic_read(&section.linger) && runstate_is_running();
}

/*
 * Adds more than may be left when a guest is stopped. When next to nothing of its memory is, another pass follows at once, and each
 * slows the guest down; so there is a rest in between. On the migration's thread, without the BQL.
 */
static void save_pending(QEMUFile *file, void *opaque, uint64_t allowed, uint64_t *precopy, uint64_t *compatible,
                         uint64_t *postcopy)
{
    while (lingers() && qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - section.asked_ns < PASS_NS) {
        g_usleep(LOOK_US);
    }
    section.asked_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    *precopy += lingers() ? allowed + 1 : 0;
}

static void save_cleanup(void *opaque)
{
    section.tell = section.begun = section.linger = false;
    quasar_watch_end();
}

/* Whether the translator takes such flags, and the block is where it says. */
static bool is_usable(const QuasarBlock *block)
{
#ifndef TARGET_X86_64
    if (block->flags & (HF_CS64_MASK | HF_LMA_MASK)) {
        return false;
    }
#endif
    return ((block->pc ^ block->address) & ~TARGET_PAGE_MASK) == 0;
}

/* Whether it is of use here. `ram` is that of the last one before and after. With RCU's read lock. */
static bool load_block(QEMUFile *file, RAMBlock **ram, QuasarBlock *block)
{
    char name[256];
    uint64_t offset;

    if (qemu_get_counted_string(file, name)) {
        *ram = qemu_ram_block_by_name(name);
    }
    offset = qemu_get_be64(file);
    block->pc = qemu_get_be64(file);
    block->cs_base = qemu_get_be64(file);
    block->flags = qemu_get_be32(file);
    block->address = *ram ? (*ram)->offset + offset : 0;
    return *ram && offset < (*ram)->used_length && is_usable(block);
}

static int load_blocks(QEMUFile *file)
{
    uint32_t count = qemu_get_be32(file);
    g_autoptr(GArray) blocks = g_array_new(false, false, sizeof(QuasarBlock));
    RAMBlock *ram = NULL;
    QuasarBlock block;

    if (count > MAX_BLOCKS || !tcg_enabled()) {
        return -EINVAL;
    }
    RCU_READ_LOCK_GUARD();
    for (uint32_t i = 0; i < count && !qemu_file_get_error(file); i++) {
        if (load_block(file, &ram, &block)) {
            g_array_append_val(blocks, block);
        }
    }
    quasar_ahead_add(blocks);
    return qemu_file_get_error(file);
}

static int load_part(QEMUFile *file, void *opaque, int version)
{
    switch (qemu_get_byte(file)) {
    case PART_BLOCKS:
        return load_blocks(file);
    case PART_ENOUGH:
        quasar_ahead_stop();
        return 0;
    default:
        return -EINVAL;
    }
}

static const SaveVMHandlers handlers = {
    .is_active = is_active,
    .is_active_iterate = has_news,
    .save_setup = save_setup,
    .save_live_iterate = save_part,
    .save_live_pending = save_pending,
    .save_live_complete_precopy = save_complete,
    .save_cleanup = save_cleanup,
    .load_state = load_part,
};

static bool get_tell(Object *object, Error **errp)
{
    return section.tell;
}

static void set_tell(Object *object, bool tell, Error **errp)
{
    if (tell && !tcg_enabled()) {
        error_setg(errp, "only emulated guests have translations");
        return;
    }
    if (!migration_is_idle()) {
        error_setg(errp, "a migration runs");
        return;
    }
    section.tell = tell;
    if (tell) {
        quasar_watch_begin();
    } else {
        quasar_watch_end();
    }
}

static bool get_linger(Object *object, Error **errp)
{
    return section.linger;
}

static void set_linger(Object *object, bool linger, Error **errp)
{
    qatomic_set(&section.linger, linger);
}

static bool get_translating(Object *object, Error **errp)
{
    return quasar_ahead_works();
}

static void class_init(ObjectClass *class, void *data)
{
    object_class_property_add_bool(class, "tell", get_tell, set_tell);
    object_class_property_add_bool(class, "linger", get_linger, set_linger);
    object_class_property_add_bool(class, "translating", get_translating, NULL);
}

static void instance_init(Object *object)
{
    QuasarAheadFigures *figures = &quasar_ahead_figures;

    object_property_add_uint32_ptr(object, "translated", &figures->translated, OBJ_PROP_FLAG_READ);
    object_property_add_uint32_ptr(object, "across", &figures->across, OBJ_PROP_FLAG_READ);
    object_property_add_uint32_ptr(object, "late", &figures->late, OBJ_PROP_FLAG_READ);
    object_property_add_uint32_ptr(object, "pages", &figures->pages, OBJ_PROP_FLAG_READ);
    object_property_add_uint32_ptr(object, "stale-pages", &figures->stale_pages, OBJ_PROP_FLAG_READ);
}

static const TypeInfo types[] = {
    {
        .name = "quasar-translate-ahead",
        .parent = TYPE_OBJECT,
        .class_init = class_init,
        .instance_init = instance_init,
    },
};

DEFINE_TYPES(types)

static void machine_is_made(Notifier *notifier, void *data)
{
    Object *object = object_new("quasar-translate-ahead");

    object_property_add_child(object_get_root(), "quasar-translate-ahead", object);
    object_unref(object);
}

static Notifier machine_done = {.notify = machine_is_made};

/*
 * Before RAM's section is known, which lets those after it have their turn only when nothing of it is left to send. But not as
 * the very first one: 0 is also the number of sections that a destination has not seen yet, which a later part would be
 * taken for.
 */
static void __attribute__((constructor)) section_init(void)
{
    static const SaveVMHandlers nothing;

    register_savevm_live("quasar-nothing", 0, 1, &nothing, NULL);
    unregister_savevm(NULL, "quasar-nothing", NULL);
    register_savevm_live("quasar-translations", 0, 1, &handlers, NULL);
    qemu_add_machine_init_done_notifier(&machine_done);
}
