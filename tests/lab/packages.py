# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's packages that measurements by hand take and the tree does not."""
import os
import shutil
import subprocess


def bring(packages):
    """Installs what is missing. `packages`: program -> the package that has it."""
    missing = sorted({package for program, package in packages.items() if not shutil.which(program)})
    if missing:
        subprocess.check_call(['apt-get', '-qq', 'update'])
        subprocess.check_call(['apt-get', '-qq', 'install', '-y', '--no-install-recommends'] + missing,
                              stdout=subprocess.DEVNULL, env=dict(os.environ, DEBIAN_FRONTEND='noninteractive'))
