// SPDX-License-Identifier: LGPL-2.1-or-later
// Networks: the default one, definitions that survive, and the NIC that a guest gets.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib/gstdio.h>

#include "base/error.h"
#include "driver/networks.h"
#include "vnet/client.h"

// Stands for the host's routing table.
char *
vnet_default_nic(GError **error)
{
    return g_strdup("nic-of-default-route");
}

static const char lan[] =
    "<network><name>lan</name><forward mode='bridge'><interface dev='eth7'/></forward></network>";

static void
test_default_is_there(void **state)
{
    g_autoptr(NetworkList) list = network_list_new(NULL, NULL, NULL);
    g_autoptr(NetworkList) other = network_list_new(NULL, NULL, NULL);
    g_autoptr(Network) network = network_list_by_name(list, "default", NULL);
    g_autofree char *nic = network_list_resolve_nic(list, "default", NULL);

    assert_non_null(network);
    assert_true(network->active);
    assert_string_equal(nic, "nic-of-default-route");

    g_autoptr(Network) same = network_list_by_uuid(other, network->def->uuid_bytes, NULL);
    assert_non_null(same);
}

static void
test_definition_survives_restart(void **state)
{
    g_autofree char *directory = g_dir_make_tmp("networks-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(directory, "lan.xml", NULL);
    g_autoptr(NetworkList) list = network_list_new(directory, NULL, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Network) defined = network_list_define(list, lan, &error);

    assert_null(error);
    assert_false(defined->active);

    g_autoptr(NetworkList) again = network_list_new(directory, NULL, NULL);
    g_autoptr(Network) found = network_list_by_name(again, "lan", NULL);
    assert_string_equal(found->def->uuid, defined->def->uuid);
    assert_false(found->active);
    assert_true(network_list_set_active(again, "lan", TRUE, NULL));

    g_autofree char *nic = network_list_resolve_nic(again, "lan", NULL);
    assert_string_equal(nic, "eth7");
    assert_true(network_list_set_active(again, "lan", FALSE, NULL));
    assert_true(network_list_undefine(again, "lan", NULL));
    assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
    g_rmdir(directory);
}

static void
test_inactive_gives_no_nic(void **state)
{
    g_autoptr(NetworkList) list = network_list_new(NULL, NULL, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Network) defined = network_list_define(list, lan, NULL);

    assert_non_null(defined);
    assert_null(network_list_resolve_nic(list, "lan", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    assert_true(network_list_set_active(list, "lan", TRUE, NULL));
    assert_false(network_list_set_active(list, "lan", TRUE, NULL));
}

static void
test_unknown_and_bad(void **state)
{
    g_autoptr(NetworkList) list = network_list_new(NULL, NULL, NULL);
    g_autoptr(GError) error = NULL;

    assert_null(network_list_by_name(list, "x", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_NETWORK);
    assert_null(network_list_define(list, "<network><name>../x</name></network>", NULL));
    assert_null(network_list_define(list, "<network>", NULL));

    g_autoptr(GPtrArray) all = network_list_all(list);
    assert_int_equal(all->len, 1);
}

static void
remove_tree(const char *directory)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        remove_tree(path);
        g_remove(path);
    }
}

// One host with its two directories, of which a boot empties the second.
typedef struct {
    char *directory, *status;
} Host;

static int
host_up(void **state)
{
    Host *host = g_new0(Host, 1);

    host->directory = g_dir_make_tmp("networks-XXXXXX", NULL);
    host->status = g_dir_make_tmp("active-XXXXXX", NULL);
    *state = host;
    return 0;
}

static int
host_down(void **state)
{
    Host *host = *state;

    remove_tree(host->directory);
    remove_tree(host->status);
    g_rmdir(host->directory);
    g_rmdir(host->status);
    g_free(host->directory);
    g_free(host->status);
    g_free(host);
    return 0;
}

static NetworkList *
host_networks(const Host *host)
{
    return network_list_new(host->directory, host->status, NULL);
}

static void
test_undefined_default_stays_away(void **state)
{
    g_autoptr(NetworkList) list = host_networks(*state);

    // It runs, so it is there until it is stopped.
    assert_true(network_list_undefine(list, "default", NULL));
    g_autoptr(Network) transient = network_list_by_name(list, "default", NULL);
    assert_non_null(transient);
    assert_false(transient->persistent);
    assert_false(network_list_undefine(list, "default", NULL));
    assert_true(network_list_set_active(list, "default", FALSE, NULL));
    assert_null(network_list_by_name(list, "default", NULL));

    g_autoptr(NetworkList) again = host_networks(*state);
    assert_null(network_list_by_name(again, "default", NULL));

    g_autoptr(Network) defined =
        network_list_define(again, "<network><name>default</name><forward mode='bridge'/></network>", NULL);
    assert_non_null(defined);
    g_autoptr(NetworkList) third = host_networks(*state);
    g_autoptr(Network) back = network_list_by_name(third, "default", NULL);
    assert_non_null(back);
}

static void
test_stopped_stays_stopped_until_boot(void **state)
{
    const Host *host = *state;
    g_autoptr(NetworkList) list = host_networks(host);

    assert_true(network_list_set_active(list, "default", FALSE, NULL));
    g_autoptr(NetworkList) restarted = host_networks(host);
    g_autoptr(Network) stopped = network_list_by_name(restarted, "default", NULL);
    assert_false(stopped->active);

    remove_tree(host->status);
    g_autoptr(NetworkList) booted = host_networks(host);
    g_autoptr(Network) started = network_list_by_name(booted, "default", NULL);
    assert_true(started->active);
}

static void
test_autostart_survives_boot(void **state)
{
    const Host *host = *state;
    g_autoptr(NetworkList) list = host_networks(host);
    g_autoptr(Network) defined = network_list_define(list, lan, NULL);

    assert_false(defined->autostart);
    assert_true(network_list_set_autostart(list, "lan", TRUE, NULL));
    assert_true(network_list_set_autostart(list, "default", FALSE, NULL));

    remove_tree(host->status);
    g_autoptr(NetworkList) booted = host_networks(host);
    g_autoptr(Network) with = network_list_by_name(booted, "lan", NULL);
    g_autoptr(Network) without = network_list_by_name(booted, "default", NULL);
    assert_true(with->autostart && with->active);
    assert_false(without->autostart || without->active);
}

static void
test_identity_is_unique(void **state)
{
    g_autoptr(NetworkList) list = network_list_new(NULL, NULL, NULL);
    g_autoptr(Network) network = network_list_by_name(list, "default", NULL);
    g_autofree char *taken = g_strdup_printf(
        "<network><name>other</name><uuid>%s</uuid><forward mode='bridge'/></network>", network->def->uuid);
    g_autoptr(GError) error = NULL;

    assert_null(network_list_define(list, taken, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
}

static void
collect_event(const DomainEvent *event, gpointer text)
{
    assert_int_equal(event->id, EVENT_ID_NETWORK_LIFECYCLE);
    g_string_append_printf(text, "%s %d;", event->name, event->type);
}

static void
test_life_is_told(void **state)
{
    g_autoptr(EventBus) bus = event_bus_new();
    g_autoptr(NetworkList) list = network_list_new(NULL, NULL, bus);
    g_autoptr(GString) told = g_string_new(NULL);

    event_bus_subscribe(bus, collect_event, told, NULL);
    g_autoptr(Network) defined = network_list_define(list, lan, NULL);
    assert_non_null(defined);
    assert_true(network_list_set_active(list, "lan", TRUE, NULL));
    assert_true(network_list_undefine(list, "lan", NULL));
    assert_true(network_list_set_active(list, "lan", FALSE, NULL));
    assert_string_equal(told->str, "lan 0;lan 2;lan 1;lan 3;");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_there),
        cmocka_unit_test(test_definition_survives_restart),
        cmocka_unit_test(test_inactive_gives_no_nic),
        cmocka_unit_test(test_unknown_and_bad),
        cmocka_unit_test_setup_teardown(test_undefined_default_stays_away, host_up, host_down),
        cmocka_unit_test_setup_teardown(test_stopped_stays_stopped_until_boot, host_up, host_down),
        cmocka_unit_test_setup_teardown(test_autostart_survives_boot, host_up, host_down),
        cmocka_unit_test(test_identity_is_unique),
        cmocka_unit_test(test_life_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
