# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts that fail leave nothing and say why; guests end as their definition says."""
import os
import re

import lab as lab_library
import pytest

QEMU = 'qemu-system-x86_64'
STATUS = 'run/libvirt/quasar'
IMAGES = 'var/lib/libvirt/images'


def text(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def state(hosts, name):
    return text(hosts.virsh('hostA', 'domstate', '--reason', name))


def disk(path, kind='raw', more=''):
    return ('<disk type="file" device="disk"><driver name="qemu" type="%s"/><source file="%s"/>'
            '<target dev="vda" bus="virtio"/>%s</disk>' % (kind, path, more))


@pytest.fixture
def define(hosts):
    """Defines guests without a network, with devices of the test's; removes them afterwards."""
    names = []

    def make(name, devices='', replace=(), options=''):
        xml = re.sub('<interface.*</interface>', '', hosts.domain_xml(name=name, memory_mib=192, options=options))
        for old, new in tuple(replace) + (('<devices>', '<devices>' + devices),):
            assert old in xml
            xml = xml.replace(old, new)
        with open(hosts.path('hostA', 'run/%s.xml' % name), 'w') as file:
            file.write(xml)
        text(hosts.virsh('hostA', 'define', '/run/%s.xml' % name))
        names.append(name)
        return hosts
    yield make
    for name in names:
        hosts.virsh('hostA', 'destroy', name)
        hosts.virsh('hostA', 'undefine', name)


def image(hosts, name, mode=0o600):
    """A raw image of root's; its path inside."""
    path = hosts.path('hostA', '%s/%s' % (IMAGES, name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        file.truncate(1 << 20)
    os.chmod(path, mode)
    return '/%s/%s' % (IMAGES, name)


def owner(hosts, path):
    facts = os.stat(hosts.path('hostA', path))
    return facts.st_uid, facts.st_gid


def refused(hosts, name, *words):
    """A start that fails with these words and leaves nothing."""
    before = hosts.processes('hostA', QEMU)
    result = hosts.virsh('hostA', 'start', name)
    assert result.returncode != 0
    for word in words:
        assert word in result.stderr
    assert state(hosts, name).startswith('shut off')
    assert hosts.processes('hostA', QEMU) == before
    here = os.listdir(hosts.path('hostA', STATUS))
    assert name + '.xml' not in here
    assert not [entry for entry in here if entry.startswith('domain-') and entry.endswith('-' + name)]
    return result.stderr


def test_missing_image(define):
    path = '/%s/not-there.raw' % IMAGES
    refused(define('no-image', disk(path)), 'no-image', path, 'No such file')


def test_missing_kernel(define):
    hosts = define('no-kernel', replace=[('<kernel>/', '<kernel>/nowhere/')])
    refused(hosts, 'no-kernel', '/nowhere/', 'No such file')


def test_missing_nic(define, hosts):
    nic = '<interface type="direct"><source dev="nope7" mode="bridge"/><model type="virtio"/></interface>'
    define('no-nic', nic + disk(image(hosts, 'nic.raw')))
    refused(hosts, 'no-nic', 'nope7')
    assert owner(hosts, IMAGES + '/nic.raw') == (0, 0)


def emulator(hosts, how):
    """A program that answers as the emulator does until a guest is to run on it."""
    path = hosts.path('hostA', 'run/emulator')
    with open(path, 'w') as file:
        file.write('#!/bin/sh\ncase "$*" in *guest=*) %s;; esac\nexec /usr/bin/%s "$@"\n' % (how, QEMU))
    os.chmod(path, 0o755)
    return path


def test_emulator_that_fails(define, hosts):
    path = emulator(hosts, 'echo "no can do" >&2; exit 3')
    define('fails', '<emulator>/run/emulator</emulator>' + disk(image(hosts, 'fails.raw')))
    assert 'no can do' in refused(hosts, 'fails', 'the emulator did not start')
    assert owner(hosts, IMAGES + '/fails.raw') == (0, 0)
    os.chmod(path, 0o644)
    refused(hosts, 'fails', '/run/emulator', 'ermission denied')
    os.unlink(path)
    refused(hosts, 'fails', '/run/emulator', 'No such file')
    assert owner(hosts, IMAGES + '/fails.raw') == (0, 0)


def test_destroy_ends_a_start(define, hosts):
    """An emulator that never opens its monitor does not hold its domain."""
    emulator(hosts, 'exec tail -f /dev/null')
    define('hangs', '<emulator>/run/emulator</emulator>')
    request = hosts.popen('hostA', 'virsh', '-c', 'quasar:///system', 'start', 'hangs', stderr=-1)
    lab_library.wait_for('the emulator', lambda: hosts.processes('hostA', 'tail'))
    text(hosts.virsh('hostA', 'destroy', 'hangs'))
    assert b'destroyed while it was starting' in request.communicate(timeout=20)[1]
    assert not hosts.processes('hostA', 'tail')
    assert state(hosts, 'hangs').startswith('shut off')


def has_open(hosts, program, path):
    """Whether a process of the host that runs this program has the file open."""
    inside = hosts.path('hostA', path)
    return any(os.path.samefile('/proc/%d/fd/%s' % (pid, fd), inside)
               for pid in hosts.processes('hostA', program)
               for fd in os.listdir('/proc/%d/fd' % pid) if os.path.exists('/proc/%d/fd/%s' % (pid, fd)))


def test_image_in_use(define, hosts):
    path = image(hosts, 'held.raw')
    define('holder', disk(path))
    define('second', disk(path))
    text(hosts.virsh('hostA', 'start', 'holder'))
    refused(hosts, 'second', path, "domain 'holder'")
    # The one that failed has not taken the image from the one that runs.
    assert owner(hosts, IMAGES + '/held.raw') != (0, 0)
    text(hosts.virsh('hostA', 'destroy', 'holder'))
    assert owner(hosts, IMAGES + '/held.raw') == (0, 0)
    with hosts.popen('hostA', 'qemu-io', '-f', 'raw', path, stdin=-1, stdout=-1) as other:
        lab_library.wait_for('qemu-io', lambda: has_open(hosts, 'qemu-io', path))
        try:
            refused(hosts, 'second', path, 'process qemu-io (pid ')
        finally:
            other.stdin.close()
    lab_library.wait_for('the end of qemu-io', lambda: not hosts.processes('hostA', 'qemu-io'))
    text(hosts.virsh('hostA', 'start', 'second'))


def test_image_shared(define, hosts):
    """It is given back to its owner after the last of two, and after a daemon that was killed too."""
    path = image(hosts, 'shared.raw')
    for name in ('one', 'two'):
        define(name, disk(path, more='<shareable/>'))
        text(hosts.virsh('hostA', 'start', name))
    text(hosts.virsh('hostA', 'destroy', 'one'))
    assert owner(hosts, IMAGES + '/shared.raw') != (0, 0)
    hosts.kill('hostA', 'virtquasard')
    hosts.kill('hostA', QEMU)
    hosts.start_daemon('hostA')
    assert state(hosts, 'two') == 'shut off (crashed)'
    assert owner(hosts, IMAGES + '/shared.raw') == (0, 0)


def ends(define, name, arguments, xml=''):
    """A guest that does what busybox does with these arguments, and then nothing else."""
    hosts = define(name, replace=[('<devices>', xml + '<devices>')], options='rdinit=/bin/busybox -- ' + arguments)
    text(hosts.virsh('hostA', 'start', name))
    return hosts


def test_power_off_ends(define):
    hosts = ends(define, 'off', 'poweroff -f')
    lab_library.wait_for('the end', lambda: state(hosts, 'off') == 'shut off (shutdown)', 60)
    assert not hosts.processes('hostA', QEMU)


def test_power_off_restarts(define):
    hosts = ends(define, 'again', 'poweroff -f', '<on_poweroff>restart</on_poweroff>')
    emulators = hosts.processes('hostA', QEMU)
    watch = hosts.virsh('hostA', 'event', 'again', '--event', 'reboot', '--timeout', '60', timeout=80)
    assert "event 'reboot'" in watch.stdout
    assert hosts.processes('hostA', QEMU) == emulators


def test_power_off_preserves(define):
    hosts = ends(define, 'kept', 'poweroff -f', '<on_poweroff>preserve</on_poweroff>')
    lab_library.wait_for('the power off', lambda: not state(hosts, 'kept').startswith('running'), 60)
    assert len(hosts.processes('hostA', QEMU)) == 1
    text(hosts.virsh('hostA', 'destroy', 'kept'))
    assert state(hosts, 'kept') == 'shut off (destroyed)'


def test_reboot_ends(define):
    hosts = ends(define, 'once', 'reboot -f', '<on_reboot>destroy</on_reboot>')
    lab_library.wait_for('the end', lambda: state(hosts, 'once').startswith('shut off'), 60)
    assert not hosts.processes('hostA', QEMU)


def test_emulator_is_confined(guest):
    """No user of rank, no capability, QEMU's sandbox."""
    pid, = guest.processes('hostA', QEMU)
    with open('/proc/%d/status' % pid) as file:
        found = dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)
    assert '0' not in found['Uid'].split()
    assert int(found['CapEff'], 16) == 0 and int(found['CapPrm'], 16) == 0
    assert (found['NoNewPrivs'], found['Seccomp']) == ('1', '2')


def test_link_down(guest):
    """A NIC without carrier, from the start; the guest runs, unreached."""
    xml = text(guest.virsh('hostA', 'dumpxml', '--inactive', 'web'))
    text(guest.virsh('hostA', 'destroy', 'web'))
    with open(guest.path('hostA', 'run/web.xml'), 'w') as file:
        file.write(xml.replace('</interface>', '<link state="down"/></interface>'))
    text(guest.virsh('hostA', 'define', '/run/web.xml'))
    text(guest.virsh('hostA', 'start', 'web'))
    console = guest.popen('hostA', 'script', '-qfec', 'virsh -c quasar:///system console web', '/dev/null',
                          stdin=-1, stdout=-1)
    try:
        said = b''
        while b'quasar guest ready' not in said:
            more = os.read(console.stdout.fileno(), 4096)
            assert more
            said += more
    finally:
        console.stdin.close()
        console.stdout.close()
        console.kill()
        console.wait()
        guest.kill('hostA', 'virsh')
    assert guest.guest_get('file.sha256', 2) is None
    assert 'link state' in text(guest.virsh('hostA', 'dumpxml', 'web'))
