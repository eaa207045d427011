# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each fault at each stage of a move: the guest ends in exactly one place, the one that the records say.

Theory of operation

A crash point (base/fault.h) holds the move at a stage; the fault is inflicted while it stands there, then the
stage is let go, what failed is mended (daemons started, link up), and the hosts settle the rest. One guest serves
all cells, each of which moves it from where the last one left it, so each failed move is also followed by another.
"""
import os
import signal

import lab as lab_library
import pytest

# The deaths of the source's emulator come first and together: a guest that is to be killed need not have booted.
FAULTS = ('source-emulator', 'source-daemon', 'destination-daemon', 'destination-emulator', 'client', 'link')
# Stage -> (the half that is held, its crash point).
STAGES = {
    'prepared': ('source', 'src-prepared'),
    'mid-ram': ('source', 'src-ram'),
    'ready': ('source', 'src-ready'),
    'released': ('source', 'src-released'),
    'owned': ('destination', 'dst-owned'),
}
SETTLE_S = 60


def allowed(fault, stage):
    """Where the guest may end: 'source', 'destination', or 'crashed' (shut off at the source, which owns it)."""
    if fault == 'client':
        return ['destination']
    if fault == 'source-emulator':
        # Once the destination holds all of the guest, it does not need the source's emulator any more.
        return ['crashed'] if stage in ('prepared', 'mid-ram') else ['destination']
    if fault == 'destination-emulator':
        return ['source']
    # The client that hears no answer from the source cancels at the destination, if it reaches it before COMMIT;
    # and a source that has READY knows nothing of a cut link, nor at once of a dead daemon, and goes on.
    if (fault, stage) in (('source-daemon', 'released'), ('link', 'released'), ('link', 'ready'),
                          ('destination-daemon', 'ready')):
        return ['source', 'destination']
    return ['destination'] if stage in ('released', 'owned') else ['source']


def inflict(world, fault):
    role, _, what = fault.partition('-')
    if fault == 'client':
        world.lab.kill(world.source, 'virsh')
    elif fault == 'link':
        world.lab.link(world.destination, 'down')
    else:
        world.kill(getattr(world, role), {'daemon': 'virtquasard', 'emulator': world.EMULATOR}[what])


def mend(world):
    world.lab.link(world.destination, 'up')
    for host in lab_library.HOSTS:
        if not world.lab.processes(host, 'virtquasard'):
            world.start_daemon(host)


def run_cell(world, fault, stage, *how):
    half, point = STAGES[stage]
    outcomes = allowed(fault, stage)
    if 'crashed' not in outcomes:
        world.wait_booted()
    held = getattr(world, half)
    # Memory trickles, so that there is a middle to it.
    slow = ('--bandwidth', '16') if stage == 'mid-ram' else ()
    world.hold(held, point)
    client = world.migrate(*how, *slow)
    try:
        world.wait_held(held, point, client)
        inflict(world, fault)
    finally:
        world.let_go(held)
    try:
        if fault != 'client':
            world.hear_end(client, SETTLE_S)
    finally:
        mend(world)
    client.wait(SETTLE_S)
    world.wait_settled(SETTLE_S)
    if 'crashed' in outcomes:
        world.assert_crashed(world.source)
        world.start(world.source)
    else:
        runs = [role for role in ('source', 'destination') if world.state(getattr(world, role)).startswith('running')]
        assert len(runs) == 1 and runs[0] in outcomes
        world.assert_runs(getattr(world, runs[0]))
    return client


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('fault', FAULTS)
def test_fault(world, fault, stage):
    run_cell(world, fault, stage)


@pytest.mark.parametrize('fault, stage', [
    ('destination-emulator', 'prepared'),
    ('destination-daemon', 'mid-ram'),
    ('client', 'ready'),
    ('link', 'released'),
    ('source-daemon', 'owned'),
])
def test_fault_p2p(world, fault, stage):
    run_cell(world, fault, stage, '--p2p')


def test_undecided_is_said(world):
    """While the answer is missing the guest stands still at the source, and both hosts say so."""
    world.wait_booted()
    world.hold(world.source, 'src-released')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-released', client)
        world.lab.link(world.destination, 'down')
    finally:
        world.let_go(world.source)
    try:
        world.hear_end(client, SETTLE_S)
        assert 'undecided' in client.errors and world.destination in client.errors
        assert world.state(world.source) == 'paused (migrating)'
        assert 'undecided' in world.lab.virsh(world.source, 'dominfo', 'web').stdout
        for command in ('resume', 'start', 'reset'):
            refused = world.lab.virsh(world.source, command, 'web')
            assert refused.returncode != 0
        assert 'not settled' in world.lab.virsh(world.source, 'resume', 'web').stderr
        again = world.lab.virsh(world.source, 'migrate', '--live', '--p2p', 'web',
                                'quasar+tls://%s/system' % world.destination)
        assert again.returncode != 0 and 'is not settled' in again.stderr + again.stdout
    finally:
        mend(world)
    world.wait_settled(SETTLE_S)
    world.assert_runs(world.destination)


@pytest.mark.parametrize('stage', ['src-ready', 'src-released', 'dst-owned'])
def test_destroy_is_a_vote(world, stage):
    """Destroying the destination's half brings the guest back to the source."""
    world.wait_booted()
    held = world.source if stage.startswith('src') else world.destination
    world.hold(held, stage)
    client = world.migrate()
    try:
        world.wait_held(held, stage, client)
        destroyer = world.lab.popen(world.destination, 'virsh', '-c', 'quasar:///system', 'destroy', 'web')
        if stage != 'dst-owned':
            destroyer.wait(30)
    finally:
        world.let_go(held)
    assert destroyer.wait(30) == 0
    errors = world.hear_end(client, SETTLE_S)
    world.wait_settled(SETTLE_S)
    if stage == 'dst-owned':
        # The vote came too late to be one: it ends a guest that has arrived.
        assert world.state(world.destination) == 'shut off (destroyed)'
        world.start(world.destination)
    else:
        assert client.returncode != 0 and 'destroyed at the destination' in errors
        world.assert_runs(world.source)


