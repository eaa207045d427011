# SPDX-License-Identifier: LGPL-2.1-or-later
"""Saving and restoring a guest with stock virsh: what must survive, and what must stay when it fails."""
import contextlib
import os
import re
import subprocess

import lab as lab_library
import pytest
import world as world_library
from test_anchor import is_linked, records, session, wait_linked, wait_records
from test_console import Terminal, assert_talks
from test_events import RESUMED, STARTED, STOPPED, SUSPENDED, listening

FILE = '/run/web.saved'
SAVES = world_library.STATE + '/save'
PENDING = world_library.STATE + '/saving'
TITLE = '<title>Saved</title>'


def ok(result):
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def refused(result, *words):
    assert result.returncode != 0, result.stdout
    for word in words:
        assert word in result.stderr, result.stderr
    return result.stderr


class Saves:
    """The guest of a world, and what virsh on its host says of it."""

    def __init__(self, world):
        self.world = world
        self.lab = world.lab

    def virsh(self, *command, **options):
        return self.lab.virsh(self.world.source, *command, **options)

    @property
    def state(self):
        return self.world.state(self.world.source)

    def path(self, name=FILE):
        return self.lab.path(self.world.source, name.lstrip('/'))

    def files(self):
        """What is there of saves, finished or not."""
        names = [name for name in self.world.files(self.world.source, 'run') if name.startswith('web.saved')]
        return names + self.world.files(self.world.source, SAVES)

    def begin(self, *command):
        """A command that is to be held at a stage."""
        output = subprocess.PIPE
        return self.lab.popen(self.world.source, 'virsh', '-c', 'quasar:///system', *command, stdout=output,
                              stderr=subprocess.STDOUT, universal_newlines=True)

    def stand_at(self, point, *command):
        self.world.hold(self.world.source, point)
        client = self.begin(*command)
        held = self.lab.path(self.world.source, 'run/fault.held')
        with contextlib.suppress(lab_library.LabError):
            lab_library.wait_for('the stage', lambda: os.path.exists(held) or client.poll() is not None, 60)
        assert client.poll() is None, client.communicate()[0]
        return client

    def end(self, client):
        self.world.let_go(self.world.source)
        return client.communicate(timeout=60)[0]

    def assert_goes_on(self):
        """It runs as if nothing had been, and nothing is left of the save."""
        lab_library.wait_for('the guest to run', lambda: self.state.startswith('running'), 30)
        lab_library.wait_for('the end of its job', lambda: self.world.has_no_job(self.world.source), 30)
        assert self.files() == [] and self.world.files(self.world.source, PENDING) == []
        # Its emulator has forgotten it too.
        ok(self.virsh('save', 'web', FILE))
        ok(self.virsh('restore', FILE))
        os.unlink(self.path())
        self.world.assert_sound()


@pytest.fixture
def saves(world):
    world.wait_booted()
    if world.source != 'hostA':
        world.move()
    made = Saves(world)
    yield made
    # Also where the guest was before.
    for host in world.lab.hosts:
        for directory in ('run', SAVES):
            for name in world.files(host, directory):
                if name.startswith('web.save'):
                    os.unlink(world.lab.path(host, os.path.join(directory, name)))


def uptime(world):
    return float(world.in_guest('cat /proc/uptime').split()[0])


