# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab: hosts, switches, clients and a router as namespaces on this machine; topology.py says which.

Theory of operation

Each place (hostA, client, switch, ...) is a process that sleeps in its own network, mount, UTS and
PID namespace. The holder is the first process of its PID namespace, so ending it ends everything that
runs there, emulators included, and the kernel then drops the mounts and the network devices with the
namespaces. So there is one thing to undo per place, and a crash of the lab's own code leaves only holders,
which `down` finds by the pid and the start time that the state file records.
"""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from topology import TOPOLOGIES, Topology, all_addresses

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
SEGMENT = TOPOLOGIES['segment']
HOSTS = SEGMENT.hosts
ADDRESSES = {name: SEGMENT.address(name) for name in SEGMENT.members}
GUEST_ADDRESS = SEGMENT.address('guest')
GUEST_MAC = '52:54:00:77:00:50'
ALL_HOSTS = tuple(sorted({host for topology in TOPOLOGIES.values() for host in topology.hosts}))
OWN = ('run', 'etc/libvirt', 'etc/pki', 'var/lib/libvirt', 'var/log/libvirt', 'var/cache/libvirt')
SOCKET = '/run/libvirt/virtquasard-sock'
# What a domain can name as its emulator where hosts shall have different ones: each host has its own there.
LAUNCHER = '/var/lib/libvirt/emulator/launch'


class LabError(Exception):
    """The lab cannot do what it was asked; the text says why."""


class LabMissing(LabError):
    """What it would take is not to be had here."""


def cache_dir():
    return os.path.join(os.environ.get('XDG_CACHE_HOME') or '/var/cache', 'quasar')


def run(*command, **options):
    """Runs a command to its end and returns what it said; LabError when it failed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            universal_newlines=True, check=False, **options)
    if result.returncode != 0:
        raise LabError('%s: %s' % (' '.join(command), result.stdout.strip()))
    return result.stdout


