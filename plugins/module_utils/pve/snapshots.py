# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a container: read, plan, apply.

A rollback cannot be recognised as done (the disks may have changed since), so it
is a change every time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CoreError,
    InvalidSpec,
    NotFound,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, guests, ownership, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest

State = t.Literal["present", "absent", "rolledback"]

# The list's own entry for "now", and the name that backups use for theirs.
_RESERVED = ("current", "vzdump")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot as the cluster lists it; ``taken_s`` is seconds since the epoch."""

    name: str
    description: str = ""
    taken_s: int = 0
    parent: str | None = None
    #: ``prepare`` or ``delete`` for one whose task did not end; ``None`` for a whole one.
    unfinished: str | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """Return what a module shows."""
        return {
            "name": self.name,
            "description": self.description,
            "time": self.taken_s,
            "parent": self.parent,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    name: str
    state: State
    description: str | None = None
    #: Remove a snapshot from the configuration even if its volumes cannot be removed.
    force: bool = False
    #: Start the container after a rollback.
    start: bool = False
    #: Keep this many of the snapshots whose name fits ``retention_pattern``; 0 keeps all.
    retention: int = 0
    retention_pattern: str = "*"
    #: Roll back and remove also where the container was not made by this collection.
    adopt: bool = False
    #: Whether the task names the container by its id.
    by_id: bool = True

    def __post_init__(self) -> None:
        """Refuse what Proxmox VE would refuse, naming the option."""
        if not _NAME.fullmatch(self.name) or self.name.lower() in _RESERVED:
            raise InvalidSpec(
                "snapname",
                f"'{self.name}' cannot name a snapshot",
                hint="Use 2 to 40 letters, digits, '-' and '_', a letter first; "
                f"{' and '.join(_RESERVED)} are reserved",
            )
        if self.retention < 0:
            raise InvalidSpec("retention", "must not be negative; 0 keeps all")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The steps to take, in this order, and what they change."""

    remove_first: tuple[str, ...] = ()
    create: bool = False
    describe: bool = False
    roll_back: bool = False
    remove_after: tuple[str, ...] = ()
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)

    @property
    def has_steps(self) -> bool:
        """Say whether anything is to be done."""
        return bool(self.remove_first or self.create or self.describe or self.roll_back or self.remove_after)


def read(client: PveClient, guest: Guest) -> list[Snapshot]:
    """Return the container's snapshots, oldest first."""
    listed = client.get((*guest.path, "snapshot"))
    with answers.understood(f"the snapshots of container {guest.vmid}"):
        found = [
            Snapshot(
                name=str(entry["name"]),
                description=str(entry.get("description") or "").rstrip("\n"),
                taken_s=int(entry.get("snaptime") or 0),
                parent=entry.get("parent") or None,
                unfinished=entry.get("snapstate") or None,
            )
            for entry in listed
            if entry["name"] != "current"
        ]
    return sorted(found, key=lambda snapshot: (snapshot.taken_s, snapshot.name))


def plan(wanted: Request, actual: t.Sequence[Snapshot]) -> Plan:
    """Return what leads from ``actual`` to what is wanted; pure.

    Raises NotFound for a rollback to a snapshot that does not exist whole.
    """
    existing = next((snapshot for snapshot in actual if snapshot.name == wanted.name), None)
    differences = DifferenceTracker()
    if wanted.state == "absent":
        if existing is None:
            return Plan()
        differences.add(f"snapshots.{wanted.name}", existing.as_dict(), None)
        return Plan(remove_after=(wanted.name,), differences=differences)
    if wanted.state == "rolledback":
        if existing is None or existing.unfinished:
            names = ", ".join(s.name for s in actual if not s.unfinished) or "none"
            raise NotFound(f"there is no snapshot '{wanted.name}' to roll back to; there are: {names}")
        differences.add("rolledback_to", None, wanted.name)
        return Plan(roll_back=True, differences=differences)
    return _plan_present(wanted, actual, existing, differences)


