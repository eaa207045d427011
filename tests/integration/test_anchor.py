# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest away from its segment: three subnets, a router, and the anchor that its home host keeps."""
import contextlib
import os
import shutil
import socket

import lab as lab_library
import pytest
import world as world_library
from test_network_view import Monitor, nics
from test_virsh_commands import figures
from vnet_support import Control, network_of

GUEST_ECHO = 7
ANCHORS = world_library.STATE + '/anchors'
SOCKETS = 'run/libvirt/quasar/anchors'


class Session:
    """A TCP session of the client's with the guest's echo service, as of somebody who types."""

    def __init__(self, lab):
        with network_of(lab, 'client'):
            self.socket = socket.socket()
        self.socket.settimeout(20)
        self.socket.connect((lab.topology.address('guest'), GUEST_ECHO))
        self.said = 0

    def type(self, lines=20):
        for _ in range(lines):
            self.said += 1
            line = b'line %d\n' % self.said
            self.socket.sendall(line)
            heard = b''
            while not heard.endswith(b'\n'):
                part = self.socket.recv(100)
                assert part, 'the session has ended'
                heard += part
            assert heard == line

    def close(self):
        self.socket.close()


@contextlib.contextmanager
def session(lab):
    opened = Session(lab)
    try:
        yield opened
    finally:
        opened.close()


def records(world):
    return [(host, name.rpartition('.')[2]) for host in world.lab.hosts for name in world.files(host, ANCHORS)]


def wait_records(world, wanted, seconds=20):
    with contextlib.suppress(lab_library.LabError):
        lab_library.wait_for('the records', lambda: records(world) == wanted, seconds)
    assert records(world) == wanted


def status(lab, host, away):
    """Of the quasar-vnet of a guest that is away, or of an anchor."""
    directory = lab.path(host, SOCKETS)
    if away:
        runs = lab.path(host, 'run/libvirt/quasar')
        directory = [os.path.join(runs, name) for name in os.listdir(runs) if name.startswith('domain-')][0]
    name = 'net0.ctl' if away else os.listdir(directory)[0]
    # The whole path may be too long for a socket's address.
    handle = os.open(directory, os.O_PATH)
    try:
        control = Control('/proc/self/fd/%d/%s' % (handle, name))
        try:
            return control.call('status')
        finally:
            control.close()
    finally:
        os.close(handle)


def is_linked(lab, host, away):
    with contextlib.suppress(OSError, IndexError, EOFError):
        found = status(lab, host, away)
        return found['mode'] == ('away' if away else 'anchor') and found['link']['up']
    return False


def wait_linked(world, home='hostA'):
    """The guest and its home have a tunnel to each other, and nobody stands between them."""
    lab = world.lab
    lab_library.wait_for('the link', lambda: is_linked(lab, home, False) and is_linked(lab, world.source, True), 30)
    for host in world.others(world.source):
        count = 1 if host == home else 0
        lab_library.wait_for('the end of spare quasar-vnets on %s' % host,
                             lambda host=host, count=count: len(lab.processes(host, 'quasar-vnet')) == count, 30)


def assert_shown(lab):
    """What administrators see of a guest of A that is on B, on both."""
    (home,), (away,) = nics(lab, host='hostA'), nics(lab, host='hostB')
    assert (home['mode'], away['mode']) == ('anchor', 'away')
    assert (home['peer'], away['peer']) == ('hostB', 'hostA')
    assert home['round-trip-us'] > 0 and away['round-trip-us'] > 0
    stats = figures(lab.virsh('hostB', 'domstats', '--interface', 'web').stdout)
    assert (stats['net.0.quasar.mode'], stats['net.0.quasar.peer']) == ('away', 'hostA')
    assert int(stats['net.0.quasar.round_trip_us']) > 0


@pytest.fixture(scope='module')
def ground(routed_hosts):
    world = world_library.World(routed_hosts)
    world.route = ('hostA', 'hostB', 'hostC')
    yield world
    world.clear()


@pytest.fixture
def world(ground):
    """A guest that runs at home."""
    if not (ground.usable and ground.source == 'hostA' and ground.state('hostA').startswith('running')):
        ground.reset()
        ground.wait_booted()
    ground.usable = False
    yield ground


def test_a_session_stays_open_from_host_to_host_and_home(world):
    with session(world.lab) as user:
        user.type()
        world.move()
        user.type()
        wait_linked(world)
        assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
        world.move()
        user.type()
        wait_linked(world)
        assert records(world) == [('hostA', 'home'), ('hostC', 'away')]
        user.type()
        world.move()
        user.type()
    wait_records(world, [])
    world.assert_runs('hostA')
    world.usable = True


