# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client with python3-libvirt's event loop: prints each event of domains and networks as one line of JSON.

    listener.py URI

Prints {"event": "ready"} when everything is registered, and ends when its standard input does.
"""
import json
import os
import sys
import threading

import libvirt


def say(event, **fields):
    print(json.dumps(dict(event=event, **fields)), flush=True)


# What each event brings, as keyword arguments of say(); the first argument is the domain's name.
def named(event, *names):
    def callback(_connection, domain, *values):
        say(event, domain=domain.name(), **dict(zip(names, values)))
    return callback


CALLBACKS = {
    'LIFECYCLE': named('lifecycle', 'type', 'detail'),
    'REBOOT': named('reboot'),
    'RTC_CHANGE': named('rtc-change', 'offset'),
    'WATCHDOG': named('watchdog', 'action'),
    'IO_ERROR': named('io-error', 'path', 'alias', 'action'),
    'GRAPHICS': named('graphics'),
    'IO_ERROR_REASON': named('io-error-reason', 'path', 'alias', 'action', 'reason'),
    'CONTROL_ERROR': named('control-error'),
    'BLOCK_JOB': named('block-job', 'disk', 'type', 'status'),
    'DISK_CHANGE': named('disk-change'),
    'TRAY_CHANGE': named('tray-change', 'alias', 'reason'),
    'PMWAKEUP': named('pm-wakeup'),
    'PMSUSPEND': named('pm-suspend'),
    'BALLOON_CHANGE': named('balloon-change', 'actual'),
    'PMSUSPEND_DISK': named('pm-suspend-disk'),
    'DEVICE_REMOVED': named('device-removed', 'alias'),
    'BLOCK_JOB_2': named('block-job-2', 'disk', 'type', 'status'),
    'TUNABLE': named('tunable'),
    'AGENT_LIFECYCLE': named('agent-lifecycle', 'state', 'reason'),
    'DEVICE_ADDED': named('device-added', 'alias'),
    'MIGRATION_ITERATION': named('migration-iteration', 'iteration'),
    'JOB_COMPLETED': named('job-completed', 'params'),
    'DEVICE_REMOVAL_FAILED': named('device-removal-failed', 'alias'),
    'METADATA_CHANGE': named('metadata-change'),
    'BLOCK_THRESHOLD': named('block-threshold'),
    'MEMORY_FAILURE': named('memory-failure', 'recipient', 'action', 'flags'),
    'MEMORY_DEVICE_SIZE_CHANGE': named('memory-device-size-change'),
}


def network_lifecycle(_connection, network, kind, _detail, _opaque):
    say('network-lifecycle', network=network.name(), type=kind)


def main():
    libvirt.virEventRegisterDefaultImpl()

    def run():
        while True:
            libvirt.virEventRunDefaultImpl()
    threading.Thread(target=run, daemon=True).start()
    connection = libvirt.open(sys.argv[1])
    connection.setKeepAlive(5, 3)
    registered = []
    for name, callback in CALLBACKS.items():
        number = getattr(libvirt, 'VIR_DOMAIN_EVENT_ID_' + name)
        registered.append(connection.domainEventRegisterAny(None, number, callback, None))
    network = connection.networkEventRegisterAny(None, libvirt.VIR_NETWORK_EVENT_ID_LIFECYCLE, network_lifecycle, None)
    say('ready', count=len(registered))
    sys.stdin.read()
    for number in registered:
        connection.domainEventDeregisterAny(number)
    connection.networkEventDeregisterAny(network)
    say('deregistered')
    connection.close()
    os._exit(0)  # the loop's thread has no end


main()
