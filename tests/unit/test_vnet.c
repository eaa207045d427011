// SPDX-License-Identifier: LGPL-2.1-or-later
// vnet/: frames read with bounds, stream framing in any pieces, and the frames that announce a guest.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/error.h"
#include "vnet/announce.h"
#include "vnet/client.h"
#include "vnet/control.h"
#include "vnet/packet.h"
#include "vnet/stream.h"

static const MacAddress guest = {{0x52, 0x54, 0, 1, 2, 3}};

static void
addresses_are_read_strictly(void **state)
{
    MacAddress mac;
    assert_true(mac_parse("52:54:00:01:02:03", &mac));
    assert_true(mac_equal(&mac, &guest));
    const char *const bad[] = {
        "",  "52:54:00:01:02",   "52:54:00:01:02:03:04", "01:00:5e:00:00:01", "00:00:00:00:00:00",
        "x", "52-54-00-01-02-03"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(mac_parse(bad[i], &mac));
    NetAddress address;
    char text[PACKET_ADDRESS];
    assert_true(net_address_parse("fe80::1", &address));
    net_address_text(&address, text);
    assert_string_equal(text, "fe80::1");
    assert_false(net_address_parse("10.0.0.256", &address));
}

// Each prefix of a frame is read without a step past its end; ARP shows its sender once that is complete.
static void
short_frames_have_no_fields(void **state)
{
    guint8 frame[ANNOUNCE_MAX];
    NetAddress address, owned;
    MacAddress mac;
    assert_true(net_address_parse("10.0.0.2", &address));
    gsize length = announce_address(frame, &guest, &address);
    for (gsize cut = 0; cut < length; cut++) {
        g_autofree guint8 *copy = g_malloc(MAX(cut, 1u));
        memcpy(copy, frame, cut);
        assert_int_equal(packet_source(copy, cut, &mac), cut >= 12);
        assert_int_equal(packet_destination(copy, cut, &mac), cut >= 6);
        assert_int_equal(packet_owned_address(copy, cut, &guest, &owned), cut >= 32);
        packet_complete_checksum(copy, cut);
    }
}

static void
announcements_carry_the_guests_addresses(void **state)
{
    guint8 frame[ANNOUNCE_MAX];
    MacAddress mac;
    NetAddress address, owned;
    const char *const texts[] = {"10.0.0.2", "fe80::5054:ff:fe01:203"};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        assert_true(net_address_parse(texts[i], &address));
        gsize length = announce_address(frame, &guest, &address);
        assert_true(length >= 60 && length <= ANNOUNCE_MAX);
        assert_true(packet_source(frame, length, &mac));
        assert_true(mac_equal(&mac, &guest));
        assert_true(packet_owned_address(frame, length, &guest, &owned));
        assert_true(net_address_equal(&owned, &address));
    }
    gsize length = announce_rarp(frame, &guest);
    assert_int_equal(length, 60);
    assert_int_equal(frame[12] << 8 | frame[13], 0x8035);
    assert_true(packet_is_for(frame, length, &guest)); // broadcast
    assert_false(packet_owned_address(frame, length, &guest, &owned));
}

static void
put_bytes(StreamReader *reader, const guint8 *data, gsize length)
{
    while (length > 0) {
        gsize room = 0;
        guint8 *space = stream_reader_space(reader, &room);
        gsize n = MIN(room, length);
        assert_true(n > 0);
        memcpy(space, data, n);
        stream_reader_commit(reader, n);
        data += n;
        length -= n;
    }
}

static guint
take_messages(StreamReader *reader)
{
    guint n = 0;
    guint8 *message = NULL;
    gsize length = 0;
    int rc;
    while ((rc = stream_reader_next(reader, &message, &length, NULL)) > 0) {
        assert_int_equal(length, 3);
        assert_memory_equal(message, "abc", 3);
        n++;
    }
    assert_int_equal(rc, 0);
    return n;
}

static void
stream_is_whole_however_it_is_split(void **state)
{
    static const guint8 wire[] = {0, 0, 0, 3, 'a', 'b', 'c', 0, 0, 0, 3, 'a', 'b', 'c'};
    for (gsize split = 0; split <= sizeof(wire); split++) {
        g_autoptr(StreamReader) reader = stream_reader_new(STREAM_FRAME_MAX);
        put_bytes(reader, wire, split);
        guint n = take_messages(reader);
        assert_int_equal(n, split / 7);
        put_bytes(reader, wire + split, sizeof(wire) - split);
        assert_int_equal(n + take_messages(reader), 2);
    }
}

static void
stream_refuses_impossible_lengths(void **state)
{
    static const guint8 wires[][4] = {{0, 0, 0, 0}, {0, 0, 0, 101}, {0xff, 0xff, 0xff, 0xff}};
    for (gsize i = 0; i < G_N_ELEMENTS(wires); i++) {
        g_autoptr(StreamReader) reader = stream_reader_new(100);
        g_autoptr(GError) error = NULL;
        guint8 *message = NULL;
        gsize length = 0;
        put_bytes(reader, wires[i], 4);
        assert_int_equal(stream_reader_next(reader, &message, &length, &error), -1);
        assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    }
}

