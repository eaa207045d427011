// SPDX-License-Identifier: LGPL-2.1-or-later
// What is known of a guest's NICs, whatever becomes of the processes that serve them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/frame.h"
#include "driver/nic_report.h"
#include "driver/process_nics.h"

static Driver driver;

typedef struct {
    char *directory, *path;
    int listener;
    pid_t child; // listens there in its place
    Domain *domain;
} Setting;

static int
listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 0), 0);
    return fd;
}

// Another process at the same path: it listens, and answers nobody.
static pid_t
listening_child(const char *path)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        listen_at(path);
        if (write(ready[1], "", 1) == 1)
            pause();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

static int
set_up(void **state)
{
    Setting *setting = g_new0(Setting, 1);
    DomainDef *def = domain_def_new();
    def->name = g_strdup("web");
    for (guint i = 0; i < 2; i++)
        g_ptr_array_add(def->interfaces, g_new0(DomainInterface, 1));
    setting->directory = g_dir_make_tmp("nic-XXXXXX", NULL);
    setting->path = g_build_filename(setting->directory, "net0.ctl", NULL);
    setting->listener = listen_at(setting->path);
    setting->domain = domain_new(&driver, def);
    setting->domain->live = def;
    setting->domain->id = 1;
    setting->domain->run_dir = g_strdup(setting->directory);
    g_ptr_array_add(setting->domain->vnets, vnet_client_attach(setting->path, NULL));
    g_ptr_array_add(setting->domain->vnets, NULL);
    assert_non_null(g_ptr_array_index(setting->domain->vnets, 0));
    *state = setting;
    return 0;
}

static int
tear_down(void **state)
{
    Setting *setting = *state;
    if (setting->child > 0) {
        kill(setting->child, SIGKILL);
        waitpid(setting->child, NULL, 0);
    }
    close(setting->listener);
    domain_unref(setting->domain);
    g_unlink(setting->path);
    g_rmdir(setting->directory);
    g_free(setting->path);
    g_free(setting->directory);
    g_free(setting);
    return 0;
}

static json_t *
counted(int rx, int tx)
{
    return json_pack("{s:s, s:{s:i, s:i}, s:{s:i, s:i}, s:{s:i}, s:{s:i, s:i}, s:i, s:{s:i}}", "mode",
                     "active", "to_guest", "frames", rx, "bytes", 100 * rx, "from_guest", "frames", tx,
                     "bytes", 100 * tx, "capture", "dropped", 1, "drops", "queue", 2, "inject", 4, "waiting",
                     3, "port", "backlog", 5);
}

static gboolean
note(Setting *setting, pid_t pid, guint64 start_time, int rx, int tx)
{
    g_autoptr(json_t) status = counted(rx, tx);
    return nic_status_note(setting->domain, 0, pid, start_time, status);
}

static gboolean
note_present(Setting *setting, int rx, int tx)
{
    const VnetClient *vnet = g_ptr_array_index(setting->domain->vnets, 0);
    return note(setting, vnet_client_pid(vnet), vnet_client_start_time(vnet), rx, tx);
}

static void
assert_counted(Setting *setting, guint64 rx, guint64 tx)
{
    NicCounters counters;
    assert_true(nic_status_counters(setting->domain, 0, &counters));
    assert_int_equal(counters.rx_packets, rx);
    assert_int_equal(counters.rx_bytes, 100 * rx);
    assert_int_equal(counters.tx_packets, tx);
    assert_int_equal(counters.tx_bytes, 100 * tx);
}

static void
replace(Setting *setting)
{
    g_autoptr(VnetClient) former = g_ptr_array_index(setting->domain->vnets, 0);
    setting->child = listening_child(setting->path);
    g_ptr_array_index(setting->domain->vnets, 0) = vnet_client_attach(setting->path, NULL);
    assert_non_null(g_ptr_array_index(setting->domain->vnets, 0));
}

static void
test_directions_are_the_guests(void **state)
{
    (void) state;
    g_autoptr(json_t) status = counted(7, 9);
    NicCounters counters;
    nic_counters_decode(status, &counters);
    assert_int_equal(counters.rx_packets, 7);
    assert_int_equal(counters.tx_packets, 9);
    assert_int_equal(counters.rx_dropped, 3);
    assert_int_equal(counters.tx_dropped, 4);
    assert_int_equal(nic_queue_frames(status), 8);
    assert_string_equal(nic_mode_name("active"), "local");
    assert_string_equal(nic_mode_name("holding"), "holding");
}

// Whatever an answer is, it is read.
static void
test_answers_of_any_shape(void **state)
{
    (void) state;
    static const char *const texts[] = {
        "{}", "[]", "null", "{\"to_guest\": 3, \"capture\": [], \"drops\": \"x\", \"port\": null}",
        "{\"to_guest\": {\"frames\": \"7\", \"bytes\": -5}, \"waiting\": {}}"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(json_t) status = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        NicCounters counters;
        nic_counters_decode(status, &counters);
        assert_int_equal(counters.rx_packets + counters.rx_bytes + counters.tx_packets + counters.rx_dropped,
                         0);
        assert_int_equal(nic_queue_frames(status), 0);
    }
}

