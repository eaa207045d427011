# SPDX-License-Identifier: LGPL-2.1-or-later
"""An emulator under test: started with the guest of guest.c, talked to by QMP, moved to another."""
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LINE = re.compile(r'^q ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{16}) '
                  r'(\d{6}) ([0-9a-f]{8}) ([0-9a-f]{8})$')

AHEAD = '/quasar-translate-ahead'


class EmulatorError(Exception):
    """What went wrong, with what the emulator said."""


def build_guest(directory, *defines):
    """The guest's image; needs gcc and nothing of a 32-bit library."""
    image = os.path.join(directory, 'guest.elf')
    subprocess.run(['gcc', '-m32', '-O2', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-fno-pic', '-fno-pie',
                    '-fno-stack-protector', '-fno-toplevel-reorder', '-fno-asynchronous-unwind-tables', '-mno-sse', '-static',
                    '-nostdlib', '-Wl,-Ttext=0x100000,--build-id=none,-z,noexecstack,-n,--no-warn-rwx-segments',
                    '-o', image, os.path.join(HERE, 'guest.c')] + ['-D' + name for name in defines], check=True)
    return image


class Report:
    """One line of the guest."""

    def __init__(self, match):
        rounds0, errors0, rounds1, errors1, self.tsc = (int(number, 16) for number in match.groups()[:5])
        self.rounds, self.errors = (rounds0, rounds1), (errors0, errors1)
        self.clock = match[6]
        self.updates, self.written = int(match[7], 16), int(match[8], 16)


class Emulator:
    """One process. `prefix` is what runs it (a foreign one under qemu-user); `kernel` a guest other than guest.c's."""

    count = 0

    def __init__(self, binary, directory, *options, prefix=(), kernel=None, incoming=False, environment=None):
        Emulator.count += 1
        base = os.path.join(directory, 'e%d' % Emulator.count)
        self.monitor, self.serial, self.log, self.socket = (base + s for s in ('.qmp', '.out', '.log', '.move'))
        command = list(prefix) + [binary, '-nodefaults', '-no-user-config', '-display', 'none',
                                  '-kernel', kernel or os.path.join(directory, 'guest.elf'), '-qmp',
                                  'unix:%s,server=on,wait=off' % self.monitor, '-serial', 'file:' + self.serial]
        command += list(options) + (['-incoming', 'defer'] if incoming else [])
        with open(self.log, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=dict(os.environ, **(environment or {})))
        self.events = []
        self.connect()
        capabilities = [{'capability': name, 'state': True} for name in ('return-path', 'events', 'xbzrle')]
        self.command('migrate-set-capabilities', capabilities=capabilities)
        if incoming:
            self.command('migrate-incoming', uri='unix:' + self.socket)

    def fail(self, message):
        with open(self.log, encoding='utf-8', errors='replace') as file:
            said = file.read().strip()
        raise EmulatorError('%s%s' % (message, ': ' + said if said else ''))

    def connect(self):
        deadline = time.monotonic() + 30
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(self.monitor)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.fail('the emulator does not start')
                time.sleep(0.01)
        connection.settimeout(60)
        self.stream = connection.makefile('rw', encoding='utf-8')
        connection.close()
        self.read()
        self.command('qmp_capabilities')

    def read(self):
        line = self.stream.readline()
        if not line:
            self.fail('the emulator has ended')
        return json.loads(line)

    def command(self, name, **arguments):
        self.stream.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        self.stream.flush()
        while True:
            answer = self.read()
            if 'error' in answer:
                self.fail('%s: %s' % (name, answer['error']['desc']))
            if 'return' in answer:
                return answer['return']
            self.events.append(answer)

    def wait_migration(self):
        """The final status, or EmulatorError when it is not `completed`."""
        begin, patient = time.monotonic(), True
        while time.monotonic() < begin + 120:
            # Guests here store as fast as they can: on an idle machine faster than their memory can be sent.
            if patient and time.monotonic() > begin + 5:
                patient = False
                self.command('migrate-set-parameters', **{'downtime-limit': 60000})
            status = self.command('query-migrate')
            if status.get('status') == 'completed':
                return status
            if status.get('status') in ('failed', 'cancelled'):
                self.fail('the migration has %s: %s' % (status['status'], status.get('error-desc', 'no reason')))
            time.sleep(0.005)
        self.fail('the migration does not end')
        return None

    def move_to(self, other, wait=True, ahead=False):
        """With what the other shall translate ahead, if asked."""
        if ahead:
            self.command('qom-set', path=AHEAD, property='tell', value=True)
        self.command('migrate', uri='unix:' + other.socket)
        return self.wait_migration() if wait else None

    def reports(self):
        """All whole lines so far."""
        try:
            with open(self.serial, encoding='ascii', errors='replace') as file:
                text = file.read()
        except FileNotFoundError:
            return []
        return [Report(match) for match in map(LINE.match, text.split('\n')[:-1]) if match]

    def wait_reports(self, number, seconds=30):
        """At least so many lines from the guest here."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.reports()
            if len(found) >= number:
                return found
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.fail('the guest is silent after %d lines' % len(found))
            time.sleep(0.02)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.stream.close()


def series():
    """The patches of the queue."""
    path = os.path.join(HERE, '..', '..', 'emulator', 'patches', 'queue')
    loader = importlib.machinery.SourceFileLoader('queue_of_patches', path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('queue_of_patches', loader))
    loader.exec_module(module)
    return module.read_series()


def callers_in(binary):
    """{function: those that call it} of a binary of this machine."""
    symbols = subprocess.run(['objdump', '-d', '--no-show-raw-insn', binary], stdout=subprocess.PIPE, universal_newlines=True)
    callers, function = {}, None
    for line in symbols.stdout.splitlines():
        begun = re.match(r'[0-9a-f]+ <([\w.]+)>:', line)
        called = re.search(r'\b(?:call|jmp)q? +[0-9a-f]+ <([\w.]+)>', line)
        if begun:
            function = begun[1].split('.')[0]
        elif called:
            callers.setdefault(called[1], set()).add(function)
    return callers


def distribution_emulator(target='x86_64'):
    return shutil.which('qemu-system-' + target)


def built_emulator(target, *options):
    find = [os.path.join(HERE, '..', '..', 'emulator', 'build', 'make-emulator'), '--find', '--target', target]
    found = subprocess.run(find + list(options), stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    return os.path.join(found, 'bin', 'qemu-system-' + target) if found else None


def bundled_emulator(target='x86_64'):
    """The built emulator of this tree, None when there is none."""
    given = os.environ.get('QUASAR_BUNDLED_EMULATOR')
    return given if given and target == 'x86_64' else built_emulator(target)


def plain_emulator():
    """The same without our patches, None when it has not been built (make-emulator --plain)."""
    return built_emulator('x86_64', '--plain')
