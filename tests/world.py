# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that moves between the lab's hosts, and what must hold of both when a move is over."""
import contextlib
import os
import shutil
import subprocess
import tempfile

import lab as lab_library
import traffic

STATE = 'var/lib/libvirt/quasar'
IMAGES = 'var/lib/libvirt/images'
SMALL = 'var/lib/libvirt/small'


class World:
    """A lab's hosts, and one guest that runs on one of them and moves to the next of the route."""
    EMULATOR = 'qemu-system-x86_64'
    ARCH = 'x86_64'
    ASK_S = 0.05  # between two questions to the guest

    def __init__(self, lab):
        self.lab = lab
        self.source = 'hostA'
        self.route = ('hostA', 'hostB')  # where a guest goes: from the last to the first again
        self.logged = {}
        self.usable = False
        self.spoilt = False  # by a test that passed
        self.nic = ''  # a <driver> for the next guest's NIC
        self.model = 'virtio'  # of that NIC
        self.kind = None  # of that guest's kernel, where it needs another than its architecture's
        self.writers = 'quasar.memory=4:1000'  # how the next guest writes, besides what it writes to disk

    @property
    def destination(self):
        return self.route[(self.route.index(self.source) + 1) % len(self.route)]

    def others(self, host):
        return [other for other in self.lab.hosts if other != host]

    # What is there.
    def files(self, host, name):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.lab.path(host, name)))
        return []

    def state(self, host):
        return self.lab.virsh(host, 'domstate', '--reason', 'web').stdout.strip()

    def rounds(self):
        words = (self.lab.guest_get('memory') or '').split()
        return int(words[1]) if len(words) > 1 else -1

    def acknowledged(self):
        words = (self.lab.guest_get('disk') or '').split()
        return int(words[1]) if len(words) > 1 else -1

    def in_guest(self, command, address=lab_library.GUEST_ADDRESS):
        """What a command prints in the guest, errors too."""
        return traffic.in_guest(self.lab, command, address)

    def new_log(self, host):
        """What the daemon has logged since the cell began."""
        return self.lab.daemon_log(host)[self.logged.get(host, 0):]

    # Making it.
    def start_daemon(self, host):
        self.lab.start_daemon(host, {'QUASAR_FAULT': '@/run/fault'})

    def start(self, host):
        started = self.lab.virsh(host, 'start', 'web')
        assert started.returncode == 0, started.stderr
        self.source = host

    def wait_booted(self):
        self.lab.wait_guest()
        lab_library.wait_for('the writers in the guest', lambda: self.rounds() > 0 and self.acknowledged() > 0)

    def clear(self):
        """From whatever was left to two hosts that know no guest."""
        for host in self.lab.hosts:
            self.lab.link(host, 'up')
            for program in ('virsh', 'virtquasard', self.EMULATOR, 'quasar-vnet'):
                self.lab.kill(host, program)
            self.let_go(host)
            if os.path.exists(self.lab.path(host, SMALL)):
                self.lab.exec(host, 'umount', '-l', '/' + SMALL)
            for name in (STATE, 'etc/libvirt/quasar', 'run/libvirt/quasar', IMAGES, SMALL):
                shutil.rmtree(self.lab.path(host, name), ignore_errors=True)
            self.start_daemon(host)

    def definition(self, disk, blocks):
        xml = self.lab.domain_xml(disk=disk, memory_mib=128, file_mib=8, arch=self.ARCH, kind=self.kind,
                                  options='%s quasar.disk=1048576:%d %s' % (self.writers, blocks, traffic.OPTION))
        xml = xml.replace('<model type="virtio"/>', '<model type="%s"/>' % self.model)
        return xml.replace('</interface>', self.nic + '</interface>')

    def small_disk(self, base):
        """An overlay on a file system of A that is soon full; at the same place on B there is room. Its path inside."""
        for host in self.lab.hosts:
            os.makedirs(self.lab.path(host, SMALL), mode=0o755, exist_ok=True)
        self.lab.must('hostA', 'mount', '-t', 'tmpfs', '-o', 'size=2m,mode=0755', 'quasar-small', '/' + SMALL)
        image = '/%s/web.qcow2' % SMALL
        self.lab.must('hostA', 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', image)
        return image

    def reset(self, small=False):
        """From whatever was left to a guest that is booting on A. With `small` it writes more than its disk there can
        take, and will stand."""
        self.clear()
        base, overlay = self.lab.disks()
        with open(self.lab.path('hostA', 'run/web.xml'), 'w') as file:
            file.write(self.definition(self.small_disk(base) if small else overlay, 512 if small else 64))
        defined = self.lab.virsh('hostA', 'define', '/run/web.xml')
        assert defined.returncode == 0, defined.stderr
        self.start('hostA')

    def move_full(self):
        """A guest that stands because its disk is full moves to where there is room, and its write completes there."""
        self.reset(small=True)
        lab_library.wait_for('the full disk', lambda: self.state('hostA') == 'paused (I/O error)', 60)
        self.move()
        assert self.state('hostB') == 'paused (I/O error)'
        resumed = self.lab.virsh('hostB', 'resume', 'web')
        assert resumed.returncode == 0, resumed.stderr
        written = self.acknowledged()
        # All that was written before is read again in the next pass over the disk.
        lab_library.wait_for('the writes after it', lambda: self.acknowledged() > written + 512, 300, self.ASK_S)
        assert self.lab.guest_get('disk').strip().endswith('errors 0')
        assert self.lab.guest_get('memory').strip().endswith('errors 0')

    def kill(self, host, program):
        """Kills a host's processes and returns when they are dead, not only dying."""
        pids = self.lab.processes(host, program)
        self.lab.kill(host, program)
        lab_library.wait_for('the death of %s on %s' % (program, host),
                             lambda: not any(lab_library.start_time(pid) for pid in pids))

    # A move.
    def hold(self, host, point):
        with open(self.lab.path(host, 'run/fault'), 'w') as file:
            file.write('%s:hold\n' % point)

    def wait_held(self, host, point, client):
        held = self.lab.path(host, 'run/fault.held')

        def stands():
            if client.poll() is not None:
                raise lab_library.LabError('the move ended before %s: %s' % (point, self.hear_end(client, 1)))
            return os.path.exists(held)
        lab_library.wait_for('the stage %s' % point, stands, 60)

    def let_go(self, host):
        for name in ('run/fault', 'run/fault.held'):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.lab.path(host, name))

    def migrate(self, *options):
        output = tempfile.TemporaryFile('w+')
        # The client too gives a silent host up, after 3 s instead of virsh's 30.
        client = self.lab.popen(self.source, 'virsh', '-k', '1', '-K', '2', '-c', 'quasar:///system', 'migrate',
                                '--live', '--persistent', *options, 'web', 'quasar+tls://%s/system' % self.destination,
                                stdout=output, stderr=subprocess.STDOUT)
        client.output = output
        client.errors = ''
        return client

    def go(self, *options):
        """A move that must succeed. Returns what virsh said and where the guest was."""
        source, destination = self.source, self.destination
        client = self.migrate(*options)
        errors = self.hear_end(client, 120)
        # A client that a signal has ended has nothing to say.
        assert client.returncode == 0, 'virsh ended with %d: %s' % (client.returncode, errors)
        self.source = destination
        return errors, source

    def move(self, *options):
        """One that must leave nothing behind besides."""
        said = self.go(*options)
        self.wait_settled(10)
        return said

    def hear_end(self, client, seconds):
        client.wait(seconds)
        client.output.seek(0)
        client.errors = client.output.read()
        return client.errors

    # What must hold.
    def records(self):
        return [(host, name) for host in self.lab.hosts for name in self.files(host, STATE + '/handoff')]

    def has_no_job(self, host):
        """A host that does not know the guest has none for it; one that does not answer is not asked in vain."""
        info = self.lab.virsh(host, 'domjobinfo', 'web')
        if info.returncode != 0:
            return "failed to get domain 'web'" in info.stderr
        return info.stdout.split()[-1:] == ['None']

    def settled(self):
        return not self.records() and all(self.has_no_job(host) for host in self.lab.hosts)

    def wait_settled(self, seconds):
        try:
            lab_library.wait_for('the settlement of the move', self.settled, seconds)
        except lab_library.LabError as error:
            raise AssertionError('%s: %s' % (error, self.records())) from error

    def assert_no_leftovers(self, host, owner, runs):
        count = 1 if runs else 0
        assert not self.lab.processes(host, 'virsh')
        for program in (self.EMULATOR, 'quasar-vnet'):
            # What has been told to end may still be at it.
            lab_library.wait_for('the end of spare processes of %s on %s' % (program, host),
                                 lambda program=program: len(self.lab.processes(host, program)) <= count, 10)
            assert len(self.lab.processes(host, program)) == count
        images = [name for name in self.files(host, IMAGES) if name not in ('base.qcow2', 'web.qcow2.superseded')]
        assert images == (['web.qcow2'] if owner else [])
        assert len([name for name in self.files(host, 'run/libvirt/quasar') if name.startswith('domain-')]) == count

    def assert_listed(self, host, state):
        lines = self.lab.virsh(host, 'list', '--all').stdout.splitlines()
        listed = [line.split(None, 2)[2].strip() for line in lines if ' web ' in line]
        # A host that the guest has never reached need not know it.
        assert listed == [state] or (state == 'shut off' and not listed)

    def assert_sound(self):
        """Two whole passes over the memory find each store made before the move; so does one over the disk."""
        rounds, acknowledged = self.rounds(), self.acknowledged()
        lab_library.wait_for('two more passes over the memory', lambda: self.rounds() >= rounds + 2, 180, self.ASK_S)
        lab_library.wait_for('a pass over the disk', lambda: self.acknowledged() > acknowledged + 64, 180, self.ASK_S)
        assert self.lab.guest_get('memory').strip().endswith('errors 0')
        assert self.lab.guest_get('disk').strip().endswith('errors 0')

    def assert_runs(self, host):
        self.assert_listed(host, 'running')
        assert self.state(host).startswith('running (')
        assert 'undecided' not in self.lab.virsh(host, 'dominfo', 'web').stdout
        self.assert_no_leftovers(host, True, True)
        for other in self.others(host):
            self.assert_listed(other, 'shut off')
            self.assert_no_leftovers(other, False, False)
        self.assert_sound()
        self.source = host

    def assert_crashed(self, host):
        assert self.state(host) == 'shut off (crashed)'
        self.assert_listed(host, 'shut off')
        self.assert_no_leftovers(host, True, False)
        for other in self.others(host):
            self.assert_listed(other, 'shut off')
            self.assert_no_leftovers(other, False, False)
        # Code 3: clusters that nothing refers to, which a crash may leave.
        check = self.lab.exec(host, 'qemu-img', 'check', '-q', '/%s/web.qcow2' % IMAGES)
        assert check.returncode in (0, 3), check.stdout
