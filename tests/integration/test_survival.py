# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests outlive virtquasard: whatever it was doing when it ended, the next one finds them as they are."""
import contextlib
import os
import re
import select
import signal
import subprocess

import lab as lab_library
import pytest

QEMU = 'qemu-system-x86_64'
STATUS = 'run/libvirt/quasar'
POWER_OFF = 'rdinit=/bin/busybox -- poweroff -f'


def text(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def state(hosts, name='web'):
    return text(hosts.virsh('hostA', 'domstate', '--reason', name))


def crash(hosts, number=signal.SIGKILL):
    assert hosts.kill('hostA', 'virtquasard', number) == 1


def status_path(hosts, name):
    return hosts.path('hostA', '%s/%s.xml' % (STATUS, name))


def status(hosts, name):
    with open(status_path(hosts, name)) as file:
        return file.read()


def pid_of(hosts, name):
    """As the host's own namespace counts."""
    return re.search(r' pid=[\'"](\d+)', status(hosts, name)).group(1)


def directories(hosts):
    return [name for name in os.listdir(hosts.path('hostA', STATUS)) if name.startswith('domain-')]


def signal_process(hosts, pid, number):
    # The shell's own: a minimal system has no other.
    hosts.must('hostA', 'sh', '-c', 'kill -%d %s' % (number, pid))


def send_signal(hosts, name, number):
    """To a guest's emulator."""
    signal_process(hosts, pid_of(hosts, name), number)


@pytest.fixture
def small(hosts):
    """Defines guests without a network, so that many run side by side; removes them afterwards."""
    names = []

    def make(*wanted, replace=(), options=''):
        for name in wanted:
            xml = hosts.domain_xml(name=name, memory_mib=192, options=options)
            xml = re.sub('<interface.*</interface>', '', xml)
            for old, new in replace:
                assert old in xml
                xml = xml.replace(old, new)
            with open(hosts.path('hostA', 'run/%s.xml' % name), 'w') as file:
                file.write(xml)
            text(hosts.virsh('hostA', 'define', '/run/%s.xml' % name))
            names.append(name)
        return hosts
    yield make
    if not hosts.processes('hostA', 'virtquasard'):
        hosts.start_daemon('hostA')
    for name in names:
        hosts.virsh('hostA', 'destroy', name)
        hosts.virsh('hostA', 'undefine', name)


@contextlib.contextmanager
def console(hosts, name):
    process = hosts.popen('hostA', 'script', '-qec', 'virsh -c quasar:///system console ' + name, '/dev/null',
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = b''
        while b'Connected to domain' not in said:
            assert select.select([process.stdout], [], [], 20)[0], said
            more = os.read(process.stdout.fileno(), 4096)
            assert more, said
            said += more
        yield
    finally:
        process.stdin.close()
        process.stdout.close()
        process.kill()
        process.wait()
        hosts.kill('hostA', 'virsh')


def test_running_guest_with_console_and_network(guest):
    before = text(guest.virsh('hostA', 'dumpxml', 'web'))
    emulators, vnets = guest.processes('hostA', QEMU), guest.processes('hostA', 'quasar-vnet')
    with console(guest, 'web'):
        crash(guest)
    assert guest.guest_get('memory')
    guest.start_daemon('hostA')
    assert state(guest).startswith('running')
    assert guest.processes('hostA', QEMU) == emulators
    assert guest.processes('hostA', 'quasar-vnet') == vnets
    assert text(guest.virsh('hostA', 'dumpxml', 'web')) == before
    # The console is nobody's now, and the guest obeys.
    with console(guest, 'web'):
        pass
    text(guest.virsh('hostA', 'suspend', 'web'))
    assert guest.guest_get('memory', 1) is None
    text(guest.virsh('hostA', 'resume', 'web'))
    assert guest.guest_get('memory')


def test_sigterm_ends_the_daemon_alone(guest):
    emulators = guest.processes('hostA', QEMU)
    crash(guest, signal.SIGTERM)
    assert guest.daemon_log('hostA').rstrip().endswith('guests run on')
    assert guest.guest_get('memory')
    guest.start_daemon('hostA')
    assert guest.processes('hostA', QEMU) == emulators
    assert state(guest).startswith('running')


def test_vnet_is_started_again(guest):
    """Killed while the daemon runs, and while it does not."""
    for daemon in (True, False):
        if not daemon:
            crash(guest)
        assert guest.kill('hostA', 'quasar-vnet') == 1
        if not daemon:
            assert guest.guest_get('memory', 1) is None
            guest.start_daemon('hostA')
        lab_library.wait_for('the way back to the guest', lambda: guest.guest_get('memory', 1), 60)
        assert len(guest.processes('hostA', 'quasar-vnet')) == 1
        assert state(guest).startswith('running')
    # It belongs to the guest and goes with it.
    text(guest.virsh('hostA', 'destroy', 'web'))
    lab_library.wait_for('the end of quasar-vnet', lambda: not guest.processes('hostA', 'quasar-vnet'))


def test_paused_and_booting_guests(small):
    hosts = small('asleep', 'never-ran', 'booting')
    text(hosts.virsh('hostA', 'start', 'asleep'))
    text(hosts.virsh('hostA', 'suspend', 'asleep'))
    text(hosts.virsh('hostA', 'start', '--paused', 'never-ran'))
    text(hosts.virsh('hostA', 'start', 'booting'))
    crash(hosts)
    hosts.start_daemon('hostA')
    assert state(hosts, 'asleep') == 'paused (user)'
    assert state(hosts, 'never-ran').startswith('paused')
    assert state(hosts, 'booting').startswith('running')
    text(hosts.virsh('hostA', 'resume', 'never-ran'))
    assert state(hosts, 'never-ran').startswith('running')


def test_guest_that_died_meanwhile(small):
    hosts = small('died', 'stays', 'reused')
    for name in ('died', 'stays', 'reused'):
        text(hosts.virsh('hostA', 'start', name))
    crash(hosts)
    for name in ('died', 'reused'):
        send_signal(hosts, name, signal.SIGKILL)
    lab_library.wait_for('the deaths', lambda: len(hosts.processes('hostA', QEMU)) == 1)
    # Another process has the number now.
    sleeper = hosts.popen('hostA', 'sh', '-c', 'echo $$; exec tail -f /dev/null', stdout=subprocess.PIPE)
    try:
        number = sleeper.stdout.readline().decode().strip()
        changed = re.sub(r' pid=([\'"])\d+', r' pid=\g<1>' + number, status(hosts, 'reused'))
        with open(status_path(hosts, 'reused'), 'w') as file:
            file.write(changed)
        hosts.start_daemon('hostA')
        assert state(hosts, 'died') == 'shut off (crashed)'
        assert state(hosts, 'reused') == 'shut off (crashed)'
        assert state(hosts, 'stays').startswith('running')
        assert sleeper.poll() is None
        assert not os.path.exists(status_path(hosts, 'died'))
        assert len(directories(hosts)) == 1
    finally:
        hosts.kill('hostA', 'tail')
        sleeper.communicate()


def test_guest_that_powered_off_meanwhile(small):
    hosts = small('off', options=POWER_OFF)
    text(hosts.virsh('hostA', 'start', '--paused', 'off'))
    text(hosts.virsh('hostA', 'resume', 'off'))
    crash(hosts)
    monitor, = directories(hosts)
    ask = ('import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); '
           's.connect("/%s/%s/monitor.sock"); f = s.makefile("rw"); f.readline(); '
           'f.write("{\\"execute\\": \\"qmp_capabilities\\"}\\n{\\"execute\\": \\"query-status\\"}\\n"); f.flush(); '
           'f.readline(); print(f.readline())' % (STATUS, monitor))
    # The daemon is not there to see it, and the emulator stays, because it is told to.
    lab_library.wait_for('the guest to power off',
                         lambda: 'shutdown' in hosts.exec('hostA', '/usr/bin/python3', '-c', ask).stdout, 60)
    hosts.start_daemon('hostA')
    lab_library.wait_for('the end', lambda: state(hosts, 'off') == 'shut off (shutdown)')
    assert not hosts.processes('hostA', QEMU)


def test_destroy_that_was_cut_off(small):
    hosts = small('victim')
    text(hosts.virsh('hostA', 'start', 'victim'))
    send_signal(hosts, 'victim', signal.SIGSTOP)
    request = hosts.popen('hostA', 'virsh', '-c', 'quasar:///system', 'destroy', 'victim', stderr=subprocess.DEVNULL)
    lab_library.wait_for('the request', lambda: re.search('destroying=[\'"]yes', status(hosts, 'victim')))
    crash(hosts)
    request.wait(20)
    with contextlib.suppress(lab_library.LabError):
        send_signal(hosts, 'victim', signal.SIGTERM)
        send_signal(hosts, 'victim', signal.SIGCONT)
    lab_library.wait_for('the end', lambda: not hosts.processes('hostA', QEMU))
    hosts.start_daemon('hostA')
    assert state(hosts, 'victim') == 'shut off (destroyed)'


def test_start_that_was_cut_off(small):
    """No half-started emulator is left, and the guest can be started again."""
    hosts = small()
    slow = hosts.path('hostA', 'run/slow-emulator')
    with open(slow, 'w') as file:
        file.write('#!/bin/sh\ncase "$*" in *guest=*) [ -e /run/fast ] || exec tail -f /dev/null;; esac\n'
                   'exec /usr/bin/%s "$@"\n' % QEMU)
    os.chmod(slow, 0o755)
    small('early', replace=[('<devices>', '<devices><emulator>/run/slow-emulator</emulator>')])
    request = hosts.popen('hostA', 'virsh', '-c', 'quasar:///system', 'start', 'early', stderr=subprocess.DEVNULL)
    lab_library.wait_for('the emulator', lambda: hosts.processes('hostA', 'tail'))
    crash(hosts)
    request.wait(20)
    hosts.start_daemon('hostA')
    assert state(hosts, 'early') == 'shut off (failed)'
    assert not directories(hosts)
    with open(hosts.path('hostA', 'run/fast'), 'w'):
        pass
    text(hosts.virsh('hostA', 'start', 'early'))
    assert state(hosts, 'early').startswith('running')


def test_frozen_emulator(small):
    """It keeps its last known state, and obeys again once it is thawed."""
    hosts = small('frozen')
    text(hosts.virsh('hostA', 'start', 'frozen'))
    send_signal(hosts, 'frozen', signal.SIGSTOP)
    crash(hosts)
    hosts.start_daemon('hostA')
    assert state(hosts, 'frozen').startswith('running')
    send_signal(hosts, 'frozen', signal.SIGCONT)
    lab_library.wait_for('the monitor', lambda: hosts.virsh('hostA', 'suspend', 'frozen').returncode == 0, 60)
    assert state(hosts, 'frozen') == 'paused (user)'


@pytest.mark.parametrize('damage', ['truncated', 'garbage', 'empty'])
def test_damaged_status_file(small, damage):
    hosts = small('damaged', 'sound')
    for name in ('damaged', 'sound'):
        text(hosts.virsh('hostA', 'start', name))
    number = pid_of(hosts, 'damaged')
    crash(hosts)
    with open(status_path(hosts, 'damaged'), 'r+') as file:
        file.truncate({'truncated': 400, 'garbage': 0, 'empty': 0}[damage])
        if damage == 'garbage':
            file.write('<domstatus id="x"><nonsense/></domstatus>')
    hosts.start_daemon('hostA')
    log = hosts.daemon_log('hostA')
    assert re.search(STATUS + r'/damaged.xml is left alone: .', log)
    assert re.findall(r"process (\d+) runs a guest \(guest=(\w+).*'kill (\d+)'", log)[-1] == (number, 'damaged', number)
    assert 'guest=sound' not in log
    assert state(hosts, 'sound').startswith('running')
    # Its guest runs, unseen; another of it must not.
    refused = hosts.virsh('hostA', 'start', 'damaged')
    assert refused.returncode != 0
    assert 'process %s' % number in refused.stderr and "'kill %s'" % number in refused.stderr
    signal_process(hosts, number, signal.SIGKILL)
    lab_library.wait_for('the end', lambda: len(hosts.processes('hostA', QEMU)) == 1)
    text(hosts.virsh('hostA', 'start', 'damaged'))


def test_second_daemon_refuses(small):
    hosts = small('kept')
    text(hosts.virsh('hostA', 'start', 'kept'))
    daemons = hosts.processes('hostA', 'virtquasard')
    second = hosts.exec('hostA', os.path.join(hosts.build, 'run'), 'virtquasard')
    assert second.returncode != 0
    assert 'another virtquasard (pid ' in second.stderr + second.stdout
    assert hosts.processes('hostA', 'virtquasard') == daemons
    assert state(hosts, 'kept').startswith('running')


def test_guests_start_with_the_host_once(small):
    """An autostart guest that was destroyed stays so when only the daemon starts again."""
    hosts = small('auto')
    text(hosts.virsh('hostA', 'autostart', 'auto'))
    crash(hosts, signal.SIGTERM)
    # As after a boot.
    os.unlink(hosts.path('hostA', STATUS + '/autostarted'))
    hosts.start_daemon('hostA')
    lab_library.wait_for('the start', lambda: state(hosts, 'auto').startswith('running'))
    text(hosts.virsh('hostA', 'destroy', 'auto'))
    crash(hosts, signal.SIGTERM)
    hosts.start_daemon('hostA')
    assert state(hosts, 'auto').startswith('shut off')


def test_service_unit():
    """What systemd does at a restart is in the unit; systemd itself is not there to be asked."""
    with open(os.path.join(lab_library.SOURCE, 'driver', 'virtquasard.service.in')) as file:
        lines = file.read().split('\n')
    assert 'KillMode=process' in lines
    assert 'OOMPolicy=continue' in lines
    assert not [line for line in lines if line.startswith('RuntimeDirectory=')]
