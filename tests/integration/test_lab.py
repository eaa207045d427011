# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself: what the other tests stand on."""
import contextlib
import os
import re

import lab as lab_library
import pytest
from vnet_support import BROADCAST, PEER, Wire, frame


def test_places_reach_each_other_by_name(places):
    for name in ('hostA', 'hostB'):
        assert places.exec('client', 'busybox', 'ping', '-c', '1', '-W', '5', name).returncode == 0


def test_hosts_have_their_own_files(places):
    places.must('hostA', 'touch', '/run/only-here')
    assert places.exec('hostB', 'test', '-e', '/run/only-here').returncode != 0
    assert not os.path.exists('/run/only-here')
    assert places.must('hostB', 'hostname').strip() == 'hostB'


def test_certificates_are_one_authoritys(places):
    for host in ('hostA', 'hostB'):
        result = places.exec(host, 'certtool', '--verify', '--load-ca-certificate', '/etc/pki/CA/cacert.pem',
                             '--infile', '/etc/pki/libvirt/servercert.pem', '--verify-hostname', host)
        assert result.returncode == 0, result.stdout + result.stderr


def test_cut_link_is_silent_until_mended(places):
    places.link('hostB', 'down')
    try:
        assert places.exec('client', 'busybox', 'ping', '-c', '1', '-W', '1', 'hostB').returncode != 0
    finally:
        places.link('hostB', 'up')
    assert places.exec('client', 'busybox', 'ping', '-c', '5', '-W', '5', 'hostB').returncode == 0


def reaches(places, name, target, wait='5', hops='64'):
    return places.exec(name, 'busybox', 'ping', '-c', '1', '-W', wait, '-t', hops, target).returncode == 0


def test_subnets_reach_each_other_through_the_router_only(routed_places):
    members = routed_places.topology.members
    for name in members:
        for target in members:
            for version in ('', '-v6'):
                assert reaches(routed_places, name, target + version), (name, target + version)
    # What is allowed no hop ends at the router.
    for target, subnet in members.items():
        assert reaches(routed_places, 'client', target, '1', '1') == (subnet == members['client']), target
    for subnet in routed_places.topology.subnets:
        assert routed_places.must('router', 'cat', '/proc/sys/net/ipv4/conf/lan%d/proxy_arp' % subnet).strip() == '0'


def test_no_frame_passes_between_subnets(routed_places):
    """A frame for all, of a kind no router knows, is seen by each place on its sender's subnet and by no other."""
    members = routed_places.topology.members
    with contextlib.ExitStack() as stack:
        wires = {name: Wire(routed_places, name, 'eth0') for name in members}
        for wire in wires.values():
            stack.callback(wire.close)
        for sender, subnet in members.items():
            wires[sender].send(frame(BROADCAST, PEER, b'from %s' % sender.encode()))
            # What came earlier from elsewhere would be there by the time one's own neighbour's is.
            heard = {name for name in members if name != sender
                     and wires[name].receive(2 if members[name] == subnet else 0.2) is not None}
            assert heard == {name for name, where in members.items() if where == subnet and name != sender}


def test_a_bad_cable_loses_frames_until_mended(routed_places):
    routed_places.netem('switch2', delay_ms=1, loss_percent=30)
    try:
        answer = routed_places.exec('client', 'ping', '-n', '-q', '-i', '0.005', '-c', '200', 'hostB').stdout
        counts = routed_places.netem_counts('switch2')
    finally:
        routed_places.netem('switch2')
    received = int(re.search(r'(\d+) received', answer).group(1))
    assert 0 < received < 200
    for way in counts.values():
        assert way['lost'] > 0 and way['passed'] > 0 and way['overflowed'] == 0, counts
    # Each ping that is missing was lost on this cable; other frames may be among the lost.
    assert counts['in']['lost'] + counts['out']['lost'] >= 200 - received
    answer = routed_places.exec('client', 'ping', '-n', '-q', '-i', '0.005', '-c', '200', 'hostB').stdout
    assert ' 200 received' in answer


def test_a_bad_cable_keeps_the_rest_of_a_frame(routed_places):
    """Tags of VLANs too, which kernels carry beside the frame."""
    routed_places.netem('client2', delay_ms=1)
    try:
        with contextlib.closing(Wire(routed_places, 'hostB', 'eth0')) as near, \
                contextlib.closing(Wire(routed_places, 'client2', 'eth0')) as far:
            for sender, taker in ((near, far), (far, near)):
                for tag in (None, 5, 0x6005):
                    sent = frame(BROADCAST, PEER, b'x' * 1400, tag)
                    sender.send(sent)
                    assert taker.receive() == sent
    finally:
        routed_places.netem('client2')


def test_netem_is_told_from_nonsense(routed_places):
    for words in (['delay'], ['delay', '10'], ['loss', '1ms'], ['jitter', '1ms']):
        with pytest.raises(lab_library.LabError):
            lab_library.netem_options(words)
    assert (lab_library.netem_options('delay 1.5ms loss 2% rate 3mbit'.split())
            == {'delay_ms': 1.5, 'loss_percent': 2, 'rate_kbit': 3000})
    with pytest.raises(lab_library.LabError):
        routed_places.netem('switch9', delay_ms=1)


def test_routed_hosts_have_certificates(routed_places):
    for host in routed_places.hosts:
        for name in (host, host + '-v6'):
            result = routed_places.exec(host, 'certtool', '--verify', '--load-ca-certificate', '/etc/pki/CA/cacert.pem',
                                        '--infile', '/etc/pki/libvirt/servercert.pem', '--verify-hostname', name)
            assert result.returncode == 0, result.stdout + result.stderr