def _plan_present(
    wanted: Request,
    actual: t.Sequence[Snapshot],
    existing: Snapshot | None,
    differences: DifferenceTracker,
) -> Plan:
    # A snapshot whose task died is in the way of a new one and cannot be used.
    broken = (wanted.name,) if existing is not None and existing.unfinished else ()
    create = existing is None or bool(broken)
    describe = False
    text = (wanted.description or "").rstrip("\n")
    if create:
        differences.add(f"snapshots.{wanted.name}", None, {"name": wanted.name, "description": text})
    elif existing is not None and wanted.description is not None:
        describe = differences.add(f"snapshots.{wanted.name}.description", existing.description, text)
    surplus = _surplus(wanted, actual)
    for snapshot in surplus:
        differences.add(f"snapshots.{snapshot.name}", snapshot.as_dict(), None)
    return Plan(broken, create, describe, False, tuple(s.name for s in surplus), differences)


def _surplus(wanted: Request, actual: t.Sequence[Snapshot]) -> list[Snapshot]:
    """Return the oldest snapshots beyond the number to keep, never the one asked for."""
    if not wanted.retention:
        return []
    others = [
        s
        for s in actual
        if s.name != wanted.name
        and not s.unfinished
        and fnmatch.fnmatchcase(s.name, wanted.retention_pattern)
    ]
    counts = fnmatch.fnmatchcase(wanted.name, wanted.retention_pattern)
    excess = len(others) + counts - wanted.retention
    return others[: max(excess, 0)]


def reconcile(
    client: PveClient,
    guest: Guest,
    wanted: Request,
    actual: t.Sequence[Snapshot],
    *,
    check_mode: bool = False,
) -> tuple[Plan, list[str]]:
    """Lead from ``actual`` to what is wanted; return the plan and the tasks' warnings.

    Raises WrongState when something of a container that is not ours would be lost.
    """
    steps = _permitted(guest, wanted, plan(wanted, actual))
    if check_mode or not steps.has_steps:
        return steps, []
    if guests.wait_unlocked(client, guest, client.connection.task_timeout_s):
        steps = _permitted(guest, wanted, plan(wanted, read(client, guest)))
    return steps, apply(client, guest, wanted, steps)


def _permitted(guest: Guest, wanted: Request, steps: Plan) -> Plan:
    # Taking a snapshot loses nothing, nor does taking it again where its task died.
    if steps.roll_back or steps.remove_after:
        ownership.check_loss(guest, adopt=wanted.adopt, by_id=wanted.by_id)
    return steps


def apply(client: PveClient, guest: Guest, wanted: Request, steps: Plan) -> list[str]:
    """Carry out the plan; return the warnings of its tasks.

    Raises Unsupported when a volume of the container lies on a storage without
    snapshots, TaskFailed and the client's errors.
    """
    timeout_s = client.connection.task_timeout_s
    warnings: list[str] = []

    def run(upid: str) -> None:
        warnings.extend(tasks.wait_task(client, upid, timeout_s).warnings)

    path = (*guest.path, "snapshot")
    for name in steps.remove_first:
        # Its volumes may exist in part or not at all: only force takes such an entry away.
        run(client.delete((*path, name), force=True))
    if steps.create:
        try:
            run(client.post(path, snapname=wanted.name, description=wanted.description or None))
        except CommandError as exc:
            raise _explained(client, guest, exc) from exc
    if steps.describe:
        client.put((*path, wanted.name, "config"), description=wanted.description)
    if steps.roll_back:
        run(client.post((*path, wanted.name, "rollback"), start=wanted.start or None))
    for name in steps.remove_after:
        run(client.delete((*path, name), force=wanted.force or None))
    return warnings


def _explained(client: PveClient, guest: Guest, exc: CommandError) -> CoreError:
    """Return a clearer error when the state, not the text, tells why a snapshot failed."""
    try:
        answer = client.get((*guest.path, "feature"), feature="snapshot")
    except CoreError:
        return exc
    if str(answer.get("hasFeature")) in ("0", "False", ""):
        return Unsupported(
            f"container {guest.vmid} cannot be snapshotted: {exc.message}",
            hint="Each of its volumes must lie on a storage with snapshots (ZFS, LVM-thin, Ceph RBD, btrfs)",
        )
    return exc
