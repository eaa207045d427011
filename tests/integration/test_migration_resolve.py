# SPDX-License-Identifier: LGPL-2.1-or-later
"""quasarctl migration: open moves, and an administrator's word for a host that is dead."""
import json
import os

import lab as lab_library


def quasarctl(world, host, *command):
    return world.lab.exec(host, os.path.join(world.lab.build, 'run'), 'quasarctl', *command, timeout=120)


def open_moves(world, host):
    listed = quasarctl(world, host, 'migration', 'list', '--json')
    assert listed.returncode == 0, listed.stderr
    answer = json.loads(listed.stdout)
    assert answer['damaged'] == []
    return answer['migrations']


def resolve(world, host, *options):
    return quasarctl(world, host, 'migration', 'resolve', *options, 'web')


def refused(result, words):
    assert result.returncode == 1 and words in result.stderr, (result.stdout, result.stderr)


def kill_host(world, host):
    """A host that has lost its power, as far as it can be had here: all that ran there is gone."""
    # Its client too, which would cancel the move at the other host.
    for program in ('virsh', 'virtquasard', world.EMULATOR, 'quasar-vnet'):
        world.kill(host, program)
    world.let_go(host)


def stand_at(world, stage):
    """A move that is held at the source; returns its client."""
    world.hold(world.source, stage)
    client = world.migrate()
    world.wait_held(world.source, stage, client)
    return client


def assert_here_only(world, host, dead):
    """The dead host has come back, and both know whose the guest is."""
    world.wait_settled(60)
    assert world.state(host).startswith('running')
    assert world.state(dead) == 'shut off (migrated)'
    assert open_moves(world, host) == open_moves(world, dead) == []
    world.source = host


def test_source_dies_for_ever_after_released(world):
    source, destination = world.source, world.destination
    stand_at(world, 'src-released')
    record, = open_moves(world, destination)
    assert (record['domain'], record['role'], record['state'], record['peer'], record['promoted-by']) == \
        ('web', 'destination', 'prepared', source, None)
    assert record['since'] > 0 and record['epoch'] > 0
    assert [(one['role'], one['state'], one['peer']) for one in open_moves(world, source)] == \
        [('source', 'released', destination)]
    # A host that shows that it lives is not given up, whatever is said.
    refused(resolve(world, destination, '--peer-is-dead', '--yes'), 'the peer is not dead, it answers at')
    kill_host(world, source)
    refused(resolve(world, destination), 'fence it and say --peer-is-dead')
    refused(resolve(world, destination, '--peer-is-dead'), 'no terminal to ask on')
    refused(quasarctl(world, destination, '--readonly', 'migration', 'resolve', 'web'), 'read only access')
    assert world.state(destination) == 'paused (migrating)'
    done = resolve(world, destination, '--peer-is-dead', '--yes')
    assert done.returncode == 0 and "web: the guest is this host's" in done.stdout, done.stderr
    assert world.state(destination).startswith('running')
    record, = open_moves(world, destination)
    assert (record['state'], record['promoted-by']) == ('running', 'root (uid 0)')
    assert 'says that %s is dead and fenced' % source in world.new_log(destination)
    refused(resolve(world, destination, '--peer-is-dead', '--yes'), 'the record stays')

    world.start_daemon(source)
    assert_here_only(world, destination, source)
    refused(resolve(world, destination), 'no migration of')


def test_source_dies_before_released_and_comes_back(world):
    """Its record says that the guest is its own; it must ask before it believes that."""
    source, destination = world.source, world.destination
    stand_at(world, 'src-ready')
    kill_host(world, source)
    done = resolve(world, destination, '--peer-is-dead', '--yes')
    assert done.returncode == 0, done.stderr
    assert world.state(destination).startswith('running')
    world.lab.link(destination, 'down')
    world.start_daemon(source)
    started = world.lab.virsh(source, 'start', 'web')
    assert started.returncode != 0 and 'is not settled (source: intent)' in started.stderr, started.stderr
    world.lab.link(destination, 'up')
    assert_here_only(world, destination, source)
    world.wait_booted()  # now its memory and disk are looked at
    world.assert_sound()
    assert 'it was promoted there while this host was down' in world.new_log(source)
    started = world.lab.virsh(source, 'start', 'web')
    assert started.returncode != 0 and destination in started.stderr, started.stderr


def test_both_lose_the_guest_and_the_destination_for_ever(world):
    """What was not released is the source's, which starts it from its disk: with the host, had it not to ask first."""
    source, destination = world.source, world.destination
    world.spoilt = True
    assert world.lab.virsh(source, 'autostart', 'web').returncode == 0
    stand_at(world, 'src-ready')
    kill_host(world, destination)
    kill_host(world, source)
    os.unlink(world.lab.path(source, 'run/libvirt/quasar/autostarted'))  # as a boot leaves it
    world.start_daemon(source)
    lab_library.wait_for('the try', lambda: 'starts when its migration is settled' in world.new_log(source))
    started = world.lab.virsh(source, 'start', 'web')
    assert started.returncode != 0 and 'quasarctl migration list' in started.stderr, started.stderr
    refused(resolve(world, source), 'the destination has not confirmed it')
    done = resolve(world, source, '--peer-is-dead', '--yes')
    assert done.returncode == 0 and "the guest is this host's" in done.stdout, done.stderr
    lab_library.wait_for('the guest', lambda: world.state(source) == 'running (booted)', 30)
    # The other comes back, and has nothing of it but a record that the next move takes away.
    world.start_daemon(destination)
    assert [one['state'] for one in open_moves(world, destination)] == ['refused']
    assert not world.lab.processes(destination, world.EMULATOR)


def test_released_is_never_taken_back(world):
    """Not even when both have lost the guest, as long as the destination has not said so."""
    source, destination = world.source, world.destination
    world.spoilt = True
    stand_at(world, 'src-released')
    refused(resolve(world, source, '--peer-is-dead', '--yes'), 'virsh domjobabort')
    for host in (source, destination):
        kill_host(world, host)
    world.start_daemon(source)
    refused(resolve(world, source, '--peer-is-dead', '--yes'), 'only the destination can go on')
    assert [one['state'] for one in open_moves(world, source)] == ['released']
    started = world.lab.virsh(source, 'start', 'web')
    assert started.returncode != 0 and 'is not settled (source: released)' in started.stderr, started.stderr
    world.start_daemon(destination)
    world.wait_settled(60)
    world.start(source)
