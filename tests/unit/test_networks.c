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
    g_autoptr(NetworkList) list = network_list_new(NULL);
    g_autoptr(NetworkList) other = network_list_new(NULL);
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
    g_autoptr(NetworkList) list = network_list_new(directory);
    g_autoptr(GError) error = NULL;
    g_autoptr(Network) defined = network_list_define(list, lan, &error);

    assert_null(error);
    assert_false(defined->active);

    g_autoptr(NetworkList) again = network_list_new(directory);
    g_autoptr(Network) found = network_list_by_name(again, "lan", NULL);
    g_autofree char *nic = network_list_resolve_nic(again, "lan", NULL);
    assert_string_equal(found->def->uuid, defined->def->uuid);
    assert_string_equal(nic, "eth7");

    assert_true(network_list_undefine(again, "lan", NULL));
    assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
    g_rmdir(directory);
}

static void
test_inactive_gives_no_nic(void **state)
{
    g_autoptr(NetworkList) list = network_list_new(NULL);
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
    g_autoptr(NetworkList) list = network_list_new(NULL);
    g_autoptr(GError) error = NULL;

    assert_null(network_list_by_name(list, "x", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_NETWORK);
    assert_null(network_list_define(list, "<network><name>../x</name></network>", NULL));
    assert_null(network_list_define(list, "<network>", NULL));

    g_autoptr(GPtrArray) all = network_list_all(list);
    assert_int_equal(all->len, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_there),
        cmocka_unit_test(test_definition_survives_restart),
        cmocka_unit_test(test_inactive_gives_no_nic),
        cmocka_unit_test(test_unknown_and_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
