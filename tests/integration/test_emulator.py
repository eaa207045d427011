# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which emulator a guest gets, and which moves between a bundled and a plain one are refused."""
import os
import re
import shutil
import sys

import lab as lab_library
import pytest

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'patches'))
import emulator as emulator_library  # noqa: E402  (found by the line above)

FAULT = {'QUASAR_FAULT': '@/run/fault'}
# On hostA only: /run is each host's own.
LINK = '/run/bundled'


@pytest.fixture
def unlike_hosts(hosts):
    """HostA has the bundled emulator, hostB the distribution's, which loses stores."""
    bundled, plain = emulator_library.bundled_emulator(), emulator_library.distribution_emulator()
    if not bundled:
        pytest.skip('no bundled emulator; `make emulator` builds it')
    if not plain or not re.search(r'version [5-8]\.', os.popen(plain + ' --version').read()):
        pytest.skip("the distribution's emulator has not the fault")
    link = hosts.path('hostA', LINK[1:])
    if not os.path.islink(link):
        os.symlink(os.path.dirname(os.path.dirname(bundled)), link)
    for host, binary in (('hostA', LINK + '/bin/qemu-system-x86_64'), ('hostB', plain)):
        hosts.kill(host, 'virtquasard')
        hosts.start_daemon(host, dict(FAULT, QUASAR_EMULATOR=binary))
    yield hosts
    for host in lab_library.HOSTS:
        hosts.virsh(host, 'destroy', 'web')
        hosts.virsh(host, 'undefine', 'web')
        image = hosts.path(host, 'var/lib/libvirt/images/web.qcow2')
        if os.path.exists(image):
            os.unlink(image)
        hosts.kill(host, 'virtquasard')
        hosts.start_daemon(host, FAULT)


def start(hosts, machine, nic='qemu'):
    _, overlay = hosts.disks()
    xml = hosts.domain_xml(disk=overlay, file_mib=8, options='quasar.memory=16:2000')
    if nic:
        xml = xml.replace('</interface>', '<driver name="%s"/></interface>' % nic)
    with open(hosts.path('hostA', 'run/web.xml'), 'w') as file:
        file.write(re.sub(r'<type[^>]*>hvm', '<type arch="x86_64" machine="%s">hvm' % machine, xml))
    for command in (('define', '/run/web.xml'), ('start', 'web')):
        result = hosts.virsh('hostA', *command)
        assert result.returncode == 0, result.stderr
    hosts.wait_guest()


def live_xml(hosts, host):
    return hosts.virsh(host, 'dumpxml', 'web').stdout


def move(hosts, source, destination):
    return hosts.virsh(source, 'migrate', '--live', 'web', 'quasar+tls://%s/system' % destination, timeout=120)


def test_steady_time_needs_the_bundled_one(unlike_hosts):
    start(unlike_hosts, 'q35')
    xml = live_xml(unlike_hosts, 'hostA')
    assert "machine='pc-q35-quasar-7.2'" in xml
    assert '<emulator>%s/bin/qemu-system-x86_64</emulator>' % LINK in xml
    result = move(unlike_hosts, 'hostA', 'hostB')
    assert result.returncode != 0
    assert 'pc-q35-quasar-7.2' in result.stderr
    assert 'running' in unlike_hosts.virsh('hostA', 'domstate', 'web').stdout
    assert not unlike_hosts.processes('hostB', 'qemu-system-x86_64')


def test_vhost_user_needs_the_bundled_one(unlike_hosts):
    """Which is what a guest gets that can; one that arrives is refused before anything is started for it."""
    start(unlike_hosts, 'pc-q35-7.2', nic='')
    assert "<driver name='vhost'>" in live_xml(unlike_hosts, 'hostA')
    result = move(unlike_hosts, 'hostA', 'hostB')
    assert result.returncode != 0
    assert "name='vhost'" in result.stderr and 'make emulator' in result.stderr
    assert 'running' in unlike_hosts.virsh('hostA', 'domstate', 'web').stdout
    assert not unlike_hosts.processes('hostB', 'qemu-system-x86_64')
    # Where it cannot be had, nobody has to know.
    with open(unlike_hosts.path('hostA', 'run/web.xml')) as ours, open(unlike_hosts.path('hostB', 'run/web.xml'), 'w') as file:
        file.write(ours.read().replace('<name>web<', '<name>other<'))
    defined = unlike_hosts.virsh('hostB', 'define', '/run/web.xml')
    assert defined.returncode == 0, defined.stderr
    assert "<driver name='qemu'>" in unlike_hosts.virsh('hostB', 'dumpxml', 'other').stdout
    assert unlike_hosts.virsh('hostB', 'undefine', 'other').returncode == 0


def test_live_move_off_an_emulator_that_loses_stores(unlike_hosts):
    start(unlike_hosts, 'pc-q35-7.2')
    result = move(unlike_hosts, 'hostA', 'hostB')
    assert result.returncode == 0, result.stderr
    assert '<emulator>%s</emulator>' % shutil.which('qemu-system-x86_64') in live_xml(unlike_hosts, 'hostB')
    # Its RAM came with it: a size that the plain emulator cannot send from a running guest.
    result = move(unlike_hosts, 'hostB', 'hostA')
    assert result.returncode != 0
    assert 'loses stores' in result.stderr
    assert 'running' in unlike_hosts.virsh('hostB', 'domstate', 'web').stdout
    assert unlike_hosts.virsh('hostB', 'suspend', 'web').returncode == 0
    result = move(unlike_hosts, 'hostB', 'hostA')
    assert result.returncode == 0, result.stderr
    assert unlike_hosts.virsh('hostA', 'resume', 'web').returncode == 0
    lab_library.wait_for('a pass over the memory', lambda: (unlike_hosts.guest_get('memory') or '').strip().endswith('errors 0'), 60)


def test_code_is_translated_before_the_guest_comes(guest):
    if not emulator_library.bundled_emulator():
        pytest.skip('no bundled emulator; `make emulator` builds it')
    result = guest.virsh('hostA', 'migrate', '--live', 'web', 'quasar+tls://hostB/system', timeout=120)
    assert result.returncode == 0, result.stderr
    with open(guest.path('hostB', 'var/log/libvirt/quasar/web.log'), encoding='utf-8', errors='replace') as file:
        said = re.findall(r'translated (\d+) blocks of code on \d+ pages before the guest came, (\d+) across two', file.read())
    # A Linux that serves a network has run thousands, and instructions across the ends of dozens of its pages.
    assert said
    translated, across = map(int, said[-1])
    assert translated > 1000 and across > 20
