# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest moves between two hosts; the guest checks its own memory and disk."""
import contextlib
import os
import shutil
import threading

import lab as lab_library
import pytest
from vnet_support import has_real_time


def assert_runs_only_on(guest, host):
    other = 'hostA' if host == 'hostB' else 'hostB'
    assert 'running' in guest.virsh(host, 'domstate', 'web').stdout
    assert 'running' not in guest.virsh(other, 'domstate', 'web').stdout
    assert not guest.processes(other, 'qemu-system-x86_64')


def rounds(guest):
    words = (guest.guest_get('memory') or '').split()
    return int(words[1]) if len(words) > 1 else -1


def assert_guest_is_sound(guest):
    """A whole pass over the memory after the move has to find each store that was made before it."""
    seen = rounds(guest)
    lab_library.wait_for('two more passes over the memory', lambda: rounds(guest) >= seen + 2, 60)
    assert guest.guest_get('memory').strip().endswith('errors 0')
    assert guest.guest_get('disk').strip().endswith('errors 0')


@pytest.mark.parametrize('how, scheme', [([], 'quasar'), (['--p2p'], 'quasar'), (['--p2p'], 'qemu')])
def test_move(guest, how, scheme):
    result = guest.virsh('hostA', 'migrate', '--live', *how, 'web', scheme + '+tls://hostB/system', timeout=120)
    assert result.returncode == 0, result.stderr
    assert_runs_only_on(guest, 'hostB')
    assert_guest_is_sound(guest)


def test_refused_move_leaves_the_guest(guest):
    guest.link('hostB', 'down')
    try:
        result = guest.virsh('hostA', 'migrate', '--live', 'web', 'quasar+tls://10.77.0.200/system', timeout=120)
    finally:
        guest.link('hostB', 'up')
    assert result.returncode != 0
    assert_runs_only_on(guest, 'hostA')
    assert_guest_is_sound(guest)


IMAGE = 'var/lib/libvirt/images/web.qcow2'


def refused(world, client, *words):
    """The move failed, says why and where the guest is, and has left nothing."""
    errors = world.hear_end(client, 60)
    assert client.returncode != 0
    for word in words:
        assert word in errors
    world.wait_settled(20)
    return errors


def wait_memory_moves(world, host):
    lab_library.wait_for('the memory to be on its way', lambda: 'Memory remaining' in world.lab.virsh(
        host, 'domjobinfo', 'web').stdout, 30)


def write_xml(world, host, name, change=lambda xml: xml):
    with open(world.lab.path(host, 'run/' + name), 'w') as file:
        file.write(change(world.lab.domain_xml(disk='/' + IMAGE, memory_mib=128)))


@pytest.mark.parametrize('stage', ['src-ram', 'src-stopped', 'src-ready'])
def test_abort(world, stage):
    world.wait_booted()
    world.hold(world.source, stage)
    client = world.migrate('--bandwidth', '16')
    world.wait_held(world.source, stage, client)
    aborted = world.lab.virsh(world.source, 'domjobabort', 'web')
    world.let_go(world.source)
    assert aborted.returncode == 0, aborted.stderr
    refused(world, client, 'canceled by client', 'runs on here')
    world.assert_runs(world.source)


@pytest.mark.parametrize('aborted', [False, True])
def test_answer_that_comes_late(world, aborted):
    """What the guest runs is asked for once; until the destination has answered the guest runs, and may stay."""
    world.wait_booted()
    world.hold(world.destination, 'dst-translated')
    client = world.migrate()
    world.wait_held(world.destination, 'dst-translated', client)
    if aborted:
        assert world.lab.virsh(world.source, 'domjobabort', 'web').returncode == 0
        refused(world, client, 'canceled by client', 'runs on here')
    world.let_go(world.destination)
    if aborted:
        world.assert_runs(world.source)
    else:
        errors = world.hear_end(client, 60)
        assert client.returncode == 0, errors
        world.assert_runs(world.destination)


def priorities(pid):
    """Of an emulator's vCPUs and its main thread, policy and nice value. The mark that it is ours is left out."""
    found = {}
    for tid in os.listdir('/proc/%d/task' % pid):
        with contextlib.suppress(OSError), open('/proc/%d/task/%s/stat' % (pid, tid)) as file:
            name, _, rest = file.read().rpartition(')')
            name = 'main' if int(tid) == pid else name.partition('(')[2]
            if name == 'main' or name.startswith('CPU '):
                found[name.partition('/')[0]] = int(rest.split()[38]), int(rest.split()[16])
    return found


