// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/migration/handoff: which moves are legal, and what is found on disk after each of them.
#include <fcntl.h>
#include <glib/gstdio.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/record.h"
#include "driver/migration/handoff.h"

#define GUEST "6f2b8a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b"
#define OTHER "0d1c2b3a-4e5f-4a6b-9c7d-8e9f0a1b2c3d"
#define TOKEN GUEST "-7-00112233445566778899aabbccddeeff"

static char *directory;

// The states before an entry, in the order in which a record reaches it; ends with the entry itself.
static const HandoffState ways[HANDOFF_STATES][5] = {
    [HANDOFF_SOURCE_IDLE] = {HANDOFF_SOURCE_IDLE},
    [HANDOFF_SOURCE_INTENT] = {HANDOFF_SOURCE_INTENT},
    [HANDOFF_SOURCE_ABORTED] = {HANDOFF_SOURCE_INTENT, HANDOFF_SOURCE_ABORTED},
    [HANDOFF_SOURCE_RELEASED] = {HANDOFF_SOURCE_INTENT, HANDOFF_SOURCE_RELEASED},
    [HANDOFF_SOURCE_DONE] = {HANDOFF_SOURCE_INTENT, HANDOFF_SOURCE_RELEASED, HANDOFF_SOURCE_DONE},
    [HANDOFF_DESTINATION_NONE] = {HANDOFF_DESTINATION_NONE},
    [HANDOFF_DESTINATION_PREPARED] = {HANDOFF_DESTINATION_PREPARED},
    [HANDOFF_DESTINATION_REFUSED] = {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_REFUSED},
    [HANDOFF_DESTINATION_OWNED] = {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_OWNED},
    [HANDOFF_DESTINATION_STARTING] = {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_OWNED,
                                      HANDOFF_DESTINATION_STARTING},
    [HANDOFF_DESTINATION_RUNNING] = {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_OWNED,
                                     HANDOFF_DESTINATION_STARTING, HANDOFF_DESTINATION_RUNNING},
};

// The whole table, written down a second time.
static const HandoffState legal[][2] = {
    {HANDOFF_SOURCE_IDLE, HANDOFF_SOURCE_INTENT},
    {HANDOFF_SOURCE_INTENT, HANDOFF_SOURCE_ABORTED},
    {HANDOFF_SOURCE_INTENT, HANDOFF_SOURCE_RELEASED},
    {HANDOFF_SOURCE_ABORTED, HANDOFF_SOURCE_RELEASED},
    {HANDOFF_SOURCE_RELEASED, HANDOFF_SOURCE_ABORTED},
    {HANDOFF_SOURCE_RELEASED, HANDOFF_SOURCE_DONE},
    {HANDOFF_DESTINATION_NONE, HANDOFF_DESTINATION_PREPARED},
    {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_REFUSED},
    {HANDOFF_DESTINATION_PREPARED, HANDOFF_DESTINATION_OWNED},
    {HANDOFF_DESTINATION_OWNED, HANDOFF_DESTINATION_REFUSED},
    {HANDOFF_DESTINATION_OWNED, HANDOFF_DESTINATION_STARTING},
    {HANDOFF_DESTINATION_STARTING, HANDOFF_DESTINATION_RUNNING},
};

static int
make_directory(void **state)
{
    g_autofree char *top = g_dir_make_tmp("quasar-handoff-XXXXXX", NULL);
    directory = g_build_filename(top, "handoff", NULL);
    return top ? 0 : -1;
}

static int
remove_directory(void **state)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_unlink(path);
    }
    g_rmdir(directory);
    g_autofree char *top = g_path_get_dirname(directory);
    g_rmdir(top);
    g_free(directory);
    return 0;
}

static HandoffRole
role_of(HandoffState state)
{
    return state < HANDOFF_DESTINATION_NONE ? HANDOFF_SOURCE : HANDOFF_DESTINATION;
}

static char *
path_of(const char *uuid, HandoffRole role)
{
    return g_strdup_printf("%s/%s.%s", directory, uuid, handoff_role_name(role));
}

static gboolean
in_table(HandoffState from, HandoffState to)
{
    for (gsize i = 0; i < G_N_ELEMENTS(legal); i++) {
        if (legal[i][0] == from && legal[i][1] == to)
            return TRUE;
    }
    return FALSE;
}

static Handoff *
create(HandoffRole role)
{
    g_autoptr(GError) error = NULL;
    Handoff *handoff = role == HANDOFF_SOURCE ? handoff_create_source(directory, GUEST, 7, &error)
                                              : handoff_create_destination(directory, TOKEN, &error);
    assert_non_null(handoff);
    assert_null(error);
    return handoff;
}

