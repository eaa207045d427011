// SPDX-License-Identifier: LGPL-2.1-or-later
// What users may ask of a migration.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <libvirt/libvirt.h>
#include <string.h>

#include "base/error.h"
#include "driver/migration/params.h"

static void
assert_fails(gboolean ok, GError *error, virErrorNumber code, const char *part)
{
    assert_false(ok);
    assert_int_equal(quasar_error_code(error), code);
    if (!strstr(error->message, part))
        fail_msg("'%s' lacks '%s'", error->message, part);
}

// Each flag that libvirt has is carried out or refused by name.
static void
test_flags(void **state)
{
    static const struct {
        guint flag;
        const char *part;
    } refused[] = {
        {VIR_MIGRATE_TUNNELLED, "tunnelling"},     {VIR_MIGRATE_OFFLINE, "does not run"},
        {VIR_MIGRATE_COMPRESSED, "compression"},   {VIR_MIGRATE_ABORT_ON_ERROR, "I/O error"},
        {VIR_MIGRATE_POSTCOPY, "post-copy"},       {VIR_MIGRATE_AUTO_CONVERGE, "converges"},
        {VIR_MIGRATE_PARALLEL, "parallel"},        {VIR_MIGRATE_ZEROCOPY, "zero-copy"},
        {VIR_MIGRATE_RDMA_PIN_ALL, "RDMA"},        {1u << 31, "later libvirt"},
        {VIR_MIGRATE_POSTCOPY_RESUME, "recovery"}, {VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES, "synchronous"},
    };
    const guint done = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_PERSIST_DEST |
                       VIR_MIGRATE_UNDEFINE_SOURCE | VIR_MIGRATE_PAUSED | VIR_MIGRATE_TLS |
                       VIR_MIGRATE_NON_SHARED_DISK | VIR_MIGRATE_NON_SHARED_INC | VIR_MIGRATE_UNSAFE |
                       VIR_MIGRATE_CHANGE_PROTECTION;
    guint all = done;
    assert_true(migration_check_flags(done, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        gboolean ok = migration_check_flags(done | refused[i].flag, &error);
        assert_fails(ok, error, VIR_ERR_ARGUMENT_UNSUPPORTED, refused[i].part);
        all |= refused[i].flag;
    }
    assert_int_equal(all, (VIR_MIGRATE_ZEROCOPY << 1) - 1 + (1u << 31));
}

static void
test_parameters(void **state)
{
    static const struct {
        const char *name;
        virErrorNumber code;
        const char *part;
    } refused[] = {
        {VIR_MIGRATE_PARAM_COMPRESSION, VIR_ERR_ARGUMENT_UNSUPPORTED, "compression"},
        {VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, VIR_ERR_ARGUMENT_UNSUPPORTED, "parallel"},
        {VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, VIR_ERR_ARGUMENT_UNSUPPORTED, "converges"},
        {VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, VIR_ERR_ARGUMENT_UNSUPPORTED, "post-copy"},
        {VIR_MIGRATE_PARAM_DISKS_URI, VIR_ERR_ARGUMENT_UNSUPPORTED, "disks"},
        {"bandwith", VIR_ERR_INVALID_ARG, "'bandwith'"},
    };
    g_autoptr(MigrationParams) params = g_new0(MigrationParams, 1);
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        gboolean ok = migration_note_param(params, refused[i].name, &error);
        assert_fails(ok, error, refused[i].code, refused[i].part);
    }
    assert_true(migration_note_param(params, VIR_MIGRATE_PARAM_BANDWIDTH, NULL));
    assert_null(params->ignored);
    assert_true(migration_note_param(params, VIR_MIGRATE_PARAM_GRAPHICS_URI, NULL));
    assert_true(migration_note_param(params, VIR_MIGRATE_PARAM_TLS_DESTINATION, NULL));
    assert_non_null(strstr(params->ignored, "graphics_uri has no effect: "));
    assert_non_null(strstr(params->ignored, "; tls.destination has no effect: "));
}

static PeerAddress *
peer_at(const char *addresses)
{
    PeerAddress *peer = g_new0(PeerAddress, 1);
    peer->addresses = g_strsplit(addresses, " ", -1);
    peer->port = 16514;
    return peer;
}

static void
test_way(void **state)
{
    static const struct {
        const char *uri, *addresses; // NULL: an error that names the URI
    } ways[] = {
        {NULL, "10.0.0.2 fd00::2"},
        {"quasar://hostB", "10.0.0.2 fd00::2"},
        {"tcp:HOSTB", "10.0.0.2 fd00::2"},
        {"tcp:hostB:49152", "10.0.0.2 fd00::2"},
        {"tcp:10.1.0.2", "10.1.0.2"},
        {"tcp://10.1.0.2:49152", "10.1.0.2"},
        {"tcp://[fd01::2]:49152/", "fd01::2"},
        {"tcp:", NULL},
        {"tcp://", NULL},
        {"tcp://10.1.0.2:port", NULL},
        {"rdma://10.1.0.2", NULL},
        {"unix:///run/socket", NULL},
        {"10.1.0.2", NULL},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(PeerAddress) peer = peer_at("10.0.0.2 fd00::2");
        gboolean ok = migration_choose_way(ways[i].uri, "hostB", peer, &error);
        assert_int_equal(ok, ways[i].addresses != NULL);
        if (!ok)
            assert_non_null(strstr(error->message, ways[i].uri));
        g_autofree char *chosen = g_strjoinv(" ", peer->addresses);
        assert_string_equal(chosen, ok ? ways[i].addresses : "10.0.0.2 fd00::2");
        assert_int_equal(peer->port, 16514);
    }
}

static void
test_listener(void **state)
{
    static const struct {
        const char *address, *chosen; // NULL: an error that names it
    } listeners[] = {
        {NULL, "10.0.0.2 10.1.0.2"}, {"0.0.0.0", "10.0.0.2 10.1.0.2"},
        {"::", "10.0.0.2 10.1.0.2"}, {"10.1.0.2", "10.1.0.2"},
        {"10.2.0.2", NULL},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(listeners); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(PeerAddress) own = peer_at("10.0.0.2 10.1.0.2");
        gboolean ok = migration_choose_listener(listeners[i].address, own, &error);
        assert_int_equal(ok, listeners[i].chosen != NULL);
        if (!ok)
            assert_fails(ok, error, VIR_ERR_INVALID_ARG, listeners[i].address);
        g_autofree char *chosen = g_strjoinv(" ", own->addresses);
        assert_string_equal(chosen, ok ? listeners[i].chosen : "10.0.0.2 10.1.0.2");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_way),
        cmocka_unit_test(test_listener),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
