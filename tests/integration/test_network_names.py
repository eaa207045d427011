# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks that administrators define, and a guest that finds its own where NICs have other names."""
import os

import lab as lab_library
import pytest
from test_virsh_commands import fields, refusal, says, write

NETWORK = '<network><name>lan0</name><forward mode="bridge"><interface dev="%s"/></forward></network>'


def test_life_of_a_network(hosts):
    """Every command of stock virsh that a network without a bridge of its own has a use for."""
    says(hosts, 'net-define', write(hosts, 'lan0.xml', NETWORK % 'eth0'))
    try:
        info = fields(says(hosts, 'net-info', 'lan0'))
        assert (info['Name'], info['Active'], info['Persistent'], info['Autostart']) == ('lan0', 'no', 'yes', 'no')
        assert says(hosts, 'net-uuid', 'lan0') == info['UUID'] and says(hosts, 'net-name', info['UUID']) == 'lan0'
        document = says(hosts, 'net-dumpxml', 'lan0')
        assert "<forward" in document and "<interface dev='eth0'/>" in document and info['UUID'] in document
        assert 'not active' in refusal(hosts, 'net-destroy', 'lan0')
        says(hosts, 'net-start', 'lan0')
        says(hosts, 'net-autostart', 'lan0')
        # What runs and what starts with the host are remembered.
        hosts.kill('hostA', 'virtquasard')
        hosts.start_daemon('hostA', {'QUASAR_FAULT': '@/run/fault'})
        info = fields(says(hosts, 'net-info', 'lan0'))
        assert (info['Active'], info['Autostart']) == ('yes', 'yes')
        edited = hosts.exec('hostA', 'virsh', '-c', 'quasar:///system', 'net-edit', 'lan0',
                            env=dict(os.environ, EDITOR="sed -i -e s/eth0/lo9/"))
        assert edited.returncode == 0, edited.stderr
        assert "<interface dev='lo9'/>" in says(hosts, 'net-dumpxml', 'lan0')
        says(hosts, 'net-autostart', '--disable', 'lan0')
        says(hosts, 'net-destroy', 'lan0')
        assert [line.split()[0] for line in says(hosts, 'net-list', '--inactive').splitlines()[2:]] == ['lan0']
    finally:
        says(hosts, 'net-undefine', 'lan0')
    assert 'Network not found' in refusal(hosts, 'net-info', 'lan0')
    for document, words in (('<network><forward mode="bridge"/></network>', 'name'),
                            ('<network><name>n</name><forward mode="nat"/></network>', 'nat')):
        assert words in refusal(hosts, 'net-define', write(hosts, 'bad.xml', document))


@pytest.fixture
def lan(hosts):
    """A guest `web` on lan0, which is eth0 of hostA; hostB has a second NIC, lan9, on the same segment."""
    lab_library.run('nsenter', '-t', str(hosts.holders['switch']['pid']), '-n', 'ip', 'link', 'add', 'p-lan9', 'type',
                    'veth', 'peer', 'name', 'lan9', 'netns', str(hosts.holders['hostB']['pid']))
    hosts.must('hostB', 'ethtool', '-K', 'lan9', 'tx', 'off', 'gro', 'off')
    hosts.must('hostB', 'ip', 'link', 'set', 'lan9', 'up')
    hosts.must('switch', 'ip', 'link', 'set', 'p-lan9', 'master', 'br0', 'up')
    says(hosts, 'net-define', write(hosts, 'lan0.xml', NETWORK % 'eth0'))
    says(hosts, 'net-start', 'lan0')
    xml = hosts.domain_xml(memory_mib=128).replace('network="default"', 'network="lan0"')
    says(hosts, 'define', write(hosts, 'web.xml', xml))
    says(hosts, 'start', 'web')
    hosts.wait_guest()
    yield hosts
    for host in lab_library.HOSTS:
        hosts.virsh(host, 'destroy', 'web')
        hosts.virsh(host, 'undefine', 'web')
        hosts.virsh(host, 'net-destroy', 'lan0')
        hosts.virsh(host, 'net-undefine', 'lan0')
    hosts.must('switch', 'ip', 'link', 'del', 'p-lan9')


def move(places, source, destination):
    return places.virsh(source, 'migrate', '--live', '--persistent', 'web', 'quasar+tls://%s/system' % destination,
                        timeout=120)


def host_nic(places, host):
    """Of the guest's quasar-vnet there."""
    listed = places.exec(host, os.path.join(places.build, 'run'), 'quasarctl', 'net', 'show', 'web')
    return fields(listed.stdout.replace('Host NIC ', 'Host NIC:'))['Host NIC'] if listed.returncode == 0 else None


def test_guest_finds_its_network_under_another_name(lan):
    assert host_nic(lan, 'hostA') == 'eth0'
    # A host without that network, or where it does not run, cannot take the guest, which stays.
    refused = move(lan, 'hostA', 'hostB')
    assert refused.returncode != 0 and 'lan0' in refused.stderr, refused.stderr
    with open(lan.path('hostB', 'run/lan0.xml'), 'w') as file:
        file.write(NETWORK % 'lan9')
    assert lan.virsh('hostB', 'net-define', '/run/lan0.xml').returncode == 0
    refused = move(lan, 'hostA', 'hostB')
    assert refused.returncode != 0 and "network 'lan0' is not active" in refused.stderr, refused.stderr
    assert says(lan, 'domstate', 'web') == 'running' and lan.guest_get('file.sha256')

    assert lan.virsh('hostB', 'net-start', 'lan0').returncode == 0
    moved = move(lan, 'hostA', 'hostB')
    assert moved.returncode == 0, moved.stderr
    assert host_nic(lan, 'hostB') == 'lan9'
    lab_library.wait_for('the guest', lambda: lan.guest_get('file.sha256', 1), 10)
    assert "<source network='lan0'/>" in lan.virsh('hostB', 'dumpxml', 'web').stdout
    moved = move(lan, 'hostB', 'hostA')
    assert moved.returncode == 0, moved.stderr
    assert host_nic(lan, 'hostA') == 'eth0'
    lab_library.wait_for('the guest', lambda: lan.guest_get('file.sha256', 1), 10)
