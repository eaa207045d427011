# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself: what the other tests stand on."""
import os


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
