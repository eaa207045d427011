# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demonstration that tools/quickstart runs once the packages are there.

Builds, makes a lab of two hosts and a client, boots a guest on host A,
moves it to host B while a client downloads from it and pings it, and prints what that cost.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import time
import zlib

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(SOURCE, 'tests', 'lab'))
from lab import GUEST_ADDRESS, Lab, LabError, cache_dir, run  # noqa: E402  (found by the line above)

FILE_MIB = 32
DOWNLOADER = '''
import hashlib, signal, sys, time, urllib.request
stop = []
signal.signal(signal.SIGTERM, lambda *unused: stop.append(1))
signal.signal(signal.SIGINT, signal.SIG_IGN)
good = bad = total = 0
base = 'http://%s/' % sys.argv[1]
expected = urllib.request.urlopen(base + 'file.sha256', timeout=30).read().decode().strip()
while not stop:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(base + 'file', timeout=30) as reply:
            while True:
                data = reply.read(65536)
                if not data:
                    break
                digest.update(data)
                total += len(data)
                time.sleep(0.008)
    except OSError as error:
        print('download:', error, file=sys.stderr)
    if digest.hexdigest() == expected:
        good += 1
    else:
        bad += 1
print(good, bad, total)
'''


class Progress:
    """One line that changes on a terminal, plain lines elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.begin = time.monotonic()

    def __call__(self, text):
        line = '[%5.1f s] %s' % (time.monotonic() - self.begin, text)
        if self.live:
            sys.stdout.write('\r\033[K' + line)
        else:
            sys.stdout.write(line + '\n')
        sys.stdout.flush()

    def end(self):
        if self.live:
            sys.stdout.write('\r\033[K')
            sys.stdout.flush()


def build(progress, build_dir):
    """Configures and builds out of tree; the log is shown when it fails."""
    os.makedirs(build_dir, exist_ok=True)
    steps = []
    if not os.path.exists(os.path.join(SOURCE, 'configure')):
        steps.append(('autogen', [os.path.join(SOURCE, 'autogen.sh')]))
    if not os.path.exists(os.path.join(build_dir, 'config.status')):
        steps.append(('configure', [os.path.join(SOURCE, 'configure')]))
    steps.append(('build', ['make', '-j%d' % (os.cpu_count() or 1)]))
    for name, command in steps:
        progress(name)
        try:
            run(*command, cwd=build_dir)
        except LabError as error:
            raise LabError('%s failed:\n%s' % (name, '\n'.join(str(error).splitlines()[-40:])))


def bundled_emulator(progress, build_dir, setup):
    """Makes ours, or says why the distribution's has to do; it reports its own progress, minutes the first time."""
    progress('emulator')
    progress.end()
    flags = '' if setup else '--no-setup'
    subprocess.run(['make', '--no-print-directory', 'emulator', 'EMULATOR_FLAGS=' + flags], cwd=build_dir,
                   stdin=subprocess.DEVNULL, check=True)


def must_virsh(lab, host, *command, **options):
    result = lab.virsh(host, *command, **options)
    if result.returncode != 0:
        raise LabError('virsh %s on %s: %s' % (' '.join(command), host, (result.stderr + result.stdout).strip()))
    return result.stdout


class Witness:
    """Programs of the client that watch the guest from before the move until after it."""

    def __init__(self, lab):
        pinger = os.path.join(lab.directory, 'pinger')
        run('gcc', '-O2', '-D_GNU_SOURCE', '-o', pinger, os.path.join(SOURCE, 'tests', 'lab', 'pinger.c'))
        self.pinger = lab.popen('client', pinger, GUEST_ADDRESS, stdout=subprocess.PIPE, universal_newlines=True)
        self.loader = lab.popen('client', '/usr/bin/python3', '-c', DOWNLOADER, GUEST_ADDRESS,
                                stdout=subprocess.PIPE, universal_newlines=True)
        self.lab = lab

    def stop(self):
        """Ends both (nsenter passes no signals on, so by their own pids) and returns their figures."""
        for program in ('pinger', os.path.basename(os.path.realpath('/usr/bin/python3'))):
            for pid in self.lab.processes('client', program):
                os.kill(pid, signal.SIGTERM)
        pings = re.match(r'sent (\d+) lost (\d+) longest (\d+)', self.pinger.communicate(timeout=30)[0])
        loads = self.loader.communicate(timeout=120)[0].split()
        return [int(n) for n in pings.groups()], [int(n) for n in loads]


