# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock virsh against one virtquasard."""
import os


def text(result):
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_connect(hosts):
    assert text(hosts.virsh('hostA', 'uri')) == 'quasar:///system'
    assert text(hosts.virsh('hostA', 'hostname')) == 'hostA'


def test_bad_xml_changes_nothing(hosts):
    definitions = hosts.path('hostA', 'etc/libvirt/quasar')
    before = sorted(os.listdir(definitions)) if os.path.isdir(definitions) else []
    with open(hosts.path('hostA', 'run/bad.xml'), 'w') as file:
        file.write('<domain type="qemu"><name>bad</name><memory>none</memory></domain>')
    result = hosts.virsh('hostA', 'define', '/run/bad.xml')
    assert result.returncode != 0
    assert 'memory' in result.stderr
    assert (sorted(os.listdir(definitions)) if os.path.isdir(definitions) else []) == before
