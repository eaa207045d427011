# SPDX-License-Identifier: LGPL-2.1-or-later
"""quasar-vnet on a real link, with a stand-in for QEMU: what passes, what does not, and how it ends."""
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess

import pytest
import vnet_support as support
from vnet_support import BROADCAST, MAC, OTHER, PEER, Control, StreamEnd, TapGuest, Vnet, Wire, frame, text_of
import lab as lab_library

MULTICAST = bytes.fromhex('01005e000001')
DIRECTORY = '/run/vnet'
CAP_SYS_NICE = 1 << 23


class Setting:
    """A cable, the wire at its far end, QEMU's end and quasar-vnet between them."""

    def __init__(self, places, stack, kind):
        self.places = places
        self.stack = stack
        self.kind = kind
        support.cable(places)
        stack.callback(support.uncable, places)
        directory = places.path('hostA', DIRECTORY)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        self.wire = Wire(places)
        stack.callback(self.wire.close)
        self.end = StreamEnd(os.path.join(directory, 'stream'))
        stack.callback(self.end.close)
        self.vnet = None

    def start(self, active=True, wrapper=()):
        self.vnet = Vnet(self.places, DIRECTORY, '--capture', self.kind, wrapper=wrapper)
        self.stack.callback(self.vnet.stop)
        assert self.vnet.word == 'ok'
        self.end.accept()
        if active:
            assert self.vnet.call('activate')['ok']
        return self.vnet

    def to_guest(self, text, destination=MAC, source=PEER):
        self.wire.send(frame(destination, source, text))

    def from_guest(self, text, destination=PEER, source=MAC):
        self.end.send(frame(destination, source, text))

    def passes_to_guest(self):
        """Sends a frame that must pass, and returns the texts that came up to it."""
        self.to_guest(b'mark')
        texts = []
        while not texts or texts[-1] != b'mark':
            data = self.end.receive()
            assert data is not None, 'a frame for the guest did not pass; %s' % self.vnet.status()
            texts.append(text_of(data))
        return texts[:-1]

    def passes_from_guest(self):
        self.from_guest(b'mark')
        texts = []
        while not texts or texts[-1] != b'mark':
            data = self.wire.receive()
            assert data is not None, 'a frame of the guest did not pass; %s' % self.vnet.status()
            texts.append(text_of(data))
        return texts[:-1]


@pytest.fixture(params=['packet', 'pcap'])
def setting(places, request):
    if not os.path.exists(os.path.join(places.build or '', 'vnet', 'quasar-vnet')):
        pytest.skip('quasar-vnet is not built')
    with contextlib.ExitStack() as stack:
        yield Setting(places, stack, request.param)


def test_nothing_passes_in_standby(setting):
    vnet = setting.start(active=False)
    assert vnet.status()['mode'] == 'standby'
    setting.to_guest(b'early')
    setting.from_guest(b'early')
    lab_library.wait_for('the count of both frames', lambda: vnet.status()['drops']['standby'] == 2)
    vnet.call('activate')
    assert vnet.status()['mode'] == 'active'
    assert setting.passes_to_guest() == []
    assert setting.passes_from_guest() == []
    vnet.call('standby')
    setting.from_guest(b'late')
    lab_library.wait_for('the count of the frame', lambda: vnet.status()['drops']['standby'] == 3)
    assert setting.wire.receive(0.1) is None


def test_frames_for_the_guest_pass_and_no_others(setting):
    vnet = setting.start()
    for text, destination in ((b'own', MAC), (b'other', OTHER), (b'broadcast', BROADCAST),
                              (b'multicast', MULTICAST)):
        setting.to_guest(text, destination)
    assert setting.passes_to_guest() == [b'own', b'broadcast', b'multicast']
    status = vnet.status()
    assert status['to_guest']['frames'] == 4
    # The kernel's filter kept the other one out: it never came up here.
    assert status['drops']['foreign'] == 0
    assert status['capture']['dropped'] == 0


def test_frames_of_the_guest_go_out_and_do_not_come_back(setting):
    vnet = setting.start()
    setting.from_guest(b'broadcast', BROADCAST)
    setting.to_guest(b'loop', BROADCAST, source=MAC)  # a switch that sends it back
    assert setting.passes_from_guest() == [b'broadcast']
    assert setting.passes_to_guest() == []
    assert vnet.status()['from_guest']['frames'] == 2


def test_vlan_tags_are_kept(setting):
    setting.start()
    tag = 3 << 13 | 42
    setting.wire.send(frame(MAC, PEER, b'in', tag))
    assert setting.end.receive() == frame(MAC, PEER, b'in', tag)
    setting.end.send(frame(PEER, MAC, b'out', tag))
    assert setting.wire.receive() == frame(PEER, MAC, b'out', tag)


