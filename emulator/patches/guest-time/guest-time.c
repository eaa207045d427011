/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine types whose TSC does not depend on the host.
 *
 * Theory of operation. The virtual clock counts nanoseconds, so it is a TSC of 1 GHz; but reading it asks the
 * system for the time, which takes thrice as long as a guest's rdtsc does otherwise. So it is asked once a
 * millisecond at most (an anchor), and between two anchors the host's counter tells how much time has passed. The
 * counter's rate is measured all the time, against the clock that the virtual clock is made of. The line that leads on from an
 * anchor is a little flatter than that rate, so that the next anchor, which is true, is not below it; where it
 * is all the same (the host's clock was slowed), the line goes on instead. Everything that is ever returned lies on
 * this one rising curve.
 */
#include "qemu/osdep.h"
#include "qemu/seqlock.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "hw/boards.h"
#include "sysemu/cpu-timers.h"
#include "sysemu/runstate.h"
#include "quasar/guest-time.h"

#define Q35 "pc-q35-7.2"
#define I440FX "pc-i440fx-7.2"

#define LINE_NS SCALE_MS           /* how far a line leads */
#define MEASURE_NS (100 * SCALE_MS)  /* how long a rate is measured */
#define FIRST_NS (10 * SCALE_MS)   /* the first one, so that lines begin soon */
#define TORN_NS (5 * SCALE_US)     /* counter and clock read farther apart than this say nothing of the rate */
#define FLATTER 8192               /* by one part in so many */

bool quasar_guest_time;

static struct {
    QemuSeqLock sequence; /* readers of the line */
    QemuSpin lock;        /* writers of everything here */
    uint64_t ticks, ns;   /* the anchor */
    uint64_t length;      /* of its line, in ticks; 0: no line */
    uint64_t slope;       /* ns for a tick, 32.32 */
    uint64_t floor;       /* where the last line ended when the guest stopped */
    uint64_t measured_ticks, measured_ns; /* where the measurement of the rate began; 0: nowhere */
    double rate;                          /* ns for a tick; 0: not known */
} now;

static uint64_t along_line(uint64_t ticks)
{
    return now.ns + ((ticks * now.slope) >> 32);
}

/* The counter and the host's clock at one moment; false when something came between the two. */
static bool read_both(uint64_t *ticks, uint64_t *ns)
{
    uint64_t after;

    *ticks = cpu_get_host_ticks();
    *ns = get_clock();
    after = cpu_get_host_ticks();
    return now.rate == 0 || (after - *ticks) * now.rate < TORN_NS;
}

static void measure(void)
{
    uint64_t ticks, ns;

    if (!read_both(&ticks, &ns)) {
        return;
    }
    if (now.measured_ns && ns - now.measured_ns < (now.rate == 0 ? FIRST_NS : MEASURE_NS)) {
        return;
    }
    if (now.measured_ns && ticks > now.measured_ticks) {
        now.rate = (double)(ns - now.measured_ns) / (ticks - now.measured_ticks);
    }
    now.measured_ticks = ticks;
    now.measured_ns = ns;
}

/* A new anchor and its line. Returns the time of the anchor. Apart, so that its many registers cost the line nothing. */
static G_GNUC_NO_INLINE uint64_t anchor(void)
{
    uint64_t ticks, ns, least = 0;

    qemu_spin_lock(&now.lock);
    measure();
    ticks = cpu_get_host_ticks();
    ns = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    if (now.length) {
        least = along_line(MIN(ticks - now.ticks, now.length));
    } else if (now.floor - ns < LINE_NS) {
        least = now.floor; /* farther back, the clock was set: another state was loaded */
    }
    seqlock_write_begin(&now.sequence);
    now.ticks = ticks;
    now.ns = MAX(ns, least);
    now.length = now.rate > 0 ? LINE_NS / now.rate : 0;
    now.slope = now.rate * (1 - 1.0 / FLATTER) * ((uint64_t)1 << 32);
    seqlock_write_end(&now.sequence);
    ns = now.ns;
    qemu_spin_unlock(&now.lock);
    return ns;
}

uint64_t quasar_guest_tsc(void)
{
    unsigned start;
    uint64_t ticks, ns;
    bool beyond;

    if (icount_enabled()) {
        return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    }
    do {
        start = seqlock_read_begin(&now.sequence);
        ticks = cpu_get_host_ticks() - now.ticks;
        beyond = ticks >= now.length;
        ns = along_line(ticks);
    } while (seqlock_read_retry(&now.sequence, start));
    return beyond ? anchor() : ns;
}

/* The virtual clock has stood, and may have been set: no vCPU runs yet or any more. */
static void guest_stopped_or_started(void *opaque, bool running, RunState state)
{
    qemu_spin_lock(&now.lock);
    if (now.length) {
        now.floor = along_line(MIN(cpu_get_host_ticks() - now.ticks, now.length));
    }
    seqlock_write_begin(&now.sequence);
    now.length = 0;
    seqlock_write_end(&now.sequence);
    qemu_spin_unlock(&now.lock);
}

static void machine_instance_init(Object *object)
{
    if (!quasar_guest_time) {
        quasar_guest_time = true;
        qemu_spin_init(&now.lock);
        seqlock_init(&now.sequence);
        qemu_add_vm_change_state_handler(guest_stopped_or_started, NULL);
    }
}

/* The short names stay with the plain machine types. */
static void machine_class_init(ObjectClass *class, void *data)
{
    MachineClass *machine = MACHINE_CLASS(class);

    machine->alias = NULL;
    machine->is_default = false;
    machine->desc = g_strdup_printf("%s, TSC of 1 GHz on every host", machine->desc);
}

static const TypeInfo types[] = {
    {
        .name = MACHINE_TYPE_NAME("pc-q35-quasar-7.2"),
        .parent = MACHINE_TYPE_NAME(Q35),
        .class_init = machine_class_init,
        .instance_init = machine_instance_init,
    },
    {
        .name = MACHINE_TYPE_NAME("pc-i440fx-quasar-7.2"),
        .parent = MACHINE_TYPE_NAME(I440FX),
        .class_init = machine_class_init,
        .instance_init = machine_instance_init,
    },
};

DEFINE_TYPES(types)
