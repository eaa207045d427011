// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions, autostart links and status files, written and found again; the list's filters.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/store.h"

#define XML(name, uuid)                                                                                      \
    "<domain type='qemu'><name>" name "</name><uuid>" uuid "</uuid><memory>65536</memory><vcpu>1</vcpu>"     \
    "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>"
#define UUID_WEB   "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define UUID_OTHER "6ba7b811-9dad-11d1-80b4-00c04fd430c8"

static char *
make_prefix(void)
{
    return g_dir_make_tmp("quasar-store-XXXXXX", NULL);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

static Driver *
make_driver(const char *prefix)
{
    g_autoptr(GError) error = NULL;
    Driver *driver = driver_new(prefix);
    assert_true(driver_init(driver, NULL, &error));
    return driver;
}

static Domain *
add(Driver *driver, const char *xml, GError **error)
{
    gboolean created;
    g_autoptr(DomainDef) def = domain_def_parse(xml, error);
    assert_non_null(def);
    Domain *domain = domain_list_add(driver->domains, driver, def, &created, error);
    if (domain && !domain->persistent)
        domain->persistent = g_steal_pointer(&def);
    return domain;
}

static void
test_definition_and_autostart(void **state)
{
    (void) state;
    g_autofree char *prefix = make_prefix();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        assert_true(store_save_definition(domain, domain->persistent, NULL));
        assert_true(store_set_autostart(domain, TRUE, NULL));
        assert_true(store_set_autostart(domain, TRUE, NULL));
        g_autofree char *bad = g_build_filename(driver->definition_dir, "bad.xml", NULL);
        assert_true(g_file_set_contents(bad, "<domain>", -1, NULL));
    }
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        store_load(driver);
        assert_int_equal(domain_list_count(driver->domains).inactive, 1);
        g_autoptr(Domain) domain = domain_list_by_name(driver->domains, "web", NULL);
        assert_non_null(domain);
        assert_true(domain->autostart);
        assert_true(store_remove_definition(domain, NULL));
        assert_false(domain->autostart);
    }
    g_autoptr(Driver) driver = make_driver(prefix);
    store_load(driver);
    assert_int_equal(domain_list_count(driver->domains).inactive, 0);
    nftw(prefix, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void
test_status_round_trip(void **state)
{
    (void) state;
    g_autofree char *prefix = make_prefix();
    g_autofree char *path = NULL;
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        domain->live = domain_def_copy(domain->persistent);
        domain_list_restore_id(driver->domains, domain, 5);
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
        domain->pid = 0x7ffffff0; // above pid_max: no such process
        domain->pid_start = 77;
        g_hash_table_replace(domain->original_owners, g_strdup("/tmp/no such=file"), g_strdup("1:2"));
        assert_true(store_save_status(domain, NULL));
        path = domain_status_path(domain);
    }
    g_autoptr(Driver) driver = make_driver(prefix);
    {
        g_autoptr(Domain) domain = store_read_status(driver, path, NULL);
        assert_non_null(domain);
        assert_int_equal(domain->id, 5);
        assert_int_equal(domain->state, VIR_DOMAIN_PAUSED);
        assert_int_equal(domain->pid_start, 77);
        assert_string_equal(g_hash_table_lookup(domain->original_owners, "/tmp/no such=file"), "1:2");
    }
    nftw(prefix, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void
test_lost_guest_is_cleaned_up(void **state)
{
    (void) state;
    g_autofree char *prefix = make_prefix();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        assert_true(store_save_definition(domain, domain->persistent, NULL));
        domain->live = domain_def_copy(domain->persistent);
        domain_list_restore_id(driver->domains, domain, 5);
        domain->pid = 0x7ffffff0;
        domain->pid_start = 77;
        assert_true(store_save_status(domain, NULL));
    }
    g_autoptr(Driver) driver = make_driver(prefix);
    store_load(driver);
    g_autoptr(Domain) domain = domain_list_by_name(driver->domains, "web", NULL);
    assert_non_null(domain);
    assert_int_equal(domain->id, -1);
    assert_int_equal(domain->reason, VIR_DOMAIN_SHUTOFF_CRASHED);
    g_autofree char *status = domain_status_path(domain);
    assert_false(g_file_test(status, G_FILE_TEST_EXISTS));
    nftw(prefix, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void
test_list(void **state)
{
    (void) state;
    g_autofree char *prefix = make_prefix();
    g_autoptr(GError) error = NULL;
    g_autoptr(Driver) driver = make_driver(prefix);
    g_autoptr(Domain) web = add(driver, XML("web", UUID_WEB), NULL);
    assert_null(add(driver, XML("web", UUID_OTHER), &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
    g_clear_error(&error);
    assert_null(domain_list_by_id(driver->domains, 1, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_DOMAIN);
    g_autoptr(GPtrArray) all = domain_list_filter(driver->domains, 0);
    assert_int_equal(all->len, 1);
    g_autoptr(GPtrArray) active = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    assert_int_equal(active->len, 0);
    g_autoptr(GPtrArray) off = domain_list_filter(driver->domains, VIR_CONNECT_LIST_DOMAINS_SHUTOFF |
                                                                       VIR_CONNECT_LIST_DOMAINS_PERSISTENT);
    assert_int_equal(off->len, 1);
    domain_list_remove(driver->domains, web);
    assert_null(domain_list_by_name(driver->domains, "web", NULL));
    nftw(prefix, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition_and_autostart),
        cmocka_unit_test(test_status_round_trip),
        cmocka_unit_test(test_lost_guest_is_cleaned_up),
        cmocka_unit_test(test_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
