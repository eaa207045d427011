#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each patch does in the built emulator. Skipped (status 77) when `make emulator` has built none."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

import vhost
from emulator import (AHEAD, HERE, Emulator, EmulatorError, build_guest, bundled_emulator, callers_in, distribution_emulator,
                      series)

TOP = os.path.dirname(os.path.dirname(HERE))
BUNDLED = bundled_emulator()
PLAIN = distribution_emulator()
PLAIN_MACHINE, QUASAR_MACHINE = 'pc-q35-7.2', 'pc-q35-quasar-7.2'
SECTOR = 512
# What boards and buses bring along, although nobody asks for it; and input devices, whose names are put together.
OF_BOARDS = set('''acpi-erst e1000-82544gc e1000-82545em floppy i8042 ich9-ahci ide-cd ide-hd isa-fdc isa-serial mc146818rtc pc-dimm pci-bridge
    pci-bridge-seat pcie-pci-bridge piix3-ide piix4-ide ramfb usb-hub usb-kbd usb-mouse usb-tablet
    virtconsole virtserialport virtio-balloon-device
    virtio-serial-device vmcoreinfo vmgenid vmmouse'''.split())


def plain_has(machine):
    if not PLAIN:
        return False
    listed = subprocess.run([PLAIN, '-machine', 'help'], stdout=subprocess.PIPE, universal_newlines=True).stdout
    return re.search(r'(?m)^%s ' % re.escape(machine), listed) is not None


