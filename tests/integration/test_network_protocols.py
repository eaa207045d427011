# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest and its segment say to each other besides plain traffic, before a move and after it."""
import contextlib
import socket
import struct
import subprocess

import lab as lab_library
import pytest
from vnet_support import BROADCAST, Wire, network_of

GROUNDS = ['segment', 'routed']
GUEST_MAC = '52:54:00:77:00:50'
LEASE = '10.77.0.60'
DHCP_CONF = '''interface eth0
start %(lease)s
end %(lease)s
lease_file /run/udhcpd.leases
pidfile /run/udhcpd.pid
option subnet 255.255.255.0
option lease 3600
static_lease %(mac)s %(lease)s
'''
# Keeps the address that the guest has besides, and tells what it was called for.
DHCP_SCRIPT = (r"""printf '#!/bin/sh\n[ -z "$ip" ] || ip addr add "$ip/24" dev eth0 2>/dev/null\n"""
               r"""echo "$1 $ip" >>/tmp/dhcp\n' >/tmp/dhcp.sh; chmod +x /tmp/dhcp.sh""")


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(params=GROUNDS)
def settled(request):
    """A world whose guest runs, on A."""
    world = request.getfixturevalue({'segment': 'world', 'routed': 'routed_world'}[request.param])
    world.wait_booted()
    if world.source != 'hostA':
        world.move()
    return world


def client_network(world):
    return network_of(world.lab, 'client')


def test_a_lease_is_renewed_after_a_move(settled, stack, tmp_path):
    conf = tmp_path / 'udhcpd.conf'
    conf.write_text(DHCP_CONF % {'lease': LEASE, 'mac': GUEST_MAC})
    server = settled.lab.popen('client', 'sh', '-c', 'mount -t tmpfs tmpfs /run; : >/run/udhcpd.leases; '
                               'exec busybox udhcpd -f "$0"', str(conf), stderr=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(settled.lab.exec, 'client', 'umount', '/run')
    stack.callback(lambda: settled.lab.exec('client', 'sh', '-c', 'kill $(cat /run/udhcpd.pid)'))
    settled.in_guest(DHCP_SCRIPT)

    def told():
        return settled.in_guest('cat /tmp/dhcp 2>/dev/null').split('\n')[:-1]
    # Asks all, and gets its answer from one.
    settled.in_guest('udhcpc -b -i eth0 -s /tmp/dhcp.sh -p /tmp/dhcp.pid -t 10 -T 1 >/dev/null 2>&1')
    stack.callback(settled.in_guest, 'kill $(cat /tmp/dhcp.pid); rm -f /tmp/dhcp; ip addr del %s/24 dev eth0' % LEASE)
    lab_library.wait_for('the lease', lambda: 'bound ' + LEASE in told())
    settled.move()
    # Renews it with the server.
    settled.in_guest('kill -USR1 $(cat /tmp/dhcp.pid)')
    lab_library.wait_for('the renewal', lambda: 'renew ' + LEASE in told())
    # Gives it back and asks all again.
    settled.in_guest('kill -USR2 $(cat /tmp/dhcp.pid); sleep 1; kill -USR1 $(cat /tmp/dhcp.pid)')
    lab_library.wait_for('the next lease', lambda: told()[told().index('renew ' + LEASE):].count('bound ' + LEASE))
    assert 'leasefail' not in ' '.join(told())


def advertise(world, prefix):
    """A router's advertisement of a prefix, for addresses that hosts make themselves (RFC 4861, 4.2)."""
    option = struct.pack('!BBBBIII16s', 3, 4, 64, 0xc0, 3600, 1800, 0, socket.inet_pton(socket.AF_INET6, prefix))
    with client_network(world):
        sender = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface(world))
        # The kernel fills the checksum in. No lifetime: nobody shall take this for a way out.
        sender.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 0, 0, 0) + option, ('ff02::1', 0))


def interface(world):
    with client_network(world):
        return socket.if_nametoindex('eth0')


def answers(world, address):
    world.lab.must('client', 'ip', '-6', 'neigh', 'flush', 'dev', 'eth0')
    return world.lab.exec('client', 'ping', '-6', '-n', '-c', '1', '-W', '1', address).returncode == 0


def test_addresses_that_a_router_advertises(settled, stack):
    """The guest hears the router, makes its address, and answers whoever asks for its neighbour's MAC."""
    for number, prefix in enumerate(('fd77:0:0:a1::', 'fd77:0:0:a2::')):
        own = prefix + '9'
        settled.lab.must('client', 'ip', 'addr', 'add', own + '/64', 'dev', 'eth0', 'nodad')
        stack.callback(settled.lab.exec, 'client', 'ip', 'addr', 'del', own + '/64', 'dev', 'eth0')
        address = prefix[:-1] + '5054:ff:fe77:50'
        stack.callback(settled.in_guest, 'ip addr del %s/64 dev eth0' % address)
        advertise(settled, prefix)
        lab_library.wait_for('the answer of %s' % address, lambda address=address: answers(settled, address))
        if number == 0:
            settled.move()
            assert answers(settled, address)
            # The guest too finds out anew who the client is.
            said = settled.in_guest('ip neigh flush dev eth0; ping6 -c 1 -W 5 %s' % own)
            assert '1 packets received' in said, said


