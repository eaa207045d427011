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
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "driver/domains.h"
#include "driver/process_images.h"
#include "driver/store.h"
#include "tests/unit/files.h"

#define XML(name, uuid)                                                                                      \
    "<domain type='qemu'><name>" name "</name><uuid>" uuid "</uuid><memory>65536</memory><vcpu>1</vcpu>"     \
    "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>"
#define UUID_WEB   "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define UUID_OTHER "6ba7b811-9dad-11d1-80b4-00c04fd430c8"

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
    char *prefix = test_directory_new();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        domain_lock(domain);
        assert_true(store_save_definition(domain, domain->persistent, NULL));
        assert_true(store_set_autostart(domain, TRUE, NULL));
        assert_true(store_set_autostart(domain, TRUE, NULL));
        domain_unlock(domain);
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
        domain_lock(domain);
        assert_true(store_undefine(domain, NULL));
        assert_false(domain->autostart);
        assert_null(domain->persistent);
        domain_unlock(domain);
        g_autofree char *link = domain_autostart_path(domain);
        assert_false(g_file_test(link, G_FILE_TEST_IS_SYMLINK));
    }
    g_autoptr(Driver) driver = make_driver(prefix);
    store_load(driver);
    assert_int_equal(domain_list_count(driver->domains).inactive, 0);
    test_directory_free(prefix);
}

static DomainDef *
titled(const char *title)
{
    DomainDef *def = domain_def_parse(XML("web", UUID_WEB), NULL);
    assert_non_null(def);
    def->title = g_strdup(title);
    return def;
}

static gpointer
define_first(gpointer data)
{
    Domain *domain = data;
    domain_lock(domain);
    gboolean ok = store_define(domain, titled("first"), NULL);
    domain_unlock(domain);
    return GINT_TO_POINTER(ok);
}

// Fails instead of hanging where the lock is held across the write.
static void
lock_in_time(Domain *domain)
{
    for (int i = 0; i < 2000; i++) {
        if (g_mutex_trylock(&domain->lock))
            return;
        g_usleep(10000);
    }
    fail_msg("the domain's lock is held while its definition is written");
}

static void
wait_for_turn(Domain *domain, guint64 turn)
{
    for (gboolean there = FALSE; !there;) {
        lock_in_time(domain);
        there = domain->definition_turn == turn;
        domain_unlock(domain);
        if (!there)
            g_usleep(1000);
    }
}

static char *
definition_on_disk(Domain *domain)
{
    g_autofree char *path = domain_definition_path(domain);
    char *text = NULL;
    g_file_get_contents(path, &text, NULL, NULL);
    return text;
}

// The first definition waits for the disk, as long as we hold `files`; the second one gets there before it.
static void
test_older_definition_does_not_win(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        g_autofree char *path = domain_definition_path(domain);
        g_mutex_lock(&domain->files);
        GThread *first = g_thread_new("first", define_first, domain);
        wait_for_turn(domain, 1);
        lock_in_time(domain);
        assert_string_equal(domain->persistent->title, "first");
        domain->definition_turn++;
        domain_def_free(domain->persistent);
        domain->persistent = titled("second");
        domain_unlock(domain);
        assert_true(g_file_set_contents(path, "second", -1, NULL));
        domain->definition_written = 2;
        g_mutex_unlock(&domain->files);
        assert_true(GPOINTER_TO_INT(g_thread_join(first)));
        g_autofree char *kept = definition_on_disk(domain);
        assert_string_equal(kept, "second");
        assert_string_equal(domain->persistent->title, "second");
        // And the next one is written again.
        domain_lock(domain);
        assert_true(store_define(domain, titled("third"), NULL));
        domain_unlock(domain);
        g_autofree char *next = definition_on_disk(domain);
        assert_non_null(strstr(next, "<title>third</title>"));
    }
    test_directory_free(prefix);
}

