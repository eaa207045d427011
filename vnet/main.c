// SPDX-License-Identifier: LGPL-2.1-or-later
// quasar-vnet: carries one guest NIC's frames between QEMU and the host's NIC, confined.
// No privilege is left but that to change its own scheduling.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "vnet/announce.h"
#include "vnet/capture.h"
#include "vnet/confine.h"
#include "vnet/control.h"
#include "vnet/forward.h"
#include "vnet/latency.h"
#include "vnet/options.h"
#include "vnet/port.h"
#include "vnet/switch.h"

// Exit codes: 0 QEMU closed its end or quit was asked for, EXIT_FAILURE it could not start, and:
enum {
    EXIT_NIC_LOST = 3,
    EXIT_PORT_BROKEN = 4,
};

// How many captured frames are taken before others have their turn.
#define READ_MAX 256u

// How long after the announcement of a home-coming an anchor is ready for it.
#define SHARE_MAX_S 600

// Theory of operation: one thread, one poll(). What passes is forward.c's to decide; here are the loop, the
// orders that come over the control socket, and the announcements.
typedef struct {
    Options *options;
    Forward forward;
    Capture *capture;
    Port *port;
    Control *control;
    Switch *move;
    gboolean quit;
    gboolean port_closed; // the emulator has ended; what comes for the guest still goes to where it is now
    gboolean told_up;     // what was told last of the link to those who watch

    ControlRequest announced; // what the announcement's remaining rounds tell
    guint round;              // ANNOUNCE_ROUNDS: none is left
    gint64 activated;         // monotonic, us
    gboolean suspect;         // the NIC showed an error: look after it
    gint64 looked;            // when it was last looked after
    Latency latency;
} Vnet;

static void
send_frame(Vnet *vnet, guint8 *frame, gsize length)
{
    static const Offload none;
    const struct iovec part = {frame, length};
    capture_send(vnet->capture, &none, &part, 1);
}

static void
announce(Vnet *vnet)
{
    guint8 frame[ANNOUNCE_MAX];
    gint64 now = g_get_monotonic_time();
    while (vnet->round < ANNOUNCE_ROUNDS && now >= vnet->activated + announce_delay_ms(vnet->round) * 1000) {
        send_frame(vnet, frame, announce_rarp(frame, &vnet->options->mac));
        for (guint i = 0; i < vnet->announced.n_addresses; i++)
            send_frame(vnet, frame,
                       announce_address(frame, &vnet->options->mac, &vnet->announced.addresses[i]));
        vnet->round++;
    }
}

// Of the link between the guest and its home, or between the hosts of a move.
static json_t *
link_status(const Vnet *vnet)
{
    const Link *link = switch_link(vnet->move);
    if (!link)
        return json_null();
    return json_pack("{s:b, s:I, s:I}", "up", link_is_up(link), "waiting", (json_int_t) link_waiting(link),
                     "round-trip", (json_int_t) link_round_trip(link));
}

static json_t *
status(Vnet *vnet)
{
    CaptureStats stats;
    capture_stats(vnet->capture, &stats);
    json_t *answer = json_pack("{s:b, s:s, s:i, s:s, s:s, s:i, s:{s:I, s:I, s:I}, s:o}",                //
                               "ok", 1, "mode", switch_mode_name(vnet->move),                           //
                               "pid", (int) getpid(), "nic", vnet->options->nic,                        //
                               "mac", vnet->options->mac_text, "mtu", (int) capture_mtu(vnet->capture), //
                               "capture", "received", (json_int_t) stats.received,                      //
                               "dropped", (json_int_t) stats.dropped,                                   //
                               "ifdropped", (json_int_t) stats.ifdropped, "port", port_status(vnet->port));
    json_object_update_new(answer, forward_status(&vnet->forward));
    json_object_set_new(answer, "waiting", json_integer((json_int_t) switch_waiting(vnet->move)));
    json_object_set_new(answer, "away", json_boolean(switch_is_away(vnet->move)));
    json_object_set_new(answer, "strays", json_boolean(switch_has_strays(vnet->move)));
    json_object_set_new(answer, "place", json_string(place_name(switch_place(vnet->move))));
    json_object_set_new(answer, "link", link_status(vnet));
    json_object_set_new(answer, "duplicates", json_integer((json_int_t) switch_duplicates(vnet->move)));
    return answer;
}

static void
activate(Vnet *vnet, const ControlRequest *request)
{
    switch_activate(vnet->move, request->announce);
    vnet->announced = *request;
    vnet->activated = g_get_monotonic_time();
    // The segment of a guest that is away knows it where it was, and so it shall be.
    vnet->round = request->announce && !switch_is_away(vnet->move) ? 0 : ANNOUNCE_ROUNDS;
    announce(vnet);
    switch_mark(vnet->move);
}

