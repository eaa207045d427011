// SPDX-License-Identifier: LGPL-2.1-or-later
// quasar-vnet: carries one guest NIC's frames between QEMU and the host's NIC, with no privilege left.
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vnet/announce.h"
#include "vnet/capture.h"
#include "vnet/confine.h"
#include "vnet/control.h"
#include "vnet/options.h"
#include "vnet/stream.h"

// Exit codes: 0 QEMU closed its end or quit was asked for, EXIT_FAILURE it could not start, and:
enum {
    EXIT_NIC_LOST = 3,
    EXIT_STREAM_BROKEN = 4,
};

// Theory of operation: one thread, one poll(). Frames off the NIC go into a bounded queue for QEMU; when QEMU
// is slow, the tail is dropped, as a NIC would. Frames from QEMU go out at once, those of the guest's own MAC
// only. In standby both directions are read and thrown away: nothing old is delivered after the switch.
// Frames from both sides are hostile.
typedef enum {
    DROP_STANDBY,
    DROP_QUEUE,
    DROP_TRUNCATED,
    DROP_GIANT,
    DROP_RUNT,
    DROP_SPOOFED,
    DROP_INJECT,
    DROP_FOREIGN,
    N_DROPS,
} Drop;

static const char *const drop_names[N_DROPS] = {
    [DROP_STANDBY] = "standby", [DROP_QUEUE] = "queue",     [DROP_TRUNCATED] = "truncated",
    [DROP_GIANT] = "giant",     [DROP_RUNT] = "runt",       [DROP_SPOOFED] = "spoofed",
    [DROP_INJECT] = "inject",   [DROP_FOREIGN] = "foreign",
};

typedef struct {
    guint64 frames, bytes;
} Counter;

typedef struct {
    Options *options;
    Capture *capture;
    Control *control;
    int stream;
    StreamReader *reader;
    StreamQueue *queue;

    gboolean active;
    gboolean quit;
    Counter to_guest, from_guest;
    guint64 drops[N_DROPS];

    NetAddress learned[CONTROL_ADDRESSES]; // the latest last
    guint n_learned;

    ControlRequest announced; // what the announcement's remaining rounds tell
    guint round;              // ANNOUNCE_ROUNDS: none is left
    gint64 activated;         // monotonic, us
    gboolean suspect;         // the NIC showed an error: look after it
    gint64 looked;            // when it was last looked after
} Vnet;

static void
learn(Vnet *vnet, const NetAddress *address)
{
    guint i = 0;
    while (i < vnet->n_learned && !net_address_equal(&vnet->learned[i], address))
        i++;
    if (i == CONTROL_ADDRESSES)
        i = 0; // full: the one seen longest ago gives way
    else if (i == vnet->n_learned)
        vnet->n_learned++;
    memmove(&vnet->learned[i], &vnet->learned[i + 1], (vnet->n_learned - 1 - i) * sizeof(*address));
    vnet->learned[vnet->n_learned - 1] = *address;
}

static void
to_guest(guint8 *frame, gsize length, gboolean truncated, void *data)
{
    Vnet *vnet = data;
    MacAddress source;
    if (!vnet->active)
        vnet->drops[DROP_STANDBY]++;
    else if (truncated)
        vnet->drops[DROP_TRUNCATED]++;
    else if (length < PACKET_HEADER || !packet_source(frame, length, &source))
        vnet->drops[DROP_RUNT]++;
    else if (!packet_is_for(frame, length, &vnet->options->mac) || mac_equal(&source, &vnet->options->mac))
        vnet->drops[DROP_FOREIGN]++; // arrived before the kernel's filter was in place
    else if (packet_complete_checksum(frame, length), length > packet_limit(capture_mtu(vnet->capture)))
        vnet->drops[DROP_GIANT]++;
    else if (!stream_queue_push(vnet->queue, frame, length))
        vnet->drops[DROP_QUEUE]++;
    else {
        vnet->to_guest.frames++;
        vnet->to_guest.bytes += length;
    }
}

static void
from_guest(Vnet *vnet, const guint8 *frame, gsize length)
{
    MacAddress source;
    NetAddress address;
    if (!vnet->active)
        vnet->drops[DROP_STANDBY]++;
    else if (length < PACKET_HEADER || !packet_source(frame, length, &source))
        vnet->drops[DROP_RUNT]++;
    else if (!mac_equal(&source, &vnet->options->mac))
        vnet->drops[DROP_SPOOFED]++;
    else if (length > packet_limit(capture_mtu(vnet->capture)))
        vnet->drops[DROP_GIANT]++;
    else if (capture_send(vnet->capture, frame, length) != CAPTURE_SENT) {
        vnet->drops[DROP_INJECT]++;
        vnet->suspect = TRUE;
    } else {
        vnet->from_guest.frames++;
        vnet->from_guest.bytes += length;
        if (packet_owned_address(frame, length, &vnet->options->mac, &address))
            learn(vnet, &address);
    }
}

