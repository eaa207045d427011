# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests of another architecture than the host's: <arch>i686</arch>, and what is said of those that cannot be."""
import lab as lab_library
import pytest
import world as world_library


class NarrowWorld(world_library.World):
    """Its guest has a processor of 32 bits, and a kernel and programs for it."""
    EMULATOR = 'qemu-system-i386'
    ARCH = 'i686'

    def __init__(self, lab, emulator):
        super().__init__(lab)
        self.emulator = emulator

    def start_daemon(self, host):
        self.lab.start_daemon(host, {'QUASAR_FAULT': '@/run/fault', 'QUASAR_EMULATOR_I386': self.emulator})


@pytest.fixture
def narrow(hosts):
    emulator = lab_library.built_emulator(target='i386')
    if not emulator:
        pytest.skip('no emulator for i686 guests; `make emulator-i386` builds it')
    world = NarrowWorld(hosts, emulator)
    try:
        hosts.guest_files('i686')
    except lab_library.LabMissing as reason:
        pytest.skip(str(reason))
    yield world
    world.clear()
    for host in lab_library.HOSTS:
        hosts.kill(host, 'virtquasard')
        world_library.World(hosts).start_daemon(host)


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


def test_arch_that_no_guest_can_have(hosts):
    with open(hosts.path('hostA', 'run/strange.xml'), 'w') as file:
        file.write('<domain type="qemu"><name>strange</name><memory>65536</memory><os><type arch="ppc">hvm</type></os></domain>')
    for command in (('define', '/run/strange.xml'), ('domcapabilities', '--arch', 'ppc')):
        result = hosts.virsh('hostA', *command)
        assert result.returncode != 0
        assert "guests of arch 'ppc' are not supported: x86_64 and i686 are" in result.stderr
    assert "'ppc'" not in says(hosts, 'capabilities')
