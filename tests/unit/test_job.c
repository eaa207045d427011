// SPDX-License-Identifier: LGPL-2.1-or-later
// Jobs and events of a domain without an emulator.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"
#include "driver/domain.h"
#include "driver/event.h"

static Driver driver;

static Domain *
make_domain(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DomainDef) def =
        domain_def_parse("<domain type='qemu'><name>web</name><uuid>6ba7b810-9dad-11d1-80b4-00c04fd430c8"
                         "</uuid><memory>65536</memory><vcpu>1</vcpu>"
                         "<os><type arch='x86_64'>hvm</type></os></domain>",
                         &error);
    assert_null(error);
    return domain_new(&driver, def);
}

static gpointer
take_job(gpointer data)
{
    Domain *domain = data;
    domain_lock(domain);
    gboolean ok = job_begin(domain, JOB_MODIFY, NULL);
    if (ok)
        job_end(domain);
    domain_unlock(domain);
    return GINT_TO_POINTER(ok);
}

static void
test_modify_waits_for_modify(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_domain();
    domain_lock(domain);
    assert_true(job_begin(domain, JOB_MODIFY, NULL));
    GThread *other = g_thread_new("other", take_job, domain);
    while (domain->job.waiting == 0) {
        domain_unlock(domain);
        g_thread_yield();
        domain_lock(domain);
    }
    assert_int_equal(domain->job.active, JOB_MODIFY);
    job_end(domain);
    domain_unlock(domain);
    assert_true(GPOINTER_TO_INT(g_thread_join(other)));
}

static void
count_completed(const DomainEvent *event, gpointer data)
{
    if (event->id == VIR_DOMAIN_EVENT_ID_JOB_COMPLETED && event->stats->memory_total == 7)
        (*(int *) data)++;
}

static void
test_async_statistics(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_domain();
    int completed = 0;
    guint subscription = event_bus_subscribe(driver.events, count_completed, &completed, NULL);
    JobStats stats;
    domain_lock(domain);
    assert_false(job_stats(domain, FALSE, &stats));
    assert_true(
        job_begin_async(domain, ASYNC_MIGRATION_OUT, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, 0, NULL));
    domain->job.current.memory_total = 7;
    assert_true(job_stats(domain, FALSE, &stats));
    assert_int_equal(stats.type, VIR_DOMAIN_JOB_UNBOUNDED);
    assert_false(job_stats(domain, TRUE, &stats));
    job_end_async(domain, VIR_DOMAIN_JOB_COMPLETED);
    assert_false(job_stats(domain, FALSE, &stats));
    assert_true(job_stats(domain, TRUE, &stats));
    assert_int_equal(stats.memory_total, 7);
    job_forget_completed(domain);
    assert_false(job_stats(domain, TRUE, &stats));
    domain_unlock(domain);
    event_bus_unsubscribe(driver.events, subscription);
    assert_int_equal(completed, 1);
}

static void
test_async_admits_destroy(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_domain();
    g_autoptr(GError) error = NULL;
    domain_lock(domain);
    assert_true(job_begin_async(domain, ASYNC_MIGRATION_OUT, 0, 0, NULL));
    assert_false(job_begin_async(domain, ASYNC_SAVE, 0, 0, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    assert_true(job_begin(domain, JOB_DESTROY, NULL));
    job_end(domain);
    assert_true(job_begin_nested(domain, NULL));
    job_end(domain);
    job_end_async(domain, VIR_DOMAIN_JOB_FAILED);
    domain_unlock(domain);
}

static gboolean
refuse_abort(gpointer data, GError **error)
{
    (*(int *) data)++;
    quasar_set_error(error, VIR_ERR_OPERATION_INVALID, "released");
    return FALSE;
}

static void
test_abort(void **state)
{
    (void) state;
    g_autoptr(Domain) domain = make_domain();
    int called = 0;
    domain_lock(domain);
    assert_false(job_abort(domain, NULL));
    assert_true(job_begin_async(domain, ASYNC_MIGRATION_OUT, 0, 0, NULL));
    assert_false(job_abort(domain, NULL));
    job_set_abort(domain, refuse_abort, &called);
    assert_false(job_abort(domain, NULL));
    assert_int_equal(called, 1);
    assert_false(domain->job.abort_requested);
    job_end_async(domain, VIR_DOMAIN_JOB_CANCELLED);
    domain_unlock(domain);
}

int
main(void)
{
    driver.events = event_bus_new();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modify_waits_for_modify),
        cmocka_unit_test(test_async_statistics),
        cmocka_unit_test(test_async_admits_destroy),
        cmocka_unit_test(test_abort),
    };
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    event_bus_free(driver.events);
    return result;
}
