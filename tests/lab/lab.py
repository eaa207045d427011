# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab: hosts A and B, one switch and one client as namespaces on this machine.

Theory of operation

Each place (hostA, hostB, client, switch) is a process that sleeps in its own network, mount, UTS and
PID namespace. The holder is the first process of its PID namespace, so ending it ends everything that
runs there, emulators included, and the kernel then drops the mounts and the network devices with the
namespaces. So there is one thing to undo per place, and a crash of the lab's own code leaves only holders,
which `down` finds by the pid and the start time that the state file records.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HOSTS = ('hostA', 'hostB')
ADDRESSES = {'hostA': '10.77.0.1', 'hostB': '10.77.0.2', 'client': '10.77.0.9'}
GUEST_ADDRESS = '10.77.0.50'
OWN = ('run', 'etc/libvirt', 'etc/pki', 'var/lib/libvirt', 'var/log/libvirt', 'var/cache/libvirt')
SOCKET = '/run/libvirt/virtquasard-sock'
# What a domain can name as its emulator where hosts shall have different ones: each host has its own there.
LAUNCHER = '/var/lib/libvirt/emulator/launch'


class LabError(Exception):
    """The lab cannot do what it was asked; the text says why."""


def cache_dir():
    return os.path.join(os.environ.get('XDG_CACHE_HOME') or '/var/cache', 'quasar')


def run(*command, **options):
    """Runs a command to its end and returns what it said; LabError when it failed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            universal_newlines=True, check=False, **options)
    if result.returncode != 0:
        raise LabError('%s: %s' % (' '.join(command), result.stdout.strip()))
    return result.stdout


def built_emulator(arch=None):
    """The program of this tree's emulator, or of the one that runs here as it would on a host of another architecture;
    None when it has not been built."""
    make = os.path.join(SOURCE, 'emulator', 'build', 'make-emulator')
    found = subprocess.run([make, '--find'] + (['--host', arch] if arch else []), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, universal_newlines=True, check=False).stdout.strip()
    return os.path.join(found, 'launch' if arch else 'bin/qemu-system-x86_64') if found else None


def start_time(pid):
    """A process's start time in ticks: tells a pid from its reuse. None when it is gone."""
    try:
        with open('/proc/%d/stat' % pid) as stat:
            fields = stat.read().rpartition(')')[2].split()
    except OSError:
        return None
    return None if fields[0] == 'Z' else int(fields[19])


def wait_for(what, test, seconds=20, interval=0.05):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise LabError('%s did not happen in %d seconds' % (what, seconds))
        time.sleep(interval)


