# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a container from a backup."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests, ownership, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.backups import Backup
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest


@dataclasses.dataclass(frozen=True, slots=True)
class RestoreRequest:
    """Which container to restore, where to and how."""

    vmid: int
    #: Storage for its volumes; ``None`` leaves the choice to Proxmox VE.
    target_storage: str | None = None
    pool: str | None = None
    #: Overwrite a stopped container of that id.
    force: bool = False
    #: Give it new hardware addresses, for a copy that runs beside the original.
    unique: bool = False
    #: Have it running afterwards.
    start: bool = False
    #: Overwrite also one that was not made by this collection.
    adopt: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do: restore, start, both or nothing."""

    restore: bool = False
    start: bool = False
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)

    @property
    def has_steps(self) -> bool:
        """Say whether anything is to be done."""
        return self.restore or self.start


def plan(wanted: RestoreRequest, existing: Guest | None, is_running: bool, backup: Backup) -> Plan:
    """Return what is to be done when ``existing`` has the id already; pure.

    Raises Conflict for a virtual machine of that id, WrongState when a running
    container, or one that is not ours, would be overwritten.
    """
    differences = DifferenceTracker()
    if existing is not None and existing.type != "lxc":
        raise Conflict(
            f"{wanted.vmid} is a virtual machine on node '{existing.node}'", hint="Choose another vmid"
        )
    overwrite = existing is not None and wanted.force
    if overwrite and is_running:
        raise WrongState(
            f"container {wanted.vmid} is running and cannot be overwritten",
            hint="Stop it first, or restore into another vmid",
        )
    restore = existing is None or overwrite
    if restore:
        # Overwriting is a change even where the backup is what the container came from.
        differences.add("container.restored_from", None, backup.volid)
    start = wanted.start and (restore or not is_running)
    if start:
        differences.add("container.status", None if existing is None else "stopped", "running")
    # A start is no loss, and may be what an interrupted restore of a container without the tag lacks.
    if existing is not None and overwrite:
        ownership.check_loss(existing, adopt=wanted.adopt, by_id=True)
    return Plan(restore, start, differences)


def apply(client: PveClient, node: str, wanted: RestoreRequest, steps: Plan, backup: Backup) -> list[str]:
    """Restore, look that the container is there, and start it; return the tasks' warnings.

    A restore that fails takes its unfinished container away itself; the task
    says so.  Raises TaskFailed, and WrongState when the container is not there
    or does not run in spite of tasks that ended well.
    """
    timeout_s = client.connection.task_timeout_s
    guest = Guest(vmid=wanted.vmid, node=node)
    warnings: list[str] = []
    if steps.restore:
        params: dict[str, t.Any] = {
            "vmid": wanted.vmid,
            "ostemplate": backup.volid,
            "restore": True,
            "force": wanted.force or None,
            "unique": wanted.unique or None,
            "storage": wanted.target_storage,
            "pool": wanted.pool,
        }
        upid = client.post(("nodes", node, "lxc"), **params)
        warnings += tasks.wait_task(client, upid, timeout_s).warnings
        listed = {int(entry["vmid"]) for entry in client.get(("nodes", node, "lxc"))}
        if wanted.vmid not in listed:
            raise WrongState(f"the restore ended well, but node '{node}' lists no container {wanted.vmid}")
    if steps.start:
        upid = client.post((*guest.path, "status", "start"))
        warnings += tasks.wait_task(client, upid, timeout_s).warnings
        if not is_running(client, guest):
            raise WrongState(
                f"container {wanted.vmid} was started and has stopped again",
                hint="Look at its console or log",
            )
    return warnings


def settled(client: PveClient, guest: Guest | None, *, wait: bool) -> bool:
    """Return whether the container runs, after the task that is at work on it if ``wait``.

    So a restore that an interrupted play left behind is joined, not taken for done.
    """
    if guest is None:
        return False
    if wait:
        guests.wait_unlocked(client, guest, client.connection.task_timeout_s)
    return is_running(client, guest)


def is_running(client: PveClient, guest: Guest) -> bool:
    """Say whether the container runs now."""
    return bool(client.get((*guest.path, "status", "current")).get("status") == "running")
