# SPDX-License-Identifier: LGPL-2.1-or-later
"""quasar-vnet with real guests: traffic, reconnection, and a move between two emulators."""
import contextlib
import os
import shutil

import pytest
import vnet_support as support
from vnet_guest import GUEST, PEER, QEMU, Guest, clean, file_is_whole, python, serves
import lab as lab_library


def able(places):
    if not shutil.which(QEMU) or not os.path.exists(os.path.join(places.build or '', 'vnet', 'quasar-vnet')):
        pytest.skip('no emulator, or quasar-vnet is not built')


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=['offload', 'portable'])
def guest(places, stack, request):
    able(places)
    support.cable(places)
    stack.callback(support.uncable, places)
    places.must('client', 'ip', 'addr', 'add', PEER + '/24', 'dev', support.FAR)
    guest = Guest(places, stack, 'hostA', request.param)
    guest.vnet.call('activate')
    lab_library.wait_for('the boot of the guest', lambda: serves(places), 60)
    return guest


def test_a_guest_serves_and_takes_whole_files(guest):
    assert file_is_whole(guest.places)
    upload = ('import sys, socket, hashlib\n'
              'data = bytes(range(256)) * 32768\n'
              'peer = socket.create_connection((sys.argv[1], 5001), 20)\n'
              'peer.sendall(data)\n'
              'peer.close()\n'
              'print(hashlib.sha256(data).hexdigest())\n')
    guest.shell('nc -l -p 5001 </dev/null >/tmp/upload & sleep 1')
    expected = python(guest.places, upload, GUEST)
    assert guest.shell('wait; sha256sum </tmp/upload').split()[0] == expected
    status = guest.vnet.status()
    assert status['port']['ready'] and clean(guest.vnet), status
    # What was negotiated is what was asked for: bits 0, 1, 7, 8, 11 and 12.
    assert (int(status['port']['features'], 16) & 0x1983 == 0x1983) == (guest.kind == 'offload')
    # The sender leaves its segments to its NIC; an offload guest gets them as they are.
    frames, size = status['to_guest']['frames'], status['to_guest']['bytes']
    assert (size / frames > 1514) == (guest.kind == 'offload'), status


def test_a_lost_vnet_is_replaced(guest):
    assert guest.places.kill('hostA', 'quasar-vnet') == 1
    guest.vnet.wait()
    guest.start_vnet()
    guest.vnet.call('activate')
    lab_library.wait_for('the reconnection', lambda: guest.vnet.status()['port']['ready'])
    assert file_is_whole(guest.places)
    assert clean(guest.vnet)


def test_a_guest_that_resets_finds_its_nic(guest):
    guest.qmp.do('system_reset')
    lab_library.wait_for('the stop of the rings', lambda: not guest.vnet.status()['port']['ready'])
    lab_library.wait_for('the boot of the guest', lambda: serves(guest.places), 60)
    assert file_is_whole(guest.places)
    assert clean(guest.vnet)


def move_guest(source, target):
    """What virtquasard does at the switch, by hand over QMP and the control sockets."""
    uri = 'unix:%s/migrate' % target.outside
    for end in (source, target):
        end.qmp.do('migrate-set-capabilities', capabilities=[
            {'capability': name, 'state': True} for name in ('return-path', 'pause-before-switchover', 'events')])
    target.qmp.do('migrate-incoming', uri=uri)
    source.qmp.do('migrate-set-parameters', **{'max-bandwidth': 1 << 30, 'announce-rounds': 0})
    source.vnet.call('hold')
    source.qmp.do('migrate', uri=uri)
    source.qmp.await_migration('pre-switchover')
    source.qmp.do('migrate-continue', state='pre-switchover')
    for end in (target, source):
        end.qmp.await_migration('completed')
    support.tunnel(source.vnet, target.vnet)
    target.vnet.call('activate', announce=True, addresses=source.vnet.status()['addresses'])
    target.qmp.do('cont')


@pytest.fixture(params=['offload', 'portable'])
def pair(places, stack, request):
    """A guest on hostA's place on the segment, and an emulator on hostB that waits for it."""
    able(places)
    address = lab_library.GUEST_ADDRESS
    source = Guest(places, stack, 'hostA', request.param, 'eth0', address)
    source.vnet.call('activate', announce=True)
    lab_library.wait_for('the boot of the guest', lambda: serves(places, address), 60)
    return source, Guest(places, stack, 'hostB', request.param, 'eth0', address, incoming=True)


UPLOAD = """
import sys, socket, hashlib, time
hash = hashlib.sha256()
peer = socket.create_connection((sys.argv[1], 5001), 20)
for i in range(150):
    data = i.to_bytes(2, 'big') * 16384
    hash.update(data)
    peer.sendall(data)
    time.sleep(0.02)
peer.close()
print(hash.hexdigest())
"""


def test_a_guest_moves_with_its_connections(pair, stack):
    """The dirty log must tell of every page that vnet wrote: an upload runs all the time, kept and hashed by the guest."""
    source, target = pair
    address = lab_library.GUEST_ADDRESS
    source.shell('nc -l -p 5001 </dev/null >/tmp/upload & sleep 1')
    client = source.places.popen('client', '/usr/bin/python3', '-S', '-c', UPLOAD, address, stdout=-1)
    stack.callback(client.wait)
    stack.callback(client.kill)
    lab_library.wait_for('the upload', lambda: source.vnet.status()['to_guest']['bytes'] > 200000)
    move_guest(source, target)
    expected = client.stdout.read().decode().strip()
    client.stdout.close()
    assert target.shell('wait; sha256sum </tmp/upload').split()[0] == expected
    assert file_is_whole(source.places, address)
    assert clean(target.vnet)


def test_a_move_loses_no_frame(pair, stack, tmp_path):
    """A ping each millisecond through the move: each is answered, and no frame was dropped anywhere."""
    source, target = pair
    pinger = str(tmp_path / 'pinger')
    lab_library.run('gcc', '-O2', '-D_GNU_SOURCE', '-o', pinger, os.path.join(lab_library.HERE, 'pinger.c'))
    client = source.places.popen('client', pinger, lab_library.GUEST_ADDRESS, stdout=-1)
    stack.callback(client.wait)
    stack.callback(client.kill)
    lab_library.wait_for('pings', lambda: source.vnet.status()['to_guest']['frames'] > 200)
    move_guest(source, target)
    lab_library.wait_for('the end of the switch', lambda: target.vnet.status()['mode'] == 'active')
    lab_library.wait_for('more pings', lambda: target.vnet.status()['to_guest']['frames'] > 200)
    assert source.places.kill('client', 'pinger', 15) == 1
    words = client.stdout.read().decode().split()
    client.stdout.close()
    for end in (source, target):
        status = end.vnet.status()
        assert status['capture']['dropped'] == status['drops']['hold'] == status['drops']['queue'] == 0, status
    assert words[:4:2] == ['sent', 'lost'] and int(words[1]) > 400
    assert int(words[3]) == 0, (words, source.vnet.status(), target.vnet.status())
