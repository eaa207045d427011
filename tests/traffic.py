# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traffic between a client and the guest that accounts for each byte and frame, and what a move has cost of it."""
import collections
import contextlib
import functools
import glob
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile

import lab as lab_library

PORT = 5010       # of the guest's server; the domain's command line says quasar.traffic=PORT
OPTION = 'quasar.traffic=%d' % PORT
UDP_PORT = 5011
FLOWS = ('ping', 'ping-back', 'udp-out', 'udp-in', 'upload', 'download')
WORDS = {'ping': 'pings to the guest', 'ping-back': 'pings from the guest', 'udp-out': 'frames to the guest',
         'udp-in': 'frames from the guest', 'upload': 'upload', 'download': 'download'}
FRAMES = FLOWS[:4]
HEARD = ('ping', 'udp-in')  # what the client hears all the time, and ...
HEARD_BESIDES = ('download',)  # what it hears again and again
MOST_SILENCES = 65536  # ACCOUNT_SILENCES of tests/lab/account.h
# Of /proc/net/netstat and snmp; what ends in a client's or guest's own queues is not the network's fault.
COUNTERS = ('TcpExt.TCPTimeouts', 'Tcp.RetransSegs', 'Udp.RcvbufErrors', 'Icmp.OutErrors')


def parse_counters(text):
    """The kernel's pairs of lines: `Tcp: NAME NAME` and `Tcp: 1 2`."""
    found = {}
    lines = text.splitlines()
    for names, values in zip(lines, lines[1:]):
        if names.split(':')[0] == values.split(':')[0] and re.match(r'\w+: -?\d', values):
            kind = names.split(':')[0]
            found.update(('%s.%s' % (kind, name), int(value))
                         for name, value in zip(names.split()[1:], values.split()[1:]))
    return {name: found.get(name, 0) for name in COUNTERS}


def vnet_statuses(lab):
    """What each quasar-vnet on each host tells of itself, as {(host, directory, file): status}."""
    found = {}
    for host in lab.hosts:
        for path in glob.glob(lab.path(host, 'run/libvirt/quasar/*/*.ctl')):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as control:
                control.settimeout(5)
                # The path can be longer than an address may be.
                directory = os.open(os.path.dirname(path), os.O_PATH)
                try:
                    control.connect('/proc/self/fd/%d/%s' % (directory, os.path.basename(path)))
                finally:
                    os.close(directory)
                text = json.dumps({'cmd': 'status'}).encode()
                control.sendall(struct.pack('>I', len(text)) + text)
                with control.makefile('rb') as answer:
                    size, = struct.unpack('>I', answer.read(4))
                    found[(host,) + tuple(path.split('/')[-2:])] = json.loads(answer.read(size))
    return found


def vnet_drops(lab):
    """Frames that captures and quasar-vnets have dropped, by the reason. Asked after each move: it ends processes.

    What comes in standby is not for that host, and a guest that is not ready does not run yet.
    """
    found = collections.Counter()
    for status in vnet_statuses(lab).values():
        found['capture'] += status['capture']['dropped']
        found.update({name: count for name, count in status['drops'].items() if name not in ('standby', 'unready')})
    return +found


def in_guest(lab, command, address=lab_library.GUEST_ADDRESS):
    """What a command, of one line, prints in a guest, errors too; what it leaves running must have its output elsewhere."""
    return lab.must('client', lab.program('traffic'), 'run', address, str(PORT), command)


def overlaps(some, others):
    """What two lists of spans, each in order, have in common."""
    found, rest = [], iter(others)
    begin, end = next(rest, (None, None))
    for first, last in some:
        while end is not None and end <= last:
            found.append((max(first, begin), end))
            begin, end = next(rest, (None, None))
        if begin is not None:
            found.append((max(first, begin), last))
    return [(first, last) for first, last in found if first < last]


class Figures(dict):
    """Of one run: {flow: {word: number}}, `client` and `guest` with what their counters rose by."""

    def _silences(self, flow):
        """Those that were as long as it takes to be told: begin and end, us of time.monotonic()."""
        pairs = [map(int, text.split('+')) for text in self[flow]['silences'].split(',') if text != '-']
        assert len(pairs) < MOST_SILENCES, 'not all silences of the %s were told' % WORDS[flow]
        return [(begin, begin + length) for begin, length in pairs]

    def silence_ms(self, begin, end, together=False):
        """The longest that the client has heard nothing of one of its flows, or nothing at all (`together`), of those silences
        that were at some time between two, of time.monotonic(); 0 when none was as long as it takes to be told."""
        flows = HEARD + HEARD_BESIDES if together else HEARD
        spans = [self._silences(flow) for flow in flows if flow in self]
        spans = functools.reduce(overlaps, spans) if together else sum(spans, [])
        return max((last - first for first, last in spans if first < end * 1e6 and last > begin * 1e6), default=0) / 1000

    @property
    def timeouts(self):
        return self['client']['TcpExt.TCPTimeouts'] + self['guest']['TcpExt.TCPTimeouts']