def test_frozen_destination(world):
    """A destination emulator that does not answer: the source takes the guest back within its bound."""
    world.wait_booted()
    world.hold(world.source, 'src-stopped')
    client = world.migrate()
    frozen = []
    try:
        world.wait_held(world.source, 'src-stopped', client)
        frozen = world.lab.processes(world.destination, world.EMULATOR)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        world.let_go(world.source)
        world.hear_end(client, SETTLE_S)
        assert client.returncode != 0
        assert world.state(world.source) == 'running (migration canceled)'
    finally:
        world.let_go(world.source)
        for pid in frozen:
            if os.path.exists('/proc/%d' % pid):
                os.kill(pid, signal.SIGCONT)
    world.wait_settled(SETTLE_S)
    world.assert_runs(world.source)


def test_client_dies_before_the_move(world):
    """Nothing follows a Begin whose client has gone."""
    world.wait_booted()
    world.hold(world.source, 'src-intent')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-intent', client)
        assert world.records()
        world.lab.kill(world.source, 'virsh')
    finally:
        world.let_go(world.source)
    client.wait(SETTLE_S)
    world.wait_settled(SETTLE_S)
    world.assert_runs(world.source)


@pytest.mark.parametrize('stage', ['src-prepared', 'src-ram', 'src-stopped', 'src-ready', 'dst-prepared', 'dst-loaded',
                                   'dst-ready'])
def test_stage_fails(world, stage):
    """A stage that fails by itself: the guest runs on at the source."""
    world.wait_booted()
    held = world.source if stage.startswith('src') else world.destination
    with open(world.lab.path(held, 'run/fault'), 'w') as file:
        file.write('%s:fail\n' % stage)
    client = world.migrate()
    errors = world.hear_end(client, SETTLE_S)
    world.let_go(held)
    assert client.returncode != 0
    assert 'runs on here' in errors and stage in errors
    world.wait_settled(SETTLE_S)
    world.assert_runs(world.source)
