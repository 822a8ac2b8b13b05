# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a whole Proxmox VE cluster with as few requests as it takes.

``/cluster/resources`` knows every guest and its node at once, but name and status
are those of the last pvestatd cycle, up to 10 s old, and missing for a new guest.
``/nodes/{node}/lxc`` is current.  So the view is taken from the first, and the
second is asked once per node where it matters.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, parallel


class Client(t.Protocol):
    """The part of PveClient that looking needs."""

    def get(self, path: str | t.Sequence[str | int], **params: t.Any) -> t.Any:
        """Read ``path``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Guest:
    """A container or virtual machine as the cluster lists it; sizes in bytes, uptime in seconds."""

    vmid: int
    node: str
    #: ``lxc`` or ``qemu``.
    type: str = "lxc"
    #: Host name; empty while the cluster does not know it yet.
    name: str = ""
    #: ``running``, ``stopped``, or ``unknown`` when its node is offline or it is new.
    status: str = "unknown"
    tags: tuple[str, ...] = ()
    pool: str | None = None
    lock: str | None = None
    is_template: bool = False
    ha_state: str | None = None
    cpus: float = 0.0
    memory_bytes: int = 0
    memory_used_bytes: int = 0
    disk_bytes: int = 0
    disk_used_bytes: int = 0
    uptime_s: int = 0

    @property
    def path(self) -> tuple[str, str, str, int]:
        """Return the guest's API path as segments, to be extended: ``(*guest.path, "config")``."""
        return ("nodes", self.node, self.type, self.vmid)

    def as_dict(self) -> dict[str, t.Any]:
        """Return what is shown of a container; sizes in bytes, uptime in seconds."""
        return {
            "vmid": self.vmid,
            "name": self.name,
            "node": self.node,
            "status": self.status,
            "tags": list(self.tags),
            "pool": self.pool,
            "lock": self.lock,
            "template": self.is_template,
            "ha_state": self.ha_state,
            "cpus": self.cpus,
            "memory": self.memory_bytes,
            "memory_used": self.memory_used_bytes,
            "disk": self.disk_bytes,
            "disk_used": self.disk_used_bytes,
            "uptime": self.uptime_s,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A cluster node; usage is zero while it is offline."""

    name: str
    is_online: bool
    cpus: int = 0
    #: Share of all CPUs that is busy, 0 to 1.
    cpu_used: float = 0.0
    memory_bytes: int = 0
    memory_used_bytes: int = 0

    @property
    def memory_free_bytes(self) -> int:
        """Return what is left of the memory."""
        return self.memory_bytes - self.memory_used_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A storage as one node sees it."""

    name: str
    node: str
    is_available: bool
    is_shared: bool = False
    content: tuple[str, ...] = ()
    type: str = ""
    size_bytes: int = 0
    used_bytes: int = 0

    @property
    def free_bytes(self) -> int:
        """Return what is left of the space."""
        return self.size_bytes - self.used_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterView:
    """What the user may see of a cluster at one moment."""

    guests: dict[int, Guest]
    nodes: dict[str, Node]
    storages: tuple[Storage, ...]

    def containers(self) -> list[Guest]:
        """Return the LXC containers by rising vmid."""
        return [self.guests[vmid] for vmid in sorted(self.guests) if self.guests[vmid].type == "lxc"]

    def container(self, vmid: int) -> Guest:
        """Return one container; raises NotFound, also for a virtual machine of that id."""
        guest = self.guests.get(vmid)
        if guest is None:
            raise NotFound(
                f"no container {vmid} is visible in the cluster",
                hint="It does not exist, or the user lacks VM.Audit on it",
            )
        if guest.type != "lxc":
            raise NotFound(f"{vmid} is a virtual machine on node '{guest.node}', not a container")
        return guest

    def named(self, name: str, *, node: str | None = None) -> list[Guest]:
        """Return the containers of that host name, which need not be unique."""
        return [g for g in self.containers() if g.name == name and node in (None, g.node)]


def read_cluster(
    client: Client, *, current: bool = False, limit: int = parallel.DEFAULT_LIMIT
) -> ClusterView:
    """Return the cluster's guests, nodes and storages from one request.

    A node whose guests include one without name or status (new ones) is asked
    for its current list as well; with ``current`` every online node with containers is.
    """
    guests: dict[int, Guest] = {}
    nodes: dict[str, Node] = {}
    storages: list[Storage] = []
    resources = client.get("/cluster/resources")
    with answers.understood("GET /cluster/resources"):
        for entry in resources:
            kind = entry.get("type")
            if kind in ("lxc", "qemu"):
                guest = guest_of(entry)
                guests[guest.vmid] = guest
            elif kind == "node":
                nodes[entry["node"]] = _node_of(entry)
            elif kind == "storage":
                storages.append(_storage_of(entry))
    view = ClusterView(guests, nodes, tuple(storages))
    stale = {
        guest.node
        for guest in view.containers()
        if (current or not guest.name or guest.status == "unknown") and _may_answer(nodes, guest.node)
    }
    lists = parallel.each(sorted(stale), lambda node: client.get(("nodes", node, "lxc")), limit=limit)
    for node, listed in zip(sorted(stale), lists, strict=True):
        # A node that cannot be asked keeps what the cluster last knew of it.
        if not isinstance(listed, CoreError):
            with answers.understood(f"GET /nodes/{node}/lxc"):
                _refresh(guests, node, listed)
    return view


def guest_of(entry: t.Mapping[str, t.Any], *, node: str | None = None) -> Guest:
    """Return the guest of an entry of ``/cluster/resources`` or ``/nodes/{node}/lxc``."""
    return Guest(
        vmid=int(entry["vmid"]),
        node=node or str(entry["node"]),
        type=str(entry.get("type") or "lxc"),
        name=str(entry.get("name") or ""),
        status=str(entry.get("status") or "unknown"),
        tags=split_tags(entry.get("tags")),
        pool=entry.get("pool") or None,
        lock=entry.get("lock") or None,
        is_template=str(entry.get("template") or "0") == "1",
        ha_state=entry.get("hastate") or None,
        cpus=float(entry.get("maxcpu") or entry.get("cpus") or 0),
        memory_bytes=int(entry.get("maxmem") or 0),
        memory_used_bytes=int(entry.get("mem") or 0),
        disk_bytes=int(entry.get("maxdisk") or 0),
        disk_used_bytes=int(entry.get("disk") or 0),
        uptime_s=int(entry.get("uptime") or 0),
    )


def split_tags(text: t.Any) -> tuple[str, ...]:
    """Return the tags of a ``;``-joined list; commas and blanks separate too, as in PVE."""
    return tuple(tag for tag in re.split(r"[;,\s]+", str(text or "")) if tag)


def read_configs(
    client: Client, guests: t.Sequence[Guest], *, limit: int = parallel.DEFAULT_LIMIT
) -> dict[int, dict[str, t.Any] | CoreError]:
    """Return each guest's current configuration, or the error that its node gave."""

    def read(guest: Guest) -> dict[str, t.Any]:
        config = client.get((*guest.path, "config"), current=True)
        with answers.understood(f"the config of container {guest.vmid}"):
            return dict(config)

    return dict(zip((g.vmid for g in guests), parallel.each(guests, read, limit=limit), strict=True))


def _may_answer(nodes: t.Mapping[str, Node], name: str) -> bool:
    # Nodes are listed only for users with Sys.Audit: an unlisted one is worth a try.
    return name not in nodes or nodes[name].is_online


def _refresh(guests: dict[int, Guest], node: str, listed: t.Iterable[t.Mapping[str, t.Any]]) -> None:
    for entry in listed:
        fresh = guest_of(entry, node=node)
        known = guests.get(fresh.vmid)
        if known is not None:
            # Pool and HA state are the cluster's to know; the node's list lacks them.
            guests[fresh.vmid] = dataclasses.replace(
                fresh, type=known.type, pool=known.pool, ha_state=known.ha_state
            )


def _node_of(entry: t.Mapping[str, t.Any]) -> Node:
    return Node(
        name=str(entry["node"]),
        is_online=entry.get("status") == "online",
        cpus=int(entry.get("maxcpu") or 0),
        cpu_used=float(entry.get("cpu") or 0),
        memory_bytes=int(entry.get("maxmem") or 0),
        memory_used_bytes=int(entry.get("mem") or 0),
    )


def _storage_of(entry: t.Mapping[str, t.Any]) -> Storage:
    return Storage(
        name=str(entry["storage"]),
        node=str(entry["node"]),
        is_available=entry.get("status") == "available",
        is_shared=str(entry.get("shared") or "0") == "1",
        content=tuple(sorted(str(entry.get("content") or "").split(","))) if entry.get("content") else (),
        type=str(entry.get("plugintype") or ""),
        size_bytes=int(entry.get("maxdisk") or 0),
        used_bytes=int(entry.get("disk") or 0),
    )
