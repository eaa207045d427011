#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The emulator's build says what it lacks, and leaves no product: without a source, and with another one than the patches'."""
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(os.path.dirname(os.path.dirname(HERE)), 'emulator', 'build', 'make-emulator')
TARBALL = 'qemu_7.2+dfsg.orig.tar.xz'


class MakeTest(unittest.TestCase):
    def setUp(self):
        keeper = tempfile.TemporaryDirectory()
        self.addCleanup(keeper.cleanup)
        self.cache, self.source = (os.path.join(keeper.name, name) for name in ('cache', 'source'))
        os.mkdir(self.source)

    def give(self, name, text):
        with open(os.path.join(self.source, name), 'w', encoding='ascii') as file:
            file.write(text)

    def fails(self, status, *words):
        environment = dict(os.environ, XDG_CACHE_HOME=self.cache, QUASAR_EMULATOR_SOURCE=self.source)
        done = subprocess.run([BUILD, '--no-setup'], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout)
        for word in words:
            self.assertIn(word, done.stdout)
        found = subprocess.run([BUILD, '--find'], env=environment, stdout=subprocess.PIPE, universal_newlines=True)
        self.assertEqual((found.returncode, found.stdout), (3, ''))

    def test_no_source(self):
        self.fails(3, 'not built', 'holds no source package', "the distribution's serves meanwhile")

    def test_another_source(self):
        self.give(TARBALL, 'not it')
        self.give('qemu.dsc', 'Version: 1')
        self.fails(1, TARBALL, 'has the SHA-256', 'not the source that the patches are for')


if __name__ == '__main__':
    unittest.main(verbosity=2)