static Handoff *
brought_to(HandoffState state)
{
    Handoff *handoff = create(role_of(state));
    for (guint i = 0; handoff->state != state; i++)
        assert_true(handoff_transition(handoff, ways[state][i], NULL));
    return handoff;
}

static void
discard(Handoff *handoff)
{
    g_autofree char *path = path_of(handoff->uuid, handoff->role);
    handoff_free(handoff);
    assert_int_equal(g_unlink(path), 0);
}

static void
found_on_disk(HandoffRole role, HandoffState state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, GUEST, role, &error);
    assert_non_null(handoff);
    assert_string_equal(handoff_state_name(handoff->state), handoff_state_name(state));
}

static void
every_pair_is_legal_or_refused_with_55(void **state)
{
    for (guint from = 0; from < HANDOFF_STATES; from++) {
        for (guint to = 0; to <= HANDOFF_STATES; to++) {
            Handoff *handoff = brought_to((HandoffState) from);
            handoff->peer_refused = handoff->peer_promoted = TRUE;
            gboolean expected = in_table((HandoffState) from, (HandoffState) to);
            assert_int_equal(handoff_legal((HandoffState) from, (HandoffState) to), expected);
            g_autoptr(GError) error = NULL;
            assert_int_equal(handoff_transition(handoff, (HandoffState) to, &error), expected);
            if (!expected)
                assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
            assert_int_equal(handoff->state, expected ? to : from);
            found_on_disk(handoff->role, (HandoffState) (expected ? to : from));
            discard(handoff);
        }
    }
}

static void
released_goes_back_only_when_refused(void **state)
{
    Handoff *handoff = brought_to(HANDOFF_SOURCE_RELEASED);
    g_autoptr(GError) error = NULL;
    assert_false(handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_RELEASED);
    handoff->peer_refused = TRUE;
    assert_true(handoff_transition(handoff, HANDOFF_SOURCE_ABORTED, NULL));
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_ABORTED);
    discard(handoff);
}

static void
aborted_is_yielded_only_to_one_that_was_promoted(void **state)
{
    Handoff *handoff = brought_to(HANDOFF_SOURCE_ABORTED);
    g_autoptr(GError) error = NULL;
    assert_false(handoff_transition(handoff, HANDOFF_SOURCE_RELEASED, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_ABORTED);
    handoff->peer_promoted = TRUE;
    assert_true(handoff_transition(handoff, HANDOFF_SOURCE_RELEASED, NULL));
    assert_false(handoff_owns_disk(handoff->state));
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_RELEASED);
    discard(handoff);
}

static void
only_one_side_owns_the_disk(void **state)
{
    for (guint i = 0; i < HANDOFF_STATES; i++) {
        gboolean owns = i == HANDOFF_SOURCE_IDLE || i == HANDOFF_SOURCE_INTENT ||
                        i == HANDOFF_SOURCE_ABORTED || i == HANDOFF_DESTINATION_OWNED ||
                        i == HANDOFF_DESTINATION_STARTING || i == HANDOFF_DESTINATION_RUNNING;
        gboolean end = TRUE;
        // Aborted is one, though it may be yielded.
        for (gsize j = 0; i != HANDOFF_SOURCE_ABORTED && j < G_N_ELEMENTS(legal); j++)
            end = end && legal[j][0] != i;
        assert_int_equal(handoff_owns_disk((HandoffState) i), owns);
        assert_int_equal(handoff_is_end((HandoffState) i), end);
    }
    assert_false(handoff_owns_disk(HANDOFF_STATES));
}

static void
fill(Handoff *handoff)
{
    handoff->name = g_strdup("web");
    handoff->peer_host = g_strdup("b.example");
    handoff->peer_addresses = g_strsplit("192.0.2.1 2001:db8::1", " ", -1);
    handoff->peer_port = 16514;
    handoff->peer_sha256 = g_strnfill(64, 'a');
    handoff->persist_dest = TRUE;
    handoff->undefine_source = TRUE;
    handoff->run_state = 3;
    handoff->xml_path = g_strdup("/var/lib/x.xml");
    handoff->images = g_strsplit("/a.qcow2 /b.qcow2", " ", -1);
    handoff->left = handoff->claimed = TRUE;
    handoff->promoted_by = g_strdup("root (uid 0)");
}