class Traffic:
    """Pings each millisecond, a stream of numbered frames and a TCP stream, each both ways, between `with` and its end;
    then `figures`."""

    def __init__(self, lab, client='client', kilobytes=500, frames=2000, flows=FLOWS):
        self.lab, self.client, self.flows = lab, client, flows
        self.program, self.pinger = (lab.program(name) for name in ('traffic', 'pinger'))
        self.arguments = {'udp-out': [UDP_PORT, frames], 'udp-in': [UDP_PORT, frames],
                          'upload': [kilobytes], 'download': [kilobytes], 'ping-back': []}
        self.processes, self.said = {}, {}
        self.figures = None

    def _counters(self):
        names = '/proc/net/netstat /proc/net/snmp'
        return {'client': parse_counters(self.lab.must(self.client, 'cat', *names.split())),
                'guest': parse_counters(in_guest(self.lab, 'cat ' + names))}

    def __enter__(self):
        self.before = self._counters()
        for flow in self.flows:
            if flow == 'ping':
                command = [self.pinger, lab_library.GUEST_ADDRESS]
            else:
                command = [self.program, flow, lab_library.GUEST_ADDRESS, PORT] + self.arguments[flow]
            # A pipe has no room for all that is told at the end of a long run.
            self.said[flow] = tempfile.TemporaryFile('w+')
            # The client is another machine: what measures does not wait for a processor of the hosts', nor for
            # quasar-vnet, whose priority in a move is 3.
            self.processes[flow] = self.lab.popen(self.client, 'chrt', '-r', '5', *map(str, command), stdout=self.said[flow],
                                                  stderr=subprocess.STDOUT, universal_newlines=True)
        return self

    def __exit__(self, kind, *unused):
        programs = ('pinger', 'traffic')
        try:
            for program in programs:
                self.lab.kill(self.client, program, signal.SIGTERM)
            texts = {flow: self._text(flow) for flow in self.processes}
        except BaseException:
            for program in programs:
                self.lab.kill(self.client, program)
            raise
        if kind is None:
            self._account(texts)

    def _text(self, flow):
        self.processes[flow].wait(30)
        with self.said[flow] as file:
            file.seek(0)
            return file.read()

    def _account(self, texts):
        figures = Figures()
        for flow, text in texts.items():
            words = text.split()
            if 'longest' not in words:
                raise AssertionError('%s ended early: %s' % (WORDS[flow], text.strip()))
            figures[flow] = {name: int(value) if value.isdigit() else value
                             for name, value in zip(words[::2], words[1::2])}
        after = self._counters()
        for place, counters in after.items():
            figures[place] = {name: value - self.before[place][name] for name, value in counters.items()}
        self.figures = figures


# What a kernel says that it has dropped itself: the guest's of replies to too many pings at once, say.
OWN = {'ping': ('guest', 'Icmp.OutErrors'), 'ping-back': ('client', 'Icmp.OutErrors'),
       'udp-out': ('guest', 'Udp.RcvbufErrors'), 'udp-in': ('client', 'Udp.RcvbufErrors')}


def own_losses(figures, flow):
    """What was lost of a flow by the client's or the guest's own kernel, as it says."""
    place, counter = OWN[flow]
    return min(figures[place][counter], figures[flow]['lost'])


def lost(figures, flow):
    """What the network has lost of a flow."""
    return figures[flow]['lost'] - own_losses(figures, flow)


def differences(figures, base=None):
    """In plain words what a run has lost, doubled or broken beyond a run without moves; empty: nothing."""
    said = []

    def say(flow, number, before, what):
        if number > before:
            said.append('%s: %d of %d %s' % (WORDS[flow], number - before, figures[flow]['sent'], what))
    for flow in filter(figures.__contains__, FRAMES):
        say(flow, lost(figures, flow), lost(base, flow) if base else 0, 'lost (%s)' % figures[flow]['missing'])
        say(flow, figures[flow]['doubled'], base[flow]['doubled'] if base else 0, 'doubled')
        say(flow, figures[flow]['reordered'], base[flow]['reordered'] if base else 0, 'out of order')
    for flow in filter(figures.__contains__, ('upload', 'download')):
        if figures[flow]['wrong']:
            said.append('%s: wrong content %d times' % (WORDS[flow], figures[flow]['wrong']))
    if 'upload' in figures and figures['upload']['sent'] != figures['upload']['bytes']:
        said.append('upload: %(bytes)d of %(sent)d bytes have come' % figures['upload'])
    for place in ('client', 'guest'):
        timeouts = figures[place]['TcpExt.TCPTimeouts'] - (base[place]['TcpExt.TCPTimeouts'] if base else 0)
        if timeouts > 0:
            said.append('%s: %d TCP retransmission time-outs' % (place, timeouts))
    return said