def test_a_guest_goes_on_where_it_was(saves):
    world = saves.world
    with listening(saves.lab, 'hostA') as listener, session(saves.lab) as user:
        user.type()
        rounds, acknowledged, up = world.rounds(), world.acknowledged(), uptime(world)
        ok(saves.virsh('save', 'web', FILE))
        assert saves.state == 'shut off (saved)'
        assert saves.files() == ['web.saved'] and world.files('hostA', PENDING) == []
        assert not saves.lab.processes('hostA', world.EMULATOR) and not saves.lab.processes('hostA', 'quasar-vnet')
        assert ok(saves.virsh('domjobinfo', '--completed', 'web')).split('\n')[0].split()[-1] == 'Completed'
        ok(saves.virsh('restore', FILE))
        assert saves.state == 'running (restored)'
        # What was open stays open, and the memory is the one of before.
        user.type()
        assert world.rounds() >= rounds and world.acknowledged() >= acknowledged
        # Its clock stood while it was away.
        assert up <= uptime(world) < up + 600
        assert listener.lifecycle() == [(SUSPENDED, 0), (STOPPED, 4), (STARTED, 2), (RESUMED, 2)]
    world.assert_sound()
    console = Terminal(saves.lab, 'console', 'web')
    try:
        console.expect('Escape character')
        assert_talks(console, 42)
        assert console.leave() == 0
    finally:
        console.close()
    # The guest is as movable as before, whatever its emulator has read.
    world.move()
    world.assert_runs('hostB')


def test_running_and_paused(saves):
    ok(saves.virsh('save', '--paused', '--bypass-cache', 'web', FILE))
    ok(saves.virsh('restore', FILE))
    assert saves.state == 'paused (user)'
    ok(saves.virsh('resume', 'web'))
    saves.world.assert_sound()
    ok(saves.virsh('suspend', 'web'))
    ok(saves.virsh('save', 'web', FILE))
    ok(saves.virsh('restore', '--bypass-cache', FILE))
    assert saves.state == 'paused (user)'
    ok(saves.virsh('save', 'web', FILE))
    ok(saves.virsh('restore', '--running', FILE))
    assert saves.state == 'running (restored)'
    refused(saves.virsh('save', '--paused', '--running', 'web', FILE), 'exclu')
    saves.world.assert_sound()


def put_xml(saves, xml):
    with open(saves.lab.path('hostA', 'run/saved.xml'), 'w') as file:
        file.write(xml)
    return '/run/saved.xml'


def titled(xml):
    return re.sub('(<name>web</name>)', r'\1' + TITLE, xml)


def test_the_xml_of_a_saved_guest(saves):
    own = ok(saves.virsh('dumpxml', '--migratable', 'web'))
    more = own.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<")
    more = re.sub('(<memory[^>]*>)', r'\g<1>1', own) if more == own else more
    refused(saves.virsh('save', 'web', FILE, '--xml', put_xml(saves, more)), 'other hardware')
    saves.assert_goes_on()
    ok(saves.virsh('save', 'web', FILE, '--xml', put_xml(saves, titled(own))))
    dumped = ok(saves.virsh('save-image-dumpxml', FILE))
    assert TITLE in dumped and '<name>web</name>' in dumped
    changed = dumped.replace(TITLE, '<title>Changed</title>')
    ok(saves.virsh('save-image-define', FILE, put_xml(saves, changed), '--paused'))
    assert '<title>Changed</title>' in ok(saves.virsh('save-image-dumpxml', FILE))
    before = open(saves.path(), 'rb').read()
    refused(saves.virsh('save-image-define', FILE, put_xml(saves, more)), 'other hardware')
    other = re.sub('<uuid>.*</uuid>', '<uuid>6f2b8a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b</uuid>', dumped)
    refused(saves.virsh('restore', FILE, '--xml', put_xml(saves, other)), 'the saved state is of guest')
    assert open(saves.path(), 'rb').read() == before and saves.files() == ['web.saved']
    refused(saves.lab.exec('hostA', 'virsh', '-r', '-c', 'quasar:///system', 'save-image-dumpxml', FILE), 'read only')
    edited = saves.lab.exec('hostA', 'env', 'EDITOR=sed -i s/title.Changed/title\\>Edited/', 'virsh', '-c',
                            'quasar:///system', 'save-image-edit', FILE)
    assert edited.returncode == 0 and '<title>Edited' in ok(saves.virsh('save-image-dumpxml', FILE)), edited.stderr
    ok(saves.virsh('save-image-define', FILE, put_xml(saves, changed), '--paused'))
    ok(saves.virsh('restore', FILE))
    assert saves.state == 'paused (user)' and ok(saves.virsh('desc', '--title', 'web')) == 'Changed'
    ok(saves.virsh('resume', 'web'))
    saves.world.assert_sound()


