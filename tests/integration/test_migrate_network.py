# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's network across moves: each datagram comes back, and comes back once."""
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import lab as lab_library
import pytest
from echoes import Stream
from test_network_view import Monitor
from vnet_support import forget, network_of, teach_switch

# Replies are waited for this long; a guest that stood still has many to send.
REPLIES_S = 2


class Flood:
    """ARP requests, WINDOW of them always on their way: more than the guest has buffers for, so that its ring is full
    whenever it is stopped. Each has a sender address of its own and is answered by the guest's kernel, which, unlike
    for pings and datagrams, has no limit of its own between its NIC and the answer.
    """
    WINDOW = 400  # its table of neighbours is tidied up from 512 on
    GUEST_MAC = bytes.fromhex('525400770050')

    def __init__(self, places):
        with network_of(places, 'client'):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.socket.bind(('eth0', 0x0806))
        self.socket.settimeout(0.2)
        self.mac = self.socket.getsockname()[4]
        self.ended = threading.Event()
        self.waiting = {}
        self.answered = self.doubled = 0
        self.thread = threading.Thread(target=self._run)

    def _send(self, number):
        sender = struct.pack('>H', 0x0a4e) + struct.pack('>H', number)
        self.waiting[sender] = number
        self.socket.send(self.GUEST_MAC + self.mac + bytes.fromhex('0806 0001 0800 06 04 0001') + self.mac + sender
                         + bytes(6) + socket.inet_aton(lab_library.GUEST_ADDRESS))

    def _run(self):
        for number in range(1, 1 + self.WINDOW):
            self._send(number)
        last = time.monotonic()
        while self.waiting and (not self.ended.is_set() or time.monotonic() < last + REPLIES_S):
            try:
                frame = self.socket.recv(2048)
            except socket.timeout:
                continue
            if frame[6:12] != self.GUEST_MAC or frame[20:22] != b'\0\2':
                continue
            last = time.monotonic()
            number = self.waiting.pop(frame[38:42], None)
            self.answered += number is not None
            self.doubled += number is None
            if number and not self.ended.is_set():
                self._send(number)

    def __enter__(self):
        self.thread.start()
        lab_library.wait_for('answers', lambda: self.answered > 10 * self.WINDOW)
        return self

    def __exit__(self, *unused):
        self.ended.set()
        self.thread.join()
        self.socket.close()

    @property
    def lost(self):
        return len(self.waiting)


@pytest.fixture(scope='module')
def pinger(hosts):
    """The program, as the client sees it."""
    path = os.path.join(hosts.directory, 'pinger')
    source = os.path.join(os.path.dirname(lab_library.__file__), 'pinger.c')
    lab_library.run('gcc', '-O2', '-D_GNU_SOURCE', '-o', path, source)
    return path


@contextlib.contextmanager
def pings(world, pinger):
    """Pings each millisecond; the dictionary is filled in at the end."""
    figures = {}
    process = world.lab.popen('client', pinger, lab_library.GUEST_ADDRESS, stdout=subprocess.PIPE,
                              universal_newlines=True)
    try:
        yield figures
    finally:
        world.lab.kill('client', 'pinger', signal.SIGTERM)
        words = re.match(r'sent (\d+) lost (\d+) longest (\d+)', process.communicate(timeout=30)[0])
        figures.update(zip(('sent', 'lost', 'longest'), map(int, words.groups())))


# After a longer silence the guest itself loses: its kernel refuses to answer some 250 pings at once (OutErrors of its
# Icmp statistics), and its ring holds 256 frames. Only a host under other load is silent for so long: then again.
CONCLUSIVE_MS = 150
ATTEMPTS = 3


def assert_nothing_lost(world, pinger, what, moves):
    """Calls `moves` under pings and datagrams: none is lost and none is doubled."""
    world.wait_booted()
    for _ in range(ATTEMPTS):
        with Stream(world.lab) as stream, pings(world, pinger) as figures:
            moves()
        silence_ms = max(stream.longest * 1000, figures['longest'] / 1000)
        print('%s: %d datagrams, %d lost, %d doubled; %d pings, %d lost; longest silence %.1f ms' %
              (what, stream.sent, len(stream.lost), len(stream.doubled), figures['sent'], figures['lost'], silence_ms))
        assert stream.sent and figures['sent']
        assert not stream.doubled
        if silence_ms <= CONCLUSIVE_MS or not (stream.lost or figures['lost']):
            break
    assert (stream.lost, figures['lost']) == ([], 0)
    world.assert_runs(world.source)


@pytest.mark.parametrize('how', ['plain', 'p2p'])
def test_no_frame_is_lost(world, pinger, how):
    def moves():
        for _ in range(2):
            world.move(*(['--p2p'] if how == 'p2p' else []))
    assert_nothing_lost(world, pinger, how, moves)


