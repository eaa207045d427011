# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of all tests in the lab: one lab for all, one guest per test that wants it."""
import os
import shutil
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, 'lab')]
import lab as lab_library  # noqa: E402  (found by the line above)
import world as world_library  # noqa: E402


@pytest.fixture(scope='session')
def places(tmp_path_factory):
    """The lab without daemons."""
    if os.geteuid() != 0:
        pytest.skip('namespaces need root')
    for program in ('ip', 'ethtool', 'nsenter', 'certtool', 'qemu-img', 'busybox'):
        if not shutil.which(program):
            pytest.skip('%s is missing; tools/setup brings it' % program)
    lab = lab_library.Lab(os.path.join(lab_library.cache_dir(), 'lab-test'))
    lab.build = os.environ.get('QUASAR_BUILDDIR', '')
    lab.up(daemons=False)
    yield lab
    lab.down()


@pytest.fixture(scope='session')
def hosts(places):
    """The lab with virtquasard on both hosts."""
    if not os.path.exists(places.daemon):
        pytest.skip('virtquasard is not built')
    for host in lab_library.HOSTS:
        # The file says which stage of a move is to be held, if it is there (base/fault.h).
        places.start_daemon(host, {'QUASAR_FAULT': '@/run/fault'})
    return places


@pytest.fixture
def guest(hosts):
    """A lab whose hostA runs the guest `web`, with a writer on its disk and one in its memory."""
    _, overlay = hosts.disks()
    with open(hosts.path('hostA', 'run/web.xml'), 'w') as file:
        file.write(hosts.domain_xml(disk=overlay, file_mib=8,
                                    options='quasar.memory=16:2000 quasar.disk=1048576:64'))
    assert hosts.virsh('hostA', 'define', '/run/web.xml').returncode == 0
    started = hosts.virsh('hostA', 'start', 'web')
    assert started.returncode == 0, started.stderr
    hosts.wait_guest()
    hosts.wait_writers()
    yield hosts
    for host in lab_library.HOSTS:
        hosts.virsh(host, 'destroy', 'web')
        hosts.virsh(host, 'undefine', 'web')
        image = hosts.path(host, 'var/lib/libvirt/images/web.qcow2')
        if os.path.exists(image):
            os.unlink(image)


@pytest.fixture(scope='module')
def shared_world(hosts):
    world = world_library.World(hosts)
    yield world
    world.clear()


@pytest.fixture
def world(shared_world, request):
    if not shared_world.usable:
        shared_world.reset()
        shared_world.spoilt = False
    shared_world.usable = False
    shared_world.logged = {host: len(shared_world.lab.daemon_log(host)) for host in lab_library.HOSTS}
    yield shared_world
    # A test that failed leaves no one knows what; the next begins anew.
    shared_world.usable = not getattr(request.node, 'failed', True) and not shared_world.spoilt


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when != 'call':
        return
    report = outcome.get_result()
    item.failed = report.failed
    world = item.funcargs.get('world')
    for host in lab_library.HOSTS if report.failed and world else ():
        report.sections.append(('virtquasard on %s' % host, world.new_log(host)))