USUAL = {'main': (os.SCHED_OTHER, 0), 'CPU 0': (os.SCHED_OTHER, 0)}
COPIED = {'main': (os.SCHED_OTHER, 0), 'CPU 0': (os.SCHED_OTHER, -5)}
ARRIVING = {'main': (os.SCHED_RR, 0), 'CPU 0': (os.SCHED_RR, 0)}


@pytest.fixture
def usual(world):
    """A guest whose emulator has the priority of any process, which can be changed."""
    if not has_real_time(world.lab):
        pytest.skip('no real-time priority is to be had here')
    world.wait_booted()
    pid, = world.lab.processes(world.source, world.EMULATOR)
    assert priorities(pid) == USUAL
    return pid


def assert_usual_again(world, host):
    pid, = world.lab.processes(host, world.EMULATOR)
    lab_library.wait_for('the usual priority', lambda: priorities(pid) == USUAL, 20)


@pytest.mark.parametrize('end', ['abort', 'restart'])
def test_guest_precedes_what_copies_it(world, usual, end):
    world.hold(world.source, 'src-ram')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-ram', client)
        assert priorities(usual) == COPIED
        if end == 'abort':
            assert world.lab.virsh(world.source, 'domjobabort', 'web').returncode == 0
        else:
            world.kill(world.source, 'virtquasard')
    finally:
        world.let_go(world.source)
    if end == 'restart':
        world.start_daemon(world.source)
    world.hear_end(client, 60)
    assert client.returncode != 0
    assert_usual_again(world, world.source)
    world.wait_settled(20)
    world.assert_runs(world.source)