def test_links_outlive_daemons_and_processes(world):
    lab = world.lab
    world.move()
    wait_linked(world)
    with session(lab) as user:
        for host in ('hostA', 'hostB'):
            lab.kill(host, 'virtquasard')
        user.type()
        for host in ('hostA', 'hostB'):
            world.start_daemon(host)
        user.type()
        for host in ('hostA', 'hostB'):
            before = lab.processes(host, 'quasar-vnet')
            lab.kill(host, 'quasar-vnet')
            lab_library.wait_for('another quasar-vnet on %s' % host,
                                 lambda host=host, before=before: lab.processes(host, 'quasar-vnet') not in ([], before))
            wait_linked(world)
            user.type()
    assert_shown(lab)
    # The guest's host has no way to its home for a while.
    monitor, at_home = (Monitor(lab, '--event', 'QUASAR_NETWORK', host=host) for host in ('hostB', 'hostA'))
    try:
        lab.link('hostB', 'down')
        lab_library.wait_for('the loss of the link', lambda: not is_linked(lab, 'hostB', True), 60)
        lab_library.wait_for('word of the loss', lambda: monitor.told('tunnel-down'), 60)
        assert 'home on hostA is down' in monitor.told('tunnel-down')[0]
        lab_library.wait_for('word of the loss at home', lambda: at_home.told('tunnel-down'), 60)
        assert "for domain 'web'" in at_home.told('tunnel-down')[0]
        assert "the link to the guest's host is down" in at_home.told('tunnel-down')[0]
        lab.link('hostB', 'up')
        wait_linked(world)
        lab_library.wait_for('word of the link', lambda: monitor.told('tunnel-up') and at_home.told('tunnel-up'), 60)
        lab_library.wait_for('the end of all trouble', lambda: not nics(lab, host='hostB')[0]['problem'], 30)
    finally:
        monitor.stop()
        at_home.stop()
    world.move()
    world.move()
    wait_records(world, [])
    world.assert_runs('hostA')
    world.usable = True


def test_an_anchor_comes_back_after_a_reboot(world):
    lab = world.lab
    world.move()
    wait_linked(world)
    for program in ('virtquasard', 'quasar-vnet'):
        lab.kill('hostA', program)
    shutil.rmtree(lab.path('hostA', 'run/libvirt'))
    os.makedirs(lab.path('hostA', 'run/libvirt'))
    world.start_daemon('hostA')
    wait_linked(world)
    with session(lab) as user:
        user.type()


def test_reset_keeps_the_link_and_the_end_dissolves_it(world):
    lab = world.lab
    world.move()
    wait_linked(world)
    assert lab.virsh('hostB', 'reset', 'web').returncode == 0
    world.wait_booted()
    with session(lab) as user:
        user.type()
    assert is_linked(lab, 'hostA', False)
    # Its home cannot be told, whoever ends meanwhile, and hears it when it is there again.
    lab.link('hostA', 'down')
    assert lab.virsh('hostB', 'destroy', 'web').returncode == 0
    lab.kill('hostB', 'virtquasard')
    world.start_daemon('hostB')
    assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
    lab.link('hostA', 'up')
    wait_records(world, [], 40)
    lab_library.wait_for('the end of the anchor', lambda: not lab.processes('hostA', 'quasar-vnet'))


def fail_a_move(world):
    """It is aborted while the guest stands; everything is as it was."""
    lab, source = world.lab, world.source
    before = records(world)
    world.hold(source, 'src-stopped')
    client = world.migrate()
    world.wait_held(source, 'src-stopped', client)
    assert len(records(world)) > len(before)
    assert lab.virsh(source, 'domjobabort', 'web').returncode == 0
    world.let_go(source)
    world.hear_end(client, 30)
    assert client.returncode != 0
    wait_records(world, before)
    world.wait_settled(20)


def test_a_move_that_fails_changes_no_link(world):
    with session(world.lab) as user:
        fail_a_move(world)
        assert records(world) == []
        user.type()
        world.move()
        wait_linked(world)
        fail_a_move(world)
        user.type()
        wait_linked(world)
        assert records(world) == [('hostA', 'home'), ('hostB', 'away')]


@pytest.mark.parametrize('host,point', [('hostA', 'src-released'), ('hostA', 'src-running'), ('hostB', 'dst-owned'),
                                        ('hostB', 'dst-running')])
def test_a_daemon_that_dies_at_the_handoff_leaves_the_link(world, host, point):
    lab = world.lab
    with session(lab) as user:
        world.hold(host, point)
        client = world.migrate()
        world.wait_held(host, point, client)
        world.kill(host, 'virtquasard')
        world.hear_end(client, 60)
        world.let_go(host)
        world.start_daemon(host)
        world.wait_settled(60)
        user.type()
        if world.state('hostA').startswith('running'):
            # Its client gave the move up before the destination had heard of its end.
            assert point == 'src-released'
            wait_records(world, [])
            return
        world.source = 'hostB'
        wait_linked(world)
        assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
        user.type()
        world.route = ('hostA', 'hostB')
        try:
            world.move()
        finally:
            world.route = ('hostA', 'hostB', 'hostC')
        user.type()
    wait_records(world, [])
    world.assert_runs('hostA')
    world.usable = True