PARAMS = """
import libvirt
connection = libvirt.open('quasar:///system')
domain = connection.lookupByName('web')
for wrong in ({libvirt.VIR_DOMAIN_SAVE_PARAM_FILE: '%(file)s', 'parallel.channels': 'x'},):
    try:
        domain.saveParams(wrong, 0)
        print('taken', wrong)
    except libvirt.libvirtError as error:
        print(error.get_error_code() == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)
domain.saveParams({libvirt.VIR_DOMAIN_SAVE_PARAM_FILE: '%(file)s'}, 0)
connection.restoreParams({libvirt.VIR_DOMAIN_SAVE_PARAM_FILE: '%(file)s'}, libvirt.VIR_DOMAIN_SAVE_PAUSED)
"""


def test_saving_by_parameters(saves):
    done = saves.lab.exec('hostA', '/usr/bin/python3', '-c', PARAMS % {'file': FILE})
    assert done.returncode == 0 and done.stdout == 'True\n', done.stdout + done.stderr
    assert saves.state == 'paused (user)'
    ok(saves.virsh('resume', 'web'))
    saves.world.assert_sound()


def test_managed_save(saves):
    world = saves.world
    rounds = world.rounds()
    ok(saves.virsh('managedsave', '--verbose', 'web'))
    assert saves.state == 'shut off (saved)' and saves.files() == ['web.save']
    assert re.search('Managed save: +yes', ok(saves.virsh('dominfo', 'web')))
    assert ok(saves.virsh('list', '--all', '--name', '--with-managed-save')) == 'web'
    assert ok(saves.virsh('list', '--all', '--name', '--without-managed-save')) == ''
    assert re.search('web +saved', ok(saves.virsh('list', '--all', '--managed-save')))
    xml = ok(saves.virsh('managedsave-dumpxml', 'web'))
    ok(saves.virsh('managedsave-define', 'web', put_xml(saves, titled(xml))))
    assert TITLE in ok(saves.virsh('managedsave-dumpxml', 'web'))
    refused(saves.virsh('undefine', 'web'), 'managed save')
    # A daemon that comes later knows it too.
    world.kill('hostA', 'virtquasard')
    world.start_daemon('hostA')
    assert re.search('Managed save: +yes', ok(saves.virsh('dominfo', 'web')))
    ok(saves.virsh('start', 'web'))
    assert saves.state == 'running (restored)' and saves.files() == []
    assert ok(saves.virsh('desc', '--title', 'web')) == 'Saved'
    assert re.search('Managed save: +no', ok(saves.virsh('dominfo', 'web')))
    assert world.rounds() >= rounds
    world.assert_sound()
    refused(saves.virsh('managedsave-dumpxml', 'web'), 'does not have a managed save')
    ok(saves.virsh('managedsave', '--paused', 'web'))
    ok(saves.virsh('start', 'web'))
    assert saves.state == 'paused (user)'
    ok(saves.virsh('managedsave', '--running', 'web'))
    ok(saves.virsh('start', '--force-boot', 'web'))
    assert saves.state == 'running (booted)' and saves.files() == []
    world.wait_booted()


