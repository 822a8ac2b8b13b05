# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only the first process of a PID namespace just below ours is taken for a container's."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import peers

#: The first process of a namespace, one beside it, and the first one of a namespace below that.
_SCRIPT = "sleep 60 & unshare --pid --fork --kill-child sleep 60 & echo; exec sleep 60"


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
        return [int(word) for word in stream.read().split()]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces of process ids")
def test_first_process_is_told_from_others() -> None:
    argv = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", _SCRIPT]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as outer:
        try:
            assert outer.stdout is not None
            outer.stdout.readline()
            (first,) = _children(outer.pid)
            others = _children(first)
            assert len(others) == 2
            while not (below := [pid for other in others for pid in _children(other)]):
                assert outer.poll() is None
            assert peers.is_first_process(first)
            assert [
                pid for pid in (*others, *below, outer.pid, os.getpid()) if peers.is_first_process(pid)
            ] == []
            assert not peers.is_first_process(1 << 30)
        finally:
            outer.send_signal(signal.SIGKILL)
