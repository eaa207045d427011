# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of all tests in the lab: one lab for all that a process runs, one guest per test that wants it."""
import contextlib
import os
import shutil
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, 'lab')]
import lab as lab_library  # noqa: E402  (found by the line above)
import world as world_library  # noqa: E402


@contextlib.contextmanager
def lab_up(topology):
    """A lab without daemons, beside those of other topologies."""
    if os.geteuid() != 0:
        pytest.skip('namespaces need root')
    for program in ('ip', 'ethtool', 'nsenter', 'certtool', 'qemu-img', 'busybox'):
        if not shutil.which(program):
            pytest.skip('%s is missing; tools/setup brings it' % program)
    # Each process of pytest-xdist has labs of its own.
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    name = '-'.join(filter(None, ('lab-test', '' if topology == 'segment' else topology, worker)))
    lab = lab_library.Lab(os.path.join(lab_library.cache_dir(), name), topology=topology)
    lab.build = os.environ.get('QUASAR_BUILDDIR', '')
    lab.up(daemons=False)
    try:
        yield lab
    finally:
        lab.down()


def with_daemons(lab):
    if not os.path.exists(lab.daemon):
        pytest.skip('virtquasard is not built')
    for host in lab.hosts:
        # The file says which stage of a move is to be held, if it is there (base/fault.h).
        lab.start_daemon(host, {'QUASAR_FAULT': '@/run/fault'})
    return lab


@pytest.fixture(scope='session')
def places():
    """The lab without daemons."""
    with lab_up('segment') as lab:
        yield lab


@pytest.fixture(scope='session')
def hosts(places):
    """The lab with virtquasard on both hosts."""
    return with_daemons(places)


@pytest.fixture(scope='session')
def routed_places():
    """Three subnets and a router, without daemons."""
    with lab_up('routed') as lab:
        yield lab


@pytest.fixture(scope='session')
def routed_hosts(routed_places):
    return with_daemons(routed_places)


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


@contextlib.contextmanager
def cleared_world(hosts):
    world = world_library.World(hosts)
    yield world
    world.clear()


@contextlib.contextmanager
def usable_world(world, request):
    """A world with a booted or booting guest; left spoilt by a test that failed, since no one knows what it left."""
    if not world.usable:
        world.reset()
        world.spoilt = False
    world.usable = False
    world.logged = {host: len(world.lab.daemon_log(host)) for host in world.lab.hosts}
    yield world
    world.usable = not getattr(request.node, 'failed', True) and not world.spoilt


@pytest.fixture(scope='module')
def shared_world(hosts):
    with cleared_world(hosts) as world:
        yield world


@pytest.fixture
def world(shared_world, request):
    with usable_world(shared_world, request) as world:
        yield world


@pytest.fixture(scope='module')
def shared_routed_world(routed_hosts):
    with cleared_world(routed_hosts) as world:
        yield world


@pytest.fixture
def routed_world(shared_routed_world, request):
    """As `world`, where A, B and C are on subnets of their own and the guest's home is A's."""
    with usable_world(shared_routed_world, request) as world:
        yield world


@pytest.fixture
def ground(request):
    """The world of the topology that a test is parametrised with: `segment` or `routed`."""
    return request.getfixturevalue({'segment': 'world', 'routed': 'routed_world'}[request.param])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when != 'call':
        return
    report = outcome.get_result()
    item.failed = report.failed
    for name in ('world', 'routed_world'):
        world = item.funcargs.get(name)
        for host in world.lab.hosts if report.failed and world else ():
            report.sections.append(('virtquasard on %s' % host, world.new_log(host)))
