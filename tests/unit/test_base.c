// SPDX-License-Identifier: LGPL-2.1-or-later
// base/: errors as the wire shows them, durable files and records, framed messages, crash points.
#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/frame.h"
#include "base/log.h"
#include "base/record.h"

static char *directory;

static char *
in_directory(const char *name)
{
    return g_build_filename(directory, name, NULL);
}

static int
make_directory(void **state)
{
    directory = g_dir_make_tmp("quasar-base-XXXXXX", NULL);
    return directory ? 0 : -1;
}

static int
remove_directory(void **state)
{
    g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));) {
        g_autofree char *path = in_directory(name);
        g_unlink(path);
    }
    g_rmdir(directory);
    g_free(directory);
    return 0;
}

static void
error_keeps_the_first_and_shows_its_prefix(void **state)
{
    g_autoptr(GError) error = NULL;
    quasar_set_error(&error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", "web");
    quasar_set_error(&error, VIR_ERR_INTERNAL_ERROR, "second");
    g_autofree char *text = quasar_error_text(error);
    assert_string_equal(text, "Domain not found: no domain with matching name 'web'");
    assert_int_equal(quasar_error_code(error), VIR_ERR_NO_DOMAIN);
    assert_string_equal(quasar_error_prefix(VIR_ERR_NO_DOMAIN), "Domain not found: ");
    assert_string_equal(quasar_error_prefix((virErrorNumber) 9999), "");
    assert_int_equal(quasar_error_domain(VIR_ERR_NO_NETWORK), VIR_FROM_NETWORK);
    g_autoptr(GError) foreign = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "x");
    assert_int_equal(quasar_error_code(foreign), VIR_ERR_INTERNAL_ERROR);
}

static void
file_is_replaced_whole_or_not_at_all(void **state)
{
    g_autofree char *path = in_directory("file");
    g_autoptr(GError) error = NULL;
    assert_true(file_replace(path, "one", -1, 0640, &error));
    assert_true(file_replace(path, "three", -1, 0640, &error));
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_string_equal(text, "three");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    g_autofree char *nowhere = in_directory("no/such/place");
    assert_false(file_replace(nowhere, "x", -1, 0600, &error));
    assert_non_null(strstr(error->message, nowhere));
    g_autoptr(GError) second = NULL;
    assert_true(file_remove(path, &second));
    assert_true(file_remove(path, &second));
    assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static Record *
reopened(const char *path, const char *expected)
{
    g_autoptr(GError) error = NULL;
    Record *record = record_open(path, &error);
    assert_non_null(record);
    gsize length;
    const char *payload = record_payload(record, &length);
    assert_int_equal(length, strlen(expected));
    assert_memory_equal(payload, expected, length);
    return record;
}

static void
record_survives_reopening_at_every_slot(void **state)
{
    g_autofree char *path = in_directory("record");
    g_autoptr(GError) error = NULL;
    Record *record = record_create(path, &error);
    assert_non_null(record);
    assert_null(record_create(path, NULL));
    record_free(record);
    record = reopened(path, "");
    for (int i = 0; i < 20; i++) {
        g_autofree char *text = g_strdup_printf("state %d", i);
        assert_true(record_update(record, text, strlen(text), &error));
        record_free(record);
        record = reopened(path, text);
    }
    g_autofree char *large = g_malloc0(RECORD_PAYLOAD + 1);
    assert_true(record_update(record, large, RECORD_PAYLOAD, &error));
    assert_false(record_update(record, large, RECORD_PAYLOAD + 1, &error));
    record_free(record);
}

static void
record_loses_only_what_was_torn(void **state)
{
    g_autofree char *path = in_directory("torn");
    g_autoptr(GError) error = NULL;
    Record *record = record_create(path, &error);
    assert_true(record_update(record, "first", 5, &error));
    assert_true(record_update(record, "second", 6, &error));
    record_free(record);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, 2 * RECORD_SLOT + 25), 1);
    close(fd);
    record = reopened(path, "first");
    record_free(record);
    assert_int_equal(truncate(path, 100), 0);
    assert_null(record_open(path, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
}

static void
record_tells_damaged_from_new(void **state)
{
    g_autofree char *path = in_directory("damaged");
    g_autoptr(GError) error = NULL;
    Record *record = record_create(path, &error);
    assert_true(record_is_new(record));
    record_free(record);
    record = reopened(path, "");
    assert_true(record_is_new(record));
    assert_true(record_update(record, "", 0, &error));
    record_free(record);
    record = reopened(path, "");
    assert_false(record_is_new(record));
    record_free(record);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, RECORD_SLOT), 1);
    close(fd);
    assert_null(record_open(path, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_INTERNAL_ERROR);
    assert_non_null(strstr(error->message, path));
}

