# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest moves between hosts of different CPU architecture, byte order and page size, by stock `virsh migrate --live`.

QUASAR_HETERO_ROUNDS round trips are made (10) with each of QUASAR_HETERO_ARCHITECTURES (s390x,arm64), and
QUASAR_HETERO_LEG seconds are spent once on each kind of host to see whether time runs as it should (60).
"""
import os
import time

import lab as lab_library
import pytest
import unlike

ROUNDS = int(os.environ.get('QUASAR_HETERO_ROUNDS', '10'))
STREAM_ROUNDS = min(ROUNDS, 3)
LEG_S = int(os.environ.get('QUASAR_HETERO_LEG', '60'))
ARCHITECTURES = os.environ.get('QUASAR_HETERO_ARCHITECTURES', 's390x,arm64').split(',')
# By how much a guest's second may differ from a real one.
NATIVE, FOREIGN = 0.001, 0.01


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
    return prepare


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


def assert_time_is_right(answers):
    """Nothing the guest read was ever earlier than what it had read before, and its kernel goes by the TSC from beginning
    to end."""
    assert not any(answer.backwards for answer in answers)
    assert {answer.source for answer in answers} == {'tsc'}
    for name in answers[0].clocks:
        found = [answer.clocks[name] for answer in sorted(answers, key=lambda answer: answer.number)]
        assert found == sorted(found), name


def assert_nothing_is_lost(say, answers, sent):
    missing = sent - len({answer.number for answer in answers})
    say('%d questions, %d not answered, the longest wait was %.2f s' %
        (sent, missing, max(answer.waited_s for answer in answers)))
    assert not missing


def assert_rate(say, what, answers, tolerance):
    rates = {name: unlike.rate(answers, name) for name in ('monotonic', 'tsc')}
    say('%s: guest seconds per real second over %.0f s: %s' %
        (what, (answers[-1].asked - answers[0].asked) / 1e9,
         ', '.join('%s %.5f to %.5f' % (name, *bounds) for name, bounds in rates.items())))
    for low, high in rates.values():
        assert low <= 1 + tolerance and high >= 1 - tolerance, what


def travel(world, clocks, arch, say):
    """The round trips. Returns what each leg is, by how much its time may be wrong and where its answers begin; and where
    they end."""
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
    return legs, bounds


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_round_trips(between, say, arch):
    world = between(arch)
    world.reset()
    world.wait_booted()
    with unlike.known_neighbour(world.lab):
        clocks = unlike.Clocks(world.lab)
        try:
            legs, bounds = travel(world, clocks, arch, say)
        finally:
            answers, sent = clocks.end()
    assert_nothing_is_lost(say, answers, sent)
    assert_time_is_right(answers)
    for (what, tolerance, begun), end in zip(legs, bounds):
        assert_rate(say, what, answers[begun:end], tolerance)


@pytest.mark.parametrize('model', ['virtio', 'vmxnet3'])
@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_no_frame_is_lost(between, say, arch, model):
    """Of either NIC, whose state was in the host's byte order."""
    world = between(arch)
    world.model = model
    try:
        world.reset()
        world.wait_booted()
        with unlike.known_neighbour(world.lab), unlike.PatientStream(world.lab) as stream:
            for number in range(2 * STREAM_ROUNDS):
                _, source = world.move()
                say_move(say, world, source, 'native' if number % 2 else arch)
    finally:
        world.model = 'virtio'
    say('%s: %d datagrams, %d lost, %d doubled, the longest silence was %.2f s' %
        (model, stream.sent, len(stream.lost), len(stream.doubled), stream.longest))
    assert (stream.lost, stream.doubled) == ([], [])
    assert_runs_as(world, 'hostA', None)


@pytest.mark.parametrize('arch', ARCHITECTURES)
def test_write_that_waits_in_the_device(between, arch):
    between(arch).move_full()


def test_pages_of_64_kib(between, say):
    """To a host with large pages and back."""
    unlike_arch = ARCHITECTURES[-1]
    world = between(unlike_arch, '--host-page-size 65536')
    world.reset()
    world.wait_booted()
    for host, arch in 2 * (('hostB', unlike_arch), ('hostA', None)):
        _, source = world.move()
        say_move(say, world, source, '%s with pages of 64 KiB' % arch if arch else 'native')
        assert_runs_as(world, host, arch)