static gboolean
carry_out_tunnel(Vnet *vnet, ControlRequest *request, GError **error)
{
    const SwitchTunnel tunnel = {
        .fd = request->fd, .key = request->has_key ? request->key : NULL, .server = request->server};
    if (tunnel.fd < 0)
        return quasar_set_error(error, VIR_ERR_RPC, "the request has no socket for the tunnel");
    fcntl(tunnel.fd, F_SETFL, fcntl(tunnel.fd, F_GETFL) | O_NONBLOCK);
    request->fd = -1;
    switch (request->command) {
    case CONTROL_RECEIVE:
        vnet->round = ANNOUNCE_ROUNDS;
        return switch_receive(vnet->move, &tunnel, error);
    case CONTROL_RELINK:
        if (switch_relink(vnet->move, &tunnel, error))
            return TRUE;
        close(tunnel.fd);
        return FALSE;
    default:
        switch_pair(vnet->move, &tunnel);
        return TRUE;
    }
}

static gboolean
carry_out(Vnet *vnet, ControlRequest *request, GError **error)
{
    switch (request->command) {
    case CONTROL_STATUS:
    case CONTROL_WATCH:
        break;
    case CONTROL_ACTIVATE:
        activate(vnet, request);
        break;
    case CONTROL_STANDBY:
        port_drain(vnet->port); // what the guest sent before it stopped still goes out
        switch_standby(vnet->move);
        vnet->round = ANNOUNCE_ROUNDS;
        break;
    case CONTROL_HOLD:
        switch_hold(vnet->move);
        break;
    case CONTROL_HAND_OVER:
        vnet->round = ANNOUNCE_ROUNDS;
        return switch_hand_over(vnet->move, error);
    case CONTROL_AWAY:
        switch_be_away(vnet->move);
        break;
    case CONTROL_SHARE:
        switch_share(vnet->move);
        if (switch_mode(vnet->move) == SWITCH_LEAVING) // the anchor; the other one is arriving
            latency_expect_move(&vnet->latency, SHARE_MAX_S);
        break;
    case CONTROL_PAIR:
    case CONTROL_RECEIVE:
    case CONTROL_RELINK:
        return carry_out_tunnel(vnet, request, error);
    case CONTROL_QUIT:
        vnet->quit = TRUE;
        break;
    }
    return TRUE;
}

static json_t *
handle(ControlRequest *request, void *data)
{
    g_autoptr(GError) error = NULL;
    if (!carry_out(data, request, &error))
        return json_pack("{s:s}", "error", error->message);
    gboolean asks = request->command == CONTROL_STATUS || request->command == CONTROL_WATCH ||
                    request->command == CONTROL_ACTIVATE;
    return asks ? status(data) : json_pack("{s:b}", "ok", 1);
}

