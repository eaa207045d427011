# SPDX-License-Identifier: LGPL-2.1-or-later
"""The switch-over between two quasar-vnets on one segment, with stand-ins for both emulators: each frame once, in order."""
import contextlib
import functools
import os
import shutil
import threading

import pytest
from vnet_support import (BROADCAST, MAC, PEER, StreamEnd, Vnet, Wire, forget, frame, has_real_time, teach_switch, text_of,
                          tunnel)
import lab as lab_library

DIRECTORY = '/run/vnet-switch'


class Side:
    """One host's vnet, and all that its guest's end got."""

    def __init__(self, places, stack, place):
        directory = places.path(place, DIRECTORY)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        self.end = StreamEnd(os.path.join(directory, 'stream'))
        stack.callback(self.end.close)
        self.vnet = Vnet(places, DIRECTORY, place=place, nic='eth0')
        stack.callback(self.vnet.stop)
        assert self.vnet.word == 'ok'
        self.end.accept()

    def got(self):
        """Texts of all frames that have come, by their first letter."""
        texts = {b'u': [], b'g': []}
        while True:
            data = self.end.receive(1)
            if data is None:
                return {kind: [int(number) for number in numbers] for kind, numbers in texts.items()}
            text = text_of(data)
            if text[:1] in texts:
                texts[text[:1]].append(text[1:])


class Sender(threading.Thread):
    """Numbered frames to the guest and to all, one of each a millisecond, until told to stop."""

    def __init__(self, wire):
        super().__init__()
        self.wire = wire
        self.ended = threading.Event()
        self.sent = 0

    def run(self):
        while not self.ended.wait(0.001):
            self.wire.send(frame(MAC, PEER, b'u%d' % self.sent))
            self.wire.send(frame(BROADCAST, PEER, b'g%d' % self.sent))
            self.sent += 1

    def pass_some(self, n=50):
        target = self.sent + n
        lab_library.wait_for('more frames', lambda: self.sent >= target)


@pytest.fixture
def move(places):
    if not os.path.exists(os.path.join(places.build or '', 'vnet', 'quasar-vnet')):
        pytest.skip('quasar-vnet is not built')
    with contextlib.ExitStack() as stack:
        source, target = Side(places, stack, 'hostA'), Side(places, stack, 'hostB')
        wire = Wire(places, nic='eth0')
        stack.callback(wire.close)
        source.vnet.call('activate', announce=True)
        # What a switch does not know it floods; the source's announcement has come this far when the client sees it.
        assert wire.receive(5, (0x8035,))
        sender = Sender(wire)
        sender.start()
        stack.callback(sender.join)
        stack.callback(sender.ended.set)
        yield source, target, sender, wire


def test_each_frame_comes_once_and_in_order(move):
    source, target, sender, _ = move
    sender.pass_some()
    source.vnet.call('hold')
    sender.pass_some(20)
    tunnel(source.vnet, target.vnet)
    assert source.vnet.status()['mode'] == 'leaving'
    sender.pass_some(20)
    target.vnet.call('activate', announce=True)
    sender.pass_some(200)
    lab_library.wait_for('the end of the switch', lambda: target.vnet.status()['mode'] == 'active')
    sender.ended.set()
    sender.join()
    before, after = source.got(), target.got()
    for kind in (b'u', b'g'):
        assert before[kind] and after[kind]
        assert before[kind] + after[kind] == list(range(sender.sent)), kind
    for side in (source, target):
        status = side.vnet.status()
        assert status['capture']['dropped'] == status['drops']['hold'] == status['drops']['queue'] == 0
        assert status['waiting'] == 0


def test_a_move_that_fails_loses_nothing(move):
    source, _, sender, _ = move
    sender.pass_some()
    source.vnet.call('hold')
    assert source.vnet.status()['mode'] == 'holding'
    sender.pass_some(20)
    assert source.vnet.status()['waiting'] > 0
    source.vnet.call('activate')
    sender.pass_some(20)
    sender.ended.set()
    sender.join()
    got = source.got()
    for kind in (b'u', b'g'):
        assert got[kind] == list(range(sender.sent)), kind


def test_frames_of_the_guest_go_out_until_the_handoff_only(move):
    source, target, sender, wire = move
    source.vnet.call('hold')
    source.end.send(frame(PEER, MAC, b'last'))
    tunnel(source.vnet, target.vnet)
    before = source.vnet.status()['drops']['standby']  # what the segment said before the guest was there
    source.end.send(frame(PEER, MAC, b'late'))
    lab_library.wait_for('the count of the frame', lambda: source.vnet.status()['drops']['standby'] == before + 1)
    target.vnet.call('activate', announce=True)
    target.end.send(frame(PEER, MAC, b'first'))
    texts = []
    while b'first' not in texts:
        data = wire.receive()
        assert data is not None
        if data[6:12] == MAC:
            texts.append(text_of(data))
    assert texts == [b'last', b'first']
    assert sender.sent >= 0


