# SPDX-License-Identifier: LGPL-2.1-or-later
"""What administrators see of a guest's network, with stock virsh and with quasarctl."""
import json
import os
import signal
import subprocess

import lab as lab_library
import pytest
import vnet_guest
import vnet_support as support
from test_virsh_commands import figures, refusal, says, write

MAC = '52:54:00:77:00:50'


@pytest.fixture(scope='module')
def network(hosts):
    """A guest `web` that runs on hostA, for tests that leave it so."""
    says(hosts, 'define', write(hosts, 'web.xml', hosts.domain_xml()))
    says(hosts, 'start', 'web')
    hosts.wait_guest()
    yield hosts
    for host in lab_library.HOSTS:
        hosts.virsh(host, 'destroy', 'web')
        hosts.virsh(host, 'undefine', 'web')


def counters(places, device, host='hostA'):
    result = places.virsh(host, 'domifstat', 'web', device)
    assert result.returncode == 0, result.stderr
    return {words[1]: int(words[2]) for words in map(str.split, result.stdout.splitlines()) if words}


def quasarctl(places, *command, host='hostA'):
    return places.exec(host, os.path.join(places.build, 'run'), 'quasarctl', *command)


def nics(places, *options, host='hostA'):
    result = quasarctl(places, *options, 'net', 'list', '--json', host=host)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def interface_name(places, host='hostA'):
    return places.virsh(host, 'domiflist', 'web').stdout.splitlines()[2].split()[0]


def test_every_name_of_a_nic(network):
    name = interface_name(network)
    before = counters(network, name)
    assert before['rx_packets'] > 0 and before['tx_bytes'] > before['tx_packets']
    assert (before['rx_errs'], before['tx_errs'], before['tx_drop']) == (0, 0, 0)
    for device in (MAC, MAC.upper(), 'net0'):
        assert counters(network, device)['rx_packets'] >= before['rx_packets']
    assert "'eth0' is not a known interface" in refusal(network, 'domifstat', 'web', 'eth0')
    # The name is of this run: what is kept and what travels has none.
    assert name not in says(network, 'dumpxml', '--inactive', 'web')
    assert name not in says(network, 'dumpxml', '--migratable', 'web')
    all_groups = figures(says(network, 'domstats', '--interface', 'web'))
    assert all_groups['net.0.name'] == name
    assert all_groups['net.0.quasar.mode'] == 'local'
    assert all_groups['net.0.quasar.queue'] == '0'


def test_list_of_nics(network):
    nic, = nics(network)
    assert (nic['domain'], nic['nic'], nic['index'], nic['mac'], nic['host-nic'], nic['mode']) == \
        ('web', 'net0', 0, MAC, 'eth0', 'local')
    assert (nic['peer'], nic['round-trip-us'], nic['problem'], nic['capture-drops']) == (None, None, None, 0)
    assert nic['uuid'] == says(network, 'domuuid', 'web')
    assert nic['drops']['spoofed'] == 0
    after = counters(network, MAC)
    assert 0 < nic['received']['frames'] <= after['rx_packets'] and 0 < nic['sent']['bytes'] <= after['tx_bytes']
    # Whoever may only ask may ask this.
    assert [entry['mac'] for entry in nics(network, '--readonly')] == [MAC]
    assert nics(network, host='hostB') == []
    head, row = quasarctl(network, 'net', 'list').stdout.splitlines()
    assert head.startswith('DOMAIN') and row.split()[:6] == ['web', 'net0', MAC, 'eth0', 'local', '-']


def test_one_nic(network):
    for name in ((), ('net0',), ('0',), (MAC,)):
        shown = quasarctl(network, 'net', 'show', 'web', *name)
        assert shown.returncode == 0, shown.stderr
        lines = dict(line.split(None, 1) for line in shown.stdout.splitlines() if len(line.split()) == 2)
        assert (lines['Domain'], lines['MAC'], lines['Mode']) == ('web', MAC, 'local')
        assert 'Dropped, spoofed' in shown.stdout
    absent = quasarctl(network, 'net', 'show', 'web', 'net7')
    assert absent.returncode == 1 and "no NIC net7 of a running domain 'web'" in absent.stderr


def test_figures_of_a_vnet_that_hangs(network):
    """The answer is what was known last, and nobody else waits."""
    before = counters(network, MAC)
    vnet, = network.processes('hostA', 'quasar-vnet')
    os.kill(vnet, signal.SIGSTOP)
    try:
        # More than its socket has room for.
        asking = [network.popen('hostA', 'virsh', '-c', 'quasar:///system', 'domstats', '--interface', 'web')
                  for _ in range(12)]
        assert says(network, 'domstate', 'web') == 'running'
        after = counters(network, MAC)
        assert all(after[key] >= before[key] for key in before)
        assert [process.wait(60) for process in asking] == [0] * len(asking)
    finally:
        os.kill(vnet, signal.SIGCONT)
    lab_library.wait_for('figures of now', lambda: network.guest_get('file.sha256', 1) and
                         counters(network, MAC)['rx_packets'] > after['rx_packets'])


