# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock virsh against one virtquasard: what each command prints, as libvirt's QEMU driver would have it print."""
import grp
import os
import re
import shutil
import signal
import stat
import subprocess

import lab as lab_library
import pytest


def text(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def says(places, *command, **options):
    return text(places.virsh('hostA', *command, **options))


def refusal(places, *command):
    result = places.virsh('hostA', *command)
    assert result.returncode != 0, result.stdout
    return result.stderr


def fields(output):
    """The lines `Name:   value` of a command as a dictionary."""
    return dict((line.split(':', 1)[0].strip(), line.split(':', 1)[1].strip())
                for line in output.splitlines() if ':' in line)


def figures(output):
    """The lines `name=value` of domstats."""
    return dict(line.strip().split('=', 1) for line in output.splitlines() if '=' in line)


def write(places, name, content):
    with open(places.path('hostA', 'run/' + name), 'w') as file:
        file.write(content)
    return '/run/' + name


@pytest.fixture
def defined(hosts):
    """A guest `web` that is defined on hostA and does not run."""
    says(hosts, 'define', write(hosts, 'web.xml', hosts.domain_xml()))
    yield hosts
    hosts.virsh('hostA', 'destroy', 'web')
    hosts.virsh('hostA', 'undefine', 'web')


def test_version(hosts):
    output = says(hosts, 'version', '--daemon')
    assert re.search(r'^Using API: QEMU \d+\.\d+\.\d+$', output, re.M)
    assert re.search(r'^Running hypervisor: QEMU \d+\.\d+\.\d+$', output, re.M)
    assert re.search(r'^Running against daemon: \d+\.\d+\.\d+$', output, re.M)


def test_host(hosts):
    node = fields(says(hosts, 'nodeinfo'))
    present = fields(says(hosts, 'nodecpumap'))
    assert node['CPU(s)'] == present['CPUs online']
    assert present['CPU map'].count('y') == int(present['CPUs online'])
    assert int(node['CPU(s)']) == (int(node['CPU socket(s)']) * int(node['Core(s) per socket'])
                                   * int(node['Thread(s) per core']) * int(node['NUMA cell(s)']))
    capabilities = says(hosts, 'capabilities')
    machines = re.findall(r'<machine [^>]*>([^<]+)</machine>', capabilities)
    assert machines[0] == 'q35'
    assert '<model>dac</model>' in capabilities
    offered = says(hosts, 'domcapabilities')
    assert re.search(r"<machine>pc-q35-[\d.]+</machine>", offered)
    assert '>max</model>' not in offered
    assert 'invalid argument' in refusal(hosts, 'domcapabilities', '--machine', 'no-such-machine')
    # What the distribution's emulator lacks is said.
    plain = says(hosts, 'domcapabilities', '--emulatorbin', shutil.which('qemu-system-x86_64'))
    assert "<patch name='guest-time' supported='no'>an emulated guest moves between" in plain
    assert 'cannot find emulator' in refusal(hosts, 'domcapabilities', '--emulatorbin', '/nowhere')
    assert 'whole path' in refusal(hosts, 'domcapabilities', '--emulatorbin', 'qemu-system-x86_64')
    # As with libvirt, a client that may only read may not have an emulator asked.
    assert 'read only access' in refusal(hosts, '--readonly', 'domcapabilities')


def test_lists_of_a_defined_guest(defined):
    assert says(defined, 'list', '--name') == ''
    assert says(defined, 'list', '--all', '--name') == 'web'
    assert says(defined, 'list', '--inactive', '--name') == 'web'
    for option in ('--persistent', '--no-autostart', '--state-shutoff', '--without-snapshot',
                   '--without-managed-save', '--without-checkpoint'):
        assert says(defined, 'list', '--all', '--name', option) == 'web', option
    for option in ('--transient', '--autostart', '--state-running', '--state-paused', '--state-other',
                   '--with-snapshot', '--with-managed-save', '--with-checkpoint'):
        assert says(defined, 'list', '--all', '--name', option) == '', option
    assert says(defined, 'list', '--all', '--uuid') == says(defined, 'domuuid', 'web')
    assert re.search(r'^ -\s+web\s+shut off$', says(defined, 'list', '--all'), re.M)


def test_autostart(defined):
    says(defined, 'autostart', 'web')
    assert fields(says(defined, 'dominfo', 'web'))['Autostart'] == 'enable'
    assert says(defined, 'list', '--all', '--name', '--autostart') == 'web'
    says(defined, 'autostart', '--disable', 'web')
    assert fields(says(defined, 'dominfo', 'web'))['Autostart'] == 'disable'


def test_info_of_a_guest_that_is_off(defined):
    info = fields(says(defined, 'dominfo', 'web'))
    assert (info['Id'], info['State'], info['Max memory']) == ('-', 'shut off', '262144 KiB')
    assert (info['Persistent'], info['Managed save']) == ('yes', 'no')
    assert (info['Security model'], info['Security DOI']) == ('dac', '0')
    assert 'Security label' not in info
    assert says(defined, 'domid', 'web') == '-'
    for command in (('domcontrol',), ('suspend',), ('resume',), ('reset',), ('shutdown',), ('reboot',), ('destroy',),
                    ('domblkstat',), ('migrate-setmaxdowntime', '--downtime', '5'), ('migrate-getmaxdowntime',)):
        assert 'domain is not running' in refusal(defined, command[0], 'web', *command[1:]), command


def test_start_paused_and_on(defined):
    says(defined, 'start', '--paused', 'web')
    assert says(defined, 'domstate', '--reason', 'web') == 'paused (user)'
    assert says(defined, 'list', '--name', '--state-paused') == 'web'
    says(defined, 'resume', 'web')
    assert says(defined, 'domstate', '--reason', 'web') == 'running (unpaused)'
    says(defined, 'suspend', 'web')
    says(defined, 'suspend', 'web')
    assert says(defined, 'domstate', '--reason', 'web') == 'paused (user)'
    says(defined, 'resume', 'web')
    assert 'already running' in refusal(defined, 'resume', 'web')
    says(defined, 'reset', 'web')
    says(defined, 'destroy', 'web')
    assert says(defined, 'domstate', '--reason', 'web') == 'shut off (destroyed)'
    assert says(defined, 'list', '--all', '--name', '--state-shutoff') == 'web'


def test_transient_guest(hosts):
    says(hosts, 'create', write(hosts, 'brief.xml', hosts.domain_xml(name='brief')))
    assert fields(says(hosts, 'dominfo', 'brief'))['Persistent'] == 'no'
    assert 'transient' in refusal(hosts, 'autostart', 'brief')
    assert 'transient' in refusal(hosts, 'undefine', 'brief')
    assert says(hosts, 'list', '--transient', '--name') == 'brief'
    says(hosts, 'destroy', 'brief')
    assert 'failed to get domain' in refusal(hosts, 'domstate', 'brief')


def test_documents(guest):
    live, inactive = says(guest, 'dumpxml', 'web'), says(guest, 'dumpxml', '--inactive', 'web')
    assert re.match(r"<domain type='qemu' id='\d+'>", live)
    assert "<alias name='net0'/>" in live
    assert re.search(r"<console type='pty' tty='/dev/pts/\d+'>", live)
    assert " id='" not in inactive.splitlines()[0]
    assert '<alias' not in inactive and '/dev/pts' not in inactive
    for options in (('--security-info',), ('--update-cpu',), ('--migratable',),
                    ('--inactive', '--security-info', '--update-cpu', '--migratable')):
        assert '<name>web</name>' in says(guest, 'dumpxml', 'web', *options)
    assert 'operation forbidden' in refusal(guest, '--readonly', 'dumpxml', '--security-info', 'web')


def test_devices(guest):
    rows = [line.split() for line in says(guest, 'domblklist', '--details', 'web').splitlines()[2:]]
    assert rows == [['file', 'disk', 'vda', '/var/lib/libvirt/images/web.qcow2']]
    row = says(guest, 'domiflist', 'web').splitlines()[2].split()
    assert row[1:] == ['network', 'default', 'virtio', '52:54:00:77:00:50']
    assert re.match(r'vnet\d+\.0$', row[0])
    sizes = fields(says(guest, 'domblkinfo', 'web', 'vda'))
    assert int(sizes['Capacity']) == 64 * 1024 * 1024
    image = os.stat(guest.path('hostA', 'var/lib/libvirt/images/web.qcow2'))
    assert 0 < int(sizes['Physical']) <= image.st_size

    def written():
        counters = dict(line.split()[1:] for line in says(guest, 'domblkstat', 'web', 'vda').splitlines())
        return int(counters['wr_bytes']) >= int(counters['wr_req']) > 0
    lab_library.wait_for("the guest's first write", written)
    counters = dict(line.split()[1:] for line in says(guest, 'domifstat', 'web', '52:54:00:77:00:50').splitlines())
    assert int(counters['rx_packets']) > 0 and int(counters['tx_packets']) > 0
    assert 'invalid' in refusal(guest, 'domblkstat', 'web', 'vdz')
    assert 'invalid' in refusal(guest, 'domifstat', 'web', 'vnet99')
    assert says(guest, 'domcontrol', 'web') == 'ok'
    info = fields(says(guest, 'dominfo', 'web'))
    assert re.match(r'\+\d+:\+\d+ \(enforcing\)$', info['Security label'])


def test_statistics(guest):
    all_groups = figures(says(guest, 'domstats', 'web'))
    for key in ('state.state', 'cpu.time', 'balloon.current', 'balloon.maximum', 'vcpu.current', 'vcpu.0.time',
                'net.count', 'net.0.rx.bytes', 'net.0.tx.drop', 'block.count', 'block.0.name', 'block.0.wr.reqs',
                'block.0.capacity', 'block.0.physical', 'dirtyrate.calc_status'):
        assert key in all_groups, key
    assert all_groups['state.state'] == '1'
    assert int(all_groups['balloon.current']) <= int(all_groups['balloon.maximum']) == 262144
    only = figures(says(guest, 'domstats', '--state', '--list-active'))
    assert set(only) == {'state.state', 'state.reason'}
    # Groups of which libvirt has nothing to tell either are known all the same.
    assert figures(says(guest, 'domstats', '--enforce', '--perf', '--iothread', '--memory', '--vm', 'web')) == {}
    assert figures(says(guest, 'domstats', '--state', '--list-inactive')) == {}


def test_figures_of_a_frozen_emulator(guest):
    """Whoever asks gets what was known last, and a guest that is stuck can be destroyed."""
    before = figures(says(guest, 'domstats', 'web'))
    emulator, = guest.processes('hostA', 'qemu-system-x86_64')
    os.kill(emulator, signal.SIGSTOP)
    try:
        frozen = figures(says(guest, 'domstats', 'web'))
        assert int(frozen['block.0.wr.reqs']) >= int(before['block.0.wr.reqs'])
        assert fields(says(guest, 'dominfo', 'web'))['State'] == 'running'
        says(guest, 'dumpxml', 'web')
        assert says(guest, 'domjobinfo', 'web') == 'Job type:         None'
        # More callers that have to wait than there are workers for them.
        waiting = [guest.popen('hostA', 'virsh', '-c', 'quasar:///system', 'reset', 'web',
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(24)]
        assert says(guest, 'list', '--name') == 'web'
        says(guest, 'destroy', 'web')
        assert says(guest, 'domstate', 'web') == 'shut off'
        for process in waiting:
            process.wait(120)
    finally:
        for pid in guest.processes('hostA', 'qemu-system-x86_64'):
            os.kill(pid, signal.SIGCONT)


def test_jobs_of_an_idle_guest(defined):
    says(defined, 'start', '--paused', 'web')
    assert says(defined, 'domjobinfo', 'web') == 'Job type:         None'
    assert says(defined, 'domjobinfo', '--completed', 'web') == 'Job type:         None'
    assert 'no job is active on the domain' in refusal(defined, 'domjobabort', 'web')


def test_migration_settings_are_remembered(defined):
    assert says(defined, 'migrate-getspeed', 'web') == str((1 << 63 >> 20) - 1)
    says(defined, 'migrate-setspeed', 'web', '100')
    assert 'numerical overflow' in refusal(defined, 'migrate-setspeed', 'web', str(1 << 43))
    assert says(defined, 'migrate-getspeed', 'web') == '100'
    says(defined, 'start', '--paused', 'web')
    says(defined, 'migrate-setmaxdowntime', 'web', '50')
    assert says(defined, 'migrate-getmaxdowntime', 'web') == '50'
    assert says(defined, 'migrate-getspeed', 'web') == '100'


def moving(places, *options):
    """A move that a low speed holds; its process, once the source says that it has begun."""
    process = places.popen('hostA', 'virsh', '-c', 'quasar:///system', 'migrate', '--live', *options, 'web',
                           'quasar+tls://hostB/system', stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           universal_newlines=True)
    lab_library.wait_for('the beginning of the move', lambda: 'Memory processed' in
                         places.virsh('hostA', 'domjobinfo', 'web').stdout, 60)
    return process


def test_settings_work_during_a_move(guest):
    says(guest, 'migrate-setspeed', 'web', '1')
    process = moving(guest)
    assert 'Memory remaining' in says(guest, 'domjobinfo', 'web')
    assert says(guest, 'domcontrol', 'web').startswith('background job')
    says(guest, 'migrate-setmaxdowntime', 'web', '100')
    says(guest, 'migrate-setspeed', 'web', '0')
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    completed = says(guest, 'domjobinfo', '--completed', 'web')
    assert 'Completed' in completed and 'Total downtime' in completed
    assert 'running' in text(guest.virsh('hostB', 'domstate', 'web'))


def test_move_is_aborted(guest):
    says(guest, 'migrate-setspeed', 'web', '1')
    process = moving(guest)
    says(guest, 'domjobabort', 'web')
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert 'abort' in errors or 'cancel' in errors, errors
    assert says(guest, 'domstate', 'web') == 'running'
    assert guest.guest_get('memory').strip().endswith('errors 0')
    assert 'web' not in text(guest.virsh('hostB', 'list', '--all', '--name'))


def test_move_that_takes_too_long_is_finished_paused(guest):
    """virsh's own time-out suspends the guest, so that what is left can be copied, and resumes it there."""
    says(guest, 'migrate-setspeed', 'web', '1')
    process = moving(guest, '--timeout', '1', '--timeout-suspend')
    lab_library.wait_for('the suspension', lambda: says(guest, 'domstate', 'web') == 'paused', 60)
    says(guest, 'migrate-setspeed', 'web', '0')
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    lab_library.wait_for('the guest', lambda: text(guest.virsh('hostB', 'domstate', 'web')) == 'running', 60)
    assert guest.guest_get('memory').strip().endswith('errors 0')


def test_networks(hosts):
    row = says(hosts, 'net-list').splitlines()[2].split()
    assert row == ['default', 'active', 'yes', 'yes']
    info = fields(says(hosts, 'net-info', 'default'))
    assert (info['Active'], info['Persistent'], info['Autostart']) == ('yes', 'yes', 'yes')
    document = says(hosts, 'net-dumpxml', 'default')
    assert "<forward mode='bridge'/>" in document
    assert fields(says(hosts, 'net-info', info['UUID']))['Name'] == 'default'
    assert 'Network not found' in refusal(hosts, 'net-info', 'nothing')


def test_bridge_of_a_network(hosts):
    says(hosts, 'net-define', write(
        hosts, 'lan.xml', '<network><name>lan</name><forward mode="bridge"/><bridge name="br7"/></network>'))
    try:
        info = fields(says(hosts, 'net-info', 'lan'))
        assert (info['Bridge'], info['Active'], info['Autostart']) == ('br7', 'no', 'no')
        assert 'lan' in says(hosts, 'net-list', '--inactive')
        says(hosts, 'net-autostart', 'lan')
        assert 'lan' in says(hosts, 'net-list', '--all', '--autostart')
        says(hosts, 'net-start', 'lan')
        assert 'already active' in refusal(hosts, 'net-start', 'lan')
        says(hosts, 'net-destroy', 'lan')
    finally:
        says(hosts, 'net-undefine', 'lan')
    assert 'lan' not in says(hosts, 'net-list', '--all')


def test_metadata(hosts):
    document = hosts.domain_xml(name='told').replace(
        '<memory', '<title>A title</title><description>Some words</description>'
        '<metadata><a:app xmlns:a="urn:app"><a:kind>x</a:kind></a:app></metadata><memory', 1)
    says(hosts, 'define', write(hosts, 'told.xml', document))
    try:
        assert says(hosts, 'desc', 'told') == 'Some words'
        assert says(hosts, 'desc', '--title', 'told') == 'A title'
        assert 'A title' in says(hosts, 'list', '--all', '--title')
        assert '<kind>x</kind>' in says(hosts, 'metadata', 'told', 'urn:app')
        assert 'metadata not found' in refusal(hosts, 'metadata', 'told', 'urn:other')
        says(hosts, 'desc', 'told', 'Other', 'words')
        says(hosts, 'desc', '--title', 'told', 'Another title')
        says(hosts, 'metadata', 'told', 'urn:other', '--key', 'o', '--set', '<app><kind>y</kind></app>')
        says(hosts, 'metadata', 'told', 'urn:app', '--remove')
        assert 'one element' in refusal(hosts, 'metadata', 'told', 'urn:app', '--key', 'a', '--set', '<a/><b/>')
        assert 'not running' in refusal(hosts, 'desc', 'told', '--live', 'no')
        hosts.kill('hostA', 'virtquasard')
        hosts.start_daemon('hostA', {'QUASAR_FAULT': '@/run/fault'})
        assert says(hosts, 'desc', 'told') == 'Other words'
        assert says(hosts, 'desc', '--title', 'told') == 'Another title'
        assert '<kind>y</kind>' in says(hosts, 'metadata', 'told', 'urn:other')
        assert 'metadata not found' in refusal(hosts, 'metadata', 'told', 'urn:app')
        says(hosts, 'desc', '--title', 'told', '')
        assert 'No title' in says(hosts, 'desc', '--title', 'told')
    finally:
        says(hosts, 'undefine', 'told')


def test_what_is_not_there_is_said(hosts):
    for command in (('pool-list',), ('nodedev-list',), ('secret-list',), ('nwfilter-list',), ('nodecpustats',)):
        assert 'this function is not supported by the connection driver' in refusal(hosts, *command), command


@pytest.fixture
def configured(hosts):
    """Starts hostB's daemon with a configuration; afterwards it runs again as it did."""
    path = hosts.path('hostB', 'etc/libvirt/virtquasard.conf')
    environment = dict(os.environ, QUASAR_FAULT='@/run/fault')

    def start(text_of_it):
        hosts.kill('hostB', 'virtquasard')
        with open(path, 'w') as file:
            file.write(text_of_it)
        return hosts.popen('hostB', os.path.join(hosts.build, 'run'), 'virtquasard', stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, env=environment, universal_newlines=True)
    yield hosts, start
    hosts.kill('hostB', 'virtquasard')
    os.unlink(path)
    hosts.start_daemon('hostB', {'QUASAR_FAULT': '@/run/fault'})


def test_sockets_are_as_configured(configured):
    places, start = configured
    process = start('unix_sock_dir = "/run/elsewhere"\nunix_sock_group = "daemon"\nunix_sock_rw_perms = "0660"\n'
                    'unix_sock_ro_perms = "0606"\ntls_port = "16515"\nmax_clients = 7\n')
    sockets = [places.path('hostB', 'run/elsewhere/virtquasard-sock' + end) for end in ('', '-ro')]
    lab_library.wait_for('the sockets', lambda: all(map(os.path.exists, sockets)) or process.poll() is not None)
    assert process.poll() is None, process.stderr.read()
    for path, mode in zip(sockets, (0o660, 0o606)):
        status = os.stat(path)
        assert stat.S_IMODE(status.st_mode) == mode
        assert grp.getgrgid(status.st_gid).gr_name == 'daemon'
    uri = 'quasar+unix:///system?socket=/run/elsewhere/virtquasard-sock'
    assert text(places.exec('hostB', 'virsh', '-c', uri, 'hostname')) == 'hostB'
    places.kill('hostB', 'virtquasard')
    process.wait(20)
    process.stderr.close()


@pytest.mark.parametrize('line', ['unix_sock_rw_perms = "rw"', 'unix_sock_group = "no-such-group"',
                                  'tls_port = 123456', 'max_clients = -1', 'unix_sock_ro_perms = 777',
                                  'nic_capture = "x"'])
def test_configuration_that_cannot_be_is_refused(configured, line):
    _, start = configured
    process = start(line + '\n')
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert line.split()[0] in errors


def small_guest(places, name, type='qemu', devices='', cpu=''):
    """The name of a file with a guest that lacks nothing else."""
    return write(places, 'small.xml', '''<domain type="%s"><name>%s</name><memory unit="MiB">64</memory><vcpu>1</vcpu>
<os><type arch="x86_64" machine="pc">hvm</type></os>%s<devices>%s</devices></domain>''' % (type, name, cpu, devices))


def disk_at(path, format='qcow2'):
    return ('<disk type="file"><driver name="qemu" type="%s"/><source file="/run/%s"/><target dev="vda"/></disk>'
            % (format, path))


@pytest.mark.parametrize('guest, words', [
    (dict(devices=disk_at('fake.qcow2')), ("disk 'vda'", '/run/fake.qcow2', 'cannot be read as qcow2')),
    (dict(devices='<emulator>/nowhere/qemu</emulator>'), ('<emulator> /nowhere/qemu', 'No such file')),
    (dict(devices='<emulator>/bin/true</emulator>'), ('<emulator> /bin/true', 'without <emulator> it is /')),
    (dict(cpu='<cpu mode="custom"><model>Nonsense</model></cpu>'), ("CPU model 'Nonsense'", 'virsh domcapabilities')),
])
def test_what_this_host_cannot_give_is_refused_when_defined(hosts, guest, words):
    write(hosts, 'fake.qcow2', 'no header')
    result = hosts.virsh('hostA', 'define', small_guest(hosts, 'small', **guest))
    assert result.returncode != 0
    assert result.stderr.count('error: unsupported configuration: ') == 1
    for word in words:
        assert word in result.stderr
    assert 'small' not in says(hosts, 'list', '--all', '--name')


def test_kvm_is_offered_where_the_emulator_can_have_it(hosts):
    can = hosts.exec('hostA', 'setpriv', '--reuid=libvirt-qemu', '--regid=libvirt-qemu', '--clear-groups', 'sh', '-c',
                     'exec <>/dev/kvm').returncode == 0
    assert ("<domain type='kvm'/>" in says(hosts, 'capabilities')) == can
    assert (hosts.virsh('hostA', 'domcapabilities', '--virttype', 'kvm').returncode == 0) == can
    defined = hosts.virsh('hostA', 'define', small_guest(hosts, 'small', type='kvm'))
    hosts.virsh('hostA', 'undefine', 'small')
    assert (defined.returncode == 0) == can
    assert can or '/dev/kvm' in defined.stderr and "type='qemu'" in defined.stderr


def test_image_that_only_root_may_read(hosts):
    """As storage pools make them: the emulator's user has it while it is looked at and while the guest runs."""
    image = hosts.path('hostA', 'var/lib/libvirt/images/private.qcow2')
    os.makedirs(os.path.dirname(image), exist_ok=True)
    hosts.must('hostA', 'qemu-img', 'create', '-q', '-f', 'qcow2', '/var/lib/libvirt/images/private.qcow2', '4M')
    os.chmod(image, 0o600)
    disk = disk_at('x').replace('/run/x', '/var/lib/libvirt/images/private.qcow2')
    try:
        says(hosts, 'define', small_guest(hosts, 'small', devices=disk))
        assert os.stat(image).st_uid == 0
        says(hosts, 'start', 'small')
        assert os.stat(image).st_uid != 0
        says(hosts, 'destroy', 'small')
        assert os.stat(image).st_uid == 0
    finally:
        hosts.virsh('hostA', 'destroy', 'small')
        hosts.virsh('hostA', 'undefine', 'small')
        os.unlink(image)


def test_name_that_begins_with_a_dash(hosts):
    """libvirt lets a guest be called so; virsh wants to be told that it is no option."""
    try:
        says(hosts, 'define', small_guest(hosts, '-small'))
        says(hosts, 'start', '--', '-small')
        assert says(hosts, 'domstate', '--', '-small').strip() == 'running'
    finally:
        hosts.virsh('hostA', 'destroy', '--', '-small')
        hosts.virsh('hostA', 'undefine', '--', '-small')


def test_notes_of_a_running_guest(hosts):
    """What is noted live is gone with the run, what is noted in the config stays."""
    try:
        says(hosts, 'define', small_guest(hosts, 'small'))
        says(hosts, 'start', 'small')
        says(hosts, 'desc', 'small', 'of this run')
        says(hosts, 'desc', 'small', '--config', 'of all runs')
        assert says(hosts, 'desc', 'small') == 'of this run'
        assert says(hosts, 'desc', '--config', 'small') == 'of all runs'
        hosts.kill('hostA', 'virtquasard')
        hosts.start_daemon('hostA', {'QUASAR_FAULT': '@/run/fault'})
        assert says(hosts, 'desc', 'small') == 'of this run'
        says(hosts, 'destroy', 'small')
        assert says(hosts, 'desc', 'small') == 'of all runs'
    finally:
        hosts.virsh('hostA', 'destroy', 'small')
        hosts.virsh('hostA', 'undefine', 'small')


def test_vcpuinfo(guest):
    told = fields(says(guest, 'vcpuinfo', 'web'))
    assert (told['VCPU'], told['State']) == ('0', 'running')
    assert float(told['CPU time'].rstrip('s')) > 0
    assert told['CPU Affinity'][int(told['CPU'])] == 'y'
    says(guest, 'destroy', 'web')
    assert guest.virsh('hostA', 'vcpuinfo', 'web').returncode != 0


@pytest.mark.parametrize('number', [None, signal.SIGKILL])
def test_autodestroy(hosts, number):
    """The guest ends with the connection that started it, however that ends, and does not leave the host before."""
    says(hosts, 'define', small_guest(hosts, 'small'))
    try:
        client = hosts.popen('hostA', 'virsh', '-c', 'quasar:///system', stdin=subprocess.PIPE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client.stdin.write(b'start --autodestroy small\n')
        client.stdin.flush()
        lab_library.wait_for('the guest', lambda: says(hosts, 'domstate', 'small').strip() == 'running')
        assert 'autodestroy' in refusal(hosts, 'migrate', '--live', 'small', 'quasar+tls://hostB/system')
        assert says(hosts, 'domstate', 'small').strip() == 'running'
        if number:
            assert hosts.kill('hostA', 'virsh', number) == 1
        client.stdin.close()
        client.wait(30)
        lab_library.wait_for('its end', lambda: says(hosts, 'domstate', '--reason', 'small').strip()
                             == 'shut off (destroyed)')
        says(hosts, 'start', 'small')
        assert says(hosts, 'domstate', 'small').strip() == 'running'
    finally:
        hosts.virsh('hostA', 'destroy', 'small')
        hosts.virsh('hostA', 'undefine', 'small')
