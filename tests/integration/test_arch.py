# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests of another architecture than the host's: i686, ppc64le, and what is said of those that cannot be."""
import contextlib
import time

import lab as lab_library
import pytest
import world as world_library


class OtherWorld(world_library.World):
    """Its guest has a processor of another kind, and a kernel and programs for it."""
    TARGET = None

    def __init__(self, lab, emulator):
        super().__init__(lab)
        self.emulator = emulator

    def start_daemon(self, host):
        self.lab.start_daemon(host, {'QUASAR_FAULT': '@/run/fault', 'QUASAR_EMULATOR_' + self.TARGET.upper(): self.emulator})


class NarrowWorld(OtherWorld):
    EMULATOR = 'qemu-system-i386'
    ARCH, TARGET, MAKE = 'i686', 'i386', 'emulator-i386'


class PowerWorld(OtherWorld):
    EMULATOR = 'qemu-system-ppc64'
    ARCH, TARGET, MAKE = 'ppc64le', 'ppc64', 'emulator-ppc'

    def definition(self, disk, blocks):
        # Each processor has a timer of its own.
        return super().definition(disk, blocks).replace('<vcpu>1</vcpu>', '<vcpu>2</vcpu>')


@contextlib.contextmanager
def other_world(hosts, kind):
    emulator = lab_library.built_emulator(target=kind.TARGET)
    if not emulator:
        pytest.skip('no emulator for %s guests; `make %s` builds it' % (kind.ARCH, kind.MAKE))
    world = kind(hosts, emulator)
    try:
        hosts.guest_files(kind.ARCH)
    except lab_library.LabMissing as reason:
        pytest.skip(str(reason))
    yield world
    world.clear()
    for host in lab_library.HOSTS:
        hosts.kill(host, 'virtquasard')
        world_library.World(hosts).start_daemon(host)


@pytest.fixture
def narrow(hosts):
    with other_world(hosts, NarrowWorld) as world:
        yield world


@pytest.fixture
def power(hosts):
    with other_world(hosts, PowerWorld) as world:
        yield world


def says(lab, *command):
    result = lab.virsh('hostA', *command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_guest_of_32_bits_moves(narrow):
    narrow.reset()
    shown = says(narrow.lab, 'dumpxml', 'web')
    assert "<type arch='i686' machine='pc-i440fx-quasar-7.2'>" in shown
    assert '<emulator>%s</emulator>' % narrow.emulator in shown
    assert '<model fallback=\'forbid\'>qemu32</model>' in shown
    assert "<arch name='i686'>" in says(narrow.lab, 'capabilities')
    offered = says(narrow.lab, 'domcapabilities', '--arch', 'i686')
    assert '<arch>i686</arch>' in offered and '<path>%s</path>' % narrow.emulator in offered
    narrow.wait_booted()
    for _ in range(2):
        narrow.move()
        narrow.assert_runs(narrow.source)


def test_guest_of_powerpc_moves(power):
    """Its memory, disk and network are checked after each move; its clock goes on, and so does what waits for it."""
    power.reset()
    shown = says(power.lab, 'dumpxml', 'web')
    assert "<type arch='ppc64le' machine='pseries-7.2'>" in shown
    assert '<emulator>%s</emulator>' % power.emulator in shown
    assert "<model fallback='forbid'>POWER9</model>" in shown
    assert "<address type='spapr-vio' reg='0x30000000'/>" in shown
    assert "<driver name='vhost'>" in shown
    capabilities = says(power.lab, 'capabilities')
    assert "<arch name='ppc64le'>" in capabilities and "<arch name='ppc64'>" in capabilities
    for arch in ('ppc64le', 'ppc64'):
        offered = says(power.lab, 'domcapabilities', '--arch', arch)
        assert '<arch>%s</arch>' % arch in offered and '<path>%s</path>' % power.emulator in offered
        assert "<patch name='decrementer' supported='yes'/>" in offered and 'guest-time' not in offered
    power.wait_booted()
    for _ in range(3):
        power.move()
        power.assert_runs(power.source)


def test_powerpc_guest_keeps_its_time(power):
    """What it has lived, in its own seconds, is what has passed, but for the pauses. Its NIC is emulated whole."""
    def lived():
        return float(power.in_guest('cat /proc/uptime').split()[0])
    power.model = 'e1000'
    power.reset()
    power.wait_booted()
    for _ in range(2):
        begin, uptime = time.monotonic(), lived()
        power.move()
        # A sleep ends by the timer that moved, or by the one that was set after it.
        power.in_guest('sleep 2')
        after = lived()
        passed = time.monotonic() - begin
        assert uptime + 2 < after < uptime + passed + 0.1


def test_powerpc_guest_that_is_shut_down(power):
    power.reset()
    power.wait_booted()
    says(power.lab, 'shutdown', 'web')
    lab_library.wait_for('the end of the guest', lambda: power.state('hostA') == 'shut off (shutdown)', 30)


def test_arch_that_no_guest_can_have(hosts):
    with open(hosts.path('hostA', 'run/strange.xml'), 'w') as file:
        file.write('<domain type="qemu"><name>strange</name><memory>65536</memory><os><type arch="ppc">hvm</type></os></domain>')
    for command in (('define', '/run/strange.xml'), ('domcapabilities', '--arch', 'ppc')):
        result = hosts.virsh('hostA', *command)
        assert result.returncode != 0
        assert "guests of arch 'ppc' are not supported: x86_64, i686, ppc64 and ppc64le are" in result.stderr
    assert "'ppc'" not in says(hosts, 'capabilities')


def test_powerpc_guest_is_never_accelerated_here(hosts):
    with open(hosts.path('hostA', 'run/strange.xml'), 'w') as file:
        file.write('<domain type="kvm"><name>strange</name><memory>65536</memory><os><type arch="ppc64le">hvm</type></os></domain>')
    result = hosts.virsh('hostA', 'define', '/run/strange.xml')
    assert result.returncode != 0
    assert "guests of arch 'ppc64le' cannot be here" in result.stderr or 'there is no emulator' in result.stderr