static void
test_counters_go_on_when_a_vnet_is_replaced(void **state)
{
    Setting *setting = *state;
    NicCounters counters;
    assert_false(nic_status_counters(setting->domain, 0, &counters));
    assert_true(note_present(setting, 10, 20));
    assert_counted(setting, 10, 20);
    const VnetClient *former = g_ptr_array_index(setting->domain->vnets, 0);
    pid_t pid = vnet_client_pid(former);
    guint64 start_time = vnet_client_start_time(former);
    replace(setting);
    assert_counted(setting, 10, 20);
    assert_true(note_present(setting, 1, 2));
    assert_counted(setting, 11, 22);
    // An answer of the former that comes late is not taken for one of a third.
    assert_false(note(setting, pid, start_time, 12, 24));
    assert_counted(setting, 11, 22);
    assert_true(note_present(setting, 3, 4));
    assert_counted(setting, 13, 24);
}

static void
test_answers_out_of_order(void **state)
{
    Setting *setting = *state;
    assert_true(note_present(setting, 10, 20));
    assert_true(note_present(setting, 9, 21));
    assert_counted(setting, 10, 21);
}

static void
test_another_run_begins_at_zero(void **state)
{
    Setting *setting = *state;
    assert_true(note_present(setting, 10, 20));
    nic_status_set_trouble(setting->domain, 0, NIC_LINK, "no cable");
    assert_string_equal(nic_status_trouble(setting->domain, 0, NIC_LINK), "no cable");
    assert_null(nic_status_trouble(setting->domain, 0, NIC_LOST));
    setting->domain->generation++;
    assert_null(nic_status_trouble(setting->domain, 0, NIC_LINK));
    assert_true(note_present(setting, 1, 2));
    assert_counted(setting, 1, 2);
}

// The first question finds nobody who answers; the others are not even asked. What was known is told.
static void
test_one_that_hangs(void **state)
{
    Setting *setting = *state;
    NicCounters counters;
    g_autoptr(json_t) status = NULL;
    assert_false(nic_status_read(setting->domain, 0, &counters, &status));
    assert_null(status);
    assert_true(note_present(setting, 10, 20));
    // Its queue of those who want to connect is full by now: none of these waits for ever.
    for (guint i = 0; i < 4; i++) {
        setting->domain->nics_run++; // forgets that it is silent
        assert_false(nic_status_read(setting->domain, 0, &counters, NULL));
    }
    assert_true(note_present(setting, 10, 20));
    assert_true(nic_status_read(setting->domain, 0, &counters, &status));
    assert_int_equal(counters.rx_packets, 10);
    assert_string_equal(json_string_value(json_object_get(status, "mode")), "active");
}

static void
test_nics_without_one(void **state)
{
    Setting *setting = *state;
    NicCounters counters;
    assert_false(nic_status_read(setting->domain, 1, &counters, NULL));
    assert_false(nic_status_read(setting->domain, 2, &counters, NULL));
}

static void
test_names_of_a_run(void **state)
{
    Setting *setting = *state;
    DomainDef *def = setting->domain->live;
    DomainInterface *first = g_ptr_array_index(def->interfaces, 0),
                    *second = g_ptr_array_index(def->interfaces, 1);
    second->target_dev = g_strdup("uplink");
    nics_name(def, 7);
    assert_string_equal(first->target_dev, "vnet7.0");
    assert_string_equal(second->target_dev, "uplink");
    nics_name(def, 8);
    assert_string_equal(first->target_dev, "vnet8.0");
}

static void
test_an_entry_of_which_little_is_known(void **state)
{
    (void) state;
    const NicEntry entry = {.uuid = "u", .name = "away", .index = 2, .mode = "anchor", .round_trip_us = -1};
    g_autoptr(json_t) object = nic_entry_encode(&entry);
    assert_string_equal(json_string_value(json_object_get(object, "nic")), "net2");
    assert_true(json_is_null(json_object_get(object, "peer")));
    assert_true(json_is_null(json_object_get(object, "round-trip-us")));
    assert_null(json_object_get(object, "received"));
    assert_null(json_object_get(object, "drops"));
}

static void
test_an_entry_with_all(void **state)
{
    (void) state;
    g_autoptr(json_t) status = counted(7, 9);
    NicCounters counters;
    nic_counters_decode(status, &counters);
    const NicEntry entry = {.uuid = "u",
                            .name = "web",
                            .alias = "net0",
                            .peer = "hostB",
                            .round_trip_us = 250,
                            .queue = 8,
                            .counters = &counters,
                            .status = status};
    g_autoptr(json_t) object = nic_entry_encode(&entry);
    assert_string_equal(json_string_value(json_object_get(object, "peer")), "hostB");
    assert_int_equal(json_integer_value(json_object_get(object, "round-trip-us")), 250);
    assert_int_equal(json_integer_value(json_object_get(object, "queue")), 8);
    assert_int_equal(json_integer_value(json_object_get(object, "capture-drops")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(object, "drops"), "inject")), 4);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(object, "received"), "frames")), 7);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(object, "sent"), "bytes")), 900);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_directions_are_the_guests),
        cmocka_unit_test(test_answers_of_any_shape),
        cmocka_unit_test(test_an_entry_of_which_little_is_known),
        cmocka_unit_test(test_an_entry_with_all),
        cmocka_unit_test_setup_teardown(test_counters_go_on_when_a_vnet_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answers_out_of_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_run_begins_at_zero, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_hangs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nics_without_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names_of_a_run, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