static void
announce(Vnet *vnet)
{
    guint8 frame[ANNOUNCE_MAX];
    gint64 now = g_get_monotonic_time();
    while (vnet->round < ANNOUNCE_ROUNDS && now >= vnet->activated + announce_delay_ms(vnet->round) * 1000) {
        capture_send(vnet->capture, frame, announce_rarp(frame, &vnet->options->mac));
        for (guint i = 0; i < vnet->announced.n_addresses; i++)
            capture_send(vnet->capture, frame,
                         announce_address(frame, &vnet->options->mac, &vnet->announced.addresses[i]));
        vnet->round++;
    }
}

static json_t *
status(Vnet *vnet)
{
    CaptureStats stats;
    capture_stats(vnet->capture, &stats);
    json_t *drops = json_object(), *addresses = json_array();
    for (guint i = 0; i < N_DROPS; i++)
        json_object_set_new(drops, drop_names[i], json_integer((json_int_t) vnet->drops[i]));
    for (guint i = 0; i < vnet->n_learned; i++) {
        char text[PACKET_ADDRESS];
        net_address_text(&vnet->learned[i], text);
        json_array_append_new(addresses, json_string(text));
    }
    return json_pack(
        "{s:b, s:s, s:i, s:s, s:s, s:i, s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I, s:I}, s:o, s:o}", //
        "ok", 1, "mode", vnet->active ? "active" : "standby", "pid", (int) getpid(),               //
        "nic", vnet->options->nic, "mac", vnet->options->mac_text,                                 //
        "mtu", (int) capture_mtu(vnet->capture),                                                   //
        "to_guest", "frames", (json_int_t) vnet->to_guest.frames,                                  //
        "bytes", (json_int_t) vnet->to_guest.bytes,                                                //
        "from_guest", "frames", (json_int_t) vnet->from_guest.frames,                              //
        "bytes", (json_int_t) vnet->from_guest.bytes,                                              //
        "capture", "received", (json_int_t) stats.received,                                        //
        "dropped", (json_int_t) stats.dropped, "ifdropped", (json_int_t) stats.ifdropped,          //
        "drops", drops, "addresses", addresses);
}

static json_t *
handle(const ControlRequest *request, void *data)
{
    Vnet *vnet = data;
    switch (request->command) {
    case CONTROL_STATUS:
        return status(vnet);
    case CONTROL_ACTIVATE:
        vnet->active = TRUE;
        vnet->announced = *request;
        vnet->activated = g_get_monotonic_time();
        vnet->round = request->announce ? 0 : ANNOUNCE_ROUNDS;
        announce(vnet);
        g_message("active");
        break;
    case CONTROL_STANDBY:
        vnet->active = FALSE;
        vnet->round = ANNOUNCE_ROUNDS;
        g_message("standby");
        break;
    case CONTROL_QUIT:
        vnet->quit = TRUE;
        break;
    }
    return json_pack("{s:b}", "ok", 1);
}