def test_managed_saves_that_go(saves):
    ok(saves.virsh('managedsave', 'web'))
    ok(saves.virsh('managedsave-remove', 'web'))
    assert saves.files() == [] and re.search('Managed save: +no', ok(saves.virsh('dominfo', 'web')))
    ok(saves.virsh('start', 'web'))
    assert saves.state == 'running (booted)'
    saves.world.wait_booted()
    ok(saves.virsh('managedsave', 'web'))
    xml = ok(saves.virsh('dumpxml', '--inactive', 'web'))
    file = saves.path(os.path.join(SAVES, 'web.save'))
    os.link(file, file + '.kept')
    ok(saves.virsh('undefine', '--managed-save', 'web'))
    assert not os.path.exists(file) and saves.virsh('domstate', 'web').returncode != 0
    # One that another guest of this name has left is not this one's.
    os.rename(file + '.kept', file)
    other = re.sub('<uuid>.*</uuid>', '<uuid>6f2b8a1c-3d4e-4f50-8a6b-7c8d9e0f1a2b</uuid>', xml)
    ok(saves.virsh('define', put_xml(saves, other)))
    saves.world.kill('hostA', 'virtquasard')
    saves.world.start_daemon('hostA')
    refused(saves.virsh('start', 'web'), 'is of another guest', '--force-boot')
    ok(saves.virsh('undefine', '--managed-save', 'web'))
    assert saves.files() == []
    # A transient guest has none, but can be saved in a file.
    ok(saves.virsh('create', put_xml(saves, xml)))
    saves.world.wait_booted()
    refused(saves.virsh('managedsave', 'web'), 'transient')
    ok(saves.virsh('save', 'web', FILE))
    assert saves.virsh('domstate', 'web').returncode != 0
    ok(saves.virsh('restore', FILE))
    assert re.search('Persistent: +no', ok(saves.virsh('dominfo', 'web')))
    saves.world.assert_sound()
    saves.world.spoilt = True


def flipped(content, offset):
    return content[:offset] + bytes((content[offset] ^ 1,)) + content[offset + 1:]


def test_what_is_no_saved_guest_of_now_is_refused(saves):
    lab, world = saves.lab, saves.world
    refused(saves.virsh('restore', '/run/nothing'), '/run/nothing', 'No such file')
    refused(saves.virsh('restore', '/dev/zero'), 'no ordinary file')
    ok(saves.virsh('save', 'web', FILE))
    whole = open(saves.path(), 'rb').read()
    for name, content, words in (('web.saved.other', b'x' * 8192, 'no guest that Quasar has saved'),
                                 ('web.saved.cut', whole[:-1], 'it was cut'),
                                 ('web.saved.head', flipped(whole, 50), 'damaged'),
                                 ('web.saved.text', flipped(whole, 100), 'damaged')):
        with open(lab.path('hostA', 'run/' + name), 'wb') as file:
            file.write(content)
        refused(saves.virsh('restore', '/run/' + name), name, words)
        os.unlink(lab.path('hostA', 'run/' + name))
    # A stream that the emulator does not understand ends it, and nothing has happened.
    stream = int.from_bytes(whole[24:32], 'big')
    with open(lab.path('hostA', 'run/web.saved.stream'), 'wb') as file:
        file.write(whole[:stream] + b'x' * 64 + whole[stream + 64:])
    refused(saves.virsh('restore', '/run/web.saved.stream'), 'web.saved.stream', 'ended while it was being restored')
    os.unlink(lab.path('hostA', 'run/web.saved.stream'))
    assert saves.state.startswith('shut off') and not lab.processes('hostA', 'quasar-vnet')
    ok(saves.virsh('restore', FILE))
    refused(saves.virsh('restore', FILE), 'already running')
    world.assert_sound()
    # Its disk is not any more what the guest in the file remembers.
    ok(saves.virsh('destroy', 'web'))
    refused(saves.virsh('restore', FILE), 'was changed', 'web.qcow2')
    assert saves.state == 'shut off (destroyed)'
    world.spoilt = True


def test_files_that_cannot_be_written(saves):
    lab, world = saves.lab, saves.world
    refused(saves.virsh('save', 'web', '/run/nowhere/web.saved'), '/run/nowhere/web.saved')
    refused(saves.virsh('save', 'web', '/run'), 'no ordinary file')
    refused(saves.virsh('save', 'web', '/%s/web.qcow2' % world_library.IMAGES), 'is in use by')
    saves.assert_goes_on()
    # Full before it is whole.
    small = '/run/small'
    os.makedirs(lab.path('hostA', small[1:]), exist_ok=True)
    lab.must('hostA', 'mount', '-t', 'tmpfs', '-o', 'size=8m', 'quasar-small', small)
    try:
        refused(saves.virsh('save', 'web', small + '/web.saved'), 'No space left')
        assert lab.must('hostA', 'ls', small) == ''
        saves.assert_goes_on()
    finally:
        lab.must('hostA', 'umount', small)
    with open(saves.path('/run/web.saved.old'), 'w') as file:
        file.write('former')
    # What had the name keeps it until the new one is whole.
    client = saves.stand_at('save-written', 'save', 'web', '/run/web.saved.old')
    assert open(saves.path('/run/web.saved.old')).read() == 'former'
    saves.end(client)
    assert client.returncode == 0
    ok(saves.virsh('restore', '/run/web.saved.old'))
    world.assert_sound()