def test_new_daemon_ends_an_arrival(world, usual):
    """One that died within the moment that it takes."""
    world.kill(world.source, 'virtquasard')
    for tid in os.listdir('/proc/%d/task' % usual):
        # Threads that do a pool's work come and go.
        with contextlib.suppress(FileNotFoundError), open('/proc/%d/task/%s/comm' % (usual, tid)) as file:
            if int(tid) == usual or file.read().startswith('CPU '):
                os.sched_setscheduler(int(tid), os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    assert priorities(usual) == ARRIVING
    world.start_daemon(world.source)
    assert_usual_again(world, world.source)


def test_guest_that_arrives_precedes_all(world, usual):
    """For a moment, which is waited for by a thread that precedes it."""
    seen, ended, destination = [], threading.Event(), world.destination

    def look():
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
        pids = []
        while not ended.wait(0.01):
            try:
                pids = pids or world.lab.processes(destination, world.EMULATOR)
                seen.extend(map(priorities, pids))
            except OSError:
                pids = []  # an emulator that was only asked what it can do
    looker = threading.Thread(target=look)
    looker.start()
    try:
        said, _ = world.go()
    finally:
        ended.set()
        looker.join()
    assert ARRIVING in seen, said
    assert_usual_again(world, world.source)
    world.wait_settled(20)
    world.assert_runs(world.source)


def writing_back(world, host):
    """Threads of the daemon, and its descriptors of the image."""
    pid, = world.lab.processes(host, 'virtquasard')
    threads, images = 0, 0
    for tid in os.listdir('/proc/%d/task' % pid):
        with contextlib.suppress(OSError), open('/proc/%d/task/%s/comm' % (pid, tid)) as file:
            threads += file.read() == 'writeback\n'
    for number in os.listdir('/proc/%d/fd' % pid):
        with contextlib.suppress(OSError):
            images += os.readlink('/proc/%d/fd/%s' % (pid, number)).count('/web.qcow2')
    return threads, images


def wait_writing_back(world, expected):
    for host in world.route:
        lab_library.wait_for('%s threads that flush, and images, on %s' % (expected, host),
                             lambda host=host: writing_back(world, host) == expected)


# Where the guest still runs, and where it stands.
@pytest.mark.parametrize('point, flushing', [('src-ram', (1, 1)), ('src-ready', (0, 0))])
def test_disks_are_flushed_while_the_guest_runs(world, point, flushing):
    world.wait_booted()
    world.hold(world.source, point)
    client = world.migrate()
    try:
        world.wait_held(world.source, point, client)
        wait_writing_back(world, flushing)
        assert world.lab.virsh(world.source, 'domjobabort', 'web').returncode == 0
    finally:
        world.let_go(world.source)
    world.hear_end(client, 60)
    assert client.returncode != 0
    world.wait_settled(20)
    wait_writing_back(world, (0, 0))
    world.assert_runs(world.source)


def test_abort_comes_too_late(world):
    world.wait_booted()
    world.hold(world.source, 'src-released')
    client = world.migrate()
    world.wait_held(world.source, 'src-released', client)
    aborted = world.lab.virsh(world.source, 'domjobabort', 'web')
    world.let_go(world.source)
    assert aborted.returncode != 0 and 'handed to the destination' in aborted.stderr
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    world.assert_runs(world.destination)


def test_verbose(world):
    world.wait_booted()
    errors, _ = world.move('--verbose')
    assert '100 %' in errors


def test_guest_that_stands_on_a_full_disk(world):
    """It arrives so, and the write that waits in its device completes where there is room."""
    world.spoilt = True
    world.move_full()


def test_undefine_source(world):
    world.wait_booted()
    _, source = world.move('--undefinesource')
    assert ' web ' not in world.lab.virsh(source, 'list', '--all').stdout
    assert 'yes' in world.lab.must(world.source, 'sh', '-c',
                                   'virsh -c quasar:///system dominfo web | grep Persistent')
    world.assert_runs(world.source)


def test_back_and_forth(world):
    world.wait_booted()
    for _ in range(5):
        world.move()
    world.assert_runs(world.source)


def test_guest_that_has_moved_can_be_reset(world):
    """A reset reaches what a move leaves in the devices."""
    world.wait_booted()
    world.move()
    pids = world.lab.processes(world.source, world.EMULATOR)
    assert world.lab.virsh(world.source, 'reset', 'web').returncode == 0
    lab_library.wait_for('the guest to boot again', lambda: world.rounds() in (-1, 0), 60)
    world.wait_booted()
    assert world.lab.processes(world.source, world.EMULATOR) == pids
    world.assert_runs(world.source)


def test_transient_guest_leaves_in_silence(world):
    world.wait_booted()
    for _ in range(2):
        result = world.lab.virsh(world.source, 'migrate', '--live', 'web',
                                 'quasar+tls://%s/system' % world.destination, timeout=120)
        assert (result.returncode, result.stderr) == (0, '')
        world.wait_settled(10)
        world.source = world.destination
        world.lab.virsh(world.destination, 'undefine', 'web')
    assert 'web' not in world.lab.virsh(world.destination, 'list', '--all').stdout
    # The guest is transient now, so the next test begins anew.
    world.spoilt = True


def test_paused_guest_stays_paused(world):
    world.wait_booted()
    assert world.lab.virsh(world.source, 'suspend', 'web').returncode == 0
    _, source = world.move()
    assert world.state(world.source) == 'paused (user)'
    assert world.state(source) == 'shut off (migrated)'
    assert world.lab.virsh(world.source, 'resume', 'web').returncode == 0
    world.assert_runs(world.source)


def test_existing_image_is_not_overwritten(world):
    world.wait_booted()
    target = world.lab.path(world.destination, IMAGE)
    with open(target, 'w') as file:
        file.write('precious')
    try:
        refused(world, world.migrate(), 'exists at the destination', '/' + IMAGE)
        with open(target) as file:
            assert file.read() == 'precious'
    finally:
        os.unlink(target)
    world.assert_runs(world.source)


def test_name_is_taken(world):
    world.wait_booted()
    other = world.destination
    world.lab.virsh(other, 'undefine', 'web')
    write_xml(world, other, 'other.xml')
    assert world.lab.virsh(other, 'define', '/run/other.xml').returncode == 0
    try:
        refused(world, world.migrate(), "'web' already exists with uuid")
        refused(world, world.migrate('--p2p'), "'web' already exists with uuid")
    finally:
        assert world.lab.virsh(other, 'undefine', 'web').returncode == 0
    world.assert_runs(world.source)


def test_name_that_is_a_path(world):
    world.wait_booted()
    for how in ([], ['--p2p']):
        refused(world, world.migrate('--dname', '../../../../run/web', *how), "cannot be a domain's name")
    world.assert_runs(world.source)


def test_not_running(world):
    write_xml(world, world.source, 'idle.xml', lambda xml: xml.replace('<name>web<', '<name>idle<'))
    assert world.lab.virsh(world.source, 'define', '/run/idle.xml').returncode == 0
    result = world.lab.virsh(world.source, 'migrate', '--live', 'idle',
                             'quasar+tls://%s/system' % world.destination)
    world.lab.virsh(world.source, 'undefine', 'idle')
    assert result.returncode != 0 and 'not running' in result.stderr


def test_other_xml_is_refused(world):
    write_xml(world, world.source, 'changed.xml')
    refused(world, world.migrate('--xml', '/run/changed.xml'), 'XML')
    assert world.lab.virsh(world.source, 'domstate', 'web').stdout.strip() == 'running'


def test_disks_are_identical_at_the_switch(world):
    world.wait_booted()
    held = world.destination
    world.hold(held, 'dst-starting')
    client = world.migrate()
    try:
        world.wait_held(held, 'dst-starting', client)
        copy = world.lab.path(world.source, IMAGE + '.compared')
        shutil.copy(world.lab.path(held, IMAGE), copy)
        compared = world.lab.exec(world.source, 'qemu-img', 'compare', '-U', '/' + IMAGE, '/%s.compared' % IMAGE)
        os.unlink(copy)
    finally:
        world.let_go(held)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    world.assert_runs(held)


def test_job_is_shown_on_both_hosts(world):
    world.wait_booted()
    world.hold(world.source, 'src-ram')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-ram', client)
        source = world.lab.virsh(world.source, 'domjobinfo', 'web').stdout
        destination = world.lab.virsh(world.destination, 'domjobinfo', 'web').stdout
    finally:
        world.let_go(world.source)
    assert 'Unbounded' in source and 'Outgoing migration' in source
    assert 'Unbounded' in destination and 'Incoming migration' in destination
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    for host in lab_library.HOSTS:
        completed = world.lab.virsh(host, 'domjobinfo', '--completed', 'web').stdout
        assert 'Completed' in completed and 'Total downtime' in completed and 'Memory total' in completed
    world.assert_runs(world.destination)


def test_guest_that_has_left_is_not_started(world):
    """Its old host says where it is, until it comes home or its old image is put back."""
    world.wait_booted()
    _, source = world.move()
    started = world.lab.virsh(source, 'start', 'web')
    assert started.returncode != 0
    for word in ('has moved to %s' % world.source, '/%s.superseded' % IMAGE,
                 'virsh -c quasar+tls://%s/system migrate --live web quasar+tls://%s/system' % (world.source, source)):
        assert word in started.stderr
    assert world.state(source) == 'shut off (migrated)'
    world.move()
    os.unlink(world.lab.path(source, IMAGE + '.superseded'))
    world.assert_runs(source)


@pytest.mark.parametrize('place', ['source', 'destination'])
@pytest.mark.parametrize('held', [True, False])
def test_guest_is_destroyed_on_its_way(world, place, held):
    """The client hears of it, and a guest that did not arrive leaves its host as it was."""
    world.wait_booted()
    world.move()
    source, destination = world.source, world.destination
    host = source if place == 'source' else destination
    if held:
        world.hold(source, 'src-ram')
    client = world.migrate('--bandwidth', '1')
    try:
        if held:
            world.wait_held(source, 'src-ram', client)
        else:
            wait_memory_moves(world, source)
        destroyed = world.lab.virsh(host, 'destroy', 'web')
        assert destroyed.returncode == 0, destroyed.stderr
    finally:
        world.let_go(source)
    if place == 'source':
        errors = refused(world, client, "domain 'web' was destroyed during its migration", 'shut off here')
        assert world.state(source) == 'shut off (destroyed)'
    else:
        errors = refused(world, client, 'it was destroyed at the destination', 'runs on here')
    assert 'link' not in errors
    assert world.state(destination) == 'shut off (migrated)'
    world.assert_no_leftovers(destination, False, False)
    if place == 'source':
        world.start(source)
    else:
        world.assert_runs(source)


@pytest.mark.parametrize('command', ['resume', 'suspend', 'reset', 'shutdown'])
def test_guest_on_its_way_is_not_touched(world, command):
    """Refused at once: the move, which has the job, stands still until this has been answered."""
    world.wait_booted()
    source, destination = world.source, world.destination
    world.hold(source, 'src-ram')
    client = world.migrate()
    try:
        world.wait_held(source, 'src-ram', client)
        touched = world.lab.virsh(destination, command, 'web')
        assert world.state(destination) == 'paused (migrating)'
    finally:
        world.let_go(source)
    assert touched.returncode != 0 and 'still being moved here' in touched.stderr
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    world.assert_runs(destination)


def test_second_migration_at_once_is_refused(world):
    world.wait_booted()
    world.hold(world.source, 'src-ram')
    client = world.migrate()
    try:
        world.wait_held(world.source, 'src-ram', client)
        second = world.lab.virsh(world.source, 'migrate', '--live', 'web',
                                 'quasar+tls://%s/system' % world.destination)
    finally:
        world.let_go(world.source)
    assert second.returncode != 0 and 'busy with another job: migration out' in second.stderr
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    world.assert_runs(world.destination)


def test_speed_limit(world):
    """A limit that keeps the memory from ever arriving; lifted while the move runs, it lets it end."""
    world.wait_booted()
    assert world.lab.virsh(world.source, 'migrate-setspeed', 'web', '1').returncode == 0
    client = world.migrate()

    def remaining():
        if client.poll() is not None:
            raise lab_library.LabError('the move ended: %s' % world.hear_end(client, 1))
        lines = world.lab.virsh(world.source, 'domjobinfo', 'web').stdout.splitlines()
        return [line for line in lines if line.startswith('Memory remaining')]
    lab_library.wait_for('figures of the memory', remaining, 30)
    assert world.lab.virsh(world.source, 'migrate-getspeed', 'web').stdout.strip() == '1'
    assert world.lab.virsh(world.source, 'migrate-setspeed', 'web', '1000').returncode == 0
    errors = world.hear_end(client, 60)
    assert client.returncode == 0, errors
    world.wait_settled(20)
    world.assert_runs(world.destination)


def test_guest_powers_off_on_its_way(world):
    world.wait_booted()
    world.hold(world.source, 'src-ram')
    client = world.migrate('--bandwidth', '1')
    try:
        world.wait_held(world.source, 'src-ram', client)
        terminal = world.lab.virsh(world.source, 'ttyconsole', 'web').stdout.strip()
        # QEMU looks once a second whether somebody is at the other end, and the shell may be starting yet.
        world.lab.exec(world.source, 'sh', '-c', "exec 3<>%s; for i in 1 2 3 4 5 6; do sleep 1; "
                       "printf '\\npoweroff -f\\n' >&3 || exit; done" % terminal)
        lab_library.wait_for('the end of the guest', lambda: world.state(world.source).startswith('shut off'), 30)
        assert world.state(world.source) == 'shut off (shutdown)'
    finally:
        world.let_go(world.source)
    refused(world, client, 'shut off here')
    world.assert_listed(world.destination, 'shut off')
    world.assert_no_leftovers(world.destination, False, False)
    world.assert_no_leftovers(world.source, True, False)
    world.start(world.source)


def names_base(world, host, *how):
    return 'base.qcow2' in world.lab.must(host, 'virsh', '-c', 'quasar:///system', 'dumpxml', 'web', *how)


@pytest.mark.parametrize('base', ['missing', 'different'])
def test_whole_disk_travels_where_its_base_is_not(world, base):
    world.wait_booted()
    there = world.lab.path(world.destination, 'var/lib/libvirt/images/base.qcow2')
    os.unlink(there)
    if base == 'different':
        world.lab.must(world.destination, 'qemu-img', 'create', '-q', '-f', 'qcow2',
                       '/var/lib/libvirt/images/base.qcow2', '64M')
    world.move()
    info = world.lab.must(world.source, 'qemu-img', 'info', '-U', '/' + IMAGE)
    assert 'backing file' not in info
    assert not names_base(world, world.source) and not names_base(world, world.source, '--inactive')
    assert world.state(world.source).startswith('running')
    world.assert_sound()
    # The bases of the hosts differ now, so the next test begins anew.
    world.spoilt = True


def test_definition_follows_the_disk_that_comes_home(world):
    """It was left behind with a chain that the disk, whole now, has no more; nobody asks for it to be replaced."""
    world.wait_booted()
    source, destination = world.source, world.destination
    os.unlink(world.lab.path(destination, 'var/lib/libvirt/images/base.qcow2'))
    world.move()
    assert names_base(world, source, '--inactive')
    result = world.lab.virsh(destination, 'migrate', '--live', 'web', 'quasar+tls://%s/system' % source, timeout=120)
    assert result.returncode == 0, result.stderr
    world.wait_settled(10)
    world.source = source
    assert not names_base(world, source) and not names_base(world, source, '--inactive')
    with open(world.lab.path(source, 'etc/libvirt/quasar/web.xml')) as file:
        assert 'base.qcow2' not in file.read()
    assert world.lab.virsh(source, 'destroy', 'web').returncode == 0
    world.start(source)
    world.wait_booted()
    world.assert_sound()
    world.spoilt = True


def test_image_of_a_refused_move_is_removed(world):
    """The source's last word comes before what was made here has been removed."""
    world.wait_booted()
    source, destination = world.source, world.destination
    world.hold(destination, 'dst-discard')
    client = world.migrate('--bandwidth', '1')
    held = world.lab.path(destination, 'run/fault.held')
    try:
        wait_memory_moves(world, source)
        destroyer = world.lab.popen(destination, 'virsh', '-c', 'quasar:///system', 'destroy', 'web')
        lab_library.wait_for('the stage dst-discard', lambda: os.path.exists(held), 30)
        errors = world.hear_end(client, 60)
        assert client.returncode != 0 and 'destroyed at the destination' in errors
        assert world.files(destination, 'var/lib/libvirt/images') != ['base.qcow2']
    finally:
        world.let_go(destination)
    destroyer.wait(30)
    world.wait_settled(30)
    world.assert_runs(source)


@pytest.mark.parametrize('how', [[], ['--p2p']])
def test_what_users_ask_of_the_way(world, how):
    """Addresses are chosen as asked; what has no effect does no harm, and is logged."""
    world.wait_booted()
    source, destination = world.source, world.destination
    address = lab_library.ADDRESSES[destination]
    for given, word in ((['--migrateuri', 'tcp://10.77.0.200'], '(10.77.0.200)'),
                        (['--migrateuri', 'rdma://' + address], 'tcp://HOST'),
                        (['--migrateuri', 'tcp://nowhere.invalid'], "cannot resolve 'nowhere.invalid'"),
                        (['--listen-address', lab_library.ADDRESSES[source]], "not one of the destination's")):
        refused(world, world.migrate(*given, *how), word)
        world.assert_no_leftovers(destination, False, False)
    world.move('--migrateuri', 'tcp:%s:49152' % address, '--listen-address', address,
               '--tls', '--tls-destination', 'any', '--graphicsuri', 'vnc://%s' % address, '--disks-port', '49153',
               '--suspend', *how)
    for word in ('49152 has no effect', 'tls.destination has no effect', 'graphics_uri has', 'disks_port has'):
        assert word in world.new_log(source)
    assert world.state(destination) == 'paused (user)'
    assert world.lab.virsh(destination, 'resume', 'web').returncode == 0
    world.assert_runs(destination)


@pytest.mark.parametrize('option, word', [
    (['--compressed'], 'compression'), (['--comp-methods', 'mt', '--compressed'], 'compression'),
    (['--auto-converge'], 'converges'), (['--postcopy'], 'post-copy'), (['--abort-on-error'], 'I/O error'),
    (['--parallel', '--parallel-connections', '2'], 'parallel'), (['--disks-uri', 'tcp://10.77.0.2'], 'disks'),
    (['--copy-storage-synchronous-writes', '--copy-storage-all'], 'synchronous'),
])
def test_what_users_would_not_get_is_refused(world, option, word):
    errors = refused(world, world.migrate(*option), word)
    assert errors.count('error: argument unsupported: ') == 1
    world.assert_no_leftovers(world.destination, False, False)


def test_copy_of_all_storage(world):
    """The disk that arrives needs no base, although there is one like it."""
    world.wait_booted()
    world.move('--copy-storage-all')
    info = world.lab.must(world.source, 'qemu-img', 'info', '-U', '/' + IMAGE)
    assert 'backing file' not in info
    world.assert_runs(world.source)
    world.spoilt = True