static void
every_field_survives_every_state(void **state)
{
    for (guint target = 0; target < HANDOFF_STATES; target++) {
        Handoff *handoff = create(role_of((HandoffState) target));
        fill(handoff);
        for (guint i = 0; handoff->state != target; i++)
            assert_true(handoff_transition(handoff, ways[target][i], NULL));
        g_autoptr(Handoff) again = handoff_open(directory, GUEST, handoff->role, NULL);
        assert_non_null(again);
        assert_int_equal(again->state, target);
        assert_int_equal(again->role, handoff->role);
        assert_string_equal(again->token, handoff->token);
        assert_int_equal(again->epoch, 7);
        if (target != HANDOFF_SOURCE_IDLE && target != HANDOFF_DESTINATION_NONE) {
            assert_string_equal(again->name, "web");
            assert_string_equal(again->peer_host, "b.example");
            assert_string_equal(again->peer_addresses[1], "2001:db8::1");
            assert_null(again->peer_addresses[2]);
            assert_int_equal(again->peer_port, 16514);
            assert_string_equal(again->peer_sha256, handoff->peer_sha256);
            assert_true(again->persist_dest && again->undefine_source && !again->peer_refused);
            assert_int_equal(again->run_state, 3);
            assert_string_equal(again->xml_path, "/var/lib/x.xml");
            assert_string_equal(again->images[1], "/b.qcow2");
            assert_null(again->images[2]);
            assert_true(again->left && again->claimed);
            assert_string_equal(again->promoted_by, "root (uid 0)");
            assert_true(again->since > 0 && !again->peer_promoted);
        }
        discard(handoff);
    }
}

static void
storing_keeps_the_state(void **state)
{
    for (guint target = 0; target < HANDOFF_STATES; target++) {
        Handoff *handoff = brought_to((HandoffState) target);
        fill(handoff);
        assert_true(handoff_store(handoff, NULL));
        g_autoptr(Handoff) again = handoff_open(directory, GUEST, handoff->role, NULL);
        assert_non_null(again);
        assert_int_equal(again->state, target);
        assert_string_equal(again->peer_host, "b.example");
        discard(handoff);
    }
}

static void
closing_takes_the_xml_along(void **state)
{
    Handoff *handoff = brought_to(HANDOFF_DESTINATION_REFUSED);
    g_autofree char *xml = g_build_filename(directory, GUEST ".destination.xml", NULL);
    handoff->xml_path = g_strdup(xml);
    assert_true(g_file_set_contents(xml, "<domain/>", -1, NULL));
    // It is no record, whatever its name begins with.
    g_auto(GStrv) damaged = NULL;
    g_autoptr(GPtrArray) found = handoff_scan(directory, &damaged, NULL);
    assert_int_equal(found->len, 1);
    assert_null(damaged);
    assert_true(handoff_close(handoff, NULL));
    assert_false(g_file_test(xml, G_FILE_TEST_EXISTS));
}