def send_to_group(world, group, text):
    family = socket.AF_INET6 if ':' in group else socket.AF_INET
    with client_network(world):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sender:
        if family == socket.AF_INET6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface(world))
        else:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF,
                              struct.pack('4s4si', bytes(4), bytes(4), interface(world)))
        sender.sendto(text.encode(), (group, 5020))


def test_groups_are_heard_once_before_and_after(settled, stack):
    groups = ('239.1.2.3', 'ff15::1234')
    expected = []
    for number, group in enumerate(groups):
        settled.in_guest('traffic listen %s 5020 >/tmp/group%d 2>&1 & echo $! >/tmp/group%d.pid' % (group, number, number))
        stack.callback(settled.in_guest, 'kill $(cat /tmp/group%d.pid)' % number)
        lab_library.wait_for('the membership', lambda number=number: settled.in_guest(
            'cat /proc/net/igmp /proc/net/igmp6').lower().find(('030201ef', 'ff150000000000000000000000001234')[number]) >= 0)
    for word in ('before', 'after'):
        for number in range(20):
            expected.append('%s %d' % (word, number))
            for group in groups:
                send_to_group(settled, group, expected[-1])
        lab_library.wait_for('what was sent to the groups', lambda: all(
            settled.in_guest('cat /tmp/group%d' % number).split('\n')[:-1] == expected for number in range(2)))
        if word == 'before':
            settled.move()


def ask_tagged(wire, tag, address):
    """ARP for an address of a VLAN: the tag of the answer, None when none comes."""
    own = wire.socket.getsockname()[4]
    question = (BROADCAST + own + struct.pack('>HH', 0x8100, tag) + bytes.fromhex('0806 0001 0800 06 04 0001') + own
                + socket.inet_aton('10.78.5.9') + bytes(6) + socket.inet_aton(address))
    wire.send(question.ljust(64, b'\0'))
    while True:
        answer = wire.receive(1, (0x0806,))
        if answer is None:
            return None
        if (answer[6:12] == bytes.fromhex(GUEST_MAC.replace(':', '')) and answer[12:14] == b'\x81\x00'
                and answer[24:26] == b'\0\2'):
            return struct.unpack('>H', answer[14:16])[0] & 0xfff


def test_tags_of_vlans_are_kept(settled, stack):
    settled.in_guest('for m in llc stp garp mrp 8021q; do insmod /modules/$m.ko; done 2>/dev/null')
    said = settled.in_guest('vconfig add eth0 5 2>&1; ip addr add 10.78.5.50/24 dev eth0.5 && ip link set eth0.5 up && '
                            'ip link show eth0.5')
    assert 'eth0.5' in said, said
    stack.callback(settled.in_guest, 'vconfig rem eth0.5')
    wire = Wire(settled.lab, 'client', 'eth0')
    stack.callback(wire.close)
    for moved in (False, True):
        if moved:
            settled.move()
        # Frames with a priority have the tag of their VLAN all the same.
        assert ask_tagged(wire, 0x0005, '10.78.5.50') == 5
        assert ask_tagged(wire, 0x6005, '10.78.5.50') == 5
        assert ask_tagged(wire, 0x0006, '10.78.5.50') is None


@pytest.fixture
def narrow(settled, stack):
    """Between the hosts' subnets, where there is a router, no frame of the guest's length fits."""
    world = settled
    if world.lab.topology.routed:
        for place, nic in (('hostB', 'eth0'), ('router', 'lan%d' % world.lab.topology.subnet('hostB'))):
            world.lab.must(place, 'ip', 'link', 'set', nic, 'mtu', '1300')
            stack.callback(world.lab.must, place, 'ip', 'link', 'set', nic, 'mtu', '1500')
    return world


def longest_frame_answered(world):
    """A ping that fills a frame and must not be cut, and is answered by one; a longer one is refused at its sender."""
    own = world.lab.topology.address('client')
    world.lab.must('client', 'ip', 'route', 'flush', 'cache')
    for size, fits in ((1472, True), (1473, False)):
        said = world.lab.exec('client', 'ping', '-n', '-c', '2', '-W', '2', '-M', 'do', '-s', str(size),
                              lab_library.GUEST_ADDRESS)
        assert (said.returncode == 0) == fits, said.stdout + said.stderr
        assert ('mtu=1500' in said.stdout + said.stderr) != fits, said.stdout + said.stderr
    said = world.in_guest('ping -c 2 -W 2 -s 1472 %s; cat /sys/class/net/eth0/mtu' % own)
    assert '2 packets received' in said and said.split()[-1] == '1500', said


def test_frames_are_as_long_after_a_move(narrow):
    longest_frame_answered(narrow)
    narrow.move()
    longest_frame_answered(narrow)
