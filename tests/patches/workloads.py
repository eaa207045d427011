# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work that emulators' guests do, while the CPU time of each emulator is counted.

Theory of operation: what else runs on the machine changes what a second of CPU time is worth, and does so from one second to
the next. So the emulators that are compared live at the same time and work in turn, a fraction of a second each, the others
stopped or idle meanwhile. A work is made with a directory of its own; run() takes cells (name, binary, machine) and
returns figure -> cell's name -> amounts per CPU second, one of each turn, the greater the better.
"""
import contextlib
import os
import re
import subprocess
import sys
import time

from emulator import Emulator, EmulatorError, build_guest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'lab'))
import initramfs  # noqa: E402
import packages  # noqa: E402

HOST, GUEST = '10.88.0.9', '10.88.0.50'
PACKAGES = {'ab': 'apache2-utils', 'ip': 'iproute2'}
REQUESTS = {10: 100, 100: 50}  # KB -> how many in each turn
CONNECTIONS = 2
TURN_S, TURNS = 0.4, 16
BOOT_S = 300
ATTEMPTS = 3


def cpu_seconds(emulator):
    """Of all its threads, to the nanosecond: the clock that clock_getcpuclockid(3) names for another process."""
    return time.clock_gettime(~emulator.process.pid << 3 | 2)


def in_turn(cells, number):
    """The cells in an order that is the other way round in every second turn."""
    return cells if number % 2 == 0 else cells[::-1]


@contextlib.contextmanager
def running(emulator):
    """The guest goes on, for as long as this lasts."""
    emulator.command('cont')
    yield
    emulator.command('stop')


class Loop:
    """Rounds of guest.c, as it is (stores and checks) or as a definition makes it."""

    def __init__(self, directory, figure, *defines):
        self.directory, self.figure = directory, figure
        build_guest(directory, *defines)

    def start(self, stack, binary, machine):
        emulator = Emulator(binary, self.directory, '-machine', machine, '-accel', 'tcg', '-m', '64', '-S')
        stack.callback(emulator.end)
        with running(emulator):
            emulator.wait_reports(2)
        return emulator

    def run(self, cells):
        with contextlib.ExitStack() as stack:
            emulators = [self.start(stack, binary, machine) for _, binary, machine in cells]
            rates = {emulator: [] for emulator in emulators}
            for number in range(TURNS):
                for emulator in in_turn(emulators, number):
                    rates[emulator].append(self.turn(emulator))
        return {self.figure: {cell[0]: rates[emulator] for cell, emulator in zip(cells, emulators)}}

    @staticmethod
    def turn(emulator):
        first, begin = emulator.reports()[-1].rounds[0], cpu_seconds(emulator)
        with running(emulator):
            time.sleep(TURN_S)
        return (emulator.reports()[-1].rounds[0] - first) / (cpu_seconds(emulator) - begin)


def command(*words):
    """What it says; EmulatorError when it fails."""
    result = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            universal_newlines=True, timeout=120)
    if result.returncode != 0:
        raise EmulatorError('%s: %s' % (' '.join(words), result.stdout.strip()))
    return result.stdout


@contextlib.contextmanager
def network_with_tap(name):
    """A network namespace with a tap and nothing else; gives what runs a program in it."""
    command('ip', 'netns', 'add', name)
    try:
        for line in ('tuntap add dev tap0 mode tap', 'addr add %s/24 dev tap0' % HOST, 'link set tap0 up'):
            command('ip', '-n', name, *line.split())
        yield ['nsenter', '--net=/run/netns/' + name]
    finally:
        command('ip', 'netns', 'del', name)


class LinuxGuest:
    """One emulator with the lab's guest, before its first instruction, and a tap in a network of its own."""

    def __init__(self, stack, work, number, cell):
        self.name, binary, machine = cell
        self.inside = stack.enter_context(network_with_tap('quasar-speed-%d-%d' % (os.getpid(), number)))
        self.emulator = Emulator(
            binary, work.directory, '-S', '-machine', machine, '-accel', 'tcg', '-m', '256', '-smp', str(work.vcpus),
            '-initrd', work.initrd, '-append', 'console=ttyS0 quiet quasar.ip=%s/24 quasar.file=8' % GUEST,
            '-netdev', 'tap,id=net0,ifname=tap0,script=no,downscript=no,vhost=off',
            '-device', 'virtio-net-pci,netdev=net0,romfile=', prefix=self.inside, kernel=work.kernel)
        stack.callback(self.emulator.end)
        self.up = False

    def boot_on(self):
        """One turn of the way to userspace."""
        end = time.monotonic() + TURN_S
        with running(self.emulator):
            while not self.up and time.monotonic() < end:
                time.sleep(0.01)
                with open(self.emulator.serial, encoding='ascii', errors='replace') as file:
                    self.up = 'quasar guest ready' in file.read()

    def answer(self, size, number):
        """CPU seconds for so many requests for a document."""
        for _ in range(ATTEMPTS):
            begin = cpu_seconds(self.emulator)
            try:
                said = command(*self.inside, 'ab', '-q', '-s', '10', '-n', str(number), '-c', str(CONNECTIONS),
                               'http://%s/%dk' % (GUEST, size))
            except EmulatorError as error:
                # Once in some ten thousand requests one is not answered, also by the plain emulator.
                print('the guest of %s, once more: %s' % (self.name, error), file=sys.stderr)
                continue
            if not re.search(r'(?m)^Failed requests: +0$', said) or 'Non-2xx' in said:
                raise EmulatorError('not every request for %d KB was answered:\n%s' % (size, said))
            return cpu_seconds(self.emulator) - begin
        raise EmulatorError('the guest of %s does not answer' % self.name)