@pytest.mark.parametrize('point', ['save-begun', 'save-stopped', 'save-stream', 'save-written'])
def test_a_save_is_called_off(saves, point):
    client = saves.stand_at(point, 'save', 'web', FILE)
    info = ok(saves.virsh('domjobinfo', 'web'))
    assert re.search('Job type: +Unbounded', info) and re.search('Operation: +Save', info)
    refused(saves.virsh('managedsave', 'web'), 'busy with another job: save')
    ok(saves.virsh('domjobabort', 'web'))
    assert 'canceled by client' in saves.end(client) and client.returncode != 0
    saves.assert_goes_on()


@pytest.mark.parametrize('how', ['abort', 'kill'])
def test_a_paused_guest_stays_paused(saves, how):
    ok(saves.virsh('suspend', 'web'))
    if how == 'abort':
        client = saves.stand_at('save-written', 'save', 'web', FILE)
        ok(saves.virsh('domjobabort', 'web'))
        saves.end(client)
        assert client.returncode != 0
    else:
        restart(saves, 'save-stream', 'save', 'web', FILE)
    assert saves.files() == [] and saves.state.startswith('paused')
    ok(saves.virsh('resume', 'web'))
    saves.assert_goes_on()


def test_a_save_that_is_done_cannot_be_called_off(saves):
    client = saves.stand_at('save-named', 'save', 'web', FILE)
    refused(saves.virsh('domjobabort', 'web'), 'cannot abort')
    saves.end(client)
    assert client.returncode == 0 and saves.state == 'shut off (saved)'
    ok(saves.virsh('restore', FILE))
    saves.world.assert_sound()


def restart(saves, point, *command):
    """The daemon dies at a stage, and another one comes."""
    client = saves.stand_at(point, *command)
    saves.world.kill('hostA', 'virtquasard')
    saves.end(client)
    assert client.returncode != 0
    saves.world.start_daemon('hostA')


@pytest.mark.parametrize('point', ['save-begun', 'save-stopped', 'save-stream', 'save-written'])
def test_a_daemon_that_dies_leaves_the_guest_running(saves, point):
    restart(saves, point, 'save', 'web', FILE)
    saves.assert_goes_on()


@pytest.mark.parametrize('command', [('save', 'web', FILE), ('managedsave', 'web')])
def test_a_daemon_that_dies_after_it_leaves_the_guest_saved(saves, command):
    restart(saves, 'save-named', *command)
    assert saves.state == 'shut off (saved)' and saves.world.files('hostA', PENDING) == []
    assert not saves.lab.processes('hostA', saves.world.EMULATOR)
    ok(saves.virsh('restore', FILE) if command[0] == 'save' else saves.virsh('start', 'web'))
    assert saves.state == 'running (restored)'
    saves.world.assert_sound()


@pytest.mark.parametrize('point', ['restore-reading', 'restore-loaded', 'restore-settled'])
def test_a_daemon_that_dies_while_it_restores(saves, point):
    ok(saves.virsh('managedsave', 'web'))
    restart(saves, point, 'start', 'web')
    if point == 'restore-settled':
        assert saves.state.startswith('paused')
        ok(saves.virsh('resume', 'web'))
    else:
        assert saves.state.startswith('shut off') and saves.files() == ['web.save']
        assert not saves.lab.processes('hostA', saves.world.EMULATOR)
        ok(saves.virsh('start', 'web'))
    assert saves.state.startswith('running')
    saves.world.assert_sound()
    # What is left of it is not restored any more.
    if saves.files():
        ok(saves.virsh('destroy', 'web'))
        refused(saves.virsh('start', 'web'), 'was changed', '--force-boot')
        saves.world.spoilt = True