def test_a_source_that_ends_does_not_keep_the_destination_waiting(move):
    source, target, sender, _ = move
    tunnel(source.vnet, target.vnet)
    sender.pass_some(20)
    source.vnet.call('quit')
    target.vnet.call('activate', announce=True)
    lab_library.wait_for('the end of the switch', lambda: target.vnet.status()['mode'] == 'active')
    sender.pass_some(20)
    sender.ended.set()
    sender.join()
    got = target.got()[b'u']
    assert got and got == sorted(set(got))


def test_a_move_comes_before_other_work(places, move):
    """A real-time priority, above what an arriving guest's emulator has, from the tunnel on until some time after."""
    source, target, _, _ = move
    if not has_real_time(places):
        pytest.skip('no real-time priority is to be had here')
    pids = [pid for host in ('hostA', 'hostB') for pid in places.processes(host, 'quasar-vnet')]

    def have(policy):
        return lambda: [os.sched_getscheduler(pid) for pid in pids] == [policy] * 2
    assert have(os.SCHED_OTHER)()
    tunnel(source.vnet, target.vnet)
    lab_library.wait_for('the priority', have(os.SCHED_RR))
    assert {os.sched_getparam(pid).sched_priority for pid in pids} == {os.sched_get_priority_min(os.SCHED_RR) + 2}
    target.vnet.call('activate', announce=True)
    lab_library.wait_for('its end', have(os.SCHED_OTHER))


def test_orders_without_a_tunnel_are_refused(move):
    source, target, _, _ = move
    assert 'no tunnel' in source.vnet.call('hand-over')['error']
    assert 'no socket' in source.vnet.call('pair')['error']
    assert source.vnet.status()['mode'] == 'active'
    assert 'no socket' in target.vnet.call('receive')['error']
    assert target.vnet.status()['mode'] == 'standby'


@pytest.fixture
def teach(places):
    yield functools.partial(teach_switch, places, MAC)
    forget(places, MAC)


def test_a_switch_that_does_not_learn_keeps_the_source(move, teach):
    source, target, sender, _ = move
    teach('hostA', 'static', 'sticky')
    sender.pass_some()
    source.vnet.call('hold')
    tunnel(source.vnet, target.vnet)
    target.vnet.call('activate', announce=True)
    lab_library.wait_for('that the source stays', lambda: source.vnet.status()['mode'] == 'anchor')
    lab_library.wait_for('that the destination knows', lambda: target.vnet.status()['strays'])
    sender.pass_some(200)
    # The administrator sees to it.
    teach('hostB', 'dynamic')
    lab_library.wait_for('that the segment has learned', lambda: not target.vnet.status()['strays'])
    sender.pass_some(50)
    lab_library.wait_for('the end of the source', lambda: source.vnet.status()['mode'] == 'standby')
    sender.ended.set()
    sender.join()
    before, after = source.got(), target.got()
    for kind in (b'u', b'g'):
        assert before[kind] + after[kind] == list(range(sender.sent)), kind
    assert 'still sends' in source.vnet.log_text()


def test_a_hub_brings_each_frame_once(places, move):
    source, target, sender, _ = move
    switch = places.topology.switch('hostA')
    # What a bridge forgets at once it floods.
    places.must(switch, 'ip', 'link', 'set', 'br0', 'type', 'bridge', 'ageing_time', '0')
    try:
        source.vnet.call('hold')
        tunnel(source.vnet, target.vnet)
        target.vnet.call('activate', announce=True)
        lab_library.wait_for('the source to know', lambda: source.vnet.status()['drops']['standby'] > 20)
        first = sender.sent
        sender.pass_some(200)
        assert source.vnet.status()['mode'] == 'leaving'
    finally:
        places.must(switch, 'ip', 'link', 'set', 'br0', 'type', 'bridge', 'ageing_time', '30000')
    sender.ended.set()
    sender.join()
    got = target.got()
    assert sorted(set(got[b'u'])) == list(range(got[b'u'][0], sender.sent)), 'some are lost'
    for kind in (b'u', b'g'):
        late = [number for number in got[kind] if number >= first + 20]
        assert late == list(range(first + 20, sender.sent)), kind
