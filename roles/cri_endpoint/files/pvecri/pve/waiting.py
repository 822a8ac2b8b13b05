# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for Proxmox VE's tasks without losing time: on this node they are processes, whose end is seen.

A UPID has the process id and its start time in clock ticks after boot, as hexadecimal digits:
``UPID:node:pid:pstart:starttime:type:id:user:`` (PVE::Tools::upid_decode).
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.tasks import TaskResult, Upid

#: Where the end cannot be seen, it is asked for as often at least.
LONGEST_POLL_S: t.Final = 0.1


class Node(t.Protocol):
    """The part of `PveNode` that waiting needs."""

    @property
    def client(self) -> tasks.Client:
        """The API of this node."""

    @property
    def name(self) -> str:
        """The node's name."""


def wait_task(node: Node, upid: str, timeout_s: float) -> TaskResult:
    """Wait until a task ends; returns and raises as `tasks.wait_task` does."""
    started = time.monotonic()
    process = process_of(upid, node.name)
    if process is not None:
        with procfs.held(*process) as pidfd:
            if pidfd is not None:
                procfs.await_end(pidfd, timeout_s)
    left_s = max(timeout_s - (time.monotonic() - started), 0.0)
    return tasks.wait_task(node.client, upid, left_s, longest_poll_s=LONGEST_POLL_S)


def process_of(upid: str, node: str) -> tuple[int, int] | None:
    """Return process id and start time of a task that runs on the node that this is, or None."""
    try:
        parsed = Upid.parse(upid)
        _upid, _node, pid, start = upid.split(":")[:4]
        process = int(pid, 16), int(start, 16)
    except (CoreError, ValueError):
        return None
    # Without a start time any process of that id would do.
    if parsed.node != node or not process[1] or not procfs.is_same_process(*process):
        return None
    return process
