# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of the console by python3-libvirt, with its event loop; runs inside a host and prints what it found."""
import sys
import threading

import libvirt


def run_events():
    while True:
        libvirt.virEventRunDefaultImpl()


class Console:
    """An open console whose output is collected by the event loop."""

    def __init__(self, connection, domain, flags=0):
        self.heard = b''
        self.over = threading.Event()
        self.changed = threading.Condition()
        self.stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, self.stream, flags)
        events = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
        self.stream.eventAddCallback(events, self.ready, None)

    def ready(self, stream, events, _):
        try:
            data = stream.recv(4096)
        except libvirt.libvirtError:
            data = b''
        if data == -2:
            return
        with self.changed:
            self.heard += data
            self.changed.notify_all()
        if not data:
            stream.eventRemoveCallback()
            self.over.set()

    def expect(self, text):
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.heard, 60), self.heard

    def say(self, text):
        while text:
            done = self.stream.send(text)
            text = text[done:] if done > 0 else text


def code_of(function, *arguments):
    try:
        function(*arguments)
    except libvirt.libvirtError as error:
        return error.get_error_code()
    return None


def main():
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=run_events, daemon=True).start()
    connection = libvirt.open('quasar:///system')
    domain = connection.lookupByName('web')

    first = Console(connection, domain)
    first.say(b'echo $((6 * 7))lives\n')
    first.expect(b'42lives')
    print('talks')

    # One more on the same connection, and on another.
    assert code_of(Console, connection, domain) == libvirt.VIR_ERR_OPERATION_FAILED
    other = libvirt.open('quasar:///system')
    theirs = other.lookupByName('web')
    assert code_of(Console, other, theirs) == libvirt.VIR_ERR_OPERATION_FAILED
    print('exclusive')

    second = Console(other, theirs, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    assert first.over.wait(60)
    second.say(b'echo $((6 * 8))taken\n')
    second.expect(b'48taken')
    print('taken')

    second.stream.eventRemoveCallback()
    second.stream.finish()
    third = Console(connection, domain)  # free as soon as finish() returns
    third.stream.eventRemoveCallback()
    third.stream.abort()
    fourth = Console(connection, domain)  # and abort()
    assert code_of(domain.openConsole, 'serial7', connection.newStream(0), 0) == libvirt.VIR_ERR_INTERNAL_ERROR
    print('freed')

    domain.destroy()
    assert fourth.over.wait(60)
    assert code_of(Console, connection, domain) == libvirt.VIR_ERR_OPERATION_INVALID
    print('over')
    return 0


sys.exit(main())
