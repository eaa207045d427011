# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest moves between hosts of different CPU architecture, byte order and page size, by stock `virsh migrate --live`.

QUASAR_HETERO_ROUNDS round trips are made (10), and QUASAR_HETERO_LEG seconds are spent once on each kind of host to
see whether time runs as it should (60).
"""
import os
import time

import lab as lab_library
import pytest
import unlike

ROUNDS = int(os.environ.get('QUASAR_HETERO_ROUNDS', '10'))
LEG_S = int(os.environ.get('QUASAR_HETERO_LEG', '60'))
ARCHITECTURES = ('s390x', 'arm64')
# By how much a guest's second may differ from a real one.
NATIVE, FOREIGN = 0.001, 0.01
FULL = 'var/lib/libvirt/full'


@pytest.fixture(scope='module')
def unlike_hosts(hosts):
    native = lab_library.built_emulator()
    if not native:
        pytest.skip('no bundled emulator; `make emulator` builds it')
    hosts.give_emulator('hostA', native)
    world = unlike.UnlikeWorld(hosts)
    yield world
    world.clear()


@pytest.fixture
def between(unlike_hosts):
    """Makes host B one of an architecture."""
    def prepare(arch, options=''):
        launcher = lab_library.built_emulator(arch)
        if not launcher:
            pytest.skip('no emulator for %s hosts; `tools/check --hetero` builds it, or says why not' % arch)
        unlike_hosts.lab.give_emulator('hostB', '%s %s' % (launcher, options))
        return unlike_hosts
    yield prepare
    unlike_hosts.lab.exec('hostA', 'umount', '-l', '/' + FULL)


@pytest.fixture
def say(capsys):
    def line(text):
        with capsys.disabled():
            print('\n  ' + text, end='', flush=True)
    return line


def assert_runs_as(world, host, arch):
    """The guest is where it should be, in an emulator of the kind that it should be of."""
    world.assert_runs(host)
    pid, = world.lab.processes(host, world.EMULATOR)
    with open('/proc/%d/cmdline' % pid) as file:
        words = file.read().split('\0')
    assert ('-L' in words[:5]) == (arch is not None), words[:5]


def say_move(say, world, source, where):
    say('to %s: pause %d ms, total %d ms' % (where, *world.figures(source)))


def assert_time_is_right(answers, sent):
    """No answer is missing, nothing the guest read was ever earlier than what it had read before, and its kernel goes by
    the TSC from beginning to end."""
    assert {answer.number for answer in answers} == set(range(sent))
    assert not any(answer.backwards for answer in answers)
    assert {answer.source for answer in answers} == {'tsc'}
    for name in answers[0].clocks:
        found = [answer.clocks[name] for answer in sorted(answers, key=lambda answer: answer.number)]
        assert found == sorted(found), name


def assert_rate(say, what, answers, tolerance):
    rates = {name: unlike.rate(answers, name) for name in ('monotonic', 'tsc')}
    say('%s: guest seconds per real second over %.0f s: %s' %
        (what, (answers[-1].when - answers[0].when) / 1e9,
         ', '.join('%s %.5f (within %.5f)' % (name, *found) for name, found in rates.items())))
    for found, doubt in rates.values():
        assert doubt < tolerance and abs(found - 1) <= tolerance + doubt, what


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_round_trips(between, say, arch):
    world = between(arch)
    world.boot()
    clocks = unlike.Clocks(world.lab)
    try:
        legs = [('booted here', NATIVE, 0)]
        time.sleep(LEG_S)
        bounds = [clocks.mark()]
        for number in range(2 * ROUNDS):
            away = number % 2 == 0
            _, source = world.move()
            say_move(say, world, source, arch if away else 'native')
            assert_runs_as(world, 'hostB' if away else 'hostA', arch if away else None)
            begun = clocks.mark()
            if number < 2:
                time.sleep(LEG_S)
                legs.append((arch if away else 'back here', FOREIGN if away else NATIVE, begun))
                bounds.append(clocks.mark())
    finally:
        answers, sent = clocks.end()
    assert_time_is_right(answers, sent)
    for (what, tolerance, begun), end in zip(legs, bounds):
        assert_rate(say, what, answers[begun:end], tolerance)


def small_place(lab, base):
    """An overlay on a file system of A that is soon full; at the same place on B there is room."""
    for host in lab_library.HOSTS:
        os.makedirs(lab.path(host, FULL), exist_ok=True)
    lab.must('hostA', 'mount', '-t', 'tmpfs', '-o', 'size=2m,mode=0755', 'quasar-full', '/' + FULL)
    image = '/%s/web.qcow2' % FULL
    lab.must('hostA', 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', image)
    return image


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_write_that_waits_in_the_device(between, arch):
    """A guest that stands because its disk is full moves to where there is room, and its write completes there."""
    world = between(arch)
    lab = world.lab
    world.boot(lambda base: small_place(lab, base), blocks=512)
    lab_library.wait_for('the full disk', lambda: world.state('hostA') == 'paused (I/O error)', 60)
    world.move()
    assert world.state('hostB') == 'paused (I/O error)'
    resumed = lab.virsh('hostB', 'resume', 'web')
    assert resumed.returncode == 0, resumed.stderr
    written = world.acknowledged()
    # All that was written before is read again in the next pass over the disk.
    lab_library.wait_for('the writes after it', lambda: world.acknowledged() > written + 512, 120)
    assert lab.guest_get('disk').strip().endswith('errors 0')
    assert lab.guest_get('memory').strip().endswith('errors 0')


def test_pages_of_64_kib(between, say):
    """To a host with large pages and back."""
    world = between('arm64', '--host-page-size 65536')
    world.boot()
    for host, arch in (('hostB', 'arm64'), ('hostA', None), ('hostB', 'arm64'), ('hostA', None)):
        _, source = world.move()
        say_move(say, world, source, 'arm64 with pages of 64 KiB' if arch else 'native')
        assert_runs_as(world, host, arch)