static int
sooner(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int
wait_ms(const Vnet *vnet)
{
    int wait = sooner(vnet->suspect ? 1000 : -1, port_wait_ms(vnet->port));
    wait = sooner(wait, switch_wait_ms(vnet->move));
    if (vnet->round < ANNOUNCE_ROUNDS) {
        gint64 due = vnet->activated + announce_delay_ms(vnet->round) * 1000 - g_get_monotonic_time();
        wait = sooner(wait, (int) (MAX(0, due + 999) / 1000));
    }
    return wait;
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

// Whoever watches is told when the link has come up or gone down.
static void
tell_link(Vnet *vnet)
{
    const Link *link = switch_link(vnet->move);
    gboolean up = link && link_is_up(link);
    if (up == vnet->told_up)
        return;
    vnet->told_up = up;
    g_autoptr(json_t) event = json_pack("{s:s, s:b}", "event", "link", "up", up);
    control_tell(vnet->control, event);
}

// 0, or the code to end with.
static int
serve(Vnet *vnet, const struct pollfd *fds, guint n_control, guint n_port, guint n_switch, GError **error)
{
    const struct pollfd *control = fds + 1, *port = control + n_control;
    // Before the orders: an order may put another tunnel in its place. Frames from there are older than
    // captured ones.
    switch_serve(vnet->move, port + n_port, n_switch);
    // Control first: after a standby nothing more may go out, not even what has arrived already.
    control_serve(vnet->control, control, n_control, handle, vnet);
    if (fds->revents & (POLLERR | POLLHUP | POLLNVAL))
        vnet->suspect = TRUE;
    const guint64 captured = vnet->forward.captured;
    if (fds->revents && !capture_read(vnet->capture, READ_MAX, forward_to_guest, &vnet->forward, error))
        return EXIT_NIC_LOST;
    const gboolean all_read = fds->events && vnet->forward.captured - captured < READ_MAX;
    switch (vnet->port_closed ? PORT_CLOSED : port_serve(vnet->port, port, n_port, error)) {
    case PORT_GOES_ON:
        port_flush(vnet->port);
        break;
    case PORT_CLOSED:
        vnet->port_closed = TRUE;
        break;
    case PORT_BROKEN:
        return EXIT_PORT_BROKEN;
    }
    switch_end_turn(vnet->move, all_read);
    tell_link(vnet);
    // A guest that has moved does not need its emulator here any more, but what its NIC still captures.
    vnet->quit |= vnet->port_closed && switch_mode(vnet->move) != SWITCH_LEAVING;
    vnet->suspect |= vnet->forward.inject_failed;
    vnet->forward.inject_failed = FALSE;
    return look_after_nic(vnet, error) ? EXIT_SUCCESS : EXIT_NIC_LOST;
}

static int
run(Vnet *vnet, GError **error)
{
    struct pollfd fds[1 + CONTROL_CLIENTS + 1 + PORT_FDS + SWITCH_FDS];
    while (!vnet->quit) {
        gboolean links_have_room = switch_has_room(vnet->move);
        // What is captured here is nothing to a guest that is away. Errors of the NIC are told whatever is
        // asked for.
        gboolean room = (vnet->port_closed || port_has_room(vnet->port)) && links_have_room &&
                        !switch_is_away(vnet->move);
        fds[0] = (struct pollfd){capture_fd(vnet->capture), room ? POLLIN : 0, 0};
        guint n_control = control_poll(vnet->control, fds + 1);
        guint n_port = vnet->port_closed || !links_have_room ? 0 : port_poll(vnet->port, fds + 1 + n_control);
        guint n_switch = switch_poll(vnet->move, fds + 1 + n_control + n_port);
        if (poll(fds, 1 + n_control + n_port + n_switch, wait_ms(vnet)) < 0) {
            if (errno == EINTR)
                continue;
            return quasar_set_system_error(error, errno, "cannot wait"), EXIT_FAILURE;
        }
        announce(vnet);
        int code = serve(vnet, fds, n_control, n_port, n_switch, error);
        if (code != EXIT_SUCCESS)
            return code;
        latency_turn(&vnet->latency, switch_is_moving(vnet->move));
    }
    return EXIT_SUCCESS;
}

static const SwitchEnds switch_ends = {.deliver = forward_deliver, .inject = forward_inject};

static gboolean
start(Vnet *vnet, GError **error)
{
    Options *options = vnet->options;
    vnet->control = control_open(options->control_path, error);
    if (!vnet->control)
        return FALSE;
    vnet->capture = capture_open(options->capture, options->nic, &options->mac, error);
    if (!vnet->capture)
        return FALSE;
    if (options->stream_path)
        vnet->port = port_stream_open(options->stream_path, forward_from_guest, &vnet->forward, error);
    if (options->stream_path && !vnet->port)
        return FALSE;
    latency_ask(&vnet->latency);
    if (!confine_privileges(options->user, vnet->latency.allowed, error))
        return FALSE;
    // After that, so that the socket is that user's, who is also the emulator's.
    if (options->vhost_path)
        vnet->port =
            port_vhost_open(options->vhost_path, options->offload, forward_from_guest, &vnet->forward, error);
    if (options->anchor)
        vnet->port = port_none_open();
    if (!vnet->port || (options->vhost_path && options->emulator > 0 &&
                        !port_vhost_expect(vnet->port, options->emulator, error)))
        return FALSE;
    vnet->forward.mac = options->mac;
    vnet->forward.capture = vnet->capture;
    vnet->forward.port = vnet->port;
    vnet->move = switch_new(&options->mac, vnet->port, vnet->capture, &switch_ends, &vnet->forward);
    if (options->anchor)
        switch_be_anchor(vnet->move);
    vnet->forward.move = vnet->move;
    vnet->round = ANNOUNCE_ROUNDS;
    json_object_seed(0); // reads the kernel's random source, which is closed to us from here on
    return confine_syscalls(error);
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
    Vnet vnet = {.options = &options};

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
    g_message("guest '%s' (%s) is on '%s', in %s", options.name ? options.name : "", options.mac_text,
              options.nic, switch_mode_name(vnet.move));
    tell_ready(options.ready_fd, "ok");
    int code = run(&vnet, &error);
    if (error)
        g_critical("%s", error->message);
    else
        g_message("done");
    switch_free(vnet.move); // the other ends of its links see an end in order
    // At once: clearing up would only need more system calls.
    _exit(code);
}
