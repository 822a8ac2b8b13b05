# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a fake cluster what fakepve only answers but does not do: backups, pruning, features.

fakepve ends a vzdump task with OK and stores nothing, marks invented volumes for
pruning, says that every container can be snapshotted and that it is always the same
moment, and asks no privilege for most of it.  These routes keep state and check
privileges as Proxmox VE documents them.
"""

from __future__ import annotations

import dataclasses
import re
import time
import typing as t

#: Storage types whose container volumes can be snapshotted.
_SNAPSHOT_TYPES = ("lvmthin", "rbd", "zfspool", "btrfs")

#: Rules in the order in which they are applied, and the time stamp that backups of one period share.
_PERIODS = {
    "last": "",
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}

Values = dict[str, t.Any]


@dataclasses.dataclass
class BackupDouble:
    """The state and the faults of the routes; tests set the fields."""

    pve: t.Any
    #: Size of the archives to come, in bytes; 0 makes an empty one.
    size_bytes: int = 1024 * 1024
    #: Exit status for the tasks to come instead of OK, for example ``WARNINGS: 1``.
    exitstatus: str | None = None
    #: Log lines of the tasks to come.
    log: tuple[str, ...] = ()
    #: The task ends well and leaves no archive.
    lose_archive: bool = False
    #: Another job's archive appears at the same time, later by a second.
    rival: bool = False
    #: Removal and pruning end well and remove nothing.
    keep_volumes: bool = False
    #: Seconds since the epoch of the next archive; each is a second later than the last.
    clock_s: int = dataclasses.field(default_factory=lambda: int(time.time()))

    def routes(self) -> list[tuple[str, str, t.Any]]:
        """Return the routes as fakepve registers them."""
        prune = "/nodes/{node}/storage/{storage}/prunebackups"
        return [
            ("POST", "/nodes/{node}/vzdump", self._vzdump),
            ("GET", prune, self._prune_plan),
            ("DELETE", prune, self._prune),
            ("GET", "/nodes/{node}/lxc/{vmid}/feature", self._feature),
            ("GET", "/nodes/{node}/time", self._time),
        ]

    def add(self, storage: str, vmid: int, *, age_s: int = 0, **fields: t.Any) -> str:
        """Put an archive onto a storage and return its volume id."""
        self.clock_s += 1
        taken_s = self.clock_s - age_s
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.gmtime(taken_s))
        name = f"backup/vzdump-lxc-{vmid}-{stamp}.tar.zst"
        self.pve.storages[storage].setdefault("volumes", {})[name] = {
            "content": "backup",
            "size": self.size_bytes,
            "ctime": taken_s,
            "vmid": vmid,
            "format": "tar.zst",
            **fields,
        }
        return f"{storage}:{name}"

    async def _vzdump(self, values: Values, user: str) -> str:
        from fakepve import TaskError

        vmid, storage = int(values["vmid"]), values["storage"]
        self.pve.require(user, f"/vms/{vmid}", "VM.Backup")
        self.pve.require(user, f"/storage/{storage}", "Datastore.AllocateSpace")
        if values.get("bwlimit") is not None:
            self.pve.require(user, "/", "Sys.Modify")
        if values.get("remove") or values.get("prune-backups"):
            self.pve.require(user, f"/storage/{storage}", "Datastore.Allocate")
        log = (f"INFO: starting new backup job: vzdump {vmid}", *self.log)

        async def body() -> str:
            made = "INFO: nothing was made"
            if not self.lose_archive:
                notes = values.get("notes-template")
                text = re.sub(r"\\(.)", lambda found: found[1].replace("n", "\n"), notes) if notes else None
                volid = self.add(storage, vmid, notes=text, protected=bool(values.get("protected")))
                made = f"INFO: creating vzdump archive '/mnt/{volid.partition('/')[2]}'"
                if self.rival:
                    self.add(storage, vmid)
            if self.exitstatus:
                raise TaskError(self.exitstatus)
            return made

        return str(await self.pve.task(values["node"], "vzdump", vmid, user, body, lock=False, log=log))

    def _marks(self, values: Values) -> list[dict[str, t.Any]]:
        rules = dict(rule.split("=") for rule in values["prune-backups"].split(","))
        volumes = self.pve.storages[values["storage"]].get("volumes", {})
        mine = [
            (volume["ctime"], name, volume)
            for name, volume in volumes.items()
            if volume["content"] == "backup" and volume["vmid"] == values["vmid"]
        ]
        mine.sort(reverse=True, key=lambda item: item[:2])
        kept: set[str] = set()
        for rule, period in _PERIODS.items():
            # A period that an earlier rule has a backup of needs none of this rule's.
            covered = {_stamp(period, ctime, name) for ctime, name, _unused in mine if name in kept}
            left = int(rules.get(f"keep-{rule}", 0))
            for ctime, name, volume in mine:
                stamp = _stamp(period, ctime, name)
                if left and stamp not in covered and not volume.get("protected"):
                    covered.add(stamp)
                    kept.add(name)
                    left -= 1
        return [
            {
                "volid": f"{values['storage']}:{name}",
                "mark": "protected" if volume.get("protected") else "keep" if name in kept else "remove",
                "ctime": ctime,
                "type": "lxc",
            }
            for ctime, name, volume in mine
        ]

    async def _prune_plan(self, values: Values, user: str) -> list[dict[str, t.Any]]:
        return self._marks(values)

    async def _prune(self, values: Values, user: str) -> str:
        storage = values["storage"]
        if not self.pve.allowed(user, f"/storage/{storage}", "Datastore.Allocate"):
            self.pve.require(user, f"/storage/{storage}", "Datastore.AllocateSpace")
            self.pve.require(user, f"/vms/{values['vmid']}", "VM.Backup")

        async def body() -> None:
            for mark in self._marks(values):
                if mark["mark"] == "remove" and not self.keep_volumes:
                    del self.pve.storages[storage]["volumes"][mark["volid"].partition(":")[2]]

        return str(await self.pve.task(values["node"], "prunebackups", "", user, body, lock=False))

    async def _time(self, values: Values, user: str) -> dict[str, t.Any]:
        return {"time": self.clock_s, "localtime": self.clock_s, "timezone": "UTC"}

    async def _feature(self, values: Values, user: str) -> dict[str, int]:
        container = self.pve.ct(values["vmid"])
        storages = {mount["volume"].split(":")[0] for _unused, mount in container.volumes()}
        fit = all(self.pve.storages[name]["type"] in _SNAPSHOT_TYPES for name in storages)
        return {"hasFeature": int(fit)}


def _stamp(period: str, ctime: int, name: str) -> str:
    return time.strftime(period, time.gmtime(ctime)) if period else name


def install(pve: t.Any) -> BackupDouble:
    """Add the routes to a fake that does not listen yet."""
    double = BackupDouble(pve)
    # fakepve registers what every attribute of this kind of name returns.
    pve._routes_backup_double = double.routes
    return double
