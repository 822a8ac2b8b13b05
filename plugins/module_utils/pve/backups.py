# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of containers: make one, prune old ones, remove some.

Whatever a task claims, a backup counts as made when the storage lists it with a
size, and as removed when it does not list it any more.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.diff import DifferenceTracker
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    MissingPrivilege,
    NotFound,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, guests, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest

#: Periods that prune rules know, in Proxmox VE's own order.
KEEP_PERIODS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@dataclasses.dataclass(frozen=True, slots=True)
class Backup:
    """One backup as a storage lists it; ``created_s`` is seconds since the epoch by the server's clock."""

    volid: str
    vmid: int
    created_s: int = 0
    size_bytes: int = 0
    notes: str = ""
    protected: bool = False
    format: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        """Return what a module shows."""
        return {
            "volid": self.volid,
            "vmid": self.vmid,
            "time": self.created_s,
            "size": self.size_bytes,
            "notes": self.notes,
            "protected": self.protected,
            "format": self.format,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A storage, and a node from which it can be reached."""

    node: str
    storage: str

    @property
    def path(self) -> tuple[str, ...]:
        """Return the storage's API path as segments."""
        return ("nodes", self.node, "storage", self.storage)


@dataclasses.dataclass(frozen=True, slots=True)
class BackupRequest:
    """What a backup should be like; ``None`` leaves a property of an existing one alone."""

    vmid: int
    mode: str = "snapshot"
    compress: str = "zstd"
    notes: str | None = None
    protected: bool | None = None
    #: A backup that is not older than this many seconds is good enough; 0 always makes one.
    max_age_s: int = 0
    bandwidth_kib_s: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible numbers."""
        if self.max_age_s < 0:
            raise InvalidSpec("max_age", "must not be negative")
        if self.bandwidth_kib_s is not None and self.bandwidth_kib_s < 0:
            raise InvalidSpec("bwlimit", "must not be negative; 0 means no limit")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to do: make a backup, change one, or remove some."""

    create: bool = False
    #: The backup that is good enough, if one is.
    existing: Backup | None = None
    changes: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    remove: tuple[Backup, ...] = ()
    differences: DifferenceTracker = dataclasses.field(default_factory=DifferenceTracker)

    @property
    def has_steps(self) -> bool:
        """Say whether anything is to be done."""
        return self.create or bool(self.changes) or bool(self.remove)


def find_place(view: ClusterView, storage: str, *, node: str | None = None) -> Place:
    """Return where to reach a backup storage; raises InvalidSpec when it cannot serve.

    A storage that the user may not see at all is taken on trust when the node is named.
    """
    listed = [entry for entry in view.storages if entry.name == storage]
    if not listed:
        if node is not None and not view.storages:
            return Place(node, storage)
        known = ", ".join(sorted({s.name for s in view.storages if "backup" in s.content})) or "none"
        raise InvalidSpec(
            "storage",
            f"'{storage}' is not visible in the cluster",
            hint=f"Visible storages for backups: {known}. The user needs Datastore.Audit on it",
        )
    if not any("backup" in entry.content for entry in listed):
        raise InvalidSpec(
            "storage", f"'{storage}' does not hold backups", hint="Add 'backup' to its content types"
        )
    usable = sorted(entry.node for entry in listed if entry.is_available)
    if node is not None:
        if node not in usable:
            raise InvalidSpec("storage", f"'{storage}' is not available on node '{node}'")
        return Place(node, storage)
    shared = any(entry.is_shared for entry in listed)
    if not usable or (len(usable) > 1 and not shared):
        where = f"is on several nodes ({', '.join(usable)})" if usable else "is not available on any node"
        raise InvalidSpec("node", f"must be given: storage '{storage}' {where}")
    return Place(usable[0], storage)


def read(client: PveClient, place: Place, *, vmid: int | None = None) -> list[Backup]:
    """Return the container backups on a storage, oldest first."""
    listed = client.get((*place.path, "content"), content="backup", vmid=vmid)
    with answers.understood(f"the backups on storage '{place.storage}'"):
        found = [
            Backup(
                volid=str(entry["volid"]),
                vmid=int(entry.get("vmid") or 0),
                created_s=int(entry.get("ctime") or 0),
                size_bytes=int(entry.get("size") or 0),
                notes=str(entry.get("notes") or "").rstrip("\n"),
                protected=str(entry.get("protected") or "0") == "1",
                format=str(entry.get("format") or ""),
            )
            for entry in listed
            if is_of_container(str(entry["volid"]))
        ]
    return sorted(found, key=lambda backup: (backup.created_s, backup.volid))


def is_of_container(volid: str) -> bool:
    """Say whether a backup's name is that of a container, on file storages and backup servers."""
    name = volid.partition(":")[2]
    return "vzdump-lxc-" in name or "vzdump-openvz-" in name or name.startswith("backup/ct/")


def plan_present(wanted: BackupRequest, actual: t.Sequence[Backup], now_s: int) -> Plan:
    """Return the plan for a backup that is at most ``max_age_s`` old at ``now_s``; pure."""
    whole = [backup for backup in actual if backup.vmid == wanted.vmid and backup.size_bytes > 0]
    newest = whole[-1] if whole else None
    differences = DifferenceTracker()
    if newest is None or not wanted.max_age_s or now_s - newest.created_s > wanted.max_age_s:
        differences.add(
            "backup",
            None,
            {"vmid": wanted.vmid, "notes": wanted.notes or "", "protected": bool(wanted.protected)},
        )
        return Plan(create=True, differences=differences)
    return Plan(existing=newest, changes=_changes(wanted, newest, differences), differences=differences)


def plan_removal(volids: t.Iterable[str], actual: t.Sequence[Backup]) -> Plan:
    """Return the plan that removes these volumes; raises WrongState for a protected one."""
    asked = set(volids)
    return _removal([backup for backup in actual if backup.volid in asked])


def plan_pruning(client: PveClient, place: Place, vmid: int, keep: t.Mapping[str, int | None]) -> Plan:
    """Return the plan that Proxmox VE itself makes of the rules in ``keep``, without acting.

    Protected backups count for nothing and stay.
    """
    marks = client.get((*place.path, "prunebackups"), **_prune_params(vmid, keep))
    doomed = {str(entry["volid"]) for entry in marks if entry.get("mark") == "remove"}
    return _removal([backup for backup in read(client, place, vmid=vmid) if backup.volid in doomed])


def create(client: PveClient, guest: Guest, place: Place, wanted: BackupRequest) -> tuple[Backup, list[str]]:
    """Back the container up, and return the backup that the storage lists then, with warnings."""
    timeout_s = client.connection.task_timeout_s
    guests.wait_unlocked(client, guest, timeout_s)
    before = {backup.volid for backup in read(client, place, vmid=guest.vmid)}
    params: dict[str, t.Any] = {
        "vmid": guest.vmid,
        "storage": place.storage,
        "mode": wanted.mode,
        "compress": wanted.compress,
        "protected": wanted.protected or None,
        "bwlimit": wanted.bandwidth_kib_s,
        # Making one must not remove others: pruning is asked for by its own state.
        "remove": False,
        "notes-template": _notes_template(wanted.notes),
    }
    result = tasks.wait_task(client, client.post(("nodes", guest.node, "vzdump"), **params), timeout_s)
    made = [backup for backup in read(client, place, vmid=guest.vmid) if backup.volid not in before]
    if len(made) > 1:
        # Another job ran at the same time: only our task's log tells which one is ours.
        log = "\n".join(tasks.read_log(client, result.upid))
        made = [backup for backup in made if backup.volid.rpartition("/")[2] in log] or made
    if not made or made[-1].size_bytes <= 0:
        raise TaskFailed(
            f"the backup of container {guest.vmid} ended well, but '{place.storage}' does not list it",
            upid=result.upid,
            exitstatus=result.exitstatus,
            log_tail=tasks.read_log(client, result.upid)[-25:],
            hint="Look at the storage: it may be full, or not the one that the node has mounted",
        )
    backup = amend(client, place, made[-1], _changes(wanted, made[-1], DifferenceTracker()))
    return backup, list(result.warnings)


def amend(client: PveClient, place: Place, backup: Backup, changes: t.Mapping[str, t.Any]) -> Backup:
    """Change notes or protection of a backup; return it as it is then."""
    if not changes:
        return backup
    client.put((*place.path, "content", backup.volid), **changes)
    return dataclasses.replace(backup, **changes)


def prune(
    client: PveClient, place: Place, vmid: int, keep: t.Mapping[str, int | None], steps: Plan
) -> list[str]:
    """Let Proxmox VE prune by the rules; raises TaskFailed unless what was planned is gone."""
    upid = client.delete((*place.path, "prunebackups"), **_prune_params(vmid, keep))
    return _verified_removal(client, place, steps, [upid])


def remove(client: PveClient, place: Place, steps: Plan) -> list[str]:
    """Remove the planned volumes one after the other; raises TaskFailed unless they are gone."""
    upids = [client.delete((*place.path, "content", backup.volid)) for backup in steps.remove]
    return _verified_removal(client, place, steps, upids)


def server_time(client: PveClient, node: str) -> tuple[int, list[str]]:
    """Return the clock that backup times are taken from, in seconds since the epoch, with warnings.

    Without the privilege to read the node's it is this host's.
    """
    try:
        return int(client.get(("nodes", node, "time"))["time"]), []
    except MissingPrivilege as exc:
        return int(time.time()), [f"the age of backups is judged by this host's clock: {exc.message}"]


def choose(backups: t.Sequence[Backup], volid: str, vmid: int) -> Backup:
    """Return the backup named ``volid``, or the newest of container ``vmid`` for ``latest``."""
    if volid == "latest":
        whole = [backup for backup in backups if backup.vmid == vmid and backup.size_bytes > 0]
        if not whole:
            raise NotFound(f"there is no backup of container {vmid} on this storage")
        return whole[-1]
    for backup in backups:
        if backup.volid == volid:
            return backup
    raise NotFound(
        f"there is no backup '{volid}'", hint="Volume ids look like local:backup/vzdump-lxc-100-….tar.zst"
    )


def _changes(wanted: BackupRequest, actual: Backup, differences: DifferenceTracker) -> dict[str, t.Any]:
    changes: dict[str, t.Any] = {}
    if wanted.notes is not None:
        notes = wanted.notes.rstrip("\n")
        if differences.add("backup.notes", actual.notes, notes):
            changes["notes"] = notes
    if wanted.protected is not None and differences.add(
        "backup.protected", actual.protected, wanted.protected
    ):
        changes["protected"] = wanted.protected
    return changes


def _removal(doomed: t.Sequence[Backup]) -> Plan:
    differences = DifferenceTracker()
    for backup in doomed:
        if backup.protected:
            raise WrongState(
                f"backup '{backup.volid}' is protected",
                hint="Take the protection away first: protected: false",
            )
        differences.add(f"backups.{backup.volid}", backup.as_dict(), None)
    return Plan(remove=tuple(doomed), differences=differences)


def _verified_removal(client: PveClient, place: Place, steps: Plan, upids: t.Sequence[t.Any]) -> list[str]:
    warnings: list[str] = []
    started = [upid for upid in upids if isinstance(upid, str) and upid]
    for upid in started:
        warnings += tasks.wait_task(client, upid, client.connection.task_timeout_s).warnings
    asked = {backup.volid for backup in steps.remove}
    left = sorted(asked & {backup.volid for backup in read(client, place)})
    if left:
        raise TaskFailed(
            f"storage '{place.storage}' still lists {', '.join(left)}",
            upid=started[-1] if started else "",
            exitstatus="OK",
            log_tail=_log_or_nothing(client, started),
            hint="Somebody may have protected it, or made a new one, in the meantime: run the play again",
        )
    return warnings


def _log_or_nothing(client: PveClient, upids: t.Sequence[str]) -> list[str]:
    try:
        return tasks.read_log(client, upids[-1])[-25:] if upids else []
    except CoreError:
        return []


def _prune_params(vmid: int, keep: t.Mapping[str, int | None]) -> dict[str, t.Any]:
    rules = []
    for period in KEEP_PERIODS:
        count = keep.get(period)
        if count is None:
            continue
        if count < 0:
            raise InvalidSpec(f"keep.{period}", "must not be negative")
        rules.append(f"keep-{period}={count}")
    # PVE reads "nothing kept" as "keep all"; asked for by mistake it would look like success.
    if not any(keep.get(period) for period in KEEP_PERIODS):
        raise InvalidSpec(
            "keep", "must keep at least one", hint=f"Give a number for one of {', '.join(KEEP_PERIODS)}"
        )
    return {"vmid": vmid, "type": "lxc", "prune-backups": ",".join(rules)}


def _notes_template(notes: str | None) -> str | None:
    """Return ``notes`` as a template that yields them, or ``None`` if none can.

    A template reads backslash escapes and double braces; the latter cannot be
    escaped, so such notes are set on the finished backup.
    """
    if not notes or "{{" in notes:
        return None
    return notes.rstrip("\n").replace("\\", "\\\\").replace("\n", "\\n")