def show(rows):
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print('  %-*s  %s' % (width, name, value))


def job_figure(text, name):
    found = re.search(r'^%s:\s+(.*)$' % name, text, re.M)
    return re.sub(r'\s+', ' ', found.group(1)) if found else 'not reported'


def demonstrate(progress, lab):
    routed = lab.topology.routed
    progress('lab: hosts on subnets of their own, a router, a client' if routed else 'lab: two hosts, a switch, a client')
    lab.up()
    progress('guest: kernel and disks')
    _, overlay = lab.disks()
    definition = lab.path('hostA', 'run/web.xml')
    with open(definition, 'w') as file:
        file.write(lab.domain_xml(disk=overlay, file_mib=FILE_MIB, options='quasar.memory=16:2000 quasar.disk=1048576:64'))
    must_virsh(lab, 'hostA', 'define', '/run/web.xml')
    progress('guest: boot on hostA')
    must_virsh(lab, 'hostA', 'start', 'web')
    lab.wait_guest()
    progress('client: downloading and pinging')
    witness = Witness(lab)
    time.sleep(2)
    progress('virsh -c quasar:///system migrate --live web quasar+tls://hostB/system')
    begin = time.monotonic()
    must_virsh(lab, 'hostA', 'migrate', '--live', 'web', 'quasar+tls://hostB/system', timeout=120)
    total = time.monotonic() - begin
    progress('client: end of the download that spans the move')
    time.sleep(1)
    (sent, lost, longest), (good, bad, size) = witness.stop()
    job = lab.virsh('hostB', 'domjobinfo', 'web', '--completed').stdout
    memory, disk = lab.guest_get('memory') or 'no answer', lab.guest_get('disk') or 'no answer'
    progress.end()
    where = ', which is on another subnet; the client is on the first' if routed else ''
    print('\nThe guest moved from hostA to hostB%s.\n' % where)
    show([
        ('total time', '%.2f s' % total),
        ('pause (STOP to RESUME)', job_figure(job, 'Total downtime')),
        ('longest silence', '%.1f ms' % (longest / 1000)),
        ('pings lost', '%d of %d' % (lost, sent)),
        ('RAM moved', job_figure(job, 'Memory processed')),
        ('disk moved', job_figure(job, 'File processed')),
        ('download', '%d intact, %d broken, %.0f MiB' % (good, bad, size / 1048576)),
        ("guest's memory check", memory.strip()),
        ("guest's disk check", disk.strip()),
    ])
    for host in ('hostA', 'hostB'):
        print('\n%s$ virsh list --all\n%s' % (host, must_virsh(lab, host, 'list', '--all').rstrip()))
    for host in ('hostA', 'hostB') if routed else ():
        print('\n%s$ quasarctl net list\n%s' % (host, lab.must(host, os.path.join(lab.build, 'run'), 'quasarctl', 'net', 'list').rstrip()))
    return bad == 0 and good > 0 and memory.strip().endswith('errors 0') and disk.strip().endswith('errors 0')


def main():
    parser = argparse.ArgumentParser(prog='tools/quickstart', description='Shows a live migration on this machine.')
    parser.add_argument('--keep', action='store_true', help='leave the lab up and say how to talk to it')
    parser.add_argument('--routed', action='store_true', help='to a host on another subnet')
    parser.add_argument('--no-setup', action='store_true', help='do not look for missing packages (tools/quickstart heeds it)')
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit('quickstart: run this as root: sudo tools/quickstart')
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Progress()
    key = zlib.crc32(SOURCE.encode())
    build_dir = os.environ.get('QUASAR_BUILDDIR') or os.path.join(cache_dir(), 'quickstart-%08x' % key)
    lab = Lab(build=build_dir, topology='routed' if options.routed else 'segment')
    lab.build = build_dir
    good = kept = False
    try:
        build(progress, build_dir)
        bundled_emulator(progress, build_dir, not options.no_setup)
        good = demonstrate(progress, lab)
        kept = options.keep
    except (LabError, subprocess.SubprocessError) as error:
        progress.end()
        print('quickstart: %s' % error, file=sys.stderr)
    except KeyboardInterrupt:
        progress.end()
        print('quickstart: interrupted', file=sys.stderr)
    finally:
        if not kept:
            lab.down()
    if kept:
        print('\nThe lab is up: sudo tests/lab/lab exec hostB virsh -c quasar:///system console web'
              '\nIt ends with: sudo tests/lab/lab down')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
