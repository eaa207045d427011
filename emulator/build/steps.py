# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the builds of the emulator have in common: progress, commands, Debian's packages."""
import glob
import hashlib
import os
import re
import subprocess
import sys
import time


class BuildError(Exception):
    """Something is wrong: the caller must know."""


class Unavailable(Exception):
    """There is nothing to build from here."""


class Progress:
    """One line that changes on a terminal, plain lines elsewhere."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.begin, self.tenth = time.monotonic(), -1

    def __call__(self, text):
        line = 'emulator: [%5.1f s] %s' % (time.monotonic() - self.begin, text)
        print('\r\033[K' + line if self.live else line, end='' if self.live else '\n', flush=True)

    def steps(self, done, total):
        tenth = 10 * done // total
        if self.live or tenth != self.tenth:
            self('compiling: %d of %d' % (done, total))
        self.tenth = tenth

    def end(self):
        if self.live:
            print('\r\033[K', end='', flush=True)


def run(command, cwd=None, log=None, environment=None):
    """Runs it to its end; with `log`, a failure shows where its output went and the output's end."""
    result = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            universal_newlines=True, errors='replace', env=dict(os.environ, **(environment or {})))
    if log:
        with open(log, 'a', encoding='utf-8') as file:
            file.write('$ %s\n%s' % (' '.join(command), result.stdout))
    if result.returncode != 0:
        raise BuildError('%s failed%s:\n%s' % (command[0], ' (%s)' % log if log else '',
                                               '\n'.join(result.stdout.splitlines()[-30:])))
    return result.stdout


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in iter(lambda: file.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def bring_packages(progress, packages):
    """Installs those that are missing."""
    missing = []
    for package in packages:
        status = subprocess.run(['dpkg-query', '-W', '-f=${db:Status-Status}', package], stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, universal_newlines=True)
        if status.stdout != 'installed':
            missing.append(package)
    if not missing:
        return
    if os.geteuid() != 0:
        raise Unavailable('these packages are missing and only root can install them: ' + ' '.join(missing))
    progress('installing ' + ' '.join(missing))
    os.environ['DEBIAN_FRONTEND'] = 'noninteractive'
    try:
        run(['apt-get', '-qq', 'update'])
        run(['apt-get', '-qq', 'install', '-y', '--no-install-recommends'] + missing)
    except BuildError as error:
        raise Unavailable(str(error)) from None


class Apt:
    """apt with its state in a directory of ours: the system's configuration is read, never changed."""

    def __init__(self, directory):
        self.directory = directory
        for name in ('parts', 'lists/partial', 'cache/archives/partial'):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        self.options = ['-o', 'Dir::Etc::SourceList=/dev/null', '-o', 'Dir::Etc::SourceParts=%s/parts' % directory,
                        '-o', 'Dir::State::Lists=%s/lists' % directory, '-o', 'Dir::Cache=%s/cache' % directory,
                        '-o', 'APT::Sandbox::User=root', '-o', 'Debug::NoLocking=true', '-o', 'APT::Update::Post-Invoke-Success=']

    def adapt(self, text):
        """What becomes of a configured source's text."""
        return text

    def derive_sources(self):
        """The configured sources, each for binary packages and for source."""
        names = ['/etc/apt/sources.list'] + sorted(glob.glob('/etc/apt/sources.list.d/*'))
        for name in names:
            if not os.path.isfile(name) or not name.endswith(('.list', '.sources')):
                continue
            with open(name, encoding='utf-8') as file:
                text = self.adapt(file.read())
            if name.endswith('.sources'):
                text = re.sub(r'(?m)^Types:.*$', 'Types: deb deb-src', text)
            else:
                lines = re.findall(r'(?m)^\s*deb\s.*$', text)
                text = ''.join('%s\n%s\n' % (line, re.sub(r'^(\s*)deb\s', r'\1deb-src ', line)) for line in lines)
            with open(os.path.join(self.directory, 'parts', os.path.basename(name)), 'w', encoding='utf-8') as file:
                file.write(text)

    def update(self):
        self.derive_sources()
        # A third party's archive without source must not matter: what counts is whether the package is found.
        subprocess.run(['apt-get'] + self.options + ['-qq', 'update'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def fetch(self, directory, *command):
        return run(['apt-get'] + self.options + ['-qq'] + list(command), cwd=directory)

    def source_versions(self, base):
        """Versions of the source package that are made from the pinned tarball, newest first."""
        found = subprocess.run(['apt-cache'] + self.options + ['showsrc', '--only-source', base['package']],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
        versions = [re.search(r'(?m)^Version: (\S+)', entry)[1] for entry in found.split('\n\n')
                    if base['sha256'] in entry and re.search(r'(?m)^Version: ', entry)]
        return list(dict.fromkeys(versions))
