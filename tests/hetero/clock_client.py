# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asks the guest for its clocks (guestd clock) until SIGTERM: clock_client.py ADDRESS PORT INTERVAL_MS

One line for each answer: number, when it was asked and answered (host's nanoseconds), then what the guest said. The
last line is `sent` and how many questions there were.
"""
import select
import signal
import socket
import sys
import time

LAST_ANSWERS_S = 60
WINDOW = 32  # questions on their way at most: a guest that is slower than they come would have no room for them


def end(_number, _frame):
    ENDING.append(True)


def take(client, asked, seconds):
    """Prints the answers that come within the time, and returns when there is nothing more to come."""
    until = time.monotonic() + seconds
    while asked is None or asked:
        left = until - time.monotonic()
        if left <= 0 or not select.select([client], [], [], left)[0]:
            return
        text, now = client.recv(512).decode('ascii'), time.monotonic_ns()
        number, _, rest = text.partition(' ')
        sent = ASKED.pop(int(number), None)
        if sent is not None:
            print(number, sent, now, rest, flush=True)


ASKED = {}
ENDING = []


def main(address, port, interval_ms):
    signal.signal(signal.SIGTERM, end)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect((address, int(port)))
    number = 0
    while not ENDING:
        if len(ASKED) < WINDOW:
            ASKED[number] = time.monotonic_ns()
            client.send(b'%d' % number)
            number += 1
        take(client, None, int(interval_ms) / 1000)
    take(client, ASKED, LAST_ANSWERS_S)
    print('sent', number, flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
