# SPDX-License-Identifier: LGPL-2.1-or-later
"""More files for the lab's guest than its initramfs holds."""
import gzip
import io
import os


def archive(files):
    """A cpio archive as the kernel takes it behind an initramfs. `files`: path -> content, None for a directory."""
    out = io.BytesIO()
    for number, (path, content) in enumerate(list(files.items()) + [('TRAILER!!!', b'')], 1):
        name, data = path.encode() + b'\0', content or b''
        mode = 0o100755 if content is not None else 0o040755
        out.write(b'070701' + b''.join(b'%08x' % value for value in (
            number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)))
        for part in (name, data):
            out.write(part)
            out.write(b'\0' * (-out.tell() % 4))
    return out.getvalue()


def extend(initrd, files, extended):
    """Writes an initramfs with more files to the path `extended`."""
    with open(initrd, 'rb') as file:
        whole = file.read() + gzip.compress(archive(files), 1)
    with open(extended, 'wb') as file:
        file.write(whole)


def documents(sizes_kib):
    """Files that the guest serves: /10k and so on."""
    return {'www/%dk' % size: os.urandom(size * 1024) for size in sizes_kib}