def test_activation_announces_the_guest(setting):
    vnet = setting.start(active=False)
    vnet.call('activate', announce=True, addresses=['10.0.0.50', 'fe80::50'])
    kinds = (0x8035, 0x0806, 0x86dd)
    seen = [setting.wire.receive(5, kinds) for _ in range(15)]  # five rounds
    assert [struct.unpack('>H', data[12:14])[0] for data in seen] == list(kinds) * 5
    assert all(data[6:12] == MAC for data in seen)
    assert seen[0][:6] == BROADCAST
    assert socket.inet_aton('10.0.0.50') in seen[1]
    assert socket.inet_pton(socket.AF_INET6, 'fe80::50') in seen[2]
    assert setting.wire.receive(0.7, kinds) is None


def test_addresses_of_the_guest_are_learned(setting):
    vnet = setting.start()
    arp = struct.pack('>HHBBH6s4s6s4s', 1, 0x800, 6, 4, 1, MAC, socket.inet_aton('10.0.0.50'), bytes(6),
                      socket.inet_aton('10.0.0.1'))
    setting.end.send(frame(BROADCAST, MAC, arp, kind=0x0806))
    assert setting.wire.receive(5, (0x0806,))
    assert vnet.status()['addresses'] == ['10.0.0.50']


def test_link_down_and_up_again_loses_nothing_but_frames(setting):
    vnet = setting.start()
    setting.places.must('hostA', 'ip', 'link', 'set', support.NIC, 'down')
    setting.from_guest(b'lost')
    lab_library.wait_for('the count of the frame', lambda: vnet.status()['drops']['inject'] == 1)
    setting.places.must('hostA', 'ip', 'link', 'set', support.NIC, 'up')
    lab_library.wait_for('the link', lambda: 'LOWER_UP' in setting.places.must('hostA', 'ip', 'link', 'show',
                                                                               support.NIC))
    assert setting.passes_from_guest() == []
    assert setting.passes_to_guest() == []


def test_deleted_nic_ends_it_and_a_new_one_takes_over(setting):
    vnet = setting.start()
    support.uncable(setting.places)
    assert vnet.wait() == 3
    assert "'%s' is gone" % support.NIC in vnet.log_text()
    support.cable(setting.places)
    setting.wire.close()
    setting.wire = Wire(setting.places)
    setting.stack.callback(setting.wire.close)
    setting.start()
    assert setting.passes_from_guest() == []
    assert setting.passes_to_guest() == []


def test_a_start_that_fails_says_why(setting):
    vnet = Vnet(setting.places, DIRECTORY, '--capture', setting.kind, nic='none0')
    setting.stack.callback(vnet.stop)
    assert "cannot find 'none0'" in vnet.word
    assert vnet.wait() == 1


def test_a_start_without_the_capability_says_so(setting):
    program = os.path.join(setting.places.build, 'vnet', 'quasar-vnet')
    result = setting.places.exec('hostA', 'setpriv', '--bounding-set', '-net_raw', program, '--nic', support.NIC,
                                 '--mac', MAC.hex(':'), '--control', '/run/without.ctl', '--vhost', '/run/without.sock',
                                 '--capture', setting.kind)
    assert result.returncode == 1
    assert "cannot capture on '%s': CAP_NET_RAW is missing" % support.NIC in result.stderr


def test_next_to_no_privilege_is_left(setting):
    vnet = setting.start()
    assert setting.passes_from_guest() == []
    pids = setting.places.processes('hostA', 'quasar-vnet')
    assert len(pids) == 1
    with open('/proc/%d/status' % pids[0]) as file:
        status = dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)
    assert '0' not in status['Uid'].split() + status['Gid'].split()
    # One, to change its own scheduling: no other use of it passes the filter of system calls.
    left = CAP_SYS_NICE if support.has_real_time(setting.places) else 0
    for name, capabilities in (('CapInh', 0), ('CapPrm', left), ('CapEff', left), ('CapBnd', 0), ('CapAmb', 0)):
        assert int(status[name], 16) == capabilities, name
    assert status['NoNewPrivs'] == '1'
    assert status['Seccomp'] == '2'
    # Nothing of the host is open, its keys say: only sockets, what wakes it, and where it writes what it has to say.
    for name in os.listdir('/proc/%d/fd' % pids[0]):
        target = os.readlink('/proc/%d/fd/%s' % (pids[0], name))
        assert target.startswith(('socket:', 'pipe:', 'anon_inode:', '/dev/null')) or target.endswith('/log'), target
    assert vnet.status()['mode'] == 'active'


def test_it_comes_before_those_that_work(setting):
    """A guest hears nothing while its quasar-vnet waits for a processor."""
    setting.start()
    pid, = setting.places.processes('hostA', 'quasar-vnet')
    assert os.getpriority(os.PRIO_PROCESS, pid) == -10
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    group = '/proc/%d/autogroup' % pid
    if os.path.exists(group):
        with open(group) as file:
            assert file.read().split()[-2:] == ['nice', '-10']


