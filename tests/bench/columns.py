# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ways by which a guest's frames can reach its segment, in the routed lab, for one and the same guest.

Its segment is hostA's and the client's. It runs there, or on hostB, which is on another subnet.
"""
import contextlib
import os
import shutil
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
for directory in ('lab', 'integration'):
    sys.path.insert(0, os.path.join(os.path.dirname(HERE), directory))
import initramfs  # noqa: E402
import lab as lab_library  # noqa: E402
import vnet_guest  # noqa: E402
import vnet_support as support  # noqa: E402

HOME, AWAY = 'hostA', 'hostB'
ADDRESS = lab_library.GUEST_ADDRESS
TUNNEL_PORT = 4790
INNER = {HOME: '10.99.0.1', AWAY: '10.99.0.2'}  # in WireGuard
ON = ('csum', 'host_tso4', 'host_tso6', 'host_ecn', 'guest_csum', 'guest_tso4', 'guest_tso6', 'guest_ecn')
OFF = ('gso', 'host_ufo', 'guest_ufo', 'guest_announce', 'ctrl_guest_offloads')


def iperf_files():
    """iperf3 and its libraries, and the documents that the guest serves."""
    program = shutil.which('iperf3')
    paths = [program] + [word for word in lab_library.run('ldd', program).split() if word.startswith('/')]
    files = initramfs.documents((10, 100))
    for path in paths:
        place = 'bin/iperf3' if path == program else path.lstrip('/')
        for end in range(1, place.count('/') + 1):
            files.setdefault('/'.join(place.split('/')[:end]), None)
        with open(path, 'rb') as file:
            files[place] = file.read()
    return dict(sorted(files.items()))


class Guest(vnet_guest.Guest):
    """The bundled emulator's, where it is built; with the same NIC whatever is behind it."""
    EMULATOR = lab_library.built_emulator() or vnet_guest.QEMU
    DEVICE = ','.join([name + '=on' for name in ON] + [name + '=off' for name in OFF]
                      + ([] if lab_library.built_emulator() else [vnet_guest.Guest.DEVICE]))

    def boot_files(self):
        kernel, initrd = self.places.guest_files()
        extended = initrd + '-iperf'
        initramfs.extend(self.places.path(self.place, initrd), iperf_files(), self.places.path(self.place, extended))
        return kernel, extended


def commands(lab, place, *lines):
    for line in lines:
        lab.must(place, 'ip', *line.split())


@contextlib.contextmanager
def bridged_home(lab, port):
    """HOME's NIC and a port are in a bridge, which has the host's address meanwhile."""
    address, route = lab.topology.address(HOME) + '/24', 'route add default via %s dev ' % lab.topology.gateway(1)
    mac = lab.must(HOME, 'cat', '/sys/class/net/eth0/address').strip()  # as the router knows the host
    commands(lab, HOME, 'link add br1 address %s type bridge' % mac, 'link set br1 up', 'addr del %s dev eth0' % address,
             'addr add %s dev br1' % address, 'link set eth0 master br1', 'link set %s master br1 up' % port,
             route + 'br1')
    try:
        yield
    finally:
        commands(lab, HOME, 'link del br1', 'addr add %s dev eth0' % address, route + 'eth0')


@contextlib.contextmanager
def vxlan(lab, ends, mtu):
    for place, other in ((HOME, AWAY), (AWAY, HOME)):
        between = 'local %s remote %s' % (ends[place], ends[other])
        commands(lab, place, 'link add vx0 type vxlan id 7 dstport 4789 ' + between, 'link set vx0 mtu %d up' % mtu)
    try:
        yield 'vx0'
    finally:
        for place in (HOME, AWAY):
            commands(lab, place, 'link del vx0')