class Linux:
    """The lab's guest: from start to its userspace, which is up when its web server is; then requests to that."""

    def __init__(self, directory, vcpus=1, requests=True):
        packages.bring(PACKAGES)
        self.directory, self.vcpus, self.requests = directory, vcpus, requests
        made = command(os.path.join(os.path.dirname(HERE), 'lab', 'guest')).splitlines()[-1]
        self.kernel, self.initrd = os.path.join(made, 'vmlinuz'), os.path.join(directory, 'initrd')
        initramfs.extend(os.path.join(made, 'initrd'), initramfs.documents(REQUESTS), self.initrd)

    def run(self, cells):
        with contextlib.ExitStack() as stack:
            guests = [LinuxGuest(stack, self, number, cell) for number, cell in enumerate(cells)]
            names = [cell[0] for cell in cells]
            figures = {'boot, %d vCPU' % self.vcpus: dict(zip(names, self.boot(guests)))}
            for guest in guests:
                guest.emulator.command('cont')
            for size in REQUESTS if self.requests else ():
                figures['ab, %d KB' % size] = dict(zip(names, self.ask(guests, size)))
            return figures

    @staticmethod
    def boot(guests):
        """How many boots each makes in a CPU second; one figure, since no part of a boot is like another."""
        number, deadline = 0, time.monotonic() + BOOT_S
        while not all(guest.up for guest in guests):
            for guest in in_turn(guests, number):
                guest.boot_on()
            number += 1
            if time.monotonic() > deadline:
                raise EmulatorError('not every guest has booted after %d s' % BOOT_S)
        return [[1 / cpu_seconds(guest.emulator)] for guest in guests]

    @staticmethod
    def ask(guests, size):
        """How many requests each answers in a CPU second."""
        for guest in guests:
            guest.answer(size, REQUESTS[size])  # what it runs is translated once
        rates = {guest: [] for guest in guests}
        for number in range(TURNS):
            for guest in in_turn(guests, number):
                rates[guest].append(REQUESTS[size] / guest.answer(size, REQUESTS[size]))
        return rates.values()