@pytest.mark.parametrize('end', ['destroy', 'kill'])
def test_a_guest_that_ends_meanwhile(saves, end):
    client = saves.stand_at('save-stopped', 'save', 'web', FILE)
    if end == 'destroy':
        ok(saves.virsh('destroy', 'web'))
    else:
        saves.lab.kill('hostA', saves.world.EMULATOR)
    saves.end(client)
    assert client.returncode != 0
    lab_library.wait_for('the end', lambda: saves.state.startswith('shut off'), 30)
    assert saves.files() == [] and saves.world.files('hostA', PENDING) == []
    assert saves.state == 'shut off (%s)' % ('destroyed' if end == 'destroy' else 'crashed')
    saves.world.spoilt = True


def test_not_while_a_move_is_open(saves):
    world = saves.world
    world.hold('hostA', 'src-stopped')
    client = world.migrate()
    world.wait_held('hostA', 'src-stopped', client)
    for host in ('hostA', 'hostB'):
        # Neither waits for the move.
        refused(saves.lab.virsh(host, 'save', 'web', FILE), 'Requested operation is not valid', 'migration')
    world.let_go('hostA')
    world.hear_end(client, 60)
    assert client.returncode == 0, client.errors
    world.wait_settled(20)
    world.source = 'hostB'
    assert world.files('hostB', 'run') and saves.files() == []


def test_not_with_another_emulator(saves):
    if not lab_library.built_emulator():
        pytest.skip('no bundled emulator; `make emulator` builds it')
    ok(saves.virsh('save', 'web', FILE))
    xml = re.sub('<emulator>.*</emulator>', '<emulator>/usr/bin/%s</emulator>' % saves.world.EMULATOR,
                 ok(saves.virsh('save-image-dumpxml', FILE)))
    refused(saves.virsh('restore', FILE, '--xml', put_xml(saves, xml)), 'does not have machine')
    assert not saves.lab.processes('hostA', saves.world.EMULATOR) and saves.state == 'shut off (saved)'
    ok(saves.virsh('restore', FILE))
    saves.world.assert_sound()


def test_not_when_a_guest_without_disks_has_moved(saves):
    """No image tells that it is elsewhere."""
    lab = saves.lab
    saves.world.spoilt = True
    saves.world.clear()
    with open(lab.path('hostA', 'run/web.xml'), 'w') as file:
        file.write(lab.domain_xml(memory_mib=128))
    ok(saves.virsh('create', '/run/web.xml'))
    lab.wait_guest()
    ok(saves.virsh('save', 'web', FILE))
    ok(saves.virsh('restore', FILE))
    ok(saves.virsh('migrate', '--live', 'web', 'quasar+tls://hostB/system'))
    refused(lab.virsh('hostA', 'restore', FILE), 'has moved to hostB')
    assert lab.virsh('hostA', 'domstate', 'web').returncode != 0
    ok(lab.virsh('hostB', 'destroy', 'web'))


def test_not_when_the_guest_has_moved(saves):
    """Its memory of another time stays at the host that it has left."""
    world = saves.world
    ok(saves.virsh('save', 'web', FILE))
    ok(saves.virsh('restore', FILE))
    _, source = world.move()
    refused(saves.lab.virsh(source, 'restore', FILE), 'has moved to hostB')
    world.assert_runs('hostB')
    os.unlink(saves.lab.path(source, FILE[1:]))


@pytest.fixture(scope='module')
def routed_ground(routed_hosts):
    world = world_library.World(routed_hosts)
    world.route = ('hostA', 'hostB', 'hostC')
    yield world
    world.clear()


