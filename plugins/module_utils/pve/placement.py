# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose a node and a storage for a new container, and say why.  Pure.

A node must be online, have the storages, and have room for memory and disks.
Among those, the one whose scarcest resource (memory, CPU, or space on the
storage) is least scarce with the container on it wins; equals go by name.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import props
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Node, Storage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_create import DEFAULT_ROOTFS_BYTES
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec

MIB = 1024**2

#: Proxmox VE's default.
DEFAULT_MEMORY_MIB = 512

#: Storages that take all of a volume's space when it is made; on others volumes grow as they fill.
_THICK = frozenset({"lvm"})

#: A volume that grows as it fills may be this many times as large as the space that is free now.
_OVERCOMMIT = 10

#: Containers seldom use all of their cores: this many that were given out count as one busy core.
_CORES_PER_BUSY_CORE = 4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a container needs; None as a storage's name is «any that takes containers»."""

    memory_bytes: int
    cores: int = 1
    disks: t.Mapping[str | None, int] = dataclasses.field(default_factory=dict)
    #: Storages that must be there for another reason, such as the template's.
    storages: frozenset[str] = frozenset()


@dataclasses.dataclass(slots=True)
class Ledger:
    """What was given out in this run and the cluster's figures do not show yet."""

    memory_bytes: dict[str, int] = dataclasses.field(default_factory=lambda: collections.defaultdict(int))
    cores: dict[str, int] = dataclasses.field(default_factory=lambda: collections.defaultdict(int))
    disk_bytes: dict[tuple[str, str], int] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(int)
    )

    def book(self, need: Need, candidate: Candidate) -> None:
        """Take what ``need`` says from the candidate's node."""
        self.memory_bytes[candidate.node] += need.memory_bytes
        self.cores[candidate.node] += need.cores
        for storage, size_bytes in need.disks.items():
            self.disk_bytes[candidate.node, storage or candidate.storage or ""] += size_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """One node, judged; ``storage`` is where volumes go that name none."""

    node: str
    is_eligible: bool
    reason: str
    storage: str | None = None
    #: Share of the scarcest resource that stays free; below 0 when more is given out than there is.
    score: float = 0.0

    def as_dict(self) -> dict[str, t.Any]:
        """Return what a module shows."""
        return {
            "node": self.node,
            "eligible": self.is_eligible,
            "storage": self.storage,
            "score": round(self.score, 3),
            "reason": self.reason,
        }


def need_of(spec: LxcSpec, *, template_storage: str | None = None) -> Need:
    """Return what a container of this spec needs to be created."""
    disks: dict[str | None, int] = collections.defaultdict(int)
    rootfs = spec.rootfs
    if rootfs is None or rootfs.volume is None:
        size = rootfs.size_bytes if rootfs and rootfs.size_bytes is not None else DEFAULT_ROOTFS_BYTES
        disks[(rootfs.storage if rootfs else None) or spec.creation.storage] += size
    for disk in spec.mounts.values():
        if disk is not None and disk.volume is None:
            disks[disk.storage or spec.creation.storage] += disk.size_bytes or 0
    return Need(
        memory_bytes=int(spec.scalars.get("memory", DEFAULT_MEMORY_MIB)) * MIB,
        cores=int(spec.scalars.get("cores", 1)),
        disks=dict(disks),
        storages=frozenset({template_storage} if template_storage else ()),
    )


def rank(view: ClusterView, need: Need, ledger: Ledger | None = None) -> list[Candidate]:
    """Return the nodes, best first, with those that cannot take the container last."""
    ledger = ledger or Ledger()
    judged = [_judge(view, node, need, ledger) for node in view.nodes.values()]
    return sorted(judged, key=lambda c: (not c.is_eligible, -round(c.score, 6), c.node))


def require_eligible(candidates: t.Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that can take the container; raise Conflict with all reasons if none can."""
    eligible = [candidate for candidate in candidates if candidate.is_eligible]
    if not eligible:
        why = "; ".join(f"{c.node}: {c.reason}" for c in candidates) or "the user sees no node (Sys.Audit)"
        raise Conflict(f"no node can take the container: {why}", hint="Name a 'node', or make room")
    return eligible


def storage_on(view: ClusterView, node: str, need: Need) -> str | None:
    """Return the storage of a given node for volumes that name none; None when it has none."""
    storages = {s.name: s for s in view.storages if s.node == node and s.is_available}
    return _storage(node, storages, need, Ledger())[0]


def _judge(view: ClusterView, node: Node, need: Need, ledger: Ledger) -> Candidate:
    if not node.is_online:
        return Candidate(node.name, False, "is offline")
    storages = {s.name: s for s in view.storages if s.node == node.name and s.is_available}
    for name in sorted(need.storages):
        if name not in storages:
            return Candidate(node.name, False, f"has no storage '{name}'")
    memory_free = node.memory_free_bytes - ledger.memory_bytes[node.name]
    if need.memory_bytes > memory_free:
        return Candidate(
            node.name, False, f"has {_mib(memory_free)} of memory free, not {_mib(need.memory_bytes)}"
        )
    if need.cores > node.cpus > 0:
        return Candidate(node.name, False, f"has {node.cpus} CPUs, not {need.cores}")
    home, problem, space_left = _storage(node.name, storages, need, ledger)
    if problem:
        return Candidate(node.name, False, problem, home)
    busy = ledger.cores[node.name] / (_CORES_PER_BUSY_CORE * max(node.cpus, 1))
    left = {
        "memory": (memory_free - need.memory_bytes) / max(node.memory_bytes, 1),
        "CPU": 1.0 - node.cpu_used - busy,
        "storage space": space_left,
    }
    scarcest = min(left, key=lambda what: (left[what], what))
    reason = f"keeps {max(left[scarcest], 0):.0%} of its scarcest resource ({scarcest}) free"
    return Candidate(node.name, True, reason, home, left[scarcest])


def _storage(
    node: str, storages: t.Mapping[str, Storage], need: Need, ledger: Ledger
) -> tuple[str | None, str | None, float]:
    """Return the storage for unnamed volumes, what is in the way, and the smallest share left free."""
    takes = {name: s for name, s in storages.items() if "rootdir" in s.content}

    def free(storage: Storage) -> int:
        return storage.free_bytes - ledger.disk_bytes[node, storage.name]

    home = max(takes, key=lambda name: (free(takes[name]), name), default=None)
    asked: dict[str, int] = collections.defaultdict(int)
    for name, size_bytes in need.disks.items():
        chosen = name or home
        if chosen is None:
            return None, "has no storage that takes containers", 0.0
        if chosen not in storages:
            return home, f"has no storage '{chosen}'", 0.0
        if chosen not in takes:
            return home, f"has a storage '{chosen}' that takes no containers", 0.0
        asked[chosen] += size_bytes
    left = 1.0
    for name, size_bytes in asked.items():
        storage = takes[name]
        # What grows as it fills may be given out more than once, as long as there is any space now.
        room = (
            free(storage)
            if storage.type in _THICK
            else min(storage.size_bytes, storage.free_bytes * _OVERCOMMIT)
        )
        if size_bytes > room:
            return (
                home,
                f"has {_gib(room)} GiB free on '{name}', not {_gib(size_bytes)} GiB",
                0.0,
            )
        left = min(left, (free(storage) - size_bytes) / max(storage.size_bytes, 1))
    return home, None, left


def _gib(size_bytes: int) -> str:
    return props.format_number(round(max(size_bytes, 0) / props.GIB, 1))


def _mib(size_bytes: int) -> str:
    return f"{max(size_bytes, 0) // MIB} MiB"
