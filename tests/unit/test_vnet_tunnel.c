// SPDX-License-Identifier: LGPL-2.1-or-later
// A tunnel whose way leads through somebody who replays, swaps, drops and changes records: its end, and
// nothing of what he did reaches a guest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "vnet/tunnel.h"

enum { LENGTH = 60, RECORD_HEADER = 5 };

static const guint8 key[TLS_KEY] = {1, 2, 3}, other_key[TLS_KEY] = {1, 2, 4};

// One end, what came to it as letters, and the relay's socket of it.
typedef struct {
    Tunnel *tunnel;
    int relay;
    gboolean broken;
    GString *got;
} End;

typedef struct {
    End client, server;
} Way;

static void
take_frame(guint8 *frame, gsize length, const Offload *offload, void *data)
{
    End *end = data;
    assert_int_equal(length, LENGTH);
    assert_int_equal(offload->kind, OFFLOAD_NONE);
    g_string_append_c(end->got, (char) frame[14]);
}

static void
take_word(TunnelWord word, const guint8 nonce[MARKER_NONCE], void *data)
{
    (void) nonce;
    g_string_append_printf(((End *) data)->got, "(%d)", word);
}

static const TunnelEvents events = {take_frame, take_word};

static void
open_end(End *end, const guint8 *its_key, gboolean server)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    *end = (End){.tunnel = tunnel_new(fds[0], its_key, server, &events, end),
                 .relay = fds[1],
                 .got = g_string_new(NULL)};
}

static void
close_end(End *end)
{
    if (end->tunnel)
        tunnel_free(end->tunnel);
    close(end->relay);
    g_string_free(end->got, TRUE);
}

static void
serve(End *end)
{
    struct pollfd fd;
    if (end->broken)
        return;
    tunnel_poll(end->tunnel, &fd);
    assert_return_code(poll(&fd, 1, 0), 0);
    end->broken = !tunnel_serve(end->tunnel, &fd, NULL);
}

// All that an end has sent.
static GByteArray *
sent_by(const End *end)
{
    guint8 bytes[4096];
    ssize_t n;
    GByteArray *all = g_byte_array_new();
    while ((n = recv(end->relay, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        g_byte_array_append(all, bytes, (guint) n);
    return all;
}

static void
give(const End *end, const guint8 *bytes, gsize length)
{
    if (length > 0)
        assert_int_equal(send(end->relay, bytes, length, MSG_NOSIGNAL), length);
}

// What one end has sent goes to the other as it is.
static void
pass(End *from, End *to)
{
    g_autoptr(GByteArray) bytes = sent_by(from);
    give(to, bytes->data, bytes->len);
}

static void
shake_hands(Way *way)
{
    for (guint turn = 0; turn < 20; turn++) {
        serve(&way->client);
        pass(&way->client, &way->server);
        serve(&way->server);
        pass(&way->server, &way->client);
    }
}

static int
set_up(void **state)
{
    Way *way = g_new0(Way, 1);
    open_end(&way->client, key, FALSE);
    open_end(&way->server, key, TRUE);
    shake_hands(way);
    assert_true(tunnel_is_up(way->client.tunnel) && tunnel_is_up(way->server.tunnel));
    *state = way;
    return 0;
}

static int
tear_down(void **state)
{
    Way *way = *state;
    close_end(&way->client);
    close_end(&way->server);
    g_free(way);
    return 0;
}

// The record of a frame of its own.
static GByteArray *
record(End *from, char letter)
{
    guint8 frame[LENGTH] = {[14] = (guint8) letter};
    const struct iovec part = {frame, sizeof(frame)};
    const Offload none = {0};
    assert_true(tunnel_send_frame(from->tunnel, &part, 1, &none));
    tunnel_flush(from->tunnel);
    GByteArray *bytes = sent_by(from);
    assert_true(bytes->len > RECORD_HEADER + LENGTH);
    assert_int_equal(bytes->len, RECORD_HEADER + (bytes->data[3] << 8 | bytes->data[4]));
    return bytes;
}

static void
frames_and_words_come_in_order(void **state)
{
    Way *way = *state;
    for (const char *letter = "abc"; *letter; letter++) {
        g_autoptr(GByteArray) bytes = record(&way->client, *letter);
        give(&way->server, bytes->data, bytes->len);
    }
    assert_true(tunnel_send_word(way->client.tunnel, TUNNEL_DRAINED, NULL));
    tunnel_flush(way->client.tunnel);
    pass(&way->client, &way->server);
    serve(&way->server);
    assert_false(way->server.broken);
    assert_string_equal(way->server.got->str, "abc(3)");
}

// In pieces, however small.
static void
records_may_come_in_pieces(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) bytes = record(&way->client, 'a');
    for (guint i = 0; i < bytes->len; i++) {
        assert_string_equal(way->server.got->str, "");
        give(&way->server, bytes->data + i, 1);
        serve(&way->server);
    }
    assert_false(way->server.broken);
    assert_string_equal(way->server.got->str, "a");
}

static void
a_record_that_is_replayed_ends_it(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) bytes = record(&way->client, 'a');
    give(&way->server, bytes->data, bytes->len);
    serve(&way->server);
    give(&way->server, bytes->data, bytes->len);
    serve(&way->server);
    assert_true(way->server.broken);
    assert_string_equal(way->server.got->str, "a");
}

static void
records_that_are_swapped_end_it(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) first = record(&way->client, 'a');
    g_autoptr(GByteArray) second = record(&way->client, 'b');
    give(&way->server, second->data, second->len);
    give(&way->server, first->data, first->len);
    serve(&way->server);
    assert_true(way->server.broken);
    assert_string_equal(way->server.got->str, "");
}