@contextlib.contextmanager
def programs(lab, command_of):
    """A program on each of the two hosts, for as long as it lasts."""
    running = []
    try:
        for place in (HOME, AWAY):
            running.append(lab.popen(place, *command_of(place), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
    finally:
        for place in (HOME, AWAY):
            lab.kill(place, os.path.basename(command_of(place)[0]))
        for process in running:
            process.wait(20)


def has_kernel_wireguard(lab):
    made = lab.exec(HOME, 'ip', 'link', 'add', 'wg9', 'type', 'wireguard').returncode == 0
    if made:
        commands(lab, HOME, 'link del wg9')
    return made


@contextlib.contextmanager
def wireguard(lab):
    with contextlib.ExitStack() as stack:
        if has_kernel_wireguard(lab):
            for place in (HOME, AWAY):
                commands(lab, place, 'link add wg0 type wireguard')
                stack.callback(commands, lab, place, 'link del wg0')
        else:
            stack.enter_context(programs(lab, lambda place: ('/usr/bin/wireguard-go', '-f', 'wg0')))
            lab_library.wait_for('WireGuard', lambda: all(lab.exec(place, 'wg', 'show', 'wg0').returncode == 0
                                                          for place in (HOME, AWAY)))
        keys = {place: lab_library.run('wg', 'genkey').strip() for place in (HOME, AWAY)}
        for place, other in ((HOME, AWAY), (AWAY, HOME)):
            public = lab.must(place, 'sh', '-c', 'echo "$0" | wg pubkey', keys[other]).strip()
            lab.must(place, 'sh', '-c', 'umask 077; echo "$0" >/run/wg.key; wg set wg0 private-key /run/wg.key '
                     'listen-port 51820 peer "$1" allowed-ips 0.0.0.0/0 endpoint "$2":51820',
                     keys[place], public, lab.topology.address(other))
            commands(lab, place, 'addr add %s/30 dev wg0' % INNER[place], 'link set wg0 mtu 1420 up')
        yield


@contextlib.contextmanager
def openvpn(lab):
    keys = os.path.join(lab.directory, 'keys')

    def command(place):
        other = AWAY if place == HOME else HOME
        role = ('--tls-server', '--dh', 'none') if place == HOME else ('--tls-client',)
        return ('/usr/sbin/openvpn', '--dev', 'ovpn0', '--dev-type', 'tap', '--port', '1194', '--remote',
                lab.topology.address(other), '--ca', keys + '/ca-cert.pem', '--cert', '%s/%s-cert.pem' % (keys, place),
                '--key', '%s/%s-key.pem' % (keys, place), '--data-ciphers', 'AES-256-GCM') + role

    def is_up(place):
        return lab.exec(place, 'ip', 'link', 'show', 'ovpn0').returncode == 0
    with programs(lab, command):
        lab_library.wait_for('OpenVPN', lambda: is_up(HOME) and is_up(AWAY))
        yield 'ovpn0'


def link(lab, anchor, vnet):
    """Gives an anchor and the vnet of a guest that is away the ends of a tunnel, as their daemons would."""
    with support.network_of(lab, HOME):
        listener = socket.create_server(('', TUNNEL_PORT))
    with support.network_of(lab, AWAY):
        far = socket.create_connection((lab.topology.address(HOME), TUNNEL_PORT), 10)
    near, _ = listener.accept()
    key = os.urandom(32).hex()
    for end, owner, server in ((near, anchor, True), (far, vnet, False)):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.setsockopt(socket.IPPROTO_TCP, 25, 128 * 1024)  # TCP_NOTSENT_LOWAT
        assert owner.call('relink', end.fileno(), key=key, server=server).get('ok')
    for end in (near, far, listener):
        end.close()
    lab_library.wait_for('the link', lambda: vnet.status()['link']['up'] and anchor.status()['link']['up'])


def start_anchor(lab, stack, directory='/run/anchor', mac=support.MAC):
    os.makedirs(lab.path(HOME, directory), mode=0o777, exist_ok=True)
    os.chmod(lab.path(HOME, directory), 0o777)
    anchor = support.Vnet(lab, directory, '--anchor', place=HOME, nic='eth0', mac=mac, stream=False)
    stack.callback(anchor.stop)
    assert anchor.word == 'ok', anchor.log_text()
    return anchor


class KernelGuest(Guest):
    VHOST = 'on'


def tap_guest(lab, stack, place, nic, mtu, made=Guest):
    guest = made(lab, stack, place, 'tap', nic=nic, address=ADDRESS)
    guest.mtu = mtu
    return guest


def by_tap(lab, stack):
    return tap_guest(lab, stack, HOME, 'eth0', 1500)


def by_vhost(lab, stack):
    return tap_guest(lab, stack, HOME, 'eth0', 1500, KernelGuest)


def by_vnet(lab, stack):
    guest = Guest(lab, stack, HOME, 'offload', nic='eth0', address=ADDRESS)
    guest.vnet.call('activate')
    guest.mtu = 1500
    return guest


def by_link(lab, stack):
    anchor = start_anchor(lab, stack)
    guest = Guest(lab, stack, AWAY, 'offload', nic='eth0', address=ADDRESS)
    guest.vnet.call('away')
    guest.vnet.call('activate')
    link(lab, anchor, guest.vnet)
    guest.anchor, guest.mtu = anchor, 1500
    return guest


def by_vxlan(lab, stack):
    port = stack.enter_context(vxlan(lab, {place: lab.topology.address(place) for place in (HOME, AWAY)}, 1450))
    stack.enter_context(bridged_home(lab, port))
    return tap_guest(lab, stack, AWAY, port, 1450)


def by_wireguard(lab, stack):
    stack.enter_context(wireguard(lab))
    port = stack.enter_context(vxlan(lab, INNER, 1370))
    stack.enter_context(bridged_home(lab, port))
    return tap_guest(lab, stack, AWAY, port, 1370)


def by_openvpn(lab, stack):
    port = stack.enter_context(openvpn(lab))
    stack.enter_context(bridged_home(lab, port))
    commands(lab, AWAY, 'link set %s up' % port)
    return tap_guest(lab, stack, AWAY, port, 1400)


COLUMNS = {'tap': by_tap, 'vhost': by_vhost, 'vnet': by_vnet, 'forwarded': by_link, 'vxlan': by_vxlan,
           'wireguard': by_wireguard, 'openvpn': by_openvpn}


def boot(lab, stack, column):
    """A booted guest whose frames go the column's way."""
    for place in lab.topology.places:
        # A bridge has answered for the host within it, with its own address.
        lab.must(place, 'ip', 'neigh', 'flush', 'all')
    guest = COLUMNS[column](lab, stack)
    lab_library.wait_for('the boot of the guest', lambda: vnet_guest.serves(lab, ADDRESS), 90)
    guest.shell('ip link set eth0 mtu %d; iperf3 -s -D' % guest.mtu)
    return guest


def boot_beside(lab, stack, names):
    """Guests by a tap and by quasar-vnet, as named, on two hosts of one segment: column -> guest, which has its `address`."""
    guests = {}
    for number, (name, place) in enumerate(zip(names, ('hostA', 'hostB'))):
        kind = type('Guest', (Guest,), {'MAC': support.MAC[:5] + bytes((0x60 + number,))})
        address = '%s.%d' % (ADDRESS.rpartition('.')[0], 60 + number)
        guest = kind(lab, stack, place, 'tap' if name == 'tap' else 'offload', nic='eth0', address=address)
        if guest.vnet:
            guest.vnet.call('activate')
        lab_library.wait_for('the boot of the guest', lambda address=address: vnet_guest.serves(lab, address), 90)
        guest.shell('iperf3 -s -D')
        guest.address, guests[name] = address, guest
    return guests