static void
queue_drops_at_its_tail_and_frames(void **state)
{
    int fds[2];
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    g_autoptr(StreamQueue) queue = stream_queue_new(64);
    guint pushed = 0;
    while (pushed < 64 && stream_queue_push(queue, "abc", 3))
        pushed++;
    assert_true(pushed > 0 && pushed < 64);
    assert_true(stream_queue_flush(queue, fds[0], NULL));
    assert_int_equal(stream_queue_length(queue), 0);
    guint8 bytes[512];
    ssize_t n = read(fds[1], bytes, sizeof(bytes));
    g_autoptr(StreamReader) reader = stream_reader_new(STREAM_FRAME_MAX);
    put_bytes(reader, bytes, (gsize) n);
    assert_int_equal(take_messages(reader), pushed);
    close(fds[1]);
    assert_true(stream_queue_push(queue, "abc", 3));
    g_autoptr(GError) error = NULL;
    assert_false(stream_queue_flush(queue, fds[0], &error));
    assert_non_null(error);
    close(fds[0]);
}

static gboolean
decodes(const char *text, ControlRequest *request)
{
    g_autoptr(json_t) message = json_loads(text, 0, NULL);
    g_autoptr(GError) error = NULL;
    gboolean ok = control_decode(message, request, &error);
    if (!ok)
        assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    return ok;
}

static void
control_takes_only_known_requests(void **state)
{
    ControlRequest request = {0};
    assert_true(decodes("{\"cmd\":\"activate\",\"announce\":true,\"addresses\":[\"10.0.0.2\"]}", &request));
    assert_int_equal(request.command, CONTROL_ACTIVATE);
    assert_true(request.announce);
    assert_int_equal(request.n_addresses, 1);
    assert_true(decodes("{\"cmd\":\"hand-over\"}", &request));
    assert_int_equal(request.command, CONTROL_HAND_OVER);
    assert_int_equal(request.fd, -1);
    assert_false(decodes("{}", &request));
    assert_false(decodes("{\"cmd\":\"fly\"}", &request));
    assert_false(decodes("{\"cmd\":1}", &request));
    assert_false(decodes("{\"cmd\":\"activate\",\"addresses\":[\"x\"]}", &request));
}

// vnet's side of a control socket in a thread, until it is told to quit.
typedef struct {
    Control *control;
    gboolean quit;
    guint received, refused, right_keys;
} Served;

static json_t *
answer(ControlRequest *request, void *data)
{
    Served *served = data;
    served->quit = request->command == CONTROL_QUIT;
    if (request->command == CONTROL_RECEIVE || request->command == CONTROL_PAIR) {
        if (request->fd < 0) {
            served->refused++;
            return json_pack("{s:s}", "error", "no socket");
        }
        served->right_keys += request->has_key && request->key[0] == 0xab && request->server;
        served->received += write(request->fd, "x", 1) == 1; // left to be closed
    }
    return json_pack("{s:b}", "ok", 1);
}

static gpointer
serve_control(gpointer data)
{
    Served *served = data;
    struct pollfd fds[CONTROL_CLIENTS + 1];
    while (!served->quit) {
        guint n = control_poll(served->control, fds);
        if (poll(fds, n, 10000) > 0)
            control_serve(served->control, fds, n, answer, served);
    }
    return NULL;
}

static void
sockets_are_passed_with_their_request(void **state)
{
    g_autofree char *directory = g_dir_make_tmp("vnet-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(directory, "ctl", NULL);
    g_autoptr(GError) error = NULL;
    int ends[2];
    char byte;
    Served served = {.control = control_open(path, NULL)};
    assert_non_null(served.control);
    GThread *thread = g_thread_new("control", serve_control, &served);
    {
        g_autoptr(VnetClient) client = vnet_client_attach(path, &error);
        assert_non_null(client);
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_true(vnet_client_hold(client, NULL));
        VnetTunnel tunnel = {.fd = ends[1], .key = {0xab, 1}, .server = TRUE};
        assert_true(vnet_client_receive(client, &tunnel, NULL));
        assert_true(vnet_client_pair(client, &tunnel, NULL));
        tunnel.fd = -1;
        assert_false(vnet_client_pair(client, &tunnel, &error)); // the last one is not used again
        assert_non_null(error);
        close(ends[1]);
        assert_true(vnet_client_quit(client, NULL));
    }
    g_thread_join(thread);
    control_free(served.control);
    assert_int_equal(served.received, 2);
    assert_int_equal(served.right_keys, 2);
    assert_int_equal(served.refused, 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_int_equal(read(ends[0], &byte, 1), 0); // every copy is closed
    close(ends[0]);
    unlink(path);
    rmdir(directory);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_strictly),
        cmocka_unit_test(short_frames_have_no_fields),
        cmocka_unit_test(announcements_carry_the_guests_addresses),
        cmocka_unit_test(stream_is_whole_however_it_is_split),
        cmocka_unit_test(stream_refuses_impossible_lengths),
        cmocka_unit_test(queue_drops_at_its_tail_and_frames),
        cmocka_unit_test(control_takes_only_known_requests),
        cmocka_unit_test(sockets_are_passed_with_their_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
