# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that somebody waits for; what becomes of orphans is tested where a process may adopt them."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import children
from ansible_collections.pvecri.runtime.plugins.module_utils.children import Child


def is_zombie(pid: int) -> bool:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return True


def test_child_is_ours_until_its_status_is_taken() -> None:
    heard: list[int] = []
    end = children.listen(lambda: heard.append(1))
    child = Child(["sh", "-c", "exit 3"])
    assert is_zombie(child.pid)
    assert child.pid in children._own
    assert children.reap_adopted([child.pid])
    assert child.wait() == 3
    assert child.pid not in children._own
    assert child.wait() == child.poll() == 3
    assert heard == [1]
    end()
    assert Child(["true"]).wait() == 0
    assert heard == [1]


def test_child_that_is_polled_is_let_go() -> None:
    child = Child(["true"])
    assert is_zombie(child.pid)
    assert child.poll() == 0
    assert child.pid not in children._own


def test_child_that_goes_on_stays_ours() -> None:
    child = Child(["sleep", "100"])
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    assert child.poll() is None
    assert child.pid in children._own
    child.kill()
    assert child.wait() == -9


def test_child_that_cannot_be_started_leaves_nothing() -> None:
    before = set(children._own)
    with pytest.raises(FileNotFoundError):
        Child(["/no/such/program"])
    assert children._own == before


def test_reap_of_processes_that_are_not_there() -> None:
    seen: list[tuple[int, int]] = []
    assert children.reap_adopted([2**22 + 1], seen=lambda *ended: seen.append(ended))
    assert seen == []


def test_reap_takes_a_child_that_nobody_waits_for() -> None:
    seen: list[tuple[int, int]] = []
    stranger = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 5"], os.environ)
    assert is_zombie(stranger)
    assert children.reap_adopted([stranger], seen=lambda *ended: seen.append(ended))
    assert [(pid, os.waitstatus_to_exitcode(status)) for pid, status in seen] == [(stranger, 5)]


def test_reap_stops_at_a_child_of_ours() -> None:
    child = Child(["true"])
    assert is_zombie(child.pid)
    # Whatever else of this process has ended: ours is there, and stays.
    assert children.reap_adopted() is False
    assert child.wait() == 0