@pytest.fixture(params=['virtio', 'vmxnet3', 'e1000'])
def stream_world(world, request):
    """A guest whose NIC is the emulator's stream, as where vhost-user cannot be had."""
    world.nic, world.model = '<driver name="qemu"/>' if request.param == 'virtio' else '', request.param
    world.kind = 'x86_64-drivers' if request.param == 'e1000' else None
    try:
        world.reset()
        yield world
    except lab_library.LabMissing as reason:
        pytest.skip(str(reason))
    finally:
        world.nic, world.model, world.kind = '', 'virtio', None
        world.spoilt = True


def test_no_frame_is_lost_by_the_stream(stream_world, pinger):
    def moves():
        for _ in range(2):
            stream_world.move()
    assert_nothing_lost(stream_world, pinger, 'stream of ' + stream_world.model, moves)
    shown = stream_world.lab.virsh(stream_world.source, 'dumpxml', 'web').stdout
    assert "<model type='%s'/>" % stream_world.model in shown
    assert "<driver name='vhost'" not in shown


@pytest.fixture
def pcap_world(world):
    """A guest whose frames libpcap captures, on both hosts."""
    paths = [world.lab.path(host, 'etc/libvirt/quasar.conf') for host in world.lab.hosts]
    try:
        for path in paths:
            with open(path, 'w') as file:
                file.write('nic_capture = "pcap"\n')
        world.reset()
        yield world
    finally:
        for path in paths:
            os.unlink(path)
        world.spoilt = True


def capture_commands(world):
    """How each quasar-vnet on the guest's host was started; one that the guest has left may still end."""
    found = []
    for pid in world.lab.processes(world.source, 'quasar-vnet'):
        with contextlib.suppress(OSError), open('/proc/%d/cmdline' % pid) as file:
            found.append(file.read())
    return [command for command in found if command]


def test_no_frame_is_lost_by_libpcap(pcap_world, pinger):
    def moves():
        for _ in range(2):
            pcap_world.move()
            commands = capture_commands(pcap_world)
            assert commands and all('--capture\0pcap\0' in command for command in commands)
    assert_nothing_lost(pcap_world, pinger, 'libpcap', moves)


def test_no_frame_of_a_flood_is_lost(world):
    """What the guest has no buffers for waits in quasar-vnet, which takes it along."""
    world.wait_booted()
    if "<driver name='vhost'>" not in world.lab.virsh(world.source, 'dumpxml', 'web').stdout:
        pytest.skip('no bundled emulator, which vhost-user needs; `make emulator` builds it')
    with Flood(world.lab) as flood:
        for _ in range(2):
            world.move()
    print('flood: %d answered, %d lost, %d doubled' % (flood.answered, flood.lost, flood.doubled))
    assert (flood.lost, flood.doubled) == (0, 0)
    world.assert_runs(world.source)


@pytest.mark.parametrize('stage', ['src-stopped', 'src-ready'])
def test_move_that_fails_loses_no_frame(world, pinger, stage):
    def moves():
        with open(world.lab.path(world.source, 'run/fault'), 'w') as file:
            file.write('%s:fail\n' % stage)
        client = world.migrate()
        world.hear_end(client, 60)
        world.let_go(world.source)
        world.wait_settled(20)
        assert client.returncode != 0
    assert_nothing_lost(world, pinger, stage, moves)


@pytest.mark.parametrize('side', ['source', 'destination'])
def test_vnet_dies_during_the_move(world, side):
    """Its frames are lost; the move is not, and the guest is heard again."""
    world.wait_booted()
    world.hold(world.source, 'src-stopped')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-stopped', client)
        world.kill(getattr(world, side), 'quasar-vnet')
    finally:
        world.let_go(world.source)
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    lab_library.wait_for('the guest on its network', lambda: world.lab.guest_get('memory', 1), 30)
    world.assert_runs(world.destination)


def test_switch_that_does_not_learn(world, pinger, request):
    """The host that the guest has left passes its frames on, and who listens hears why it must stay up; a daemon that
    starts anew finds it out, too."""
    world.wait_booted()
    source, target = world.source, world.destination
    monitor = Monitor(world.lab, '--event', 'QUASAR_NETWORK', host=target)
    request.addfinalizer(lambda: monitor.stop())  # the last one
    request.addfinalizer(lambda: forget(world.lab, Flood.GUEST_MAC))
    teach_switch(world.lab, Flood.GUEST_MAC, source, 'static', 'sticky')

    def takes_detour():
        return 'its segment does not bring its frames here' in world.lab.virsh(target, 'dominfo', 'web').stdout
    with pings(world, pinger) as moved:
        world.move()
        lab_library.wait_for('the news', lambda: monitor.told('detour'))
        assert takes_detour()
    monitor.stop()
    world.kill(target, 'virtquasard')
    world.start_daemon(target)
    lab_library.wait_for('the finding', takes_detour)
    monitor = Monitor(world.lab, '--event', 'QUASAR_NETWORK', host=target)
    with pings(world, pinger) as learned:
        teach_switch(world.lab, Flood.GUEST_MAC, target, 'dynamic')
        lab_library.wait_for('the news', lambda: monitor.told('direct'), 30)
        assert not takes_detour()
    monitor.stop()
    assert moved['sent'] and learned['sent'] and moved['lost'] == learned['lost'] == 0
    world.assert_runs(target)
