#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the patches do for PowerPC guests. Skipped (status 77) where `make emulator-ppc` has built no emulator for them, or
Debian's cross compiler (gcc-powerpc64le-linux-gnu) is not there."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from emulator import HERE, Emulator, bundled_emulator, callers_in, distribution_emulator, series

BUNDLED = bundled_emulator('ppc64')
PLAIN = distribution_emulator('ppc64')
COMPILER = shutil.which('powerpc64le-linux-gnu-gcc')
MACHINE = 'pseries-7.2'


def build_guest(directory):
    subprocess.run([COMPILER, '-mbig-endian', '-mabi=elfv2', '-O2', '-Wall', '-Wextra', '-Werror', '-ffreestanding', '-fno-pic',
                    '-fno-pie', '-fno-stack-protector', '-fno-toplevel-reorder', '-fno-asynchronous-unwind-tables', '-mno-altivec',
                    '-mno-vsx', '-msoft-float', '-static', '-nostdlib', '-Wl,--build-id=none,-z,noexecstack,-n,'
                    '--no-warn-rwx-segments,-Ttext=0x2000,--section-start=.head=0',
                    '-o', os.path.join(directory, 'guest.elf'), os.path.join(HERE, 'power.c')], check=True)


def plain_has_the_machine():
    if not PLAIN:
        return False
    listed = subprocess.run([PLAIN, '-machine', 'help'], stdout=subprocess.PIPE, universal_newlines=True).stdout
    return re.search(r'(?m)^%s ' % re.escape(MACHINE), listed) is not None


class PowerTest(unittest.TestCase):
    def setUp(self):
        keeper = tempfile.TemporaryDirectory()
        self.addCleanup(keeper.cleanup)
        self.directory = keeper.name
        build_guest(self.directory)
        self.running = []
        self.addCleanup(lambda: [emulator.end() for emulator in self.running])

    def start(self, binary, *options, **more):
        memory = 'memory-backend-memfd,id=ppc_spapr.ram,x-use-canonical-path-for-ramblock-id=off,share=on,size=256M'
        emulator = Emulator(binary, self.directory, '-machine', MACHINE + ',memory-backend=ppc_spapr.ram', '-object', memory,
                            '-accel', 'tcg', '-m', '256', *options, **more)
        self.running.append(emulator)
        return emulator

    def moved(self, source, binary):
        target = self.start(binary, incoming=True)
        source.wait_reports(2)
        source.move_to(target)
        # The source has ended its guest, so these are its last words.
        before, after = source.reports()[-1], target.wait_reports(3)
        self.assertEqual([report.errors for report in after], [(0, 0)] * len(after))
        for last, found in zip([before] + after, after):
            self.assertGreater(found.tsc, last.tsc)
            self.assertGreater(found.updates, last.updates)
            # No more than has passed while the test waits, and nothing of the host's own counter.
            self.assertLess(found.tsc - last.tsc, 60 * 512000000)
        return target

    def test_every_hook_that_calls_us_is_in_the_binary(self):
        callers = callers_in(BUNDLED)
        wanted = [hook.calls for patch in series() for hook in patch.hooks if hook.calls and hook.calls[2] == 'ppc64']
        self.assertTrue(wanted)
        for symbol, caller, _ in wanted + [('quasar_rearm_stores', 'tcg_log_global_after_sync', None)]:
            self.assertIn(caller, callers.get(symbol, set()), symbol)

    def test_a_moved_guest_has_its_memory_its_timer_and_its_time(self):
        emulator = self.start(BUNDLED)
        for _ in range(4):
            emulator = self.moved(emulator, BUNDLED)

    def test_a_guest_of_a_plain_emulator_finds_its_timer(self):
        if not plain_has_the_machine():
            self.skipTest('the distribution has no emulator with ' + MACHINE)
        emulator = self.start(PLAIN)
        emulator.wait_reports(1)
        # It loses stores of guests that move live.
        emulator.command('stop')
        target = self.start(BUNDLED, incoming=True)
        emulator.move_to(target)
        target.command('cont')
        self.assertEqual(target.wait_reports(3)[-1].errors, (0, 0))


if __name__ == '__main__':
    if not BUNDLED or not COMPILER:
        print('no emulator for PowerPC guests (make emulator-ppc)' if not BUNDLED else 'no gcc-powerpc64le-linux-gnu')
        sys.exit(77)
    unittest.main(verbosity=2)
