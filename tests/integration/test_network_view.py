# SPDX-License-Identifier: LGPL-2.1-or-later
"""What administrators see of a guest's network, with stock virsh and with quasarctl."""
import json
import os
import signal

import lab as lab_library
import pytest
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