// 1 goes on, 0 QEMU closed its end, -1 error.
static int
read_stream(Vnet *vnet, GError **error)
{
    gsize room, length;
    guint8 *space = stream_reader_space(vnet->reader, &room), *frame;
    ssize_t n = recv(vnet->stream, space, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 1;
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return 0;
    if (n < 0) {
        quasar_set_system_error(error, errno, "cannot read from QEMU");
        return -1;
    }
    stream_reader_commit(vnet->reader, (gsize) n);
    int state;
    while ((state = stream_reader_next(vnet->reader, &frame, &length, error)) == 1)
        from_guest(vnet, frame, length);
    return state == 0 ? 1 : -1;
}

static int
wait_ms(const Vnet *vnet)
{
    gint64 wait = vnet->suspect ? 1000 : -1;
    if (vnet->round < ANNOUNCE_ROUNDS) {
        gint64 due = vnet->activated + announce_delay_ms(vnet->round) * 1000 - g_get_monotonic_time();
        gint64 ms = MAX(0, (due + 999) / 1000);
        wait = wait < 0 ? ms : MIN(wait, ms);
    }
    return (int) wait;
}

static gboolean
look_after_nic(Vnet *vnet, GError **error)
{
    gboolean up;
    if (!vnet->suspect || g_get_monotonic_time() - vnet->looked < G_USEC_PER_SEC)
        return TRUE;
    vnet->looked = g_get_monotonic_time();
    if (!capture_alive(vnet->capture, &up, error))
        return FALSE;
    vnet->suspect = !up;
    return TRUE;
}

static int
run(Vnet *vnet, GError **error)
{
    struct pollfd fds[2 + CONTROL_CLIENTS + 1];
    while (!vnet->quit) {
        fds[0] = (struct pollfd){capture_fd(vnet->capture), POLLIN, 0};
        fds[1] = (struct pollfd){vnet->stream, POLLIN | (stream_queue_length(vnet->queue) ? POLLOUT : 0), 0};
        guint n = control_poll(vnet->control, fds + 2);
        if (poll(fds, n + 2, wait_ms(vnet)) < 0 && errno != EINTR)
            return quasar_set_system_error(error, errno, "cannot wait"), EXIT_FAILURE;
        announce(vnet);
        // Control first: after a standby nothing more may go out, not even what has arrived already.
        control_serve(vnet->control, fds + 2, n, handle, vnet);
        if (fds[0].revents & (POLLERR | POLLHUP | POLLNVAL))
            vnet->suspect = TRUE;
        if (fds[0].revents && !capture_read(vnet->capture, 256, to_guest, vnet, error))
            return EXIT_NIC_LOST;
        if (fds[1].revents & ~POLLOUT) {
            int state = read_stream(vnet, error);
            if (state <= 0)
                return state == 0 ? EXIT_SUCCESS : EXIT_STREAM_BROKEN;
        }
        // A closed end is found out by reading, so that it is never taken for an error.
        stream_queue_flush(vnet->queue, vnet->stream, NULL);
        if (!look_after_nic(vnet, error))
            return EXIT_NIC_LOST;
    }
    return EXIT_SUCCESS;
}

// QEMU may still be starting: tried for 10 s.
static int
connect_stream(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "socket path '%s' is too long", path);
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
    while (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0) {
        if ((errno != ENOENT && errno != ECONNREFUSED && errno != EINTR) || g_get_monotonic_time() > end) {
            quasar_set_system_error(error, errno, "cannot connect to QEMU at '%s'", path);
            close(fd);
            return -1;
        }
        g_usleep(20000);
    }
    return fd;
}

static gboolean
start(Vnet *vnet, GError **error)
{
    vnet->control = control_open(vnet->options->control_path, error);
    if (!vnet->control)
        return FALSE;
    vnet->capture = capture_open(vnet->options->nic, &vnet->options->mac, error);
    if (!vnet->capture)
        return FALSE;
    vnet->stream = connect_stream(vnet->options->stream_path, error);
    if (vnet->stream < 0)
        return FALSE;
    vnet->reader = stream_reader_new(STREAM_FRAME_MAX);
    vnet->queue = stream_queue_new(STREAM_QUEUE_MAX);
    vnet->round = ANNOUNCE_ROUNDS;
    json_object_seed(0); // reads the kernel's random source, which is closed to us from here on
    return confine_privileges(vnet->options->user, error) && confine_syscalls(error);
}

static void
tell_ready(int fd, const char *text)
{
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0)
        g_warning("cannot tell how the start went: %s", g_strerror(errno));
    close(fd);
}

int
main(int argc, char **argv)
{
    g_auto(Options) options = {0};
    g_autoptr(GError) error = NULL;
    Vnet vnet = {.options = &options, .stream = -1};

    log_init(G_LOG_LEVEL_MESSAGE, NULL);
    setsid(); // lives on when the daemon's session ends
    if (!options_parse(&options, argc, argv, &error)) {
        g_printerr("quasar-vnet: %s\n", error->message);
        return EXIT_FAILURE;
    }
    if (!start(&vnet, &error)) {
        g_critical("%s", error->message);
        tell_ready(options.ready_fd, error->message);
        return EXIT_FAILURE;
    }
    g_message("guest '%s' (%s) is on '%s', in standby", options.name ? options.name : "", options.mac_text,
              options.nic);
    tell_ready(options.ready_fd, "ok");
    int code = run(&vnet, &error);
    if (error)
        g_critical("%s", error->message);
    else
        g_message("%s, done", vnet.quit ? "asked to quit" : "QEMU closed its end");
    // At once: clearing up would only need more system calls.
    _exit(code);
}
