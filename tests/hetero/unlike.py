# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two hosts that are unlike: A is this machine, B runs its emulators as a host of another architecture would."""
import contextlib
import os
import re
import signal
import sys
import tempfile

import lab as lab_library
import world as world_library

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'integration'))
from echoes import Stream  # noqa: E402  (found by the line above)

CLOCK_PORT = 8


class PatientStream(Stream):
    """One that a guest can answer however slow its host is: never more at once than its ring and its sockets hold, and
    the last ones are waited for. So what does not come back was lost."""
    INTERVAL_S = 0.05
    WINDOW = 32
    REPLIES_S = 60


@contextlib.contextmanager
def known_neighbour(lab):
    """The client does not ask for the guest's address, so that it cannot forget it while the guest is silent."""
    entry = (lab_library.GUEST_ADDRESS, 'dev', 'eth0')
    lab.must('client', 'ip', 'neigh', 'replace', *entry, 'lladdr', lab_library.GUEST_MAC, 'nud', 'permanent')
    try:
        yield
    finally:
        lab.must('client', 'ip', 'neigh', 'del', *entry)


class UnlikeWorld(world_library.World):
    """Its guest has a portable NIC, tells its clocks, and has the launcher of its host as emulator."""
    ASK_S = 1  # each answer is a process, in a guest that is more than ten times slower

    def definition(self, disk, blocks):
        # A guest whose work is more than its processor can do would answer when it comes to it.
        options = 'quasar.memory=2:250 quasar.disk=1048576:%d quasar.pause=%d quasar.clock=%d'
        xml = self.lab.domain_xml(disk=disk, memory_mib=128, file_mib=8,
                                  options=options % (blocks, 50 if blocks < 512 else 5, CLOCK_PORT))
        xml = xml.replace('<devices>', '<devices><emulator>%s</emulator>' % lab_library.LAUNCHER)
        if self.model != 'virtio':
            return xml.replace('<model type="virtio"/>', '<model type="%s"/>' % self.model)
        off = ' '.join('%s="off"' % name for name in ('csum', 'tso4', 'tso6', 'ecn', 'ufo'))
        return xml.replace('<model type="virtio"/>',
                           '<model type="virtio"/><driver><host gso="off" %s/><guest %s/></driver>' % (off, off))

    def figures(self, host):
        """Pause and total time of the last move in milliseconds, as its source tells them."""
        said = self.lab.virsh(host, 'domjobinfo', '--completed', 'web').stdout
        found = dict(re.findall(r'(?m)^([A-Z][^:]*): +(\d+(?:\.\d+)?) +ms', said))
        return int(found['Total downtime']), int(found['Time elapsed'])


class Answer:
    def __init__(self, line):
        words = line.split()
        self.number, self.asked, self.answered = (int(word) for word in words[:3])
        self.clocks = dict(zip(('monotonic', 'raw', 'real', 'tsc'), (int(word) for word in words[3:7])))
        self.backwards, self.source = int(words[7]), words[8]

    @property
    def waited_s(self):
        return (self.answered - self.asked) / 1e9


class Clocks:
    """The guest's clocks beside the host's, asked ten times a second by the client."""

    def __init__(self, lab):
        self.lab = lab
        self.output = tempfile.NamedTemporaryFile('w+')
        client = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'clock_client.py')
        self.process = lab.popen('client', '/usr/bin/python3', '-B', client, lab_library.GUEST_ADDRESS, str(CLOCK_PORT), '100',
                                 stdout=self.output)

    def answers(self):
        with open(self.output.name) as file:
            return [Answer(line) for line in file.read().split('\n')[:-1] if line[:1].isdigit()]

    def mark(self):
        """The number of answers, when one more has come to a question that was asked after this call."""
        asked = len(self.answers())
        lab_library.wait_for('the guest to tell its clocks', lambda: len(self.answers()) > asked + 1, 120)
        return len(self.answers())

    def end(self):
        """Returns all answers and how many questions there were."""
        for pid in self.lab.processes('client', os.path.basename(os.path.realpath('/usr/bin/python3'))):
            os.kill(pid, signal.SIGTERM)
        self.process.wait(120)
        with open(self.output.name) as file:
            sent = int(re.search(r'(?m)^sent (\d+)$', file.read())[1])
        found = self.answers()
        self.output.close()
        return found, sent

    def close(self):
        if self.process.poll() is None:
            self.end()


def rate(answers, clock):
    """Between which values a clock's seconds for each real second were. A clock was read at some moment between question and
    answer, so any two answers give bounds; the best pairs are those that came fast and lie far apart."""
    low, high = 0.0, float('inf')
    for index, first in enumerate(answers):
        for last in answers[index + 1:]:
            passed = last.clocks[clock] - first.clocks[clock]
            low = max(low, passed / (last.answered - first.asked))
            if last.asked > first.answered:
                high = min(high, passed / (last.asked - first.answered))
    return low, high
