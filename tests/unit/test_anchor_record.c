// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/migration/anchor_record: what is written is read again, and what is none is refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/frame.h"
#include "driver/migration/anchor_record.h"
#include "tests/unit/files.h"

#define GUEST "6f2b8a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b"

static AnchorRecord *
new_record(AnchorRole role, guint nic)
{
    char *addresses[] = {"192.0.2.1", "2001:db8::1", NULL};
    PeerAddress peer = {.addresses = addresses, .port = 16514, .sha256 = {1, 2, 0xff}};
    const AnchorRecord record = {.role = role,
                                 .state = ANCHOR_STANDING,
                                 .uuid = (char *) GUEST,
                                 .name = (char *) "web",
                                 .nic = nic,
                                 .mac = (char *) "52:54:00:01:02:03",
                                 .device = (char *) "eth0",
                                 .link = (char *) "00112233445566778899aabbccddeeff",
                                 .turn = 3,
                                 .host = (char *) "hostB",
                                 .peer = &peer};
    return anchor_record_copy(&record);
}

static void
assert_same(const AnchorRecord *a, const AnchorRecord *b)
{
    g_autoptr(json_t) one = anchor_record_encode(a), other = anchor_record_encode(b);
    assert_true(json_equal(one, other));
}

static void
a_record_is_read_as_it_was_written(void **state)
{
    g_autoptr(AnchorRecord) record = new_record(ANCHOR_AWAY, 1);
    g_autoptr(json_t) object = anchor_record_encode(record);
    g_autoptr(AnchorRecord) back = anchor_record_decode(object);
    assert_non_null(back);
    assert_same(record, back);
    assert_int_equal(back->turn, 3);
    record->state = ANCHOR_SAVED;
    g_autoptr(json_t) saved = anchor_record_encode(record);
    g_autoptr(AnchorRecord) rests = anchor_record_decode(saved);
    assert_int_equal(rests->state, ANCHOR_SAVED);
    assert_int_equal(back->peer->port, 16514);
    assert_int_equal(back->peer->sha256[2], 0xff);
    assert_string_equal(back->peer->addresses[1], "2001:db8::1");
}

static void
assert_refused(const char *key, json_t *value)
{
    g_autoptr(AnchorRecord) record = new_record(ANCHOR_HOME, 0);
    g_autoptr(json_t) object = anchor_record_encode(record);
    if (value)
        json_object_set_new(object, key, value);
    else
        json_object_del(object, key);
    assert_null(anchor_record_decode(object));
}

static void
what_is_none_is_refused(void **state)
{
    static const char *const needed[] = {"version", "role", "state", "uuid", "name", "nic",
                                         "mac",     "link", "turn",  "host", "peer"};
    for (gsize i = 0; i < G_N_ELEMENTS(needed); i++) {
        assert_refused(needed[i], NULL);
        assert_refused(needed[i], json_null());
    }
    assert_refused("version", json_integer(2));
    assert_refused("role", json_string("guest"));
    assert_refused("state", json_string(""));
    assert_refused("uuid", json_string("../../etc/passwd"));
    assert_refused("nic", json_integer(-1));
    assert_refused("nic", json_integer(256));
    assert_refused("turn", json_integer(0));
    assert_refused("link", json_string("0011"));
    assert_refused("link", json_string("00112233445566778899aabbccddeefg"));
    assert_refused("peer", json_pack("{s:[s], s:i, s:s}", "addresses", "192.0.2.1", "port", 0, "sha256", ""));
}

static void
records_are_found_by_guest_and_role(void **state)
{
    g_autofree char *directory = test_directory_new();
    g_autoptr(AnchorRecord) home = new_record(ANCHOR_HOME, 0), away = new_record(ANCHOR_AWAY, 1);
    g_autoptr(GPtrArray) none = anchor_record_scan(directory, ANCHOR_HOME, NULL);
    assert_int_equal(none->len, 0);
    assert_true(anchor_record_store(directory, home, NULL));
    assert_true(anchor_record_store(directory, away, NULL));
    home->turn = 9;
    assert_true(anchor_record_store(directory, home, NULL));
    g_autofree char *damaged = g_build_filename(directory, "anchors", GUEST "-7.home", NULL);
    assert_true(g_file_set_contents(damaged, "{\"version\":1", -1, NULL));
    g_autoptr(GPtrArray) found = anchor_record_scan(directory, ANCHOR_HOME, GUEST);
    assert_int_equal(found->len, 1);
    assert_same(g_ptr_array_index(found, 0), home);
    g_autoptr(GPtrArray) others = anchor_record_scan(directory, ANCHOR_HOME, "0d1c2b3a");
    assert_int_equal(others->len, 0);
    anchor_record_remove(directory, home);
    anchor_record_remove(directory, home); // once more does no harm
    g_autoptr(GPtrArray) left = anchor_record_scan(directory, ANCHOR_HOME, NULL);
    assert_int_equal(left->len, 0);
    test_directory_free(g_steal_pointer(&directory));
}

static void
links_are_unlike(void **state)
{
    g_autofree char *one = anchor_link_new(), *other = anchor_link_new();
    assert_int_equal(strlen(one), 32);
    assert_string_not_equal(one, other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_read_as_it_was_written),
        cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(records_are_found_by_guest_and_role),
        cmocka_unit_test(links_are_unlike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
