# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the hosts' emulators must agree on is compared before anything of a move is made at the destination."""
import os
import shutil
import subprocess

import lab as lab_library
import pytest
import world as world_library

FIRMWARE = '/var/lib/libvirt/firmware'


def plain():
    return shutil.which('qemu-system-x86_64')


def best():
    return lab_library.built_emulator() or plain()


@pytest.fixture(scope='module')
def launched(shared_world):
    """A world whose guest runs in what is the launcher of its host."""
    world = shared_world
    for host in lab_library.HOSTS:
        world.lab.give_emulator(host, best())
    world.clear()
    _, overlay = world.lab.disks()
    xml = world.lab.domain_xml(disk=overlay, memory_mib=128, file_mib=8,
                               options='quasar.memory=4:1000 quasar.disk=1048576:64')
    with open(world.lab.path('hostA', 'run/web.xml'), 'w') as file:
        file.write(xml.replace('<devices>', '<devices><emulator>%s</emulator>' % lab_library.LAUNCHER))
    assert world.lab.virsh('hostA', 'define', '/run/web.xml').returncode == 0
    world.start('hostA')
    world.wait_booted()
    yield world
    world.usable = False
    for host in lab_library.HOSTS:
        os.unlink(world.lab.path(host, lab_library.LAUNCHER))


def give_firmware(world, change):
    """The guest's firmware as B has it, but for what `change` makes of the BIOS's bytes."""
    directory = world.lab.path('hostB', FIRMWARE)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, mode=0o755)
    said = subprocess.run([best(), '-L', 'help'], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    path = next(os.path.join(place, 'bios-256k.bin') for place in said.split()
                if os.path.exists(os.path.join(place, 'bios-256k.bin')))
    with open(path, 'rb') as file, open(os.path.join(directory, 'bios-256k.bin'), 'wb') as copy:
        copy.write(change(file.read()))
    world.lab.give_emulator('hostB', '%s -L %s' % (best(), FIRMWARE))


def refused(world, *reasons):
    before = world.rounds()
    client = world.migrate()
    said = world.hear_end(client, 60)
    assert client.returncode != 0
    for reason in reasons:
        assert reason in said
    world.wait_settled(20)
    # Nothing was begun there.
    assert world.files('hostB', world_library.IMAGES) == ['base.qcow2']
    assert not world.lab.processes('hostB', world.EMULATOR)
    assert ' web ' not in world.lab.virsh('hostB', 'list', '--all').stdout
    lab_library.wait_for('the guest to go on', lambda: world.rounds() > before, 60)
    assert world.state('hostA').startswith('running')


def test_firmware_of_another_size(launched):
    give_firmware(launched, lambda data: data[len(data) // 2:])
    refused(launched, "firmware file 'bios-256k.bin' has 262144 bytes in the guest and 131072 at the destination")


def test_firmware_of_another_content(launched):
    give_firmware(launched, lambda data: bytes([data[0] ^ 1]) + data[1:])
    refused(launched, "firmware file 'bios-256k.bin' has another content", '--unsafe')


def test_machine_that_the_destination_lacks(launched):
    if not lab_library.built_emulator():
        pytest.skip('no bundled emulator; `make emulator` builds it')
    launched.lab.give_emulator('hostB', plain())
    refused(launched, "does not have the guest's machine 'pc-i440fx-quasar-7.2'")


def test_firmware_that_is_accepted(launched):
    give_firmware(launched, lambda data: bytes([data[0] ^ 1]) + data[1:])
    launched.move('--unsafe')
    assert launched.state('hostB').startswith('running')
    launched.assert_sound()
