#!/usr/bin/python3 -B
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The patch queue's applier: one unique place or nothing, and nothing is written before every hook has its place."""
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import os
import re
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PATCHES = os.path.join(os.path.dirname(os.path.dirname(HERE)), 'emulator', 'patches')

SOURCE = '''#include "a.h"

static int twin(int n);

static int
twin(int n)
{
    step(n);
    step(n);
    return n;
}

int other(int n)
{
    step(n);
    finish(n);
    return n;
}

static const Row table[] = {
    {1, 2},
    {3, 4},
};
'''

HEADER = 'title: a test\ndate: 2026-01-01\nwhy: because\n  of it\nupstream: none\n'


def load_queue():
    loader = importlib.machinery.SourceFileLoader('queue_under_test', os.path.join(PATCHES, 'queue'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('queue_under_test', loader))
    loader.exec_module(module)
    return module


queue = load_queue()


def digest(*lines):
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


class QueueTest(unittest.TestCase):
    def setUp(self):
        keeper = tempfile.TemporaryDirectory()
        self.addCleanup(keeper.cleanup)
        self.tree = os.path.join(keeper.name, 'tree')
        os.makedirs(os.path.join(self.tree, 'hw'))
        self.write('tree/hw/x.c', SOURCE, keeper.name)
        self.room = os.path.join(keeper.name, 'patches')
        os.mkdir(self.room)
        self.top = keeper.name
        self.names = []
        saved = queue.HERE
        queue.HERE = self.room
        self.addCleanup(lambda: setattr(queue, 'HERE', saved))

    @staticmethod
    def write(path, text, top):
        with open(os.path.join(top, path), 'w', encoding='utf-8') as file:
            file.write(text)

    def patch(self, name, body, files=()):
        os.mkdir(os.path.join(self.room, name))
        self.write('patches/%s/patch' % name, HEADER + body, self.top)
        for file in files:
            self.write('patches/%s/%s' % (name, file), 'int of_%s;\n' % name, self.top)
        self.names.append(name)
        self.write('patches/series', '# order\n' + '\n'.join(self.names) + '\n', self.top)

    def run_queue(self, *arguments):
        """Exit status and what was said."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = queue.main(list(arguments))
        return status, said.getvalue()

    def changed(self):
        with open(os.path.join(self.tree, 'hw', 'x.c'), encoding='utf-8') as file:
            return file.read()

    def refused(self, reason):
        status, said = self.run_queue('apply', self.tree)
        self.assertEqual(status, 1, said)
        self.assertIn(reason, said)
        self.assertEqual(self.changed(), SOURCE)
        self.assertFalse(os.path.exists(os.path.join(self.tree, 'quasar')))

    def applied(self):
        status, said = self.run_queue('apply', self.tree)
        self.assertEqual(status, 0, said)
        notice, _, text = self.changed().partition('\n')
        return notice, text

    @staticmethod
    def hook(scope, lines, action, *text):
        return 'hook hw/x.c %s\nanchor %d %s\n%s\n%s' % (scope, len(lines), digest(*lines), action,
                                                       ''.join('|%s\n' % line for line in text))

    def test_actions(self):
        self.patch('one', self.hook('other', ['step(n);', 'finish(n);'], 'before 2', '    between(n);'))
        self.patch('two', self.hook('other', ['return n;'], 'replace 1', '    return 0;')
                   + self.hook('table', ['{3, 4},'], 'after 1', '    {5, 6},'))
        notice, text = self.applied()
        self.assertEqual(notice, '/* Changed by Quasar: one (2026-01-01), two (2026-01-01) */')
        wanted = SOURCE.replace('    finish(n);\n    return n;', '    between(n);\n    finish(n);\n    return 0;')
        self.assertEqual(text, wanted.replace('    {3, 4},\n', '    {3, 4},\n    {5, 6},\n'))

    def test_equal_places_keep_the_order_of_the_series(self):
        self.patch('one', self.hook('other', ['finish(n);'], 'after 1', 'A', 'B'))
        self.patch('two', self.hook('other', ['finish(n);', 'return n;'], 'before 2', 'C'))
        self.assertIn('finish(n);\nA\nB\nC\n    return n;', self.applied()[1])

    def test_files_and_types(self):
        self.patch('one', 'file new.c specific CONFIG_TCG\nfile new.h\n', ['new.c', 'new.h'])
        self.assertEqual(self.run_queue('apply', self.tree)[0], 0)
        read = {}
        for name in ('meson.build', 'patches.c', 'new.c', 'new.h'):
            with open(os.path.join(self.tree, 'quasar', name), encoding='utf-8') as file:
                read[name] = file.read()
        self.assertIn("specific_ss.add(when: ['CONFIG_TCG'], if_true: files('new.c'))", read['meson.build'])
        self.assertNotIn('new.h', read['meson.build'])
        self.assertIn('"quasar-patch-one"', read['patches.c'])
        self.assertEqual(read['new.c'], 'int of_one;\n')

    def test_layout_is_no_difference(self):
        self.patch('one', self.hook('other', ['finish(n);'], 'after 1', 'A'))
        self.write('tree/hw/x.c', SOURCE.replace('    finish(n);', '\tfinish(n);  '), self.top)
        self.assertIn('finish(n);  \nA\n', self.applied()[1])

    def test_no_place(self):
        self.patch('one', self.hook('other', ['finish(n);'], 'after 1', 'A')
                   + self.hook('other', ['finish(m);'], 'after 1', 'B'))
        self.refused('no lines there have the anchor')

    def test_two_places(self):
        self.patch('one', self.hook('twin', ['step(n);'], 'after 1', 'A'))
        self.refused('2 places match')

    def test_the_scope_counts(self):
        self.patch('one', self.hook('twin', ['finish(n);'], 'after 1', 'A'))
        self.refused('no lines there have the anchor')

    def test_no_such_scope(self):
        self.patch('one', self.hook('absent', ['step(n);'], 'after 1', 'A'))
        self.refused("'absent' is defined there nowhere")

    def test_two_such_scopes(self):
        self.write('tree/hw/x.c', SOURCE + SOURCE, self.top)
        self.patch('one', self.hook('other', ['step(n);'], 'after 1', 'A'))
        status, said = self.run_queue('check', self.tree)
        self.assertEqual(status, 1)
        self.assertIn('more than once', said)

    def test_conflict(self):
        self.patch('one', self.hook('other', ['finish(n);'], 'replace 1', 'A'))
        self.patch('two', self.hook('other', ['step(n);', 'finish(n);'], 'replace 1-2', 'B'))
        self.refused('replace the same line')

    def test_insertion_into_what_is_replaced(self):
        self.patch('one', self.hook('other', ['step(n);', 'finish(n);'], 'replace 1-2', 'A'))
        self.patch('two', self.hook('other', ['finish(n);'], 'before 1', 'B'))
        self.refused('inserts where')

    def test_no_such_file(self):
        self.patch('one', self.hook('other', ['step(n);'], 'after 1', 'A').replace('hw/x.c', 'hw/y.c'))
        self.refused('no file hw/y.c')

    def test_never_twice(self):
        self.patch('one', self.hook('other', ['finish(n);'], 'after 1', 'A'))
        self.applied()
        before = self.changed()
        status, said = self.run_queue('apply', self.tree)
        self.assertEqual((status, self.changed()), (1, before))
        self.assertIn('patched already', said)

    def test_grammar(self):
        good = self.hook('other', ['finish(n);'], 'after 1', 'A')
        cases = {
            'unknown word': ('frob x\n', "'frob' is not known"),
            'path that leaves the tree': (good.replace('hw/x.c', '../x.c'), 'hook FILE SCOPE'),
            'short hash': ('hook hw/x.c other\nanchor 1 abc\n', 'anchor LINES SHA256'),
            'line that is not anchored': (good.replace('after 1', 'after 2'), 'the anchor has no such line'),
            'two actions': (good + 'before 1\n', 'once and after the anchor'),
            'text of nothing': ('|A\n', 'text without an action'),
            'anchor of nothing': ('anchor 1 %s\n' % digest('x'), 'no hook has begun'),
            'no action': ('hook hw/x.c other\nanchor 1 %s\n' % digest('x'), 'no anchor or no action'),
            'file that is not there': ('file gone.c specific\n', "no file 'gone.c'"),
        }
        for number, (what, (body, reason)) in enumerate(cases.items()):
            with self.subTest(what):
                self.names = []
                self.patch('case%d' % number, body)
                self.refused(reason)

    def test_missing_field(self):
        self.patch('one', '')
        self.write('patches/one/patch', HEADER.replace('upstream: none\n', ''), self.top)
        self.refused("the field 'upstream' is missing")

    def test_anchor_is_what_hooks_want(self):
        self.patch('one', '')
        number = SOURCE.split('\n').index('    finish(n);') + 1
        status, said = self.run_queue('anchor', self.tree, 'hw/x.c', 'other', str(number))
        self.assertEqual(status, 0)
        self.assertIn('anchor 1 ' + digest('finish(n);'), said)
        twin = SOURCE.split('\n').index('    step(n);') + 1
        status, said = self.run_queue('anchor', self.tree, 'hw/x.c', 'twin', str(twin))
        self.assertEqual(status, 1)
        self.assertIn('2 places', said)
        self.assertEqual(self.run_queue('anchor', self.tree, 'hw/x.c', 'twin', str(number))[0], 1)

    def test_usage(self):
        self.assertEqual(self.run_queue('frob')[0], 2)
        self.assertEqual(self.run_queue()[0], 2)
        self.assertEqual(self.run_queue('apply')[0], 2)

    def test_the_real_series(self):
        queue.HERE = PATCHES
        patches = queue.read_series()
        self.assertIn('true-dirty-tracking', [patch.name for patch in patches])
        directories = {name for name in os.listdir(PATCHES) if os.path.isdir(os.path.join(PATCHES, name))}
        self.assertEqual({patch.name for patch in patches}, directories)
        # What follows from each one's absence is what domcapabilities says; `room` is what the others are built in.
        with open(os.path.join(os.path.dirname(PATCHES), 'traits.c'), encoding='utf-8') as file:
            told = set(re.findall(r'^    \{"([a-z-]+)", "', file.read(), re.MULTILINE))
        self.assertEqual(told, directories - {'room'})


if __name__ == '__main__':
    unittest.main(verbosity=1)
