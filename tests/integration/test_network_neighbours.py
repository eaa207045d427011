# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests on one host: with each other, with other hosts, and with the host itself."""
import contextlib

import lab as lab_library
import pytest
import traffic
import vnet_support as support

WEB, TWO = lab_library.GUEST_ADDRESS, '10.77.0.51'
MAC, SECOND_MAC = '52:54:00:77:00:50', '52:54:00:77:00:51'
# The way round of README.md, on a segment of its own.
BRIDGED = '10.88.0.51'
LAN = '''<network><name>lan0</name><forward mode='bridge'><interface dev='guests0'/></forward></network>'''


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def start_second(world, stack, address, network='default'):
    """A guest `two` on hostA, without a disk."""
    lab = world.lab
    xml = lab.domain_xml(name='two', memory_mib=96, file_mib=8, options=traffic.OPTION)
    xml = xml.replace(WEB + '/24', address + '/24').replace(MAC, SECOND_MAC).replace('"default"', '"%s"' % network)
    with open(lab.path('hostA', 'run/two.xml'), 'w') as file:
        file.write(xml)
    stack.callback(lab.virsh, 'hostA', 'undefine', 'two')
    stack.callback(lab.virsh, 'hostA', 'destroy', 'two')
    for command in (('define', '/run/two.xml'), ('start', 'two')):
        done = lab.virsh('hostA', *command)
        assert done.returncode == 0, done.stderr
    lab_library.wait_for('the boot of the second guest', lambda: answers(world, address), 60)


def answers(world, address):
    return world.lab.exec('client', world.lab.program('traffic'), 'run', address, str(traffic.PORT), 'true').returncode == 0


def pings(world, address, target):
    """Whether a ping from a guest comes back."""
    return '1 packets received' in world.in_guest('ping -c 1 -W 5 %s' % target, address)


def test_guests_of_one_nic_reach_each_other(world, stack):
    world.wait_booted()
    if world.source != 'hostA':
        world.move()
    world.spoilt = True  # the second guest's processes are no part of its world
    start_second(world, stack, TWO)
    addresses = world.lab.topology.address
    for moved in (False, True):
        if moved:
            world.move()
        for guest, other in ((WEB, TWO), (TWO, WEB)):
            assert pings(world, guest, other), (guest, moved)
            for third in ('client', 'hostB') if guest == TWO else ('client',):
                assert pings(world, guest, addresses(third)), (guest, third, moved)
    # From hostB now, hostA is another host.
    assert pings(world, WEB, addresses('hostA'))


def test_a_guest_reaches_its_own_host_by_a_bridge(world, stack):
    """Frames to the NIC go to the wire, not to its host; so the NIC is one end of a pair, the other a bridge's port."""
    lab = world.lab
    world.spoilt = True
    support.cable(lab)
    stack.callback(support.uncable, lab)
    lab.must('client', 'ip', 'addr', 'add', '10.88.0.9/24', 'dev', support.FAR)
    for command in ('link add bridge0 type bridge', 'link add guests0 type veth peer name guests1',
                    'link set %s master bridge0' % support.NIC, 'link set guests1 master bridge0',
                    'addr add 10.88.0.1/24 dev bridge0', 'link set guests0 up', 'link set guests1 up',
                    'link set bridge0 up'):
        lab.must('hostA', 'ip', *command.split())
    stack.callback(lab.exec, 'hostA', 'ip', 'link', 'del', 'guests0')
    stack.callback(lab.exec, 'hostA', 'ip', 'link', 'del', 'bridge0')
    with open(lab.path('hostA', 'run/lan0.xml'), 'w') as file:
        file.write(LAN)
    stack.callback(lab.virsh, 'hostA', 'net-undefine', 'lan0')
    stack.callback(lab.virsh, 'hostA', 'net-destroy', 'lan0')
    for command in (('net-define', '/run/lan0.xml'), ('net-start', 'lan0')):
        done = lab.virsh('hostA', *command)
        assert done.returncode == 0, done.stderr
    start_second(world, stack, BRIDGED, 'lan0')
    assert pings(world, BRIDGED, '10.88.0.1')
    assert lab.exec('hostA', 'busybox', 'ping', '-c', '1', '-W', '5', BRIDGED).returncode == 0
    assert pings(world, BRIDGED, '10.88.0.9')