static void
one_move_at_a_time(void **state)
{
    Handoff *handoff = create(HANDOFF_SOURCE);
    g_autoptr(GError) error = NULL;
    assert_null(handoff_create_source(directory, GUEST, 8, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
    discard(create(HANDOFF_DESTINATION));
    discard(handoff);
}

static void
bad_tokens_and_uuids_are_refused(void **state)
{
    static const char *const tokens[] = {
        "",
        GUEST,
        GUEST "-7-",
        GUEST "-7-00112233445566778899AABBCCDDEEFF",
        GUEST "--00112233445566778899aabbccddeeff",
        GUEST "-x-00112233445566778899aabbccddeeff",
        GUEST "-7-00112233445566778899aabbccddeeff0",
        GUEST "-7-00112233445566778899aabbccddeeff-1",
        GUEST "-9999999999999999999-00112233445566778899aabbccddeeff",
        "../../../../../../../../../etc/passw-7-00112233445566778899aabbccddeeff",
        "6F2B8A1C-3D4E-4F50-8A6B-7C8D9E0F1A2B-7-00112233445566778899aabbccddeeff",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(tokens); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(handoff_create_destination(directory, tokens[i], &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    }
    g_autoptr(GError) error = NULL;
    assert_null(handoff_create_source(directory, "../x", 1, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    g_clear_error(&error);
    assert_null(handoff_open(directory, "../x", HANDOFF_SOURCE, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INVALID_ARG);
    g_clear_error(&error);
    assert_null(handoff_open(directory, OTHER, HANDOFF_SOURCE, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_DOMAIN);
}

static void
spoil_slot(const char *path, guint slot)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "XXXX", 4, (off_t) slot * RECORD_SLOT + 40), 4);
    close(fd);
}

static void
torn_newest_slot_leaves_the_state_before(void **state)
{
    for (guint target = 0; target < HANDOFF_STATES; target++) {
        Handoff *handoff = brought_to((HandoffState) target);
        HandoffRole role = handoff->role;
        guint steps = 0;
        while (target != HANDOFF_SOURCE_IDLE && target != HANDOFF_DESTINATION_NONE &&
               ways[target][steps] != target)
            steps++;
        HandoffState first = role == HANDOFF_SOURCE ? HANDOFF_SOURCE_IDLE : HANDOFF_DESTINATION_NONE;
        g_autofree char *path = path_of(GUEST, role);
        if (target == first) {
            // The only slot there is: not a new record, for something was said in it.
            spoil_slot(path, 1);
            g_autoptr(GError) error = NULL;
            assert_null(handoff_open(directory, GUEST, role, &error));
            assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
        } else {
            spoil_slot(path, 2 + steps);
            found_on_disk(role, steps == 0 ? first : ways[target][steps - 1]);
        }
        discard(handoff);
    }
}

static void
blank_record_is_new_and_may_go(void **state)
{
    g_autofree char *path = path_of(GUEST, HANDOFF_DESTINATION);
    record_free(record_create(path, NULL));
    Handoff *handoff = handoff_open(directory, GUEST, HANDOFF_DESTINATION, NULL);
    assert_non_null(handoff);
    assert_int_equal(handoff->state, HANDOFF_DESTINATION_NONE);
    assert_non_null(handoff->token);
    assert_true(handoff_close(handoff, NULL));
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void
only_ended_records_close(void **state)
{
    for (guint i = 0; i < HANDOFF_STATES; i++) {
        Handoff *handoff = brought_to((HandoffState) i);
        g_autofree char *path = path_of(GUEST, handoff->role);
        gboolean may =
            handoff_is_end((HandoffState) i) || i == HANDOFF_SOURCE_IDLE || i == HANDOFF_DESTINATION_NONE;
        g_autoptr(GError) error = NULL;
        assert_int_equal(handoff_close(handoff, &error), may);
        assert_int_equal(g_file_test(path, G_FILE_TEST_EXISTS), !may);
        if (!may) {
            assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_INVALID);
            discard(handoff);
        }
    }
}

// A good payload with one member replaced (or dropped, value NULL).
static char *
payload_with(const char *member, json_t *value)
{
    json_t *object = json_pack("{s:i, s:s, s:s, s:s, s:i, s:s}", "format", 1, "role", "source", "state",
                               "released", "uuid", GUEST, "epoch", 7, "token", TOKEN);
    assert_non_null(object);
    if (value)
        json_object_set_new(object, member, value);
    else
        json_object_del(object, member);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

static gboolean
opens_with(const char *text, gsize length)
{
    g_autofree char *path = path_of(GUEST, HANDOFF_SOURCE);
    Record *record = record_create(path, NULL);
    assert_non_null(record);
    assert_true(record_update(record, text, length, NULL));
    record_free(record);
    g_autoptr(GError) error = NULL;
    g_autoptr(Handoff) handoff = handoff_open(directory, GUEST, HANDOFF_SOURCE, &error);
    if (!handoff) {
        assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
        assert_non_null(strstr(error->message, path));
    }
    assert_int_equal(g_unlink(path), 0);
    return handoff != NULL;
}

static gboolean
opens_with_member(const char *member, json_t *value)
{
    char *text = payload_with(member, value);
    gboolean opened = opens_with(text, strlen(text));
    free(text);
    return opened;
}

static void
bad_payloads_are_damage(void **state)
{
    static const char *const needed[] = {"format", "role", "state", "uuid", "epoch", "token"};
    static const char *const texts[] = {"name", "peer-host", "peer-sha256", "xml-path", "role", "state"};
    assert_true(opens_with_member("unknown", json_true()));
    for (gsize i = 0; i < G_N_ELEMENTS(needed); i++)
        assert_false(opens_with_member(needed[i], NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        assert_false(opens_with_member(texts[i], json_integer(1)));
    assert_false(opens_with_member("format", json_integer(2)));
    assert_false(opens_with_member("role", json_string("destination")));
    assert_false(opens_with_member("state", json_string("running")));
    assert_false(opens_with_member("state", json_string("")));
    assert_false(opens_with_member("uuid", json_string(OTHER)));
    assert_false(opens_with_member("epoch", json_integer(8)));
    assert_false(opens_with_member("epoch", json_integer(-7)));
    assert_false(opens_with_member("token", json_string(OTHER "-7-00112233445566778899aabbccddeeff")));
    assert_false(opens_with_member("peer-sha256", json_string("abc")));
    assert_false(opens_with_member("peer-port", json_integer(65536)));
    assert_false(opens_with_member("peer-addresses", json_string("192.0.2.1")));
    assert_false(opens_with_member("peer-addresses", json_pack("[i]", 1)));
    assert_false(opens_with_member("persist-dest", json_integer(1)));
    assert_false(opens_with_member("peer-refused", json_string("yes")));
    assert_false(opens_with_member("run-state", json_string("running")));
    assert_false(opens_with("", 0));
    assert_false(opens_with("[]", 2));
    assert_false(opens_with("{\"format\":1", 11));
    assert_false(opens_with("{\"format\":1,\"format\":1}", 23));
}

static void
scan_shows_the_good_and_names_the_damaged(void **state)
{
    char **damaged = NULL;
    g_autoptr(GPtrArray) none = handoff_scan("/nonexistent/handoff", &damaged, NULL);
    assert_non_null(none);
    assert_int_equal(none->len, 0);
    assert_null(damaged);

    Handoff *source = brought_to(HANDOFF_SOURCE_RELEASED);
    Handoff *destination = brought_to(HANDOFF_DESTINATION_PREPARED);
    Handoff *other = handoff_create_source(directory, OTHER, 1, NULL);
    g_autofree char *bad = path_of(OTHER, HANDOFF_SOURCE);
    g_autofree char *stray = g_build_filename(directory, "README.source", NULL);
    assert_true(g_file_set_contents(stray, "x", 1, NULL));
    spoil_slot(bad, 1);
    g_autoptr(GPtrArray) found = handoff_scan(directory, &damaged, NULL);
    assert_int_equal(found->len, 2);
    assert_non_null(damaged);
    assert_int_equal(g_strv_length(damaged), 1);
    assert_non_null(strstr(damaged[0], bad));
    for (guint i = 0; i < found->len; i++) {
        const Handoff *handoff = g_ptr_array_index(found, i);
        assert_int_equal(handoff->state, handoff->role == HANDOFF_SOURCE ? HANDOFF_SOURCE_RELEASED
                                                                         : HANDOFF_DESTINATION_PREPARED);
    }
    g_strfreev(damaged);
    // The damaged one is not absent: no new move may begin over it.
    assert_null(handoff_create_source(directory, OTHER, 2, NULL));
    g_unlink(stray);
    discard(source);
    discard(destination);
    discard(other);
}

static void
what_cannot_be_saved_is_not_entered(void **state)
{
    Handoff *handoff = create(HANDOFF_SOURCE);
    handoff->name = g_strnfill(RECORD_PAYLOAD, 'x');
    g_autoptr(GError) error = NULL;
    assert_false(handoff_transition(handoff, HANDOFF_SOURCE_INTENT, &error));
    assert_int_equal(handoff->state, HANDOFF_SOURCE_IDLE);
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_IDLE);
    strcpy(handoff->name, "\377");
    g_clear_error(&error);
    assert_false(handoff_transition(handoff, HANDOFF_SOURCE_INTENT, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    strcpy(handoff->name, "web");
    assert_true(handoff_transition(handoff, HANDOFF_SOURCE_INTENT, NULL));
    found_on_disk(HANDOFF_SOURCE, HANDOFF_SOURCE_INTENT);
    discard(handoff);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_is_legal_or_refused_with_55),
        cmocka_unit_test(released_goes_back_only_when_refused),
        cmocka_unit_test(aborted_is_yielded_only_to_one_that_was_promoted),
        cmocka_unit_test(only_one_side_owns_the_disk),
        cmocka_unit_test(every_field_survives_every_state),
        cmocka_unit_test(storing_keeps_the_state),
        cmocka_unit_test(closing_takes_the_xml_along),
        cmocka_unit_test(one_move_at_a_time),
        cmocka_unit_test(bad_tokens_and_uuids_are_refused),
        cmocka_unit_test(torn_newest_slot_leaves_the_state_before),
        cmocka_unit_test(blank_record_is_new_and_may_go),
        cmocka_unit_test(only_ended_records_close),
        cmocka_unit_test(bad_payloads_are_damage),
        cmocka_unit_test(scan_shows_the_good_and_names_the_damaged),
        cmocka_unit_test(what_cannot_be_saved_is_not_entered),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