static void
a_record_that_is_missing_ends_it(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) first = record(&way->client, 'a');
    g_autoptr(GByteArray) second = record(&way->client, 'b');
    g_autoptr(GByteArray) third = record(&way->client, 'c');
    give(&way->server, first->data, first->len);
    give(&way->server, third->data, third->len);
    serve(&way->server);
    assert_true(way->server.broken);
    assert_string_equal(way->server.got->str, "a");
}

// Each byte of it but those of the header, of which some say nothing.
static void
a_record_that_is_changed_ends_it(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) bytes = record(&way->client, 'a');
    for (guint i = RECORD_HEADER; i < bytes->len; i += 7) {
        void *mine = NULL;
        set_up(&mine);
        Way *tried = mine;
        g_autoptr(GByteArray) changed = record(&tried->client, 'a');
        changed->data[i] ^= 1;
        give(&tried->server, changed->data, changed->len);
        serve(&tried->server);
        assert_true(tried->server.broken);
        assert_string_equal(tried->server.got->str, "");
        tear_down(&mine);
    }
}

// What one end has sent comes back to it.
static void
a_record_that_is_reflected_ends_it(void **state)
{
    Way *way = *state;
    g_autoptr(GByteArray) bytes = record(&way->client, 'a');
    give(&way->client, bytes->data, bytes->len);
    serve(&way->client);
    assert_true(way->client.broken);
    assert_string_equal(way->client.got->str, "");
}

// A session's records are nothing to the next one, though it has the same key.
static void
a_record_of_another_session_ends_it(void **state)
{
    Way *way = *state;
    void *next = NULL;
    g_autoptr(GByteArray) bytes = record(&way->client, 'a');
    set_up(&next);
    Way *other = next;
    give(&other->server, bytes->data, bytes->len);
    serve(&other->server);
    assert_true(other->server.broken);
    assert_string_equal(other->server.got->str, "");
    tear_down(&next);
}

static void
who_has_not_the_key_gets_no_further(void **state)
{
    (void) state;
    Way way;
    open_end(&way.client, other_key, FALSE);
    open_end(&way.server, key, TRUE);
    shake_hands(&way);
    assert_false(tunnel_is_up(way.client.tunnel) || tunnel_is_up(way.server.tunnel));
    assert_true(way.client.broken || way.server.broken);
    close_end(&way.client);
    close_end(&way.server);
}

static void
who_speaks_no_tls_gets_no_further(void **state)
{
    (void) state;
    End server;
    open_end(&server, key, TRUE);
    give(&server, (const guint8 *) "GET / HTTP/1.1\r\n\r\n", 18);
    for (guint turn = 0; turn < 5; turn++)
        serve(&server);
    assert_true(server.broken);
    assert_false(tunnel_is_up(server.tunnel));
    close_end(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_and_words_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_may_come_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_replayed_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_that_are_swapped_end_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_missing_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_changed_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_that_is_reflected_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_record_of_another_session_ends_it, set_up, tear_down),
        cmocka_unit_test(who_has_not_the_key_gets_no_further),
        cmocka_unit_test(who_speaks_no_tls_gets_no_further),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