class PatchesTest(unittest.TestCase):
    def setUp(self):
        keeper = tempfile.TemporaryDirectory()
        self.addCleanup(keeper.cleanup)
        self.directory = keeper.name
        build_guest(self.directory)
        self.running = []
        self.addCleanup(lambda: [emulator.end() for emulator in self.running])

    def start(self, binary, machine, *options, vcpus=2, accelerator='tcg', **more):
        emulator = Emulator(binary, self.directory, '-machine', machine, '-accel', accelerator, '-m', '64', '-smp', str(vcpus),
                            *options, **more)
        self.running.append(emulator)
        return emulator

    def moved(self, source, binary, machine, *options, ahead=False, **more):
        target = self.start(binary, machine, *options, incoming=True, **more)
        before = source.wait_reports(2)[-1]
        source.move_to(target, ahead=ahead)
        after = target.wait_reports(3)
        self.assertEqual(after[-1].errors, before.errors)
        return target

    def types(self, emulator, parent):
        return {entry['name'] for entry in emulator.command('qom-list-types', implements=parent, abstract=True)}

    def test_it_says_what_it_carries(self):
        emulator = self.start(BUNDLED, PLAIN_MACHINE, '-S')
        names = self.types(emulator, 'quasar-trait')
        self.assertEqual({name for name in names if name.startswith('quasar-patch-')},
                         {'quasar-patch-' + patch.name for patch in series()})
        host = 'quasar-host-%s-%s-%d' % (os.uname().machine, sys.byteorder, os.sysconf('SC_PAGE_SIZE'))
        self.assertIn(host, names)

    def test_every_hook_that_calls_us_is_in_the_binary(self):
        wanted = [hook.calls for patch in series() for hook in patch.hooks if hook.calls and not hook.calls[2]]
        self.assertTrue(wanted)
        callers = callers_in(BUNDLED)
        for symbol, caller, _ in wanted:
            self.assertIn(caller, callers.get(symbol, set()), symbol)

    def test_it_has_the_devices_that_are_asked_for(self):
        if not PLAIN:
            self.skipTest('no distribution emulator to tell which names are devices')
        with open(os.path.join(TOP, 'emulator', 'devices.c'), encoding='utf-8') as file:
            names = set(re.findall(r'"([a-z0-9-]+)"', file.read()))
        plain, ours = self.start(PLAIN, 'q35', '-S'), self.start(BUNDLED, 'q35', '-S')
        asked = names & self.types(plain, 'device')
        self.assertIn('virtio-blk-pci', asked)
        self.assertEqual(asked - self.types(ours, 'device'), set())

    def test_it_has_no_others(self):
        said = subprocess.run([BUNDLED, '-machine', 'q35', '-device', 'help'], stdout=subprocess.PIPE, universal_newlines=True).stdout
        names = {re.sub('(-non)?-transitional$', '', name) for name in re.findall(r'(?m)^name "([^"]+)"', said)}
        asked = set()
        for source in ('devices.c', 'nic.c'):
            with open(os.path.join(TOP, 'emulator', source), encoding='utf-8') as file:
                asked.update(re.findall(r'"([a-z0-9-]+)[",]', file.read()))
        # virtio-X-pci holds a virtio-X-device.
        holds = {re.sub('-pci$', '-device', name) for name in asked if name.startswith('virtio-')}
        found = {name for name in names - asked - holds - OF_BOARDS if not name.endswith('-cpu')}
        self.assertIn('virtio-blk-pci', names)
        self.assertEqual(found, set())

    def test_the_acpi_root_pointer_may_have_a_large_page(self):
        emulator = self.start(BUNDLED, PLAIN_MACHINE, '-S')
        text = emulator.command('human-monitor-command', **{'command-line': 'info ramblock'})
        row, = [line for line in text.splitlines() if '/rom@etc/acpi/rsdp' in line]
        used, total = (int(word, 16) for word in row.split()[-2:])
        self.assertEqual((used, total), (os.sysconf('SC_PAGE_SIZE'), 65536))

    def test_no_store_is_lost(self):
        options = ['-object', 'memory-backend-memfd,id=pc.ram,x-use-canonical-path-for-ramblock-id=off,share=on,size=64M']
        machine = PLAIN_MACHINE + ',memory-backend=pc.ram'
        emulator = self.start(BUNDLED, machine, *options)
        for _ in range(5):
            emulator = self.moved(emulator, BUNDLED, machine, *options)

    def ahead(self, emulator, name):
        return emulator.command('qom-get', path=AHEAD, property=name)

    def test_code_is_translated_ahead_of_the_guest(self):
        build_guest(self.directory, 'REWRITE_CODE')
        # A port is loaded before most else, and must not be taken for what was told.
        options = ['-device', 'pcie-root-port,id=root1']
        emulator = self.start(BUNDLED, QUASAR_MACHINE, *options)
        translated = across = stale = 0
        for _ in range(5):
            emulator.wait_reports(2)
            before = emulator
            emulator = self.moved(emulator, BUNDLED, QUASAR_MACHINE, *options, ahead=True)
            self.assertFalse(self.ahead(before, 'tell'), 'it is for one move')
            self.assertFalse(self.ahead(emulator, 'translating'), 'the guest has come')
            translated += self.ahead(emulator, 'translated')
            across += self.ahead(emulator, 'across')
            stale += self.ahead(emulator, 'stale-pages')
        self.assertGreater(translated, 50)
        self.assertGreater(across, 0)
        # The pages that the guest writes code on, unless they were just written.
        self.assertGreater(stale, 0)

    def test_nothing_is_translated_ahead_unless_told(self):
        emulator = self.moved(self.start(BUNDLED, QUASAR_MACHINE), BUNDLED, QUASAR_MACHINE)
        self.assertEqual(self.ahead(emulator, 'translated'), 0)

    def test_plain_machine_types_move_both_ways(self):
        if not plain_has(PLAIN_MACHINE):
            self.skipTest('the distribution emulator has no ' + PLAIN_MACHINE)
        # A RAM size off the path that loses stores in the plain one.
        size = ['-m', 'size=%dk' % (64 * 1024 + 8)]
        emulator = self.start(PLAIN, PLAIN_MACHINE, *size)
        for binary in (BUNDLED, PLAIN, BUNDLED):
            emulator = self.moved(emulator, binary, PLAIN_MACHINE, *size)

    def test_a_guest_that_lingers_is_not_stopped_by_its_migration(self):
        emulator, target = self.start(BUNDLED, QUASAR_MACHINE), self.start(BUNDLED, QUASAR_MACHINE, incoming=True)
        before = emulator.wait_reports(2)[-1]

        def passes():
            return emulator.command('query-migrate').get('ram', {}).get('dirty-sync-count', 0)
        # Whatever is left might follow in such a pause.
        emulator.command('migrate-set-parameters', **{'downtime-limit': 60000})
        # The stop's reply comes when no vCPU stores any more, and not before that may the last pages go.
        emulator.command('migrate-set-capabilities', capabilities=[{'capability': 'pause-before-switchover', 'state': True}])
        for name in ('tell', 'linger'):
            emulator.command('qom-set', path=AHEAD, property=name, value=True)
        emulator.move_to(target, wait=False)
        self.wait_until('it makes no more passes', lambda: passes() > 9)
        self.assertTrue(emulator.command('query-status')['running'])
        emulator.command('stop')
        self.wait_until('it does not go on', lambda: emulator.command('query-migrate')['status'] == 'pre-switchover')
        emulator.command('migrate-continue', state='pre-switchover')
        emulator.wait_migration()
        self.assertFalse(self.ahead(emulator, 'linger'), 'it is for one move')
        target.command('cont')
        self.assertEqual(target.wait_reports(3)[-1].errors, before.errors)

    def test_it_is_hardened(self):
        def read(*options):
            return subprocess.run(['readelf', '-W', *options, BUNDLED], stdout=subprocess.PIPE, universal_newlines=True).stdout
        self.assertRegex(read('-h'), r'Type: +DYN ')
        self.assertIn('GNU_RELRO', read('-l'))
        self.assertRegex(read('-l'), r'GNU_STACK .* RW ')
        self.assertIn('BIND_NOW', read('-d'))
        self.assertRegex(read('--dyn-syms'), r' __stack_chk_fail\b')
        self.assertRegex(read('--dyn-syms'), r' __memcpy_chk\b')

    def refused(self, source, target, reason):
        source.wait_reports(1)
        with self.assertRaises(EmulatorError):
            source.move_to(target)
        target.process.wait(timeout=30)
        with open(target.log, encoding='utf-8') as file:
            self.assertIn(reason, file.read())
        # It goes on where it was.
        source.wait_reports(len(source.reports()) + 3)

    def test_another_time_base_is_refused(self):
        ours = self.start(BUNDLED, QUASAR_MACHINE)
        self.refused(ours, self.start(BUNDLED, PLAIN_MACHINE, incoming=True), 'Machine type received')
        plain = self.start(BUNDLED, PLAIN_MACHINE)
        self.refused(plain, self.start(BUNDLED, QUASAR_MACHINE, incoming=True), 'Machine type received')
        if plain_has(PLAIN_MACHINE):
            self.refused(ours, self.start(PLAIN, PLAIN_MACHINE, incoming=True), 'Machine type received')

    def test_the_tsc_is_the_virtual_clock(self):
        emulator = self.start(BUNDLED, QUASAR_MACHINE)
        last = emulator.wait_reports(2)[-1].tsc
        for _ in range(2):
            begin = time.monotonic_ns()
            emulator = self.moved(emulator, BUNDLED, QUASAR_MACHINE)
            found = [report.tsc for report in emulator.reports()]
            self.assertEqual(found, sorted(found))
            # Nanoseconds of running: more than nothing, and no more than have passed since well before.
            self.assertGreater(found[0], last)
            self.assertLessEqual(found[-1] - last, time.monotonic_ns() - begin + 2 * 10 ** 9)
            last = found[-1]
        # A clock of nanoseconds that stands with the guest, whatever the host's counter does.
        emulator.command('stop')
        begin, last = time.monotonic_ns(), emulator.reports()[-1].tsc
        time.sleep(1)
        emulator.command('cont')
        count = len(emulator.reports())
        found = emulator.wait_reports(count + 1)[-1].tsc
        self.assertLess(found - last, time.monotonic_ns() - begin)

    def test_the_rtc_is_the_new_hosts(self):
        shim = os.path.join(self.directory, 'shifted_clock.so')
        subprocess.run(['gcc', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', shim,
                        os.path.join(HERE, 'shifted_clock.c')], check=True)
        shifted = {'LD_PRELOAD': shim, 'QUASAR_TEST_SHIFT': '-7200'}
        emulator = self.start(BUNDLED, PLAIN_MACHINE)
        deadline = time.monotonic() + 30
        while not emulator.wait_reports(1)[-1].updates and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertGreater(emulator.reports()[-1].updates, 0)
        hour = int(emulator.reports()[-1].clock[:2])
        emulator = self.moved(emulator, BUNDLED, PLAIN_MACHINE, environment=shifted)
        found = emulator.reports()
        self.assertIn((hour - int(found[0].clock[:2])) % 24, (1, 2))
        deadline = time.monotonic() + 30
        while emulator.reports()[-1].updates <= found[0].updates + 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertGreater(emulator.reports()[-1].updates, found[0].updates + 1)

    def disk_options(self, full):
        file = {'driver': 'file', 'filename': self.disk, 'node-name': 'file'}
        if full:
            file = {'driver': 'blkdebug', 'image': file, 'node-name': 'full',
                    'inject-error': [{'event': 'none', 'iotype': 'write', 'errno': 28, 'sector': 8}]}
        node = {'driver': 'raw', 'node-name': 'disk', 'file': file}
        return ['-blockdev', json.dumps(node), '-device', 'virtio-blk-pci,drive=disk,disable-modern=on,werror=stop']

    def queued(self, binaries):
        """A guest stopped on a full disk moves along; its write completes in the last."""
        self.disk = os.path.join(self.directory, 'disk')
        with open(self.disk, 'wb') as file:
            file.truncate(2048 * SECTOR)
        size = ['-m', 'size=%dk' % (64 * 1024 + 8)]
        machine = 'pc-i440fx-7.2'
        emulator = self.start(binaries[0], machine, *size, *self.disk_options(True))
        deadline = time.monotonic() + 60
        while emulator.command('query-status')['status'] != 'io-error':
            self.assertLess(time.monotonic(), deadline, 'the disk never was full')
            time.sleep(0.05)
        written = emulator.reports()[-1].written
        for binary in binaries[1:]:
            target = self.start(binary, machine, *size, *self.disk_options(False), incoming=True)
            emulator.move_to(target)
            emulator.end()
            self.running.remove(emulator)
            emulator = target
        emulator.command('cont')
        deadline = time.monotonic() + 60
        while not emulator.reports() or emulator.reports()[-1].written < written + 4:
            self.assertLess(time.monotonic(), deadline, 'the queued write is lost')
            time.sleep(0.05)
        with open(self.disk, 'rb') as file:
            data = file.read()
        for sector in range(written + 3):
            self.assertEqual(data[sector * SECTOR:(sector + 1) * SECTOR], sector.to_bytes(4, 'little') * 128)

    def test_queued_write(self):
        self.queued([BUNDLED, BUNDLED])

    def test_queued_write_through_plain_emulators(self):
        if not plain_has('pc-i440fx-7.2'):
            self.skipTest('the distribution emulator is of another version')
        self.queued([PLAIN, BUNDLED, PLAIN])

    def vhost_nic(self):
        """A vhost-user NIC without a guest: its back end and its driver."""
        paths = [os.path.join(self.directory, name) for name in ('nic', 'qtest')]
        back_end = vhost.BackEnd(paths[0])
        self.addCleanup(back_end.end)
        emulator = self.start(BUNDLED, 'pc-i440fx-7.2,memory-backend=pc.ram', '-object',
                              'memory-backend-memfd,id=pc.ram,share=on,size=64M', '-qtest', 'unix:%s,server=on,wait=off' % paths[1],
                              '-chardev', 'socket,id=nic,path=%s,reconnect=1' % paths[0], '-netdev', 'vhost-user,id=net,chardev=nic',
                              '-device', 'virtio-net-pci,netdev=net,disable-modern=on,romfile=,addr=3', accelerator='qtest')
        driver = vhost.Driver(paths[1])
        self.addCleanup(driver.end)
        return emulator, back_end, driver

    def wait_until(self, what, test):
        deadline = time.monotonic() + 30
        while not test():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.01)

    def test_vhost_user_interrupts_without_kvm(self):
        emulator, back_end, driver = self.vhost_nic()
        address, value = 0x200000, 0x4711
        driver.enable(address, value)
        driver.start()
        self.wait_until('nobody is to be called', lambda: back_end.call is not None)
        back_end.interrupt()
        self.wait_until('no interrupt', lambda: driver.do('readl', address) == value)
        # While it is masked it stays pending, and comes when it is not.
        driver.do('writel', address, 0)
        driver.mask(True)
        back_end.interrupt()
        self.wait_until('nothing is pending', lambda: driver.do('readl', driver.pending) == 1)
        self.assertEqual(driver.do('readl', address), 0)
        driver.mask(False)
        self.assertEqual(driver.do('readl', address), value)
        driver.do('outb', vhost.REGISTERS + vhost.STATUS, 0)
        self.assertTrue(emulator.command('query-status')['running'])

    def test_features_of_an_absent_back_end(self):
        _, back_end, driver = self.vhost_nic()
        driver.enable(0x200000, 0x4711)
        back_end.drop()
        self.wait_until('the link stays up', lambda: not driver.has_link())
        driver.do('outl', vhost.REGISTERS + vhost.GUEST_FEATURES, vhost.CHECKSUM)
        self.assertTrue(back_end.connected.wait(30))
        driver.start()
        self.wait_until('what was agreed on is not told', lambda: back_end.features == vhost.CHECKSUM | vhost.PROTOCOL_FEATURES)


if __name__ == '__main__':
    if not BUNDLED:
        print('no bundled emulator; `make emulator` builds it')
        sys.exit(77)
    unittest.main(verbosity=2)
