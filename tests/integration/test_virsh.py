# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock virsh against one virtquasard."""
import os


def text(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_connect(hosts):
    assert text(hosts.virsh('hostA', 'uri')) == 'quasar:///system'
    assert text(hosts.virsh('hostA', 'hostname')) == 'hostA'


def test_life_of_a_guest(guest):
    assert 'running' in text(guest.virsh('hostA', 'domstate', 'web'))
    assert 'web' in text(guest.virsh('hostA', 'list'))
    assert 'running' in text(guest.virsh('hostA', 'dominfo', 'web'))
    text(guest.virsh('hostA', 'suspend', 'web'))
    assert 'paused' in text(guest.virsh('hostA', 'domstate', 'web'))
    assert guest.guest_get('memory', 1) is None
    text(guest.virsh('hostA', 'resume', 'web'))
    assert guest.guest_get('memory')
    text(guest.virsh('hostA', 'destroy', 'web'))
    assert 'shut off' in text(guest.virsh('hostA', 'domstate', 'web'))
    assert not guest.processes('hostA', 'qemu-system-x86_64')


def test_daemon_killed_with_guest_running(guest):
    assert guest.kill('hostA', 'virtquasard') == 1
    assert guest.processes('hostA', 'qemu-system-x86_64')
    guest.start_daemon('hostA')
    assert 'running' in text(guest.virsh('hostA', 'domstate', 'web'))
    assert guest.guest_get('memory')


def test_definition_is_a_fixed_point(guest):
    once = text(guest.virsh('hostA', 'dumpxml', '--inactive', 'web'))
    with open(guest.path('hostA', 'run/again.xml'), 'w') as file:
        file.write(once)
    text(guest.virsh('hostA', 'define', '/run/again.xml'))
    assert text(guest.virsh('hostA', 'dumpxml', '--inactive', 'web')) == once


def test_bad_xml_changes_nothing(hosts):
    definitions = hosts.path('hostA', 'etc/libvirt/quasar')
    before = sorted(os.listdir(definitions)) if os.path.isdir(definitions) else []
    with open(hosts.path('hostA', 'run/bad.xml'), 'w') as file:
        file.write('<domain type="qemu"><name>bad</name><memory>none</memory></domain>')
    result = hosts.virsh('hostA', 'define', '/run/bad.xml')
    assert result.returncode != 0
    assert 'memory' in result.stderr
    assert (sorted(os.listdir(definitions)) if os.path.isdir(definitions) else []) == before