static void
test_failed_define_leaves_the_former(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        g_autoptr(GError) error = NULL;
        domain_lock(domain);
        assert_true(store_define(domain, titled("former"), NULL));
        g_autofree char *directory = driver->definition_dir;
        driver->definition_dir = g_build_filename(prefix, "elsewhere", NULL);
        g_autofree char *in_the_way = domain_definition_path(domain);
        assert_int_equal(g_mkdir_with_parents(in_the_way, 0700), 0);
        assert_false(store_define(domain, titled("later"), &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
        assert_string_equal(domain->persistent->title, "former");
        g_clear_error(&error);
        assert_false(store_undefine(domain, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
        assert_string_equal(domain->persistent->title, "former");
        g_free(driver->definition_dir);
        driver->definition_dir = g_steal_pointer(&directory);
        domain_unlock(domain);
        g_autofree char *text = definition_on_disk(domain);
        assert_non_null(strstr(text, "<title>former</title>"));
    }
    test_directory_free(prefix);
}

static void
test_status_round_trip(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
    g_autofree char *path = NULL;
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        domain->live = domain_def_copy(domain->persistent);
        domain_list_restore_id(driver->domains, domain, 5);
        domain_set_state(domain, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
        domain->pid = 0x7ffffff0; // above pid_max: no such process
        domain->pid_start = 77;
        domain->run_dir = g_strdup("/run/nowhere");
        domain->max_downtime_ms = 25;
        domain->max_speed_mib = 100;
        job_inherit(domain, ASYNC_MIGRATION_OUT, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, 1);
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
        assert_string_equal(domain->run_dir, "/run/nowhere");
        assert_int_equal(domain->max_downtime_ms, 25);
        assert_int_equal(domain->max_speed_mib, 100);
        JobStats stats;
        assert_true(job_stats(domain, FALSE, &stats));
        assert_int_equal(stats.operation, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    }
    test_directory_free(prefix);
}

static void
test_lost_guest_is_cleaned_up(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
    {
        g_autoptr(Driver) driver = make_driver(prefix);
        g_autoptr(Domain) domain = add(driver, XML("web", UUID_WEB), NULL);
        domain_lock(domain);
        assert_true(store_save_definition(domain, domain->persistent, NULL));
        domain_unlock(domain);
        domain->live = domain_def_copy(domain->persistent);
        domain_list_restore_id(driver->domains, domain, 5);
        domain->run_dir = g_strdup("/run/nowhere");
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
    test_directory_free(prefix);
}

static void
test_list(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
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
    test_directory_free(prefix);
}

static DomainDef *
with_disk(const char *name, const char *uuid, const char *path)
{
    g_autofree char *xml = g_strdup_printf(
        "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory>65536</memory><os><type>hvm</type></os>"
        "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>",
        name, uuid, path);
    return domain_def_parse(xml, NULL);
}

static Driver *
make_lending_driver(const char *prefix)
{
    Driver *driver = make_driver(prefix);
    driver->dynamic_ownership = TRUE;
    driver->emulator_uid = driver->emulator_gid = 65534;
    return driver;
}

static void
lend_to(Driver *driver, const char *name, const char *uuid, const char *path)
{
    gboolean created;
    g_autoptr(DomainDef) def = with_disk(name, uuid, path);
    g_autoptr(Domain) domain = domain_list_add(driver->domains, driver, def, &created, NULL);
    assert_true(images_lend(domain, def, NULL));
    assert_true(images_lend(domain, def, NULL));
}

static uid_t
owner(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_uid;
}

// Two guests use one image; its owner gets it back after the second, whatever became of the daemon.
static void
test_images_are_given_back(void **state)
{
    (void) state;
    if (geteuid() != 0)
        skip();
    char *prefix = test_directory_new();
    g_autofree char *path = g_build_filename(prefix, "image", NULL);
    g_autofree char *link = g_build_filename(prefix, "link", NULL);
    assert_true(g_file_set_contents(path, "content", -1, NULL));
    assert_int_equal(chown(path, 7, 8), 0);
    assert_int_equal(symlink(path, link), 0);
    {
        g_autoptr(Driver) driver = make_lending_driver(prefix);
        lend_to(driver, "web", UUID_WEB, path);
        lend_to(driver, "other", UUID_OTHER, link);
        assert_int_equal(owner(path), 65534);
        g_autoptr(Domain) web = domain_list_by_name(driver->domains, "web", NULL);
        images_give_back(web);
        images_give_back(web);
        assert_int_equal(owner(path), 65534);
    }
    {
        // No guest runs any more.
        g_autoptr(Driver) driver = make_lending_driver(prefix);
        images_give_back_unused(driver);
        assert_int_equal(owner(path), 7);
        // What somebody has taken meanwhile is left alone.
        lend_to(driver, "web", UUID_WEB, path);
        assert_int_equal(chown(path, 9, 9), 0);
        images_give_back_unused(driver);
        assert_int_equal(owner(path), 9);
        g_autoptr(Domain) web = domain_list_by_name(driver->domains, "web", NULL);
        g_autoptr(DomainDef) missing = with_disk("web", UUID_WEB, "/nowhere/image");
        g_autoptr(GError) error = NULL;
        assert_false(images_lend(web, missing, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
        assert_non_null(strstr(error->message, "/nowhere/image"));
    }
    test_directory_free(prefix);
}

// An image that only its owner may read is lent while it is looked at, and no longer; one that all may read
// is left alone; a crash in between is mended.
static void
test_images_are_lent_for_probes(void **state)
{
    (void) state;
    if (geteuid() != 0)
        skip();
    char *prefix = test_directory_new();
    g_autofree char *path = g_build_filename(prefix, "image", NULL);
    g_autofree char *first = NULL, *second = NULL, *third = NULL, *none = NULL;
    assert_true(g_file_set_contents(path, "content", -1, NULL));
    assert_int_equal(chmod(path, 0600) | chown(path, 7, 8), 0);
    {
        g_autoptr(Driver) driver = make_lending_driver(prefix);
        assert_true(images_lend_for_probe(driver, path, &first, NULL));
        assert_int_equal(owner(path), 65534);
        // Two at once, and a guest that starts meanwhile.
        assert_true(images_lend_for_probe(driver, path, &second, NULL));
        images_end_probe(driver, first);
        assert_int_equal(owner(path), 65534);
        lend_to(driver, "web", UUID_WEB, path);
        images_end_probe(driver, second);
        assert_int_equal(owner(path), 65534);
        g_autoptr(Domain) web = domain_list_by_name(driver->domains, "web", NULL);
        images_give_back(web);
        assert_int_equal(owner(path), 7);
        assert_true(images_lend_for_probe(driver, path, &third, NULL));
    }
    g_autoptr(Driver) driver = make_lending_driver(prefix);
    images_give_back_unused(driver);
    assert_int_equal(owner(path), 7);
    g_clear_pointer(&third, g_free);
    assert_int_equal(chmod(path, 0644), 0);
    assert_true(images_lend_for_probe(driver, path, &third, NULL));
    assert_int_equal(owner(path), 7);
    images_end_probe(driver, third);
    assert_false(images_lend_for_probe(driver, "/nowhere/image", &none, NULL));
    assert_null(none);
    test_directory_free(prefix);
}

static void
test_damaged_ledger(void **state)
{
    static const char *const texts[] = {"", "{", "[]", "{\"images\": {\"/a\": {\"uid\": 1}}}"};
    (void) state;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        char *prefix = test_directory_new();
        g_autofree char *path = g_build_filename(prefix, "image-owners.json", NULL);
        g_autofree char *aside = g_strconcat(path, ".damaged", NULL);
        assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        GLogLevelFlags fatal = g_log_set_always_fatal(G_LOG_LEVEL_ERROR);
        g_autoptr(ImageLedger) ledger = image_ledger_new(prefix);
        g_log_set_always_fatal(fatal);
        assert_non_null(ledger);
        assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
        assert_true(g_file_test(aside, G_FILE_TEST_EXISTS));
        test_directory_free(prefix);
    }
}

// The second daemon of a directory, which starts when a byte comes. Takes the prefix.
static int
be_second(char *prefix, int told)
{
    g_autofree char *own = prefix;
    g_autoptr(GError) error = NULL;
    char byte;
    if (read(told, &byte, 1) != 1)
        return 1;
    Driver *second = driver_new(own);
    gboolean refused = !driver_init(second, NULL, &error) && strstr(error->message, "another virtquasard");
    driver_free(second);
    return refused ? 0 : 1;
}

// While the process lives that the file's lock belongs to; hence another process, from before there are
// threads.
static void
test_one_daemon(void **state)
{
    (void) state;
    char *prefix = test_directory_new();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(be_second(prefix, ends[0]));
    Driver *driver = make_driver(prefix);
    assert_int_equal(write(ends[1], "", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(driver_should_autostart(driver));
    assert_false(driver_should_autostart(driver));
    driver_free(driver);
    close(ends[0]);
    close(ends[1]);
    test_directory_free(prefix);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition_and_autostart),
        cmocka_unit_test(test_older_definition_does_not_win),
        cmocka_unit_test(test_failed_define_leaves_the_former),
        cmocka_unit_test(test_status_round_trip),
        cmocka_unit_test(test_lost_guest_is_cleaned_up),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_images_are_given_back),
        cmocka_unit_test(test_images_are_lent_for_probes),
        cmocka_unit_test(test_damaged_ledger),
        cmocka_unit_test(test_one_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
