# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find one container in the cluster, and wait until nothing else works on it."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    CoreError,
    InvalidSpec,
    NotFound,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, cluster, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest

#: Locks that a container keeps on purpose, for as long as somebody has it mounted.
_RESTING_LOCKS = frozenset({"mounted"})

#: Looks at a lock that no task accounts for before it is called left behind, and the pause between.
_LOOKS, _PAUSE_S = 3, 0.2


def locate(
    view: ClusterView, *, vmid: int | None = None, name: str | None = None, node: str | None = None
) -> Guest:
    """Return the one container that has this id, or this host name (on this node).

    Raises InvalidSpec when neither is given, NotFound when there is none, Conflict
    when the name is not unique, or the container lives on another node than named.
    """
    if vmid is not None:
        guest = view.container(vmid)
        if node is not None and guest.node != node:
            raise Conflict(f"container {vmid} is on node '{guest.node}', not on '{node}'")
        if name is not None and guest.name not in ("", name):
            raise Conflict(f"container {vmid} is called '{guest.name}', not '{name}'")
        return guest
    if not name:
        raise InvalidSpec("vmid", "is missing", hint="Give vmid or hostname")
    found = view.named(name, node=node)
    if not found:
        raise NotFound(f"no container named '{name}' is visible" + (f" on node '{node}'" if node else ""))
    if len(found) > 1:
        where = ", ".join(f"{guest.vmid} on {guest.node}" for guest in found)
        raise Conflict(f"the name '{name}' is not unique: {where}", hint="Give vmid instead of hostname")
    return found[0]


def current_lock(client: cluster.Client, guest: Guest) -> str | None:
    """Return the lock that is on the container now, or ``None``."""
    status = client.get((*guest.path, "status", "current"))
    with answers.understood(f"the status of container {guest.vmid}"):
        return status.get("lock") or None


def wait_unlocked(
    client: cluster.Client,
    guest: Guest,
    timeout_s: float,
    *,
    clock: t.Callable[[], float] = time.monotonic,
) -> bool:
    """Wait for the task that holds the container's lock; return whether there was one.

    An interrupted play leaves its task running in Proxmox VE: the next one joins
    it here, and must read the state afresh.  Raises WrongState for a lock that no
    running task accounts for, TaskTimeout after ``timeout_s`` seconds.
    """
    deadline = clock() + timeout_s
    waited_for: set[str] = set()
    unexplained = 0
    while (lock := current_lock(client, guest)) not in {None, *_RESTING_LOCKS}:
        running = [upid for upid in running_tasks(client, guest) if upid not in waited_for]
        # A task can begin or end between the two looks: one look without a task proves nothing.
        unexplained = 0 if running else unexplained + 1
        if unexplained == _LOOKS:
            raise WrongState(
                f"container {guest.vmid} on node '{guest.node}' is locked ({lock}) by no task that shows",
                hint="The task died or is another user's. Look at the node's task list; "
                f"'pct unlock {guest.vmid}' there removes a lock that was left behind",
            )
        if unexplained:
            time.sleep(_PAUSE_S)
        for upid in running:
            waited_for.add(upid)
            # How that task ends is not this play's failure; what it leaves behind is read afresh.
            with contextlib.suppress(TaskFailed):
                tasks.wait_task(client, upid, max(deadline - clock(), 0.0))
    return bool(waited_for)


def running_tasks(client: cluster.Client, guest: Guest) -> list[str]:
    """Return the ids of the container's running tasks that this user may see."""
    with contextlib.suppress(CoreError):
        return listed_tasks(client, guest)
    return []


def listed_tasks(client: cluster.Client, guest: Guest) -> list[str]:
    """Return what `running_tasks` does; raises what keeps the node from listing them."""
    listed = client.get(("nodes", guest.node, "tasks"), source="active", vmid=guest.vmid)
    return [str(task["upid"]) for task in listed if is_at_work(task)]


def is_at_work(task: t.Mapping[str, t.Any]) -> bool:
    """Say whether an entry of a node's list of tasks is one that has not ended.

    The list of active tasks has ``RUNNING`` for the status of those (PVE::API2::Tasks of pve-manager), and
    for some moments also tasks that have ended.
    """
    return not task.get("endtime") and task.get("status") in {None, "", "RUNNING"}
