# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask whether tasks of Proxmox VE are at work, and what is asked of a container within this host."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CoreError,
    InvalidSpec,
    TaskFailed,
    TaskTimeout,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from pvecri.pve import identity

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

#: How often a task is looked at while something else is awaited.
FIRST_LOOK_S: t.Final = 0.05
LONGEST_LOOK_S: t.Final = 1.0
GROWTH: t.Final = 1.5


class Driver(t.Protocol):
    """What is asked of a container within this host: the part of `LxcDriver` that power needs."""

    @property
    def paths(self) -> Paths:
        """Where its files are."""

    def amend(self, name: str, **changes: t.Any) -> LxcRecord:
        """Change fields of a container's record and return it."""

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container from files alone."""

    def await_start(self, name: str, timeout_s: float) -> int:
        """Wait until its first process runs, and return that; raises CommandTimeout, and why it does not."""

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for its end and return the exit code."""


def look(node: PveNode, upid: str) -> bool | None:
    """Say whether a task is at work; None: nobody tells now.  Raises TaskFailed when it has ended badly."""
    try:
        tasks.wait_task(node.client, upid, 0.0, loss_timeout_s=0.0)
    except TaskTimeout:
        return True
    except ApiError as exc:
        if not exc.is_unreachable:
            raise
        return None
    return False


def is_at_work(node: PveNode, upid: str) -> bool:
    """Say whether a task is known to be at work; what is no UPID is none."""
    with contextlib.suppress(TaskFailed, ApiError, InvalidSpec):
        return look(node, upid) is True
    return False


def running(node: PveNode, vmid: int) -> list[str]:
    """Return the tasks that work on a container; raises when they cannot be listed."""
    return guests.listed_tasks(node.client, Guest(vmid=vmid, node=node.name))


def refuse_strangers(node: PveNode, record: LxcRecord) -> None:
    """Raise WrongState unless what bears a container's number is that container.

    Somebody may have removed it and given the number to another guest, or have taken its marks away.
    """
    path = ("nodes", node.name, "lxc", record.vmid, "config")
    if not identity.is_ours(dict(node.client.get(path, current=True)), record):
        raise WrongState(
            f"container {record.name}: tags and notes of {record.vmid} in Proxmox VE do not say any more "
            "that it is this container; it is left alone",
            hint="Remove the container; who uses numbers of pve.vmid_range beside the endpoint should not",
        )


def note(driver: Driver, name: str, **changes: t.Any) -> None:
    """Write into the journal what can be done without it: a full disk keeps nobody from stopping."""
    with contextlib.suppress(OSError, CoreError):
        driver.amend(name, **changes)


def api_path(node: PveNode, record: LxcRecord, verb: str) -> tuple[str | int, ...]:
    """Return where a container is started and stopped."""
    return ("nodes", node.name, "lxc", record.vmid, "status", verb)