class Lab:
    """One lab; its directory holds the state, the hosts' files, the keys and the disks."""

    def __init__(self, directory=None, build=None):
        self.directory = directory or os.environ.get('QUASAR_LAB') or os.path.join(cache_dir(), 'lab')
        self.build = build or os.environ.get('QUASAR_BUILDDIR')
        self.state_file = os.path.join(self.directory, 'state.json')
        self.holders = {}
        if os.path.exists(self.state_file):
            with open(self.state_file) as file:
                state = json.load(file)
            self.holders = state['holders']
            self.build = self.build or state['build']

    # Paths: `path` is ours, seen from outside; the same file inside is /NAME.
    def path(self, host, name):
        return os.path.join(self.directory, host, name.lstrip('/'))

    @property
    def daemon(self):
        return os.path.join(self.build or '', 'driver', 'virtquasard')

    def _save(self):
        temporary = self.state_file + '.new'
        with open(temporary, 'w') as file:
            json.dump({'holders': self.holders, 'build': self.build}, file)
        os.rename(temporary, self.state_file)

    def alive(self, name):
        holder = self.holders.get(name)
        return bool(holder) and start_time(holder['pid']) == holder['start']

    # Namespaces.
    def _hold(self, name):
        """Starts the holder of one place and returns when its namespaces are there."""
        unshare = subprocess.Popen(
            ['unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', '--mount-proc',
             '--propagation', 'private', 'sh', '-c',
             # The first process of a PID namespace must reap what is left to it, and sh with a loop does.
             'hostname "$0"; trap : CHLD; echo ready; exec >/dev/null 2>&1; while :; do sleep 3600 & wait; done', name],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        line = unshare.stdout.readline().decode(errors='replace').strip()
        unshare.stdout.close()
        if line != 'ready':
            unshare.kill()
            unshare.wait()
            raise LabError('cannot make the namespaces of %s: %s' % (name, line))
        with open('/proc/%d/task/%d/children' % (unshare.pid, unshare.pid)) as children:
            pid = int(children.read().split()[0])
        self.holders[name] = {'pid': pid, 'start': start_time(pid), 'outer': unshare.pid}
        self._save()

    def inside(self, name, command):
        """The command line that runs `command` in a place."""
        return ['nsenter', '-t', str(self.holders[name]['pid']), '-n', '-m', '-u', '-i', '-p', '--wd=/'] + list(command)

    def exec(self, name, *command, **options):
        """Runs a command in a place; returns CompletedProcess with text output."""
        if not self.alive(name):
            raise LabError('%s is not up' % name)
        options.setdefault('timeout', 60)
        return subprocess.run(self.inside(name, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, check=False, **options)

    def popen(self, name, *command, **options):
        options.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.Popen(self.inside(name, command), **options)

    def must(self, name, *command, **options):
        result = self.exec(name, *command, **options)
        if result.returncode != 0:
            raise LabError('%s on %s: %s' % (' '.join(command), name, (result.stderr + result.stdout).strip()))
        return result.stdout

    def virsh(self, host, *command, **options):
        return self.exec(host, 'virsh', '-c', 'quasar:///system', *command, **options)

    # Network.
    def _wire(self):
        self.must('switch', 'ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
        self.must('switch', 'ip', 'link', 'set', 'br0', 'up')
        switch = self.holders['switch']['pid']
        for name, address in ADDRESSES.items():
            self.must('switch', 'ip', 'link', 'set', 'lo', 'up')
            port = 'p-' + name
            run('nsenter', '-t', str(self.holders[name]['pid']), '-n', 'ip', 'link', 'add', 'eth0', 'type', 'veth',
                'peer', 'name', port, 'netns', str(switch))
            self.must('switch', 'ip', 'link', 'set', port, 'master', 'br0', 'up')
            self.must(name, 'ip', 'link', 'set', 'lo', 'up')
            self.must(name, 'ip', 'addr', 'add', address + '/24', 'dev', 'eth0')
            # A cable carries whole frames with their checksums; what veth hands over unsegmented would not.
            self.must(name, 'ethtool', '-K', 'eth0', 'tx', 'off', 'gro', 'off')
            self.must(name, 'ip', 'link', 'set', 'eth0', 'up')
            # The segment's router is nobody; network `default` only looks for the link that the route names.
            self.must(name, 'ip', 'route', 'add', 'default', 'via', '10.77.0.254', 'dev', 'eth0')

    def link(self, host, state):
        """Cuts ('down') or mends ('up') a host's cable at the switch."""
        self.must('switch', 'ip', 'link', 'set', 'p-' + host, state)

    # Files.
    def _mounts(self, name):
        hosts = os.path.join(self.directory, 'hosts')
        for own in OWN if name in HOSTS else ():
            ours = self.path(name, own)
            os.makedirs(ours, exist_ok=True)
            os.makedirs('/' + own, exist_ok=True)
            self.must(name, 'mount', '--bind', ours, '/' + own)
        self.must(name, 'mount', '--bind', hosts, '/etc/hosts')

    def _hosts_file(self):
        with open(os.path.join(self.directory, 'hosts'), 'w') as file:
            file.write('127.0.0.1 localhost\n')
            for name, address in ADDRESSES.items():
                file.write('%s %s\n' % (address, name))
            file.write('%s guest\n' % GUEST_ADDRESS)

    def _certificate(self, keys, name, template, authority):
        key, certificate = os.path.join(keys, name + '-key.pem'), os.path.join(keys, name + '-cert.pem')
        if os.path.exists(certificate):
            return
        if not os.path.exists(key):
            run('certtool', '--generate-privkey', '--key-type', 'rsa', '--bits', '3072', '--outfile', key)
        info = os.path.join(keys, name + '.info')
        with open(info, 'w') as file:
            file.write('organization = "Quasar lab"\ncn = "%s"\nexpiration_days = 3650\n%s' % (name, template))
        how = ['--generate-self-signed', '--load-privkey', key]
        if authority:
            how = ['--generate-certificate', '--load-privkey', key,
                   '--load-ca-certificate', os.path.join(keys, 'ca-cert.pem'),
                   '--load-ca-privkey', os.path.join(keys, 'ca-key.pem')]
        run('certtool', *how, '--template', info, '--outfile', certificate + '.new')
        os.rename(certificate + '.new', certificate)

    def _pki(self):
        """One authority, one certificate per host for both ways; kept, since RSA keys take seconds."""
        keys = os.path.join(self.directory, 'keys')
        os.makedirs(keys, mode=0o700, exist_ok=True)
        self._certificate(keys, 'ca', 'ca\ncert_signing_key\n', False)
        for host in HOSTS:
            self._certificate(keys, host, 'dns_name = "%s"\nip_address = "%s"\ntls_www_server\ntls_www_client\n'
                              'signing_key\nencryption_key\n' % (host, ADDRESSES[host]), True)
            pki = self.path(host, 'etc/pki')
            os.makedirs(os.path.join(pki, 'CA'), exist_ok=True)
            os.makedirs(os.path.join(pki, 'libvirt/private'), exist_ok=True)
            shutil.copy(os.path.join(keys, 'ca-cert.pem'), os.path.join(pki, 'CA/cacert.pem'))
            for kind in ('server', 'client'):
                shutil.copy(os.path.join(keys, host + '-cert.pem'), os.path.join(pki, 'libvirt/%scert.pem' % kind))
                shutil.copy(os.path.join(keys, host + '-key.pem'),
                            os.path.join(pki, 'libvirt/private/%skey.pem' % kind))

    # Daemons.
    def start_daemon(self, host, environment=None):
        """Starts virtquasard on a host and returns when it takes calls."""
        if not os.path.exists(self.daemon):
            raise LabError('%s is not built' % self.daemon)
        with open(self.path(host, 'var/log/libvirt/virtquasard.log'), 'a') as log:
            process = self.popen(host, os.path.join(self.build, 'run'), 'virtquasard', stdout=log, stderr=log,
                                 env=dict(os.environ, **(environment or {})), start_new_session=True)

        def answers():
            if process.poll() is not None:
                raise LabError('virtquasard on %s ended at once: %s' % (host, self.daemon_log(host)[-2000:]))
            return self.exec(host, 'virsh', '-c', 'quasar:///system', 'uri').returncode == 0
        wait_for('the start of virtquasard on %s' % host, answers)

    def daemon_log(self, host):
        with open(self.path(host, 'var/log/libvirt/virtquasard.log')) as log:
            return log.read()

    def processes(self, host, program):
        """Pids (as seen from outside) of a host's processes that run a program, by its executable's name."""
        pids = []
        space = os.readlink('/proc/%d/ns/pid' % self.holders[host]['pid'])
        for entry in filter(str.isdigit, os.listdir('/proc')):
            with contextlib.suppress(OSError):
                if (os.readlink('/proc/%s/ns/pid' % entry) == space
                        # A program that was built anew while it runs is marked so.
                        and os.path.basename(os.readlink('/proc/%s/exe' % entry)).split(' ')[0] == program):
                    pids.append(int(entry))
        return pids

    def kill(self, host, program, number=signal.SIGKILL):
        """Ends a host's processes that run a program and returns when they are gone."""
        pids = self.processes(host, program)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        wait_for('the end of %s on %s' % (program, host), lambda: not self.processes(host, program))
        return len(pids)

    # The whole.
    def up(self, daemons=True):
        if os.geteuid() != 0:
            raise LabError('namespaces and network devices need root')
        self.down()
        try:
            os.makedirs(self.directory, exist_ok=True)
            os.chmod(self.directory, 0o755)
            for host in HOSTS:
                for own in OWN:
                    os.makedirs(self.path(host, own), exist_ok=True)
            self._hosts_file()
            self._pki()
            for name in ('switch', 'client') + HOSTS:
                self._hold(name)
            self._wire()
            for name in ('client',) + HOSTS:
                self._mounts(name)
            for host in HOSTS if daemons else ():
                self.start_daemon(host)
        except BaseException:
            self.down()
            raise
        return self

    def down(self):
        """Ends every place and forgets its files, but for the keys. Does nothing when nothing is up."""
        for name in list(self.holders):
            if self.alive(name):
                pid = self.holders[name]['pid']
                os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.holders[name]['outer'], 0)
                wait_for('the end of %s' % name, lambda pid=pid: start_time(pid) is None)
            del self.holders[name]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.state_file)
        for host in HOSTS:
            shutil.rmtree(os.path.join(self.directory, host), ignore_errors=True)

    def status(self):
        return {name: self.alive(name) for name in ('switch', 'client') + HOSTS}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.down()

    # The guest.
    def guest_files(self):
        """Makes the guest (or takes it from the cache), gives it to both hosts; paths as seen inside."""
        result = subprocess.run([os.path.join(HERE, 'guest')], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                universal_newlines=True, check=False)
        if result.returncode != 0:
            raise LabError('the guest could not be made')
        inside = []
        for name in ('vmlinuz', 'initrd'):
            inside.append('/var/lib/libvirt/boot/' + name)
            for host in HOSTS:
                # Emulators run as a user of their own, who need not be able to look into the cache.
                ours = self.path(host, inside[-1])
                os.makedirs(os.path.dirname(ours), mode=0o755, exist_ok=True)
                shutil.copy(os.path.join(result.stdout.strip(), name), ours)
                os.chmod(ours, 0o644)
        return tuple(inside)

    def disks(self, size_mib=64, name='web'):
        """A base image on both hosts, with the same content, and an overlay of it on A. Paths as seen inside."""
        images = 'var/lib/libvirt/images'
        base, overlay = '/%s/base.qcow2' % images, '/%s/%s.qcow2' % (images, name)
        for host in HOSTS:
            os.makedirs(self.path(host, images), exist_ok=True)
        raw = self.path('hostA', images + '/base.raw')
        with open(raw, 'wb') as file:
            pattern = bytes(range(256)) * 4096
            for _ in range(size_mib // 4):
                file.write(pattern)
            file.truncate(size_mib * 1024 * 1024)
        run('qemu-img', 'convert', '-O', 'qcow2', raw, self.path('hostA', base))
        os.unlink(raw)
        shutil.copy(self.path('hostA', base), self.path('hostB', base))
        self.must('hostA', 'qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay)
        with contextlib.suppress(LookupError):
            shutil.chown(self.path('hostA', overlay), 'libvirt-qemu', 'libvirt-qemu')
        return base, overlay

    def give_emulator(self, host, command):
        """`command` (a path and its first arguments) becomes what a host runs as LAUNCHER."""
        path = self.path(host, LAUNCHER)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        # A new file each time: what was probed of the old one is told from it by its time.
        with open(path + '.new', 'w') as file:
            file.write('#!/bin/sh\nexec %s "$@"\n' % command)
        os.chmod(path + '.new', 0o755)
        os.rename(path + '.new', path)

    def domain_xml(self, name='web', memory_mib=256, disk=None, options='', file_mib=32):
        """The guest's XML, with the least that a user would write."""
        kernel, initrd = self.guest_files()
        disk_xml = ('<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="%s"/>'
                    '<target dev="vda" bus="virtio"/></disk>' % disk) if disk else ''
        return '''<domain type="qemu">
  <name>%s</name>
  <memory unit="MiB">%d</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="x86_64" machine="pc">hvm</type>
    <kernel>%s</kernel>
    <initrd>%s</initrd>
    <cmdline>console=ttyS0 quiet quasar.ip=%s/24 quasar.file=%d %s</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    %s
    <interface type="network"><mac address="52:54:00:77:00:50"/><source network="default"/><model type="virtio"/></interface>
    <serial type="pty"/>
    <console type="pty"/>
  </devices>
</domain>
''' % (name, memory_mib, kernel, initrd, GUEST_ADDRESS, file_mib, options, disk_xml)

    def guest_get(self, name, seconds=5):
        """What the guest serves under a name, fetched by the client; None when it does not answer."""
        # Not busybox's wget: the static one of Debian 12 ends with SIGSEGV before it connects.
        fetch = ('import sys, urllib.request as r; '
                 'sys.stdout.write(r.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode())')
        result = self.exec('client', '/usr/bin/python3', '-S', '-c', fetch, 'http://%s/%s' % (GUEST_ADDRESS, name),
                           str(seconds), timeout=seconds + 20)
        return result.stdout if result.returncode == 0 else None

    def wait_guest(self, seconds=60):
        wait_for('the boot of the guest', lambda: self.guest_get('file.sha256', 1), seconds)

    def wait_writers(self, seconds=60):
        """Those that the guest was told to run have reported; its network is up before they have."""
        wait_for('the writers in the guest', lambda: self.guest_get('memory', 1) and self.guest_get('disk', 1), seconds)


def main(arguments):
    usage = 'usage: lab up [--no-daemons] | exec PLACE COMMAND... | down | status\n'
    lab = Lab()
    try:
        if arguments[:1] == ['up']:
            lab.up(daemons='--no-daemons' not in arguments)
            print('up: %s' % ' '.join(sorted(lab.holders)))
        elif arguments[:1] == ['down']:
            lab.down()
        elif arguments[:1] == ['status']:
            for name, alive in lab.status().items():
                print('%-8s %s' % (name, 'up' if alive else 'down'))
        elif arguments[:1] == ['exec'] and len(arguments) > 2:
            if not lab.alive(arguments[1]):
                raise LabError('%s is not up' % arguments[1])
            return subprocess.call(lab.inside(arguments[1], arguments[2:]))
        else:
            sys.stderr.write(usage)
            return 2
    except LabError as error:
        sys.stderr.write('lab: %s\n' % error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
