# SPDX-License-Identifier: LGPL-2.1-or-later
"""The emulator as a host of another architecture would run it, for tests on this one.

Theory of operation: Debian's cross compiler builds it against libraries of that architecture, which are unpacked into a
directory of their own; nothing of that architecture is installed. Debian's user-mode emulator then runs it here. It executes
the very code that the other host would, byte order and JIT included; only the kernel is this one's. The product is whole in
itself: `launch` runs it, with the libraries in `root` and the user-mode emulator in `user`.
"""
import glob
import os
import re
import shutil

from steps import Apt, BuildError, Unavailable, run

# Debian's name: configure's and qemu-user's, the compiler's.
ARCHITECTURES = {'s390x': ('s390x', 's390x-linux-gnu'), 'arm64': ('aarch64', 'aarch64-linux-gnu')}
TOOLS = ['gcc', 'libc6-dev', 'pkg-config', 'ninja-build', 'meson', 'flex', 'bison', 'dpkg-dev', 'xz-utils', 'perl', 'binutils']
LIBRARIES = ['libglib2.0-dev', 'libpixman-1-dev', 'libfdt-dev', 'zlib1g-dev']
# What the kernel has to do for the emulator and a user-mode emulator does not is left out: sandbox, native AIO, KVM.
FEATURES = ['--enable-tcg', '--enable-fdt=system', '--enable-vhost-user', '--enable-vhost-net']
LAUNCHER = r'''#!/bin/sh
# Runs the %(arch)s emulator of this directory on a host of another architecture, with arguments as for any emulator.
# Before them may stand --host-page-size BYTES. A sandbox would confine the user-mode emulator, so there is none.
here=$(dirname "$(readlink -f "$0")")
pages=
if [ "$1" = --host-page-size ]; then
	pages="-p $2"
	shift 2
fi
left=$#
while [ "$left" -gt 0 ]; do
	if [ "$1" = -sandbox ]; then
		shift 2
		left=$((left - 2))
	else
		set -- "$@" "$1"
		shift
		left=$((left - 1))
	fi
done
exec "$here/user/%(binary)s" $pages -L "$here/root" "$here/bin/%(binary)s" "$@"
'''


class ForeignApt(Apt):
    """apt for another architecture, for which nothing counts as installed."""

    def __init__(self, directory, arch):
        super().__init__(directory)
        status = os.path.join(directory, 'status')
        with open(status, 'w', encoding='utf-8'):
            pass
        self.options += ['-o', 'APT::Architecture=' + arch, '-o', 'APT::Architectures::=' + arch, '-o', 'Dir::State::status=' + status]

    def adapt(self, text):
        """A source that is limited to this machine's architecture is asked for the other all the same."""
        text = re.sub(r'(?m)^Architectures:.*\n', '', text)
        return re.sub(r'\barch=[^\s\]]*', '', text)


def read_elf(path, option, pattern):
    return re.findall(pattern, run(['readelf', option, path]))


def relative_links(root):
    """Absolute links would lead out of the root."""
    for directory, names, files in os.walk(root):
        for path in (os.path.join(directory, name) for name in names + files):
            target = os.readlink(path) if os.path.islink(path) else ''
            if target.startswith('/'):
                os.unlink(path)
                os.symlink(os.path.relpath(root + target, directory), path)


class ForeignHost:
    def __init__(self, arch):
        self.name = arch
        self.cpu, self.triplet = ARCHITECTURES[arch]
        self.compiler = self.triplet + '-gcc'
        self.packages = TOOLS + ['gcc-' + self.triplet]
        self.inputs = [os.path.abspath(__file__)]

    def unpack(self, archives, root):
        for archive in archives:
            run(['dpkg-deb', '-x', archive, root])

    def fetch(self, progress, apt, root, work):
        """The libraries into work/sysroot, the user-mode emulator into work/user."""
        progress('getting libraries for %s' % self.name)
        foreign = ForeignApt(os.path.join(root, 'apt-libraries'), self.name)
        foreign.update()
        archives = os.path.join(foreign.directory, 'cache', 'archives')
        user = os.path.join(work, 'user')
        os.makedirs(user)
        try:
            foreign.fetch(work, 'install', '-y', '--no-install-recommends', '--download-only', *LIBRARIES)
            progress('getting qemu-user-static')
            apt.fetch(user, 'download', 'qemu-user-static')
        except BuildError as error:
            raise Unavailable(str(error)) from None
        self.sysroot = os.path.join(work, 'sysroot')
        self.unpack(glob.glob(os.path.join(archives, '*.deb')), self.sysroot)
        relative_links(self.sysroot)
        self.unpack(glob.glob(os.path.join(user, '*.deb')), user)
        shutil.rmtree(archives)

    def configure(self, cache):
        """Options and environment for configure."""
        command = '%s --sysroot=%s' % (self.compiler, self.sysroot)
        places = ['usr/lib/%s/pkgconfig' % self.triplet, 'usr/share/pkgconfig']
        return FEATURES + ['--cross-prefix=%s-' % self.triplet, '--cpu=' + self.cpu,
                           '--cc=%s %s' % (cache, command) if cache else '--cc=' + command], {
            'PKG_CONFIG': '/usr/bin/pkg-config', 'PKG_CONFIG_SYSROOT_DIR': self.sysroot,
            'PKG_CONFIG_LIBDIR': ':'.join(os.path.join(self.sysroot, place) for place in places)}

    def libraries(self, binary):
        """Paths in the sysroot of all that a program is linked with."""
        found, left = {}, [binary]
        while left:
            for name in read_elf(left.pop(), '-d', r'\(NEEDED\).*\[(.*)\]'):
                if name in found:
                    continue
                places = [os.path.join(self.sysroot, directory, self.triplet, name) for directory in ('lib', 'usr/lib')]
                found[name] = next((path for path in places if os.path.exists(path)), None)
                if found[name]:
                    left.append(found[name])
        return [path for path in found.values() if path]

    def finish(self, product, binary, work):
        """What the binary needs to run here."""
        paths = self.libraries(binary)
        paths += [self.sysroot + path for path in read_elf(binary, '-l', r'interpreter: (.*)\]')]
        for path in paths:
            copy = os.path.join(product, 'root', os.path.relpath(path, self.sysroot))
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(path, copy)
        # Under the name of what it runs, which is what lists of processes then show.
        user = os.path.join(product, 'user', os.path.basename(binary))
        os.mkdir(os.path.dirname(user))
        shutil.copy2(os.path.join(work, 'user', 'usr', 'bin', 'qemu-%s-static' % self.cpu), user)
        launcher = self.program(product, binary)
        with open(launcher, 'w', encoding='utf-8') as file:
            file.write(LAUNCHER % {'arch': self.name, 'binary': os.path.basename(binary)})
        os.chmod(launcher, 0o755)

    def program(self, product, _binary):
        return os.path.join(product, 'launch')
