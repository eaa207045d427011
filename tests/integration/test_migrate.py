# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest moves between two hosts; the guest checks its own memory and disk."""
import lab as lab_library
import pytest


def assert_runs_only_on(guest, host):
    other = 'hostA' if host == 'hostB' else 'hostB'
    assert 'running' in guest.virsh(host, 'domstate', 'web').stdout
    assert 'running' not in guest.virsh(other, 'domstate', 'web').stdout
    assert not guest.processes(other, 'qemu-system-x86_64')


def rounds(guest):
    words = (guest.guest_get('memory') or '').split()
    return int(words[1]) if len(words) > 1 else -1


def assert_guest_is_sound(guest):
    """A whole pass over the memory after the move has to find each store that was made before it."""
    seen = rounds(guest)
    lab_library.wait_for('two more passes over the memory', lambda: rounds(guest) >= seen + 2, 60)
    assert guest.guest_get('memory').strip().endswith('errors 0')
    assert guest.guest_get('disk').strip().endswith('errors 0')


@pytest.mark.parametrize('how', [[], ['--p2p']])
def test_move(guest, how):
    result = guest.virsh('hostA', 'migrate', '--live', *how, 'web', 'quasar+tls://hostB/system', timeout=120)
    assert result.returncode == 0, result.stderr
    assert_runs_only_on(guest, 'hostB')
    assert_guest_is_sound(guest)


def test_refused_move_leaves_the_guest(guest):
    guest.link('hostB', 'down')
    try:
        result = guest.virsh('hostA', 'migrate', '--live', 'web', 'quasar+tls://10.77.0.200/system', timeout=120)
    finally:
        guest.link('hostB', 'up')
    assert result.returncode != 0
    assert_runs_only_on(guest, 'hostA')
    assert_guest_is_sound(guest)
