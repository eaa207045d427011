# SPDX-License-Identifier: LGPL-2.1-or-later
"""A virtio NIC driven without a guest: its driver (over the emulator's qtest protocol) and its vhost-user back end."""
import array
import contextlib
import os
import select
import socket
import struct
import threading

PROTOCOL_FEATURES, CHECKSUM = 1 << 30, 1 << 0
# Requests of vhost-user, in the emulator's docs/interop/vhost-user.rst.
GET_FEATURES, SET_FEATURES, GET_VRING_BASE, SET_VRING_KICK, SET_VRING_CALL, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM = \
    1, 2, 11, 12, 13, 15, 17
# I/O ports of a PC's PCI bus, and where the NIC's registers are put.
CONFIG_ADDRESS, CONFIG_DATA, REGISTERS, VECTORS = 0xcf8, 0xcfc, 0xc000, 0xfe000000
# The legacy interface's registers (virtio 1.2, 4.1.4.10).
GUEST_FEATURES, QUEUE_PAGE, QUEUE_SELECT, STATUS, QUEUE_VECTOR, LINK = 4, 8, 14, 18, 22, 30
DRIVER_OK = 7  # with acknowledge and driver


class BackEnd:
    """Agrees to all and passes no frame. `features`: what it was last told; `call`: who wants to know of ring 0."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.connection = self.features = self.call = None
        self.connected = threading.Event()
        self.ended = self.kicked = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while not self.ended:
            watched = self.connection or self.listener
            if not select.select([watched], [], [], 0.05)[0]:
                continue
            if watched is self.listener:
                self.connection = self.listener.accept()[0]
                self.connection.settimeout(10)
                self.connected.set()
            elif not self._try_message():
                self.connected.clear()
                self.connection.close()
                self.connection = None

    def _try_message(self):
        with contextlib.suppress(OSError):
            return self._message()
        return False

    def _message(self):
        head, ancillary, _, _ = self.connection.recvmsg(12, socket.CMSG_SPACE(32))
        fds = array.array('i')
        for _, _, data in ancillary:
            fds.frombytes(data[:len(data) - len(data) % 4])
        if len(head) < 12:
            return False
        request, _, size = struct.unpack('<III', head)
        payload = self.connection.recv(size, socket.MSG_WAITALL) if size else b''
        if request == SET_FEATURES:
            self.features, = struct.unpack('<Q', payload)
        elif request == SET_VRING_KICK and payload[0] == 0:
            self.kicked = True
        # What comes before the ring works is of the emulator's own, and no interrupt follows from it.
        elif request == SET_VRING_CALL and fds and payload[0] == 0 and self.kicked:
            self.call = os.dup(fds[0])
        for fd in fds:
            os.close(fd)
        answer = {GET_FEATURES: struct.pack('<Q', PROTOCOL_FEATURES | CHECKSUM), GET_PROTOCOL_FEATURES: struct.pack('<Q', 0),
                  GET_QUEUE_NUM: struct.pack('<Q', 1), GET_VRING_BASE: payload[:4] + b'\0\0\0\0'}.get(request)
        if answer:
            self.connection.sendall(struct.pack('<III', request, 5, len(answer)) + answer)
        return True

    def interrupt(self):
        os.write(self.call, struct.pack('<Q', 1))

    def drop(self):
        self.connection.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.ended = True
        self.thread.join(20)
        self.listener.close()
        if self.connection:
            self.connection.close()


class Driver:
    """Of the NIC in slot 3, through its legacy interface."""

    def __init__(self, path):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        connection.settimeout(60)
        self.stream = connection.makefile('rw')
        connection.close()

    def do(self, *words):
        self.stream.write(' '.join(word if isinstance(word, str) else hex(word) for word in words) + '\n')
        self.stream.flush()
        while True:
            answer = self.stream.readline()
            if not answer:
                raise EOFError('the emulator has ended')
            if answer.startswith('OK'):
                return int((answer.split() + ['0'])[1], 0)

    def config(self, at, value=None, size='l'):
        self.do('outl', CONFIG_ADDRESS, 0x80000000 | 3 << 11 | at & ~3)
        if value is None:
            return self.do('in' + size, CONFIG_DATA + (at & 3))
        return self.do('out' + size, CONFIG_DATA + (at & 3), value)

    def enable(self, address, value):
        """Puts the registers in their place and enables MSI-X; ring 0 writes `value` to `address`."""
        self.config(0x10, REGISTERS)
        self.config(0x14, VECTORS)
        self.config(4, 7, 'w')
        capability = self.config(0x34, size='b')
        while self.config(capability, size='b') != 0x11:
            capability = self.config(capability + 1, size='b')
        self.pending = VECTORS + (self.config(capability + 8) & ~7)
        self.config(capability + 2, 0x8000, 'w')
        for offset, word in enumerate((address, 0, value, 0)):
            self.do('writel', VECTORS + 4 * offset, word)

    def has_link(self):
        return self.do('inw', REGISTERS + LINK) & 1 == 1

    def mask(self, masked):
        self.do('writel', VECTORS + 12, int(masked))

    def start(self):
        for queue, vector in ((0, 0), (1, 0xffff)):
            self.do('outw', REGISTERS + QUEUE_SELECT, queue)
            self.do('outl', REGISTERS + QUEUE_PAGE, 16 + 16 * queue)
            self.do('outw', REGISTERS + QUEUE_VECTOR, vector)
        self.do('outb', REGISTERS + STATUS, DRIVER_OK)

    def end(self):
        self.stream.close()
