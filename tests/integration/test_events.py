# SPDX-License-Identifier: LGPL-2.1-or-later
"""What clients are told without asking: python3-libvirt's event loop and `virsh event`."""
import contextlib
import json
import os
import socket
import struct
import subprocess
import threading

import lab as lab_library
import pytest

LISTENER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'listener.py')
URI = 'quasar:///system'

# virDomainEventType with the details that are used here.
DEFINED, UNDEFINED, STARTED, SUSPENDED, RESUMED, STOPPED = range(6)


class Listener:
    """The listener's process; its lines are gathered as they come."""

    def __init__(self, places, host):
        self.process = places.popen(host, '/usr/bin/python3', LISTENER, URI, stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, universal_newlines=True)
        self.events = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.wait(lambda event: event['event'] == 'ready')

    def _read(self):
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def wait(self, wanted, seconds=30):
        """The first event that `wanted` accepts."""
        found = []

        def seen():
            found[:] = [event for event in list(self.events) if wanted(event)]
            return found
        lab_library.wait_for('an event', seen, seconds)
        return found[0]

    def lifecycle(self, name='web'):
        return [(event['type'], event['detail']) for event in list(self.events)
                if event['event'] == 'lifecycle' and event['domain'] == name]

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.reader.join(20)


@contextlib.contextmanager
def listening(places, host):
    listener = Listener(places, host)
    try:
        yield listener
    finally:
        listener.close()


def must(places, host, *command, **options):
    result = places.virsh(host, *command, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def paused(hosts):
    """A guest without disks that is defined on hostA and not started; its name is `web`."""
    with open(hosts.path('hostA', 'run/events.xml'), 'w') as file:
        file.write(hosts.domain_xml())
    yield hosts
    hosts.virsh('hostA', 'destroy', 'web')
    hosts.virsh('hostA', 'undefine', 'web')


def test_life_in_order(paused):
    with listening(paused, 'hostA') as listener:
        must(paused, 'hostA', 'define', '/run/events.xml')
        must(paused, 'hostA', 'start', '--paused', 'web')
        must(paused, 'hostA', 'resume', 'web')
        must(paused, 'hostA', 'suspend', 'web')
        must(paused, 'hostA', 'resume', 'web')
        must(paused, 'hostA', 'reset', 'web')
        listener.wait(lambda event: event['event'] == 'reboot' and event['domain'] == 'web')
        must(paused, 'hostA', 'destroy', 'web')
        must(paused, 'hostA', 'undefine', 'web')
        listener.wait(lambda event: event.get('type') == UNDEFINED)
        assert listener.lifecycle() == [
            (DEFINED, 0), (STARTED, 0), (SUSPENDED, 0), (RESUMED, 0), (SUSPENDED, 0), (RESUMED, 0),
            (STOPPED, 1), (UNDEFINED, 0)]


def test_all_ids_can_be_waited_for_and_let_go(hosts):
    listener = Listener(hosts, 'hostA')
    assert listener.events[0]['count'] == 27
    listener.close()
    assert listener.process.returncode == 0
    assert listener.events[-1]['event'] == 'deregistered'


def test_networks(hosts):
    with open(hosts.path('hostA', 'run/lan.xml'), 'w') as file:
        file.write('<network><name>lan</name><forward mode="bridge"><interface dev="eth0"/></forward></network>')
    with listening(hosts, 'hostA') as listener:
        for command in (('net-define', '/run/lan.xml'), ('net-start', 'lan'), ('net-destroy', 'lan'),
                        ('net-undefine', 'lan')):
            must(hosts, 'hostA', *command)
        listener.wait(lambda event: event.get('network') == 'lan' and event['type'] == 1)
        # defined, started, stopped, undefined
        assert [event['type'] for event in listener.events if event.get('network') == 'lan'] == [0, 2, 3, 1]


def test_move_is_told_on_both_hosts(guest):
    with listening(guest, 'hostA') as source, listening(guest, 'hostB') as destination:
        must(guest, 'hostA', 'migrate', '--live', 'web', 'quasar+tls://hostB/system', timeout=120)
        iteration = source.wait(lambda event: event['event'] == 'migration-iteration')
        assert iteration['iteration'] == 1
        done = source.wait(lambda event: event['event'] == 'job-completed')
        assert done['params']['memory_total'] > 0
        assert done['params']['operation'] == 5  # VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
        source.wait(lambda event: event.get('type') == STOPPED)
        assert (SUSPENDED, 1) in source.lifecycle()  # migrated
        assert source.lifecycle()[-1] == (STOPPED, 3)
        destination.wait(lambda event: event.get('type') == RESUMED)
        assert (STARTED, 1) in destination.lifecycle()  # migrated
        assert destination.lifecycle()[-1] == (RESUMED, 1)
        assert not [event for event in destination.events if event.get('type') == STOPPED]


def test_virsh_prints_what_happens(paused):
    must(paused, 'hostA', 'define', '/run/events.xml')
    watcher = paused.popen('hostA', 'stdbuf', '-oL', 'virsh', '-c', URI, 'event', '--all', '--loop', '--timestamp',
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    lines = []

    def read():
        for line in watcher.stdout:
            lines.append(line)
    threading.Thread(target=read, daemon=True).start()

    def started():
        # virsh does not say when it listens, so something is done until it tells of it.
        must(paused, 'hostA', 'start', 'web')
        must(paused, 'hostA', 'destroy', 'web')
        return any("event 'lifecycle' for domain 'web': Stopped Destroyed" in line for line in lines)
    try:
        lab_library.wait_for("virsh's line about the guest", started, 60)
    finally:
        watcher.terminate()
        watcher.wait(20)
    assert any("event 'lifecycle' for domain 'web': Started Booted" in line for line in lines)


REMOTE, CALL, AUTH_LIST, OPEN, REGISTER = 0x20008086, 0, 66, 1, 316


class Wire:
    """The few frames that no stock client would send."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.serial = 0

    def _read(self, length):
        data = b''
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            assert more, 'the connection was closed'
            data += more
        return data

    def call(self, procedure, payload=b''):
        """Status and payload of the reply."""
        frame = struct.pack('>6I', REMOTE, 1, procedure, CALL, self.serial, 0) + payload
        self.socket.sendall(struct.pack('>I', len(frame) + 4) + frame)
        self.serial += 1
        length, = struct.unpack('>I', self._read(4))
        reply = self._read(length - 4)
        return struct.unpack('>6I', reply[:24])[5], reply[24:]


def test_same_event_twice_is_refused(hosts):
    wire = Wire(hosts.path('hostA', 'run/libvirt/virtquasard-sock'))
    assert wire.call(AUTH_LIST)[0] == 0
    assert wire.call(OPEN, struct.pack('>3I', 1, 0, 0))[0] == 0
    lifecycle_of_all, reboot_of_all = struct.pack('>2I', 0, 0), struct.pack('>2I', 1, 0)
    lifecycle_of_one = struct.pack('>2I', 0, 1) + struct.pack('>I4s16si', 3, b'web', b'u' * 16, -1)
    assert wire.call(REGISTER, lifecycle_of_all)[0] == 0
    status, error = wire.call(REGISTER, lifecycle_of_all)
    assert status == 1
    assert struct.unpack('>I', error[:4])[0] == 8
    assert b'already tracked' in error
    assert wire.call(REGISTER, reboot_of_all)[0] == 0
    assert wire.call(REGISTER, lifecycle_of_one)[0] == 0
    status, error = wire.call(REGISTER, struct.pack('>2I', 27, 0))
    assert status == 1
    assert b'unsupported event ID 27' in error
