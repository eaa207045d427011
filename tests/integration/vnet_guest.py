# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real guests by hand, without a daemon: an emulator in a place of the lab, its NIC quasar-vnet's or, to compare, a tap."""
import contextlib
import json
import os
import shutil
import socket

import vnet_support as support
from vnet_support import MAC, Vnet
import lab as lab_library

GUEST, PEER = '10.88.0.50', '10.88.0.9'
MEMORY_KIB = 128 * 1024 + 8  # not a multiple of 256 KiB: SWITCH.md section 1
QEMU = 'qemu-system-x86_64'


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile('rw')
        json.loads(self.file.readline())
        self.events = []
        self.do('qmp_capabilities')

    def do(self, command, **arguments):
        self.file.write(json.dumps({'execute': command, 'arguments': arguments}))
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if 'event' in answer:
                self.events.append(answer)
                continue
            assert 'error' not in answer, answer
            return answer['return']

    def await_migration(self, status):
        """Waits for the event that says so; query-migrate in a loop would make the pause longer."""
        while not any(event['event'] == 'MIGRATION' and event['data']['status'] == status for event in self.events):
            self.events.append(json.loads(self.file.readline()))


class Guest:
    """An emulator with the lab's guest in a place. Its NIC's `kind`: offload or portable (vhost-user), stream, tap."""
    EMULATOR = QEMU
    # vectors=0: stock QEMU 7.2 under TCG ends with SIGSEGV when the guest enables MSI-X of a vhost-user NIC.
    DEVICE = 'vectors=0'
    VHOST = 'off'  # of a tap
    MAC = MAC

    def __init__(self, places, stack, place, kind, nic=support.NIC, address=GUEST, incoming=False, file_mib=8):
        self.places, self.place, self.nic = places, place, nic
        self.directory = '/run/vnet-guest'
        self.outside = places.path(place, self.directory)
        shutil.rmtree(self.outside, ignore_errors=True)
        os.makedirs(self.outside)
        os.chmod(self.outside, 0o777)
        self.kind, self.stack, self.vnet = kind, stack, None
        if kind in ('offload', 'portable'):
            self.start_vnet()
        elif kind == 'tap':
            self._bridge()
        kernel, initrd = self.boot_files()
        # Only root may open /dev/net/tun.
        arguments = [] if kind == 'tap' else ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups']
        arguments += [
            self.EMULATOR, '-nodefaults', '-no-user-config', '-display', 'none', '-accel', 'tcg', '-machine',
            'pc,memory-backend=pc.ram', '-m', 'size=%dk' % MEMORY_KIB, '-object',
            'memory-backend-memfd,id=pc.ram,share=on,x-use-canonical-path-for-ramblock-id=off,size=%dk' % MEMORY_KIB,
            '-kernel', kernel, '-initrd', initrd, '-append',
            'console=ttyS0 quiet quasar.ip=%s/24 quasar.file=%d' % (address, file_mib),
            '-device', 'virtio-net-pci,netdev=net0,romfile=,%s,mac=%s' % (self.DEVICE, self.MAC.hex(':')),
            '-serial', 'unix:%s/serial,server=on,wait=off' % self.directory,
            '-qmp', 'unix:%s/qmp,server=on,wait=off' % self.directory]
        arguments += {
            'tap': ['-netdev', 'tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=' + self.VHOST],
            'stream': ['-netdev', 'stream,id=net0,server=on,addr.type=unix,addr.path=%s/stream' % self.directory],
        }.get(kind, ['-chardev', 'socket,id=net,path=%s/vhost,reconnect=1' % self.directory,
                     '-netdev', 'vhost-user,id=net0,chardev=net'])
        if incoming:
            arguments += ['-incoming', 'defer', '-S']
        self.log = open(os.path.join(self.outside, 'log'), 'w+')
        self.process = places.popen(place, *arguments, stdout=self.log, stderr=self.log)
        self.qmp = None
        stack.callback(self.stop)
        lab_library.wait_for('the monitor', self._has_monitor)
        self.qmp = Qmp(os.path.join(self.outside, 'qmp'))
        if kind == 'stream':
            self.start_vnet()

    def boot_files(self):
        return self.places.guest_files()

    def _has_monitor(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise lab_library.LabError('the emulator ended: ' + self.log.read())
        return os.path.exists(os.path.join(self.outside, 'qmp'))

    def _bridge(self):
        for command in ('link add br0 type bridge', 'link set %s master br0' % self.nic,
                        'tuntap add dev tap0 mode tap', 'link set tap0 master br0', 'link set tap0 up',
                        'link set br0 up'):
            self.places.must(self.place, 'ip', *command.split())
        self.stack.callback(self.places.exec, self.place, 'ip', 'link', 'del', 'br0')
        self.stack.callback(self.places.exec, self.place, 'ip', 'link', 'del', 'tap0')

    def start_vnet(self):
        options = {'offload': ['--vhost', self.directory + '/vhost', '--offload'],
                   'portable': ['--vhost', self.directory + '/vhost'], 'stream': []}[self.kind]
        self.vnet = Vnet(self.places, self.directory, *options, place=self.place, nic=self.nic, mac=self.MAC,
                         stream=self.kind == 'stream')
        self.stack.callback(self.vnet.stop)
        assert self.vnet.word == 'ok'

    def shell(self, command, seconds=30):
        """What a command prints on the guest's console."""
        console = socket.socket(socket.AF_UNIX)
        console.settimeout(seconds)
        console.connect(os.path.join(self.outside, 'serial'))
        console.sendall(("echo be''gin; %s; echo e''nd\n" % command).encode())
        seen = b''
        while b'end\r\n' not in seen.partition(b'begin\r\n')[2]:
            more = console.recv(4096)
            assert more, seen
            seen += more
        console.close()
        return seen.partition(b'begin\r\n')[2].partition(b'end\r\n')[0].decode().replace('\r', '').strip()

    def stop(self):
        with contextlib.suppress(OSError, ValueError):
            if self.qmp:
                self.qmp.do('quit')
        self.process.kill()
        self.process.wait()
        self.log.close()


def ping(places, address=GUEST):
    return places.exec('client', 'busybox', 'ping', '-c', '1', '-W', '2', address).returncode == 0


def python(places, script, *arguments):
    """What a script prints that runs at the client."""
    return places.must('client', '/usr/bin/python3', '-S', '-c', script, *arguments, timeout=120).strip()


FETCH = ('import sys, hashlib, urllib.request as r; '
         'print(hashlib.sha256(r.urlopen(sys.argv[1], timeout=60).read()).hexdigest())')
TEXT = 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())'


def file_is_whole(places, address=GUEST):
    return (python(places, FETCH, 'http://%s/file' % address)
            == python(places, TEXT, 'http://%s/file.sha256' % address))


def serves(places, address=GUEST):
    return places.exec('client', '/usr/bin/python3', '-S', '-c', 'import socket; socket.create_connection(("%s", 80), 2)'
                       % address).returncode == 0


def clean(vnet):
    """Whether vnet has nothing to complain of."""
    status = vnet.status()
    return (status['port']['malformed'] == status['port']['broken_rings'] == status['port']['cut_off'] == 0
            and not any(count for name, count in status['drops'].items() if name not in ('standby', 'unready')))