def test_counters_of_a_vnet_that_is_replaced(network):
    assert network.guest_get('file.sha256')
    before = counters(network, MAC)
    assert network.kill('hostA', 'quasar-vnet') == 1
    lab_library.wait_for('another quasar-vnet', lambda: network.processes('hostA', 'quasar-vnet'))
    lab_library.wait_for('the guest', lambda: network.guest_get('file.sha256', 1), 30)
    after = counters(network, MAC)
    assert all(after[key] >= before[key] for key in before), (before, after)
    assert after['rx_packets'] > before['rx_packets']


class Monitor:
    """`virsh qemu-monitor-event` on a host, and what it has printed."""

    def __init__(self, places, *options, host='hostA'):
        self.places, self.host = places, host
        self.path = places.path(host, 'run/events')
        with open(self.path, 'w') as output:
            self.process = places.popen(host, 'stdbuf', '-oL', 'virsh', '-c', 'quasar:///system',
                                        'qemu-monitor-event', '--loop', *options, stdout=output,
                                        stderr=subprocess.STDOUT)

    def lines(self):
        with open(self.path) as output:
            return output.read().splitlines()

    def told(self, what):
        return [line for line in self.lines() if '"event":"%s"' % what in line]

    def stop(self):
        # It is the child of what has entered the host.
        self.places.kill(self.host, 'virsh')
        self.process.wait()


@pytest.fixture
def cabled(hosts):
    """A guest `cabled` on a NIC of hostA that can be taken away."""
    support.cable(hosts)
    hosts.must('client', 'ip', 'addr', 'add', vnet_guest.PEER + '/24', 'dev', support.FAR)
    xml = hosts.domain_xml(name='cabled', memory_mib=128).replace(lab_library.GUEST_ADDRESS, vnet_guest.GUEST)
    xml = xml.replace('<interface type="network">', '<interface type="direct">')
    xml = xml.replace('<source network="default"/>', '<source dev="%s" mode="bridge"/>' % support.NIC)
    says(hosts, 'create', write(hosts, 'cabled.xml', xml.replace('77:00:50', '77:00:51')))
    lab_library.wait_for('the guest', lambda: vnet_guest.serves(hosts), 60)
    yield hosts
    hosts.virsh('hostA', 'destroy', 'cabled')
    support.uncable(hosts)


def test_nic_that_goes_and_comes_back(cabled):
    """The guest runs on, whoever listens is told, and frames flow again."""
    monitor = Monitor(cabled, '--regex', '--event', '^(RESUME|QUASAR_NETWORK)$', '--domain', 'cabled')

    def registered():
        says(cabled, 'suspend', 'cabled')
        says(cabled, 'resume', 'cabled')
        return any(line.startswith('event RESUME at ') for line in monitor.lines())
    try:
        lab_library.wait_for('the registration', registered, 30)
        assert not any(line.startswith('event STOP') for line in monitor.lines())
        cabled.must('hostA', 'ip', 'link', 'set', support.NIC, 'down')
        lab_library.wait_for('the news', lambda: monitor.told('link-down'))
        assert "network interface net0: the host's NIC 'vnet0' is down" in says(cabled, 'dominfo', 'cabled')
        cabled.must('hostA', 'ip', 'link', 'set', support.NIC, 'up')
        lab_library.wait_for('the news', lambda: monitor.told('link-up'))
        lab_library.wait_for('the guest', lambda: vnet_guest.serves(cabled), 30)

        support.uncable(cabled)
        lab_library.wait_for('the news', lambda: monitor.told('lost'))
        assert "a guest cannot be put on 'vnet0': this host has no such NIC" in says(cabled, 'dominfo', 'cabled')
        assert [nic['mode'] for nic in nics(cabled) if nic['domain'] == 'cabled'] == ['lost']
        assert says(cabled, 'domstate', 'cabled') == 'running'
        support.cable(cabled)
        cabled.must('client', 'ip', 'addr', 'add', vnet_guest.PEER + '/24', 'dev', support.FAR)
        lab_library.wait_for('the news', lambda: monitor.told('back'), 30)
        lab_library.wait_for('the guest', lambda: vnet_guest.serves(cabled), 30)
        lab_library.wait_for('the end of all trouble', lambda: 'network interface' not in
                             says(cabled, 'dominfo', 'cabled'))
        assert len(monitor.told('lost')) == len(monitor.told('back')) == 1, monitor.lines()
    finally:
        monitor.stop()


@pytest.mark.parametrize('nic, reason', [('none0', 'this host has no such NIC'), ('lo', 'it is the loopback'),
                                         ('macvlan0', 'it gets no frames for a MAC that is not its own')])
def test_nic_that_cannot_be_had(hosts, request, nic, reason):
    if nic == 'macvlan0':
        made = hosts.exec('hostA', 'ip', 'link', 'add', nic, 'link', 'eth0', 'type', 'macvlan', 'mode', 'bridge')
        if made.returncode != 0:
            pytest.skip('this kernel has no macvlan')
        request.addfinalizer(lambda: hosts.must('hostA', 'ip', 'link', 'del', nic))
    xml = hosts.domain_xml(name='lost').replace('type="network"', 'type="direct"').replace(
        '<source network="default"/>', '<source dev="%s" mode="bridge"/>' % nic)
    problem = refusal(hosts, 'create', write(hosts, 'lost.xml', xml))
    assert "a guest cannot be put on '%s': %s" % (nic, reason) in problem
    assert 'lost' not in says(hosts, 'list', '--all', '--name')