def test_the_bound_on_its_work_does_not_end_it(setting):
    """The kernel's word that it has worked long without a rest, which it would get in a move."""
    vnet = setting.start()
    if not support.has_real_time(setting.places):
        pytest.skip('no real-time priority is to be had here')
    pid, = setting.places.processes('hostA', 'quasar-vnet')
    for _ in range(2):
        os.kill(pid, signal.SIGXCPU)
        assert setting.passes_to_guest() == setting.passes_from_guest() == []
    assert vnet.status()['mode'] == 'active'


def test_without_precedence_it_works_all_the_same(setting):
    vnet = setting.start(wrapper=('setpriv', '--bounding-set', '-sys_nice'))
    assert 'cannot have any scheduling priority' in vnet.log_text()
    pid, = setting.places.processes('hostA', 'quasar-vnet')
    assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    assert setting.passes_to_guest() == []


def test_garbage_on_the_control_socket_closes_that_client_only(setting):
    vnet = setting.start()
    for garbage in (b'GET / HTTP/1.0\r\n\r\n', b'\0\0\0\0', b'\xff' * 64):
        client = Control(vnet.control_path)
        client.socket.sendall(garbage)
        assert client.socket.recv(100) == b''
        client.close()
    for message in (b'{', b'[]', b'"activate"', b'{"cmd":"fly"}', b'\xff\xfe'):
        client = Control(vnet.control_path)
        client.socket.sendall(struct.pack('>I', len(message)) + message)
        assert b'error' in client.socket.recv(1000)
        client.close()
    assert setting.passes_to_guest() == []


def test_bad_frames_of_the_guest_are_dropped_and_counted(setting):
    vnet = setting.start()
    setting.end.send(b'runt')
    setting.from_guest(b'spoofed', source=OTHER)
    setting.end.send(frame(PEER, MAC, bytes(60000)))
    assert setting.passes_from_guest() == []
    drops = vnet.status()['drops']
    assert {name: count for name, count in drops.items() if count} == {'runt': 1, 'spoofed': 1, 'giant': 1}


def test_a_stream_without_frames_ends_it(setting):
    vnet = setting.start()
    setting.end.socket.sendall(b'\xff\xff\xff\xff')
    assert vnet.wait() == 4
    assert 'message of 4294967295 bytes' in vnet.log_text()


def test_it_ends_when_told_and_when_the_emulator_does(setting):
    vnet = setting.start()
    assert vnet.call('quit')['ok']
    assert vnet.wait() == 0
    vnet = setting.start()
    setting.end.socket.close()
    assert vnet.wait() == 0


SERVER = '''
import hashlib, socket, sys
listener = socket.create_server(('', 5001), family=socket.AF_INET if sys.argv[1] == '4' else socket.AF_INET6)
print('ready', flush=True)
peer, _ = listener.accept()
data = bytes(range(256)) * 4096
for _ in range(16):
    peer.sendall(data)
peer.shutdown(socket.SHUT_WR)
hash = hashlib.sha256()
while True:
    more = peer.recv(1 << 20)
    if not more:
        break
    hash.update(more)
print(hash.hexdigest())
'''
CLIENT = '''
import hashlib, socket, sys, threading
peer = socket.create_connection((sys.argv[1], 5001), 20)
def send():
    data = bytes(range(256)) * 4096
    for _ in range(16):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
thread = threading.Thread(target=send)
thread.start()
hash = hashlib.sha256()
while True:
    more = peer.recv(1 << 20)
    if not more:
        break
    hash.update(more)
thread.join()
print(hash.hexdigest())
'''


@pytest.mark.parametrize('version', [4, 6])
def test_tcp_with_a_sender_that_leaves_work_to_its_nic(setting, version):
    """16 MiB each way between two kernels; the far one hands over super-frames without checksums."""
    vnet = setting.start()
    guest, peer, bits = (('10.88.0.50', '10.88.0.9', 24) if version == 4 else ('fd88::50', 'fd88::9', 64))
    if version == 6:
        setting.places.must('client', 'sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/%s/disable_ipv6' % support.FAR)
    setting.places.must('client', 'ip', 'addr', 'add', '%s/%d' % (peer, bits), 'dev', support.FAR,
                        *(['nodad'] if version == 6 else []))
    tap = TapGuest(setting.places, setting.end, '%s/%d' % (guest, bits))
    setting.stack.callback(tap.close)
    server = setting.places.popen('client', '/usr/bin/python3', '-c', SERVER, str(version), stdout=subprocess.PIPE)
    setting.stack.callback(server.wait)
    setting.stack.callback(server.kill)
    assert server.stdout.readline() == b'ready\n'
    result = setting.places.exec('hostB', '/usr/bin/python3', '-c', CLIENT, peer)
    assert result.returncode == 0, (result.stderr, vnet.status())
    assert result.stdout.strip() == server.stdout.read().decode().strip()
    server.stdout.close()
    errors = setting.places.must('hostB', 'awk', '/^Tcp:/ {n++; if (n == 2) print $NF - 0}', '/proc/net/snmp')
    assert errors.strip() == '0', 'checksums were wrong'
    drops = vnet.status()['drops']
    assert not any(drops[name] for name in ('giant', 'offload', 'truncated', 'runt', 'inject')), drops
