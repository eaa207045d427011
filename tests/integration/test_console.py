# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's console through stock virsh and python3-libvirt."""
import os
import pty
import select
import signal
import time

import lab as lab_library
import pytest

BUSY = 'Active console session exists for this domain'
HERE = os.path.dirname(os.path.abspath(__file__))


class Terminal:
    """virsh at a terminal of its own: it refuses to open a console without one."""

    def __init__(self, lab, *command):
        self.heard = ''
        master, slave = pty.openpty()
        self.master = master
        self.process = lab.popen('hostA', 'virsh', '-c', 'quasar:///system', *command, stdin=slave, stdout=slave,
                                 stderr=slave, start_new_session=True)
        os.close(slave)

    def read(self):
        """Takes what has come; False at the end."""
        if not select.select([self.master], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the last writer is gone
            data = b''
        self.heard += data.decode('utf-8', 'replace')
        return bool(data)

    def expect(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.heard:
            assert time.monotonic() < end, self.heard
            assert self.read() or text in self.heard, self.heard

    def say(self, text):
        os.write(self.master, text.encode())

    def end(self, seconds=60):
        """Waits until virsh ends by itself; returns its status."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, 'virsh does not end: ' + self.heard
        return self.process.wait(seconds)

    def leave(self):
        self.say('\x1d')
        return self.end()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminals(guest):
    """Opens terminals on the host of the guest, and closes them at the end."""
    opened = []

    def open_terminal(*command):
        opened.append(Terminal(guest, *command))
        return opened[-1]
    yield open_terminal
    for terminal in opened:
        terminal.close()


def talks(terminal, number):
    """Asks once; the guest's shell computes, so its answer is not what the terminal echoes."""
    terminal.say('\necho $((%d - 1))answer\n' % (number + 1))
    end = time.monotonic() + 3
    while time.monotonic() < end and terminal.read():
        if '%danswer' % number in terminal.heard:
            return True
    return False


def assert_talks(terminal, number):
    """virsh forgets what is typed before it has set up its terminal, and so we ask again."""
    lab_library.wait_for('an answer of the guest', lambda: talks(terminal, number), 60)


def free_console(terminals):
    """A console as soon as the place is free: the end of another client is seen a moment later."""
    found = []

    def attempt():
        terminal = terminals('console', 'web')
        terminal.expect('Escape character')
        while BUSY not in terminal.heard:
            if talks(terminal, 77):
                found.append(terminal)
                return True
        return False
    lab_library.wait_for('a free console', attempt, 60)
    return found[-1]


def test_console_talks_and_is_left(guest, terminals):
    for number in (42, 43):
        console = terminals('console', 'web')
        console.expect('Escape character is ^]')
        assert_talks(console, number)
        assert console.leave() == 0
    assert 'running' in guest.virsh('hostA', 'domstate', 'web').stdout


def test_second_console_is_refused_until_forced(guest, terminals):
    first = terminals('console', 'web')
    first.expect('Escape character')
    assert_talks(first, 10)

    second = terminals('console', 'web')
    assert second.end() != 0
    assert BUSY in second.heard
    assert_talks(first, 11)

    third = terminals('console', '--force', 'web')
    third.expect('Escape character')
    first.end()
    assert 'took over this console' in first.heard
    assert_talks(third, 12)
    assert third.leave() == 0


def test_dead_client_frees_the_console(guest, terminals):
    console = terminals('console', 'web')
    console.expect('Escape character')
    assert_talks(console, 20)
    guest.kill('hostA', 'virsh', signal.SIGKILL)
    assert free_console(terminals).leave() == 0


def test_console_through_a_restart_of_the_daemon(guest, terminals):
    console = terminals('console', 'web')
    console.expect('Escape character')
    assert_talks(console, 30)
    assert guest.kill('hostA', 'virtquasard') == 1
    console.expect('Disconnected from quasar:///system')
    console.say('\n')  # virsh itself notices when it has something to send
    assert console.end() != 0
    guest.start_daemon('hostA')
    again = terminals('console', 'web')
    again.expect('Escape character')
    assert_talks(again, 31)
    assert again.leave() == 0


def test_console_ends_with_the_guest(guest, terminals):
    console = terminals('console', 'web')
    console.expect('Escape character')
    assert_talks(console, 50)
    assert guest.virsh('hostA', 'destroy', 'web').returncode == 0
    console.end()
    refused = terminals('console', 'web')
    assert refused.end() != 0
    assert 'not running' in refused.heard


def test_start_with_console(guest, terminals):
    assert guest.virsh('hostA', 'destroy', 'web').returncode == 0
    console = terminals('start', '--console', 'web')
    console.expect('quasar guest ready')
    assert_talks(console, 60)
    assert console.leave() == 0


def test_read_only_clients_get_no_console(guest, terminals):
    console = terminals('--readonly', 'console', 'web')
    assert console.end() != 0
    assert 'read' in console.heard


def test_python_client(guest):
    with open(os.path.join(HERE, 'console_client.py')) as file:
        result = guest.exec('hostA', '/usr/bin/python3', '-c', file.read(), timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.split() == ['talks', 'exclusive', 'taken', 'freed', 'over']