def built_emulator(arch=None, target='x86_64'):
    """The program of this tree's emulator, or of the one that runs here as it would on a host of another architecture;
    None when it has not been built."""
    make = os.path.join(SOURCE, 'emulator', 'build', 'make-emulator')
    found = subprocess.run([make, '--find', '--target', target] + (['--host', arch] if arch else []), stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, universal_newlines=True, check=False).stdout.strip()
    return os.path.join(found, 'launch' if arch else 'bin/qemu-system-' + target) if found else None


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

    def __init__(self, directory=None, build=None, topology=None):
        self.directory = directory or os.environ.get('QUASAR_LAB') or os.path.join(cache_dir(), 'lab')
        self.build = build or os.environ.get('QUASAR_BUILDDIR')
        self.state_file = os.path.join(self.directory, 'state.json')
        self.holders = {}
        self.topology_name = topology or os.environ.get('QUASAR_LAB_TOPOLOGY') or 'segment'
        if os.path.exists(self.state_file):
            with open(self.state_file) as file:
                state = json.load(file)
            self.holders = state['holders']
            self.build = self.build or state['build']
            self.topology_name = topology or state.get('topology', 'segment')
        if self.topology_name not in TOPOLOGIES:
            raise LabError('no topology %s; there are %s' % (self.topology_name, ', '.join(TOPOLOGIES)))

    @property
    def topology(self):
        return TOPOLOGIES[self.topology_name]

    @property
    def hosts(self):
        return self.topology.hosts

    # Paths: `path` is ours, seen from outside; the same file inside is /NAME.
    def path(self, host, name):
        return os.path.join(self.directory, host, name.lstrip('/'))

    @property
    def daemon(self):
        return os.path.join(self.build or '', 'driver', 'virtquasard')

    def _save(self):
        temporary = self.state_file + '.new'
        with open(temporary, 'w') as file:
            json.dump({'holders': self.holders, 'build': self.build, 'topology': self.topology_name}, file)
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
        for subnet, switch in zip(self.topology.subnets, self.topology.switches):
            self.must(switch, 'ip', 'link', 'set', 'lo', 'up')
            self.must(switch, 'ip', 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0')
            self.must(switch, 'ip', 'link', 'set', 'br0', 'up')
            # Where the machine's packet filter knows bridges (whoever runs containers has that), a switch does not.
            if os.path.exists('/proc/sys/net/bridge'):
                for family in ('arp', 'ip', 'ip6'):
                    self._set(switch, 'bridge/bridge-nf-call-%stables' % family, 0)
            if self.topology.routed:
                self._cable('router', 'lan%d' % subnet, switch, 'p-router', Topology.gateway(subnet),
                            Topology.gateway6(subnet))
        for name in self.topology.members:
            self._cable(name, 'eth0', self.topology.switch(name), 'p-' + name, self.topology.address(name),
                        self.topology.address6(name))
            # Where there is one segment only its router is nobody; network `default` only looks for the link that the
            # route names.
            subnet = self.topology.subnet(name)
            self.must(name, 'ip', 'route', 'add', 'default', 'via', Topology.gateway(subnet), 'dev', 'eth0')
            if self.topology.routed:
                self.must(name, 'ip', '-6', 'route', 'add', 'default', 'via', Topology.gateway6(subnet), 'dev', 'eth0')
        if self.topology.routed:
            self.must('router', 'ip', 'link', 'set', 'lo', 'up')
            self._set('router', 'ipv4/ip_forward', 1)
            self._set('router', 'ipv6/conf/all/forwarding', 1)

    def _set(self, name, variable, value):
        self.must(name, 'sh', '-c', 'echo "$1" >"/proc/sys/net/$0"', variable, str(value))

    def _cable(self, name, nic, switch, port, address, address6):
        run('nsenter', '-t', str(self.holders[name]['pid']), '-n', 'ip', 'link', 'add', nic, 'type', 'veth',
            'peer', 'name', port, 'netns', str(self.holders[switch]['pid']))
        self.must(switch, 'ip', 'link', 'set', port, 'master', 'br0', 'up')
        self.must(name, 'ip', 'link', 'set', 'lo', 'up')
        self.must(name, 'ip', 'addr', 'add', address + '/24', 'dev', nic)
        # Tests that advertise a router do it for the guest.
        self._set(name, 'ipv6/conf/%s/accept_ra' % nic, 0)
        if address6:
            # Addresses are unique here; each is of use at once.
            self._set(name, 'ipv6/conf/%s/accept_dad' % nic, 0)
            self.must(name, 'ip', 'addr', 'add', address6 + '/64', 'dev', nic, 'nodad')
        # A cable carries whole frames with their checksums; what veth hands over unsegmented would not.
        self.must(name, 'ethtool', '-K', nic, 'tx', 'off', 'gro', 'off')
        self.must(name, 'ip', 'link', 'set', nic, 'up')

    def _port(self, name):
        """The switch and the port at which a place's cable ends; of a switch, its uplink's."""
        if name in self.topology.switches:
            if not self.topology.routed:
                raise LabError('%s has no uplink' % name)
            return name, 'p-router'
        if name not in self.topology.members:
            raise LabError('%s is neither at a switch nor one' % name)
        return self.topology.switch(name), 'p-' + name

    def link(self, name, state):
        """Cuts ('down') or mends ('up') a place's cable at its switch, or a switch's uplink."""
        switch, port = self._port(name)
        self.must(switch, 'ip', 'link', 'set', port, state)

    # Bad cables. This machine's kernel need not have netem: impair.c takes the port's place at the bridge.
    def netem(self, name, delay_ms=0, loss_percent=0, rate_kbit=0):
        """Makes a place's cable, or a switch's uplink, as bad as said, both ways; with nothing said, good again."""
        switch, port = self._port(name)
        for pid in self._impairing(switch, port):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for('the end of the bad cable', lambda: not self._impairing(switch, port))
        if not (delay_ms or loss_percent or rate_kbit):
            self.must(switch, 'ip', 'link', 'set', port, 'master', 'br0')
            return
        program, counts, tap = self.program('impair'), self._counts(name), 'n-' + port[2:]
        with contextlib.suppress(FileNotFoundError):
            os.unlink(counts)
        self.must(switch, 'ip', 'link', 'set', port, 'nomaster')
        process = self.popen(switch, program, port, tap, counts, str(round(delay_ms * 1000)), str(loss_percent),
                             str(rate_kbit), start_new_session=True)

        def counts_are_there():
            if process.poll() is not None:
                raise LabError('impair ended at once')
            return os.path.exists(counts) and os.path.getsize(counts) > 0
        wait_for('the bad cable', counts_are_there)
        self.must(switch, 'ip', 'link', 'set', tap, 'master', 'br0', 'up')

    def netem_counts(self, name):
        """What a bad cable has done so far: passed, lost and overflowed, from the place ('out') and to it ('in')."""
        with open(self._counts(name)) as file:
            numbers = list(map(int, file.read().split()))
        keys = ('passed', 'lost', 'overflowed')
        return {'out': dict(zip(keys, numbers[:3])), 'in': dict(zip(keys, numbers[3:]))}

    def _counts(self, name):
        return os.path.join(self.directory, 'impair-' + name)

    def _impairing(self, switch, port):
        return [pid for pid in self.processes(switch, 'impair')
                if open('/proc/%d/cmdline' % pid).read().split('\0')[1:2] == [port]]

    def program(self, name):
        """The path of a program of the lab's, made from its source when that, or a header, is younger."""
        source, path = os.path.join(HERE, name + '.c'), os.path.join(self.directory, name)
        younger = max(map(os.path.getmtime, [source] + glob.glob(os.path.join(HERE, '*.h'))))
        if not os.path.exists(path) or os.path.getmtime(path) < younger:
            run('gcc', '-O2', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-o', path + '.new', source)
            os.rename(path + '.new', path)
        return path

    # Files.
    def _mounts(self, name):
        hosts = os.path.join(self.directory, 'hosts')
        for own in OWN if name in self.hosts else ():
            ours = self.path(name, own)
            os.makedirs(ours, exist_ok=True)
            os.makedirs('/' + own, exist_ok=True)
            self.must(name, 'mount', '--bind', ours, '/' + own)
        self.must(name, 'mount', '--bind', hosts, '/etc/hosts')

    def _hosts_file(self):
        with open(os.path.join(self.directory, 'hosts'), 'w') as file:
            file.write('127.0.0.1 localhost\n')
            for name in tuple(self.topology.members) + ('guest',):
                file.write('%s %s\n' % (self.topology.address(name), name))
                if self.topology.routed:
                    file.write('%s %s-v6\n' % (self.topology.address6(name), name))

    def _certificate(self, keys, name, template, authority):
        key, certificate = os.path.join(keys, name + '-key.pem'), os.path.join(keys, name + '-cert.pem')
        info = os.path.join(keys, name + '.info')
        wanted = 'organization = "Quasar lab"\ncn = "%s"\nexpiration_days = 3650\n%s' % (name, template)
        with contextlib.suppress(FileNotFoundError), open(info) as file:
            if os.path.exists(certificate) and file.read() == wanted:
                return
        if not os.path.exists(key):
            run('certtool', '--generate-privkey', '--key-type', 'rsa', '--bits', '3072', '--outfile', key)
        with open(info, 'w') as file:
            file.write(wanted)
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
        for host in self.hosts:
            names = ['dns_name = "%s"\n' % name for name in (host, host + '-v6')]
            names += ['ip_address = "%s"\n' % address for address in all_addresses(host)]
            self._certificate(keys, host, ''.join(names) + 'tls_www_server\ntls_www_client\nsigning_key\n'
                              'encryption_key\n', True)
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
            for host in self.hosts:
                for own in OWN:
                    os.makedirs(self.path(host, own), exist_ok=True)
            self._hosts_file()
            self._pki()
            for name in self.topology.places:
                self._hold(name)
            self._wire()
            for name in self.topology.members:
                self._mounts(name)
            for host in self.hosts if daemons else ():
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
        for host in ALL_HOSTS:
            shutil.rmtree(os.path.join(self.directory, host), ignore_errors=True)

    def status(self):
        return {name: self.alive(name) for name in self.topology.places}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.down()

    # The guest.
    def guest_files(self, kind='x86_64'):
        """Makes the guest (or takes it from the cache), gives it to all hosts; paths as seen inside."""
        result = subprocess.run([os.path.join(HERE, 'guest'), kind], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                universal_newlines=True, check=False)
        if result.returncode == 3:
            raise LabMissing('the packages of a guest of %s are not to be had' % kind)
        if result.returncode != 0:
            raise LabError('the guest could not be made')
        inside = []
        for name in ('vmlinuz', 'initrd'):
            inside.append('/var/lib/libvirt/boot/' + name)
            for host in self.hosts:
                # Emulators run as a user of their own, who need not be able to look into the cache.
                ours = self.path(host, inside[-1])
                os.makedirs(os.path.dirname(ours), mode=0o755, exist_ok=True)
                shutil.copy(os.path.join(result.stdout.strip(), name), ours)
                os.chmod(ours, 0o644)
        return tuple(inside)

    def disks(self, size_mib=64, name='web'):
        """A base image on all hosts, with the same content, and an overlay of it on A. Paths as seen inside."""
        images = 'var/lib/libvirt/images'
        base, overlay = '/%s/base.qcow2' % images, '/%s/%s.qcow2' % (images, name)
        for host in self.hosts:
            os.makedirs(self.path(host, images), exist_ok=True)
        raw = self.path('hostA', images + '/base.raw')
        with open(raw, 'wb') as file:
            pattern = bytes(range(256)) * 4096
            for _ in range(size_mib // 4):
                file.write(pattern)
            file.truncate(size_mib * 1024 * 1024)
        run('qemu-img', 'convert', '-O', 'qcow2', raw, self.path('hostA', base))
        os.unlink(raw)
        for host in self.hosts[1:]:
            shutil.copy(self.path('hostA', base), self.path(host, base))
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

    def domain_xml(self, name='web', memory_mib=256, disk=None, options='', file_mib=32, arch='x86_64',
                   kind=None):
        """The guest's XML, with the least that a user would write. `kind`: of its kernel, where not its architecture."""
        kernel, initrd = self.guest_files(kind or arch)
        if self.topology.routed:
            options = 'quasar.gateway=%s quasar.ip6=%s/64 quasar.gateway6=%s %s' % (
                Topology.gateway(1), self.topology.address6('guest'), Topology.gateway6(1), options)
        disk_xml = ('<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="%s"/>'
                    '<target dev="vda" bus="virtio"/></disk>' % disk) if disk else ''
        pc = not arch.startswith('ppc')
        return '''<domain type="qemu">
  <name>%s</name>
  <memory unit="MiB">%d</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch="%s" machine="%s">hvm</type>
    <kernel>%s</kernel>
    <initrd>%s</initrd>
    <cmdline>console=%s quiet quasar.ip=%s/24 quasar.file=%d %s</cmdline>
  </os>
  %s
  <devices>
    %s
    <interface type="network"><mac address="%s"/><source network="default"/><model type="virtio"/></interface>
    <serial type="pty"/>
    <console type="pty"/>
  </devices>
</domain>
''' % (name, memory_mib, arch, 'pc' if pc else 'pseries', kernel, initrd, 'ttyS0' if pc else 'hvc0', GUEST_ADDRESS,
       file_mib, options, '<features><acpi/></features>' if pc else '', disk_xml, GUEST_MAC)

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


USAGE = """usage: lab up [--topology NAME] [--no-daemons] | exec PLACE COMMAND... | down | status
       lab link PLACE up|down | netem PLACE [delay 10ms] [loss 1%] [rate 100mbit]
PLACE of link and netem: one at the end of a cable, or a switch for its uplink; a netem that says nothing mends.
"""
UNITS = {'delay': {'us': 0.001, 'ms': 1, 's': 1000}, 'loss': {'%': 1}, 'rate': {'kbit': 1, 'mbit': 1000, 'gbit': 1000000}}


def netem_options(words):
    """`delay 10ms loss 1%` as the arguments of Lab.netem()."""
    names = {'delay': 'delay_ms', 'loss': 'loss_percent', 'rate': 'rate_kbit'}
    options = {}
    for key, value in zip(words[::2], words[1::2]):
        match = re.fullmatch(r'([0-9.]+)(%|[a-z]+)', value)
        if not match or match.group(2) not in UNITS.get(key, ()):
            raise LabError('netem does not know "%s %s"' % (key, value))
        options[names[key]] = float(match.group(1)) * UNITS[key][match.group(2)]
    if len(words) % 2:
        raise LabError('netem: %s how much?' % words[-1])
    return dict(options, rate_kbit=round(options.get('rate_kbit', 0)))


def parse_up(arguments):
    """The daemons wanted?, the topology; None for what up does not know."""
    rest = [word for word in arguments if word != '--no-daemons']
    if rest and (len(rest) != 2 or rest[0] != '--topology'):
        return None
    return '--no-daemons' not in arguments, rest[1] if rest else None


def main(arguments):
    try:
        wanted = parse_up(arguments[1:]) if arguments[:1] == ['up'] else None
        if wanted:
            daemons, topology = wanted
            # What is up may be of another topology; it goes.
            Lab().down()
            lab = Lab(topology=topology).up(daemons=daemons)
            print('up: %s' % ' '.join(sorted(lab.holders)))
            return 0
        lab = Lab()
        if arguments == ['down']:
            lab.down()
        elif arguments == ['status']:
            for name, alive in lab.status().items():
                print('%-8s %s' % (name, 'up' if alive else 'down'))
        elif arguments[:1] == ['exec'] and len(arguments) > 2:
            if not lab.alive(arguments[1]):
                raise LabError('%s is not up' % arguments[1])
            return subprocess.call(lab.inside(arguments[1], arguments[2:]))
        elif arguments[:1] == ['link'] and len(arguments) == 3 and arguments[2] in ('up', 'down'):
            lab.link(*arguments[1:])
        elif arguments[:1] == ['netem'] and len(arguments) > 1:
            lab.netem(arguments[1], **netem_options(arguments[2:]))
        else:
            sys.stderr.write(USAGE)
            return 2
    except LabError as error:
        sys.stderr.write('lab: %s\n' % error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