@pytest.fixture
def away(routed_ground):
    """A guest that is away from its home, on B."""
    routed_ground.reset()
    routed_ground.wait_booted()
    routed_ground.move()
    wait_linked(routed_ground)
    return Saves(routed_ground)


def test_a_guest_away_keeps_its_home(away):
    world, lab = away.world, away.lab
    with session(lab) as user:
        user.type()
        ok(away.virsh('save', 'web', FILE))
        lab_library.wait_for('the loss of the link', lambda: not is_linked(lab, 'hostA', False), 60)
        # Neither daemon takes the guest that is saved for one that has ended.
        for host in ('hostA', 'hostB'):
            world.kill(host, 'virtquasard')
            world.start_daemon(host)
        assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
        assert lab.processes('hostA', 'quasar-vnet')
        ok(away.virsh('restore', FILE))
        wait_linked(world)
        user.type()
        world.kill('hostB', 'virtquasard')
        world.start_daemon('hostB')
        wait_linked(world)
        # It comes home as ever.
        world.route = ('hostA', 'hostB')
        try:
            world.move()
        finally:
            world.route = ('hostA', 'hostB', 'hostC')
        user.type()
    wait_records(world, [])
    world.assert_runs('hostA')


def test_a_guest_away_is_restored_elsewhere(away):
    """With its file and its disk, which somebody has carried there; its home hears where it is now."""
    world, lab = away.world, away.lab
    with session(lab) as user:
        user.type()
        ok(away.virsh('save', 'web', FILE))
        for name in (FILE[1:], world_library.IMAGES + '/web.qcow2', world_library.IMAGES + '/base.qcow2'):
            os.makedirs(os.path.dirname(lab.path('hostC', name)), exist_ok=True)
            subprocess.run(['cp', '-p', lab.path('hostB', name), lab.path('hostC', name)], check=True)
        os.unlink(lab.path('hostB', FILE[1:]))
        os.unlink(lab.path('hostB', world_library.IMAGES + '/web.qcow2'))
        world.source = 'hostC'
        ok(away.virsh('restore', FILE))
        lab_library.wait_for('the link', lambda: is_linked(lab, 'hostA', False) and is_linked(lab, 'hostC', True), 30)
        user.type()
        # Who had it before has nothing to end any more.
        ok(lab.virsh('hostB', 'undefine', 'web'))
        wait_records(world, [('hostA', 'home'), ('hostC', 'away')])
        user.type()
    world.assert_sound()


@pytest.mark.parametrize('how', ['start', 'managedsave-remove'])
def test_a_guest_away_that_is_not_restored_needs_no_home(away, how):
    world, lab = away.world, away.lab
    if how == 'start':
        ok(away.virsh('save', 'web', FILE))
        ok(away.virsh('start', 'web'))
    else:
        ok(away.virsh('managedsave', 'web'))
        assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
        ok(away.virsh('managedsave-remove', 'web'))
    wait_records(world, [], 40)
    lab_library.wait_for('the end of the anchor', lambda: not lab.processes('hostA', 'quasar-vnet'))


@pytest.mark.parametrize('point', ['save-written', 'save-named', 'restore-loaded', 'restore-settled'])
def test_a_daemon_that_dies_leaves_the_home(away, point):
    world, lab = away.world, away.lab
    with session(lab) as user:
        user.type()
        saving = point.startswith('save')
        if not saving:
            ok(away.virsh('managedsave', 'web'))
        client = away.stand_at(point, 'managedsave' if saving else 'start', 'web')
        world.kill('hostB', 'virtquasard')
        away.end(client)
        world.start_daemon('hostB')
        if away.state.startswith('shut off'):
            assert point in ('save-named', 'restore-loaded')
            ok(away.virsh('start', 'web'))
        elif point == 'restore-settled':
            ok(away.virsh('resume', 'web'))
        lab_library.wait_for('the guest to run', lambda: away.state.startswith('running'), 30)
        wait_linked(world)
        user.type()
    assert records(world) == [('hostA', 'home'), ('hostB', 'away')]
