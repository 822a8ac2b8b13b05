# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a task of this node is seen when its process ends, and asked for elsewhere."""

from __future__ import annotations

import os
import subprocess
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import TaskTimeout
from pvecri.pve import waiting


@pytest.fixture
def worker():
    child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
    yield child
    child.kill()
    child.wait()


def upid_of(pid: int, *, start: int | None = None, node: str = "pve1") -> str:
    if start is None:
        stat = procfs.read_stat(pid)
        assert stat is not None
        start = stat.start_time
    return f"UPID:{node}:{pid:08X}:{start:08X}:6734F000:vzcreate:900001:pvecri@pve!node-pve1:"


class Client:
    """Says that the task runs as long as its process does."""

    def __init__(self, child) -> None:
        self.child, self.asked = child, 0

    def get(self, path, **_params):
        self.asked += 1
        if self.child.poll() is None:
            return {"status": "running"}
        return {"status": "stopped", "exitstatus": "OK"}


def node(child, name: str = "pve1"):
    return types.SimpleNamespace(client=Client(child), name=name)


def test_a_process_of_this_node_is_found_by_id_and_start_time(worker) -> None:
    stat = procfs.read_stat(worker.pid)
    assert waiting.process_of(upid_of(worker.pid), "pve1") == (worker.pid, stat.start_time)


def test_another_process_of_that_id_is_none(worker) -> None:
    assert waiting.process_of(upid_of(worker.pid, start=1), "pve1") is None
    assert waiting.process_of(upid_of(worker.pid, start=0), "pve1") is None
    assert waiting.process_of(upid_of(worker.pid, node="pve2"), "pve1") is None


@pytest.mark.parametrize("text", ["", "x", "UPID:pve1:zz:1:2:vzcreate:1:root@pam:"])
def test_what_is_no_task_is_no_process(text: str) -> None:
    assert waiting.process_of(text, "pve1") is None


def test_waiting_for_a_local_task_asks_once_it_has_ended(worker) -> None:
    here = node(worker)
    upid = upid_of(worker.pid)
    # Ends while it is waited for, seen by nobody but its pidfd.
    os.kill(worker.pid, 15)
    assert waiting.wait_task(here, upid, 30).exitstatus == "OK"
    assert here.client.asked <= 3


def test_waiting_for_a_local_task_ends_with_its_time(worker) -> None:
    with pytest.raises(TaskTimeout) as caught:
        waiting.wait_task(node(worker), upid_of(worker.pid), 0.05)
    assert caught.value.upid == upid_of(worker.pid)


def test_waiting_for_a_task_elsewhere_asks(worker) -> None:
    there = node(worker, "pve2")
    with pytest.raises(TaskTimeout):
        waiting.wait_task(there, upid_of(worker.pid), 0.2)
    assert there.client.asked > 2