static void
socket_pair(Channel **a, Channel **b)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *a = channel_new(fds[0], NULL);
    *b = channel_new(fds[1], NULL);
}

static void
frame_goes_across(void **state)
{
    g_autoptr(Channel) a = NULL;
    g_autoptr(Channel) b = NULL;
    socket_pair(&a, &b);
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) sent = json_pack("{s:s, s:i}", "type", "ready", "epoch", 7);
    assert_true(frame_send(a, sent, 1000, &error));
    g_autoptr(json_t) got = frame_receive(b, 1000, &error);
    assert_true(json_equal(sent, got));
    assert_null(frame_receive(b, 10, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_TIMEOUT);
    g_clear_error(&error);
    channel_shutdown(a);
    assert_null(frame_receive(b, 1000, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
}

static void
frame_refuses(const void *bytes, gsize length)
{
    g_autoptr(Channel) a = NULL;
    g_autoptr(Channel) b = NULL;
    socket_pair(&a, &b);
    g_autoptr(GError) error = NULL;
    assert_true(channel_write(a, bytes, length, 1000, &error));
    channel_shutdown(a);
    assert_null(frame_receive(b, 1000, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
}

static void
frame_refuses_garbage(void **state)
{
    frame_refuses("\0\0\0\0", 4);                       // a length of nothing
    frame_refuses("\377\377\377\377", 4);               // a length beyond the limit
    frame_refuses("\0\0\0\5{}", 6);                     // cut short
    frame_refuses("\0\0\0\2[]", 6);                     // not an object
    frame_refuses("\0\0\0\4{\"a\"", 8);                 // not JSON
    frame_refuses("\0\0\0\017{\"a\":1,\"a\":2 } ", 19); // a name twice
}

static void
fault_points_do_as_told(void **state)
{
    g_autofree char *path = in_directory("faults");
    g_autofree char *spec = g_strconcat("@", path, NULL);
    g_autoptr(GError) error = NULL;
    assert_true(fault_point("src-ready", &error));
    g_setenv("QUASAR_FAULT", spec, TRUE);
    assert_true(fault_point("src-ready", &error));
    g_file_set_contents(path, "src-released:fail\nsrc-read:fail\n", -1, NULL);
    assert_true(fault_point("src-ready", &error));
    assert_false(fault_point("src-released", &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_OPERATION_FAILED);
    g_unsetenv("QUASAR_FAULT");
}

static gpointer
write_late(gpointer channel)
{
    g_usleep(50000);
    return GINT_TO_POINTER(channel_write(channel, "x", 1, 1000, NULL));
}

// 2^32 microseconds and a bit: more than an int holds.
static void
channel_waits_long(void **state)
{
    g_autoptr(Channel) a = NULL, b = NULL;
    g_autoptr(GError) error = NULL;
    socket_pair(&a, &b);
    GThread *thread = g_thread_new("late", write_late, a);
    assert_int_equal(channel_wait(b, 4294968, &error), 1);
    assert_true(GPOINTER_TO_INT(g_thread_join(thread)));
}

// The last one: the log stays in its file.
static void
log_entries_are_lines(void **state)
{
    g_autofree char *path = in_directory("log");
    g_autofree char *text = NULL;
    log_init(G_LOG_LEVEL_MESSAGE, path);
    g_message("no domain '%s'", "web\n2026-01-01T00:00:00Z notice: forged\r");
    g_info("too little");
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    assert_non_null(strstr(text, "notice: no domain 'web 2026-01-01T00:00:00Z notice: forged '\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_the_first_and_shows_its_prefix),
        cmocka_unit_test(file_is_replaced_whole_or_not_at_all),
        cmocka_unit_test(record_survives_reopening_at_every_slot),
        cmocka_unit_test(record_loses_only_what_was_torn),
        cmocka_unit_test(record_tells_damaged_from_new),
        cmocka_unit_test(frame_goes_across),
        cmocka_unit_test(frame_refuses_garbage),
        cmocka_unit_test(fault_points_do_as_told),
        cmocka_unit_test(channel_waits_long),
        cmocka_unit_test(log_entries_are_lines),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
