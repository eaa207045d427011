# SPDX-License-Identifier: LGPL-2.1-or-later
"""Datagrams that the guest sends back while it moves: which were lost, which came twice."""
import contextlib
import socket
import struct
import threading
import time

import lab as lab_library
from vnet_support import network_of

ECHO = (lab_library.GUEST_ADDRESS, 7)


class Stream:
    """Numbered datagrams to the guest, and how often each came back.

    With whatever else is sent they have to fit into the guest's ring of 256 while a loaded host leaves it no processor:
    what QEMU holds of a stream because that ring is full is lost with it when the guest is stopped.
    """
    INTERVAL_S = 0.005
    WINDOW = float('inf')  # of them on their way at most
    REPLIES_S = 2  # are the last ones waited for; a guest that stood still has many to send

    def __init__(self, places):
        with network_of(places, 'client'):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        self.socket.settimeout(0.2)
        self.ended = threading.Event()
        self.closed = threading.Event()
        self.sent = 0
        self.replies = {}
        self.longest = 0.0
        self.threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    def _send(self):
        due = time.monotonic()
        while not self.ended.is_set():
            if self.sent - len(self.replies) < self.WINDOW:
                self.socket.sendto(struct.pack('>Q', self.sent), ECHO)
                self.sent += 1
            due += self.INTERVAL_S
            time.sleep(max(0, due - time.monotonic()))

    def _receive(self):
        last = time.monotonic()
        while not self.closed.is_set():
            with contextlib.suppress(socket.timeout):
                number, = struct.unpack('>Q', self.socket.recv(64))
                now = time.monotonic()
                if not self.ended.is_set():
                    self.longest = max(self.longest, now - last)
                last = now
                self.replies[number] = self.replies.get(number, 0) + 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        lab_library.wait_for('the first replies', lambda: len(self.replies) > 20)
        return self

    def __exit__(self, *unused):
        self.ended.set()
        self.threads[0].join()
        with contextlib.suppress(lab_library.LabError):
            lab_library.wait_for('the last replies', lambda: len(self.replies) >= self.sent, self.REPLIES_S)
        self.closed.set()
        self.threads[1].join()
        self.socket.close()

    @property
    def lost(self):
        return [number for number in range(self.sent) if number not in self.replies]

    @property
    def doubled(self):
        return [number for number, count in self.replies.items() if count > 1]
