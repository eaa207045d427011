# SPDX-License-Identifier: LGPL-2.1-or-later
"""quasar-vnet by itself: a cable between two places, raw frames on it, and a stand-in for QEMU's end."""
import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import threading

import lab as lab_library

MAC = bytes.fromhex('525400880050')
PEER = bytes.fromhex('525400880009')  # the MAC of the cable's other end
OTHER = bytes.fromhex('525400880077')
BROADCAST = b'\xff' * 6
KIND = 0x88b5  # for local experiments
NIC, FAR = 'vnet0', 'vnet1'
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def network_of(places, place):
    """Sockets made inside are in a place's network."""
    with open('/proc/self/ns/net') as ours, open('/proc/%d/ns/net' % places.holders[place]['pid']) as theirs:
        for space in (theirs, ours):
            if _libc.setns(space.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), 'setns')
            if space is theirs:
                try:
                    yield
                except BaseException:
                    _libc.setns(ours.fileno(), CLONE_NEWNET)
                    raise


def cable(places, near='hostA', far='client', offload=True):
    """A cable of two NICs, NIC in `near` and FAR in `far`."""
    uncable(places, near)
    lab_library.run('nsenter', '-t', str(places.holders[near]['pid']), '-n', 'ip', 'link', 'add', NIC, 'type', 'veth',
                    'peer', 'name', FAR, 'address', PEER.hex(':'), 'netns', str(places.holders[far]['pid']))
    if not offload:
        for place, nic in ((near, NIC), (far, FAR)):
            places.must(place, 'ethtool', '-K', nic, 'tx', 'off', 'gro', 'off')
    # Frames of the hosts' own stacks would only be in the way.
    places.must(near, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/%s/disable_ipv6' % NIC)
    places.must(far, 'sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/%s/disable_ipv6' % FAR)
    places.must(near, 'ip', 'link', 'set', NIC, 'up')
    places.must(far, 'ip', 'link', 'set', FAR, 'up')


def uncable(places, near='hostA'):
    places.exec(near, 'ip', 'link', 'del', NIC)


def frame(destination, source, text, tag=None, kind=KIND):
    header = destination + source
    if tag is not None:
        header += struct.pack('>HH', 0x8100, tag)
    return (header + struct.pack('>H', kind) + text).ljust(60, b'\0')


def text_of(received):
    """What frame() was given, whatever else the frame has."""
    at = 18 if received[12:14] == b'\x81\x00' else 14
    return received[at:].rstrip(b'\0')


class Wire:
    """The far end of the cable: raw frames; VLAN tags are put back where the kernel took them off."""
    SOL_PACKET, AUXDATA, TAGGED = 263, 8, 1 << 4

    def __init__(self, places, place='client', nic=FAR):
        with network_of(places, place):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.bind((nic, 3))
        self.socket.setsockopt(self.SOL_PACKET, self.AUXDATA, 1)

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.send(data)

    def receive(self, seconds=5, kinds=(KIND,)):
        """The next frame of these kinds that did not come from this end; None when none comes."""
        while select.select([self.socket], [], [], seconds)[0]:
            data, control, _, address = self.socket.recvmsg(70000, 1024)
            if address[2] == socket.PACKET_OUTGOING:
                continue
            for _, kind, payload in control:
                status, _, _, _, _, tag, protocol = struct.unpack('=IIIHHHH', payload[:20])
                if kind == self.AUXDATA and status & self.TAGGED:
                    data = data[:12] + struct.pack('>HH', protocol or 0x8100, tag) + data[12:]
            at = 16 if data[12:14] == b'\x81\x00' else 12
            if struct.unpack('>H', data[at:at + 2])[0] in kinds:
                return data
        return None


class StreamEnd:
    """QEMU's `-netdev stream,server=on`."""

    def __init__(self, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.listener.listen(1)
        self.socket = None
        self.buffer = b''

    def accept(self):
        self.listener.settimeout(10)
        self.socket, _ = self.listener.accept()
        self.buffer = b''

    def close(self):
        for end in filter(None, (self.socket, self.listener)):
            end.close()

    def send(self, data):
        self.socket.sendall(struct.pack('>I', len(data)) + data)

    def receive(self, seconds=5):
        while True:
            if len(self.buffer) >= 4:
                length = struct.unpack('>I', self.buffer[:4])[0]
                if len(self.buffer) >= 4 + length:
                    data, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
                    return data
            if not select.select([self.socket], [], [], seconds)[0]:
                return None
            more = self.socket.recv(1 << 20)
            if not more:
                return None
            self.buffer += more


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)

    def close(self):
        self.socket.close()

    def _exactly(self, n):
        data = b''
        while len(data) < n:
            more = self.socket.recv(n - len(data))
            if not more:
                raise EOFError('quasar-vnet closed the control socket')
            data += more
        return data

    def call(self, cmd, fd=None, **arguments):
        text = json.dumps(dict(arguments, cmd=cmd)).encode()
        message = struct.pack('>I', len(text)) + text
        if fd is None:
            self.socket.sendall(message)
        else:
            assert socket.send_fds(self.socket, [message], [fd]) == len(message)
        return json.loads(self._exactly(struct.unpack('>I', self._exactly(4))[0]))


class Vnet:
    """A running quasar-vnet in a place. `options` are further arguments, `wrapper` is the command that starts it."""

    def __init__(self, places, path, *options, place='hostA', nic=NIC, mac=MAC, user='nobody', stream=True, wrapper=()):
        """`path`: the place's directory, as seen inside, for the sockets."""
        program = os.path.join(places.build or '', 'vnet', 'quasar-vnet')
        self.control_path = places.path(place, path + '/ctl')
        arguments = [*wrapper, program, '--nic', nic, '--mac', mac.hex(':'), '--control', path + '/ctl', '--name', 'test',
                     '--ready-fd', '1', '--user', user]
        if stream:
            arguments += ['--stream', path + '/stream']
        self.log = open(places.path(place, path + '/log'), 'w+')
        self.process = places.popen(place, *arguments, *options, stdout=subprocess.PIPE, stderr=self.log)
        # One write; its end does not show, since nsenter has the pipe too.
        self.word = os.read(self.process.stdout.fileno(), 1000).decode()
        self.control = Control(self.control_path) if self.word == 'ok' else None

    def call(self, cmd, fd=None, **arguments):
        return self.control.call(cmd, fd, **arguments)

    def status(self):
        return self.call('status')

    def wait(self, seconds=20):
        """Its exit code."""
        return self.process.wait(seconds)

    def log_text(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        if self.process.poll() is None:
            with contextlib.suppress(OSError, EOFError):
                Control(self.control_path).call('quit')
        self.process.wait(20)
        if self.control:
            self.control.close()
        self.process.stdout.close()
        self.log.close()


def has_real_time(places):
    """Whether quasar-vnet can have a real-time priority."""
    return places.exec('hostA', 'chrt', '-r', '1', 'true').returncode == 0


def pair(source, target):
    """Gives two vnets the ends of one socket, as their daemons would; they know then where they are to each other."""
    ends = socket.socketpair()
    key = os.urandom(32).hex()
    assert target.call('receive', ends[1].fileno(), key=key, server=True).get('ok')
    assert source.call('pair', ends[0].fileno(), key=key).get('ok')
    for end in ends:
        end.close()
    lab_library.wait_for('an answer to the probes', lambda: target.status()['place'] != 'unknown')


def tunnel(source, target):
    """The same, and the source hands its guest over."""
    pair(source, target)
    assert source.call('hand-over').get('ok')


def teach_switch(places, mac, host, *options):
    """Tells the lab's switch at whose port a MAC is: until it learns better (dynamic), or whatever it hears (static,
    sticky)."""
    places.must(places.topology.switch(host), 'bridge', 'fdb', 'replace', mac.hex(':'), 'dev', 'p-' + host, 'master',
                *options)


def forget(places, mac):
    for host in places.topology.hosts:
        places.exec(places.topology.switch(host), 'bridge', 'fdb', 'del', mac.hex(':'), 'dev', 'p-' + host, 'master')


class TapGuest:
    """A real network stack as the guest: a tap in a place whose frames go through a StreamEnd."""
    TUNSETIFF, TAP, NO_PI = 0x400454ca, 2, 0x1000

    def __init__(self, places, end, address, place='hostB', nic='guest0'):
        self.end = end
        with network_of(places, place):
            self.tap = os.open('/dev/net/tun', os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(self.tap, self.TUNSETIFF, struct.pack('16sH22x', nic.encode(), self.TAP | self.NO_PI))
        places.must(place, 'ip', 'link', 'set', nic, 'address', MAC.hex(':'), 'up')
        places.must(place, 'ip', 'addr', 'add', address, 'dev', nic, *(['nodad'] if ':' in address else []))
        self.stop_read, self.stop_write = os.pipe()
        self.threads = [threading.Thread(target=target, daemon=True) for target in (self._out, self._in)]
        for thread in self.threads:
            thread.start()

    def _out(self):
        while self.stop_read not in select.select([self.tap, self.stop_read], [], [])[0]:
            with contextlib.suppress(OSError):
                self.end.send(os.read(self.tap, 70000))

    def _in(self):
        while not select.select([self.stop_read], [], [], 0)[0]:
            data = self.end.receive(0.2)
            if data:
                with contextlib.suppress(OSError):
                    os.write(self.tap, data)

    def close(self):
        os.write(self.stop_write, b'x')
        for thread in self.threads:
            thread.join()
        for fd in (self.tap, self.stop_read, self.stop_write):
            os.close(fd)
