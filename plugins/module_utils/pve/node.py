# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at the Proxmox VE node that this process runs on, and say what LXC pods would lack there.

`gather` asks the node, `examine` judges what it was told (pure).  Each check has a name, by
which a play can turn a refusal into a warning.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, parallel
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest, guest_of
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG_CRI

RELEASES = (8, 9)
#: Since then archives of OCI images are taken as templates.
OCI_RELEASE = (9, 1)
#: What starts and enters containers, with the Debian package that has it.
TOOLS = {"pct": "pve-container", "lxc-start": "lxc-pve", "lxc-attach": "lxc-pve"}
#: Taken before others when no storage is named: what the installer makes.
_USUAL = {"rootdir": ("local-lvm", "local-zfs"), "vztmpl": ("local",)}
_MIB = 1024**2


class Client(t.Protocol):
    """The part of PveshClient that looking needs."""

    def get(self, path: str | t.Sequence[str | int], **params: t.Any) -> t.Any:
        """Read ``path``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of the node; an empty name leaves the choice to `examine`."""

    rootfs_storage: str = ""
    template_storage: str = ""
    pool: str = ""
    #: First and last number of the containers to come.
    vmids: tuple[int, int] = (100, 100)
    min_free_mib: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A storage as the node lists it."""

    name: str
    content: frozenset[str] = frozenset()
    is_enabled: bool = True
    is_active: bool = True
    free_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What the node told."""

    hostname: str
    version: str
    #: Name of the node that answered, empty when the cluster knows none.
    node: str
    #: None for a node without a cluster.
    is_quorate: bool | None
    storages: tuple[Storage, ...]
    pools: frozenset[str]
    guests: tuple[Guest, ...]
    missing_tools: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class Findings:
    """What was found: refusals, remarks, and the storages that were named or chosen."""

    problems: list[dict[str, str]] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    rootfs_storage: str = ""
    template_storage: str = ""

    def refuse(self, check: str, problem: str, remedy: str) -> None:
        """Record what keeps the node from running LXC pods, and what to do."""
        self.problems.append({"check": check, "problem": problem, "remedy": remedy})


def is_node(pvesh: str = "pvesh") -> bool:
    """Say whether this host has Proxmox VE."""
    return shutil.which(pvesh) is not None


def gather(client: Client, hostname: str) -> Facts:
    """Ask the node, all at once; raises CoreError when it does not answer."""
    paths: list[tuple[tuple[str, ...], dict[str, t.Any]]] = [
        (("version",), {}),
        (("cluster", "status"), {}),
        (("nodes", hostname, "storage"), {}),
        (("pools",), {}),
        (("cluster", "resources"), {"type": "vm"}),
    ]
    got: list[t.Any] = parallel.each(paths, lambda item: client.get(item[0], **item[1]), limit=len(paths))
    version, status, storages, pools, guests = got
    for answer in (version, status):
        if isinstance(answer, CoreError):
            raise answer
    with answers.understood("GET /version, /cluster/status, …"):
        local = [entry for entry in status if entry.get("type") == "node" and _is_on(entry.get("local"))]
        cluster = [entry for entry in status if entry.get("type") == "cluster"]
        node = str(local[0]["name"]) if local else ""
        if isinstance(storages, CoreError) and node == hostname:
            raise storages
        return Facts(
            hostname=hostname,
            version=str(version.get("version") or version["release"]),
            node=node,
            is_quorate=_is_on(cluster[0].get("quorate")) if cluster else None,
            storages=tuple(storage_of(entry) for entry in _listed(storages)),
            pools=frozenset(str(entry["poolid"]) for entry in _listed(pools)),
            guests=tuple(guest_of(entry) for entry in _listed(guests)),
            missing_tools=tuple(name for name in TOOLS if shutil.which(name) is None),
        )


def _listed(answer: t.Any) -> t.Iterable[t.Any]:
    return () if isinstance(answer, CoreError) else answer


def _is_on(value: t.Any) -> bool:
    return str(value).lower() in ("1", "true")


def storage_of(entry: t.Mapping[str, t.Any]) -> Storage:
    """Return a storage of the answer to GET /nodes/{node}/storage."""
    return Storage(
        str(entry["storage"]),
        frozenset(part for part in str(entry.get("content") or "").split(",") if part),
        _is_on(entry.get("enabled", 1)),
        _is_on(entry.get("active", 0)),
        int(entry.get("avail") or 0),
    )


def usual_storage(storages: t.Iterable[Storage], content: str) -> str:
    """Return the storage to use for a kind of content when none is named; empty when there is none."""
    fit = {s.name for s in storages if content in s.content and s.is_enabled and s.is_active}
    return next((usual for usual in _USUAL[content] if usual in fit), None) or min(fit, default="")


def examine(facts: Facts, wanted: Wanted) -> Findings:
    """Return what is wrong with the node for LXC pods, and which storages to use.  Pure."""
    found = Findings()
    _check_version(found, facts)
    _check_node(found, facts)
    if facts.node != facts.hostname:
        # Nothing was said of the storages of a node that the cluster does not know.
        return found
    found.rootfs_storage = _storage_for(found, facts, "rootdir", wanted.rootfs_storage, wanted.min_free_mib)
    found.template_storage = _storage_for(found, facts, "vztmpl", wanted.template_storage, 0)
    for tool in facts.missing_tools:
        found.refuse(
            "pve_tools", f"the program {tool} is missing", f"Install the Debian package {TOOLS[tool]}"
        )
    if wanted.pool and wanted.pool not in facts.pools:
        found.refuse(
            "pve_pool",
            f"there is no pool '{wanted.pool}' (cri_endpoint_pve_pool)",
            f"Make it (pvesh create /pools --poolid {wanted.pool}), or name another one",
        )
    _check_vmids(found, facts, wanted.vmids)
    return found


def _check_version(found: Findings, facts: Facts) -> None:
    numbers = tuple(int(part) for part in re.findall(r"\d+", facts.version)[:2])
    if not numbers or numbers[0] not in RELEASES:
        found.refuse(
            "pve_version",
            f"this is Proxmox VE {facts.version}",
            "Use a node with Proxmox VE 8 or 9, or set cri_endpoint_pve: false to do without LXC pods",
        )
    elif numbers < OCI_RELEASE:
        found.warnings.append(
            f"Proxmox VE {facts.version} takes no OCI images as templates: LXC pods need "
            f"{OCI_RELEASE[0]}.{OCI_RELEASE[1]} for other images than lxc/…"
        )


def _check_node(found: Findings, facts: Facts) -> None:
    if facts.node != facts.hostname:
        who = f"the node is called '{facts.node}'" if facts.node else "the cluster does not know this node"
        found.refuse(
            "pve_node_name",
            f"the host name is '{facts.hostname}', and {who}",
            "Give the host the name that the cluster knows it by (hostnamectl hostname), also in /etc/hosts, "
            "and restart pve-cluster",
        )
    if facts.is_quorate is False:
        found.warnings.append(
            "the cluster has no quorum: its configuration cannot be changed until enough nodes are back "
            "(pvecm status)"
        )


def _storage_for(found: Findings, facts: Facts, content: str, name: str, min_free_mib: int) -> str:
    """Return the storage to use for a kind of content, with what is wrong with it recorded."""
    kind, variable = ("rootfs", "rootfs") if content == "rootdir" else ("templates", "template")
    check, variable = f"pve_{variable}_storage", f"cri_endpoint_pve_{variable}_storage"
    if not name:
        chosen = usual_storage(facts.storages, content)
        if not chosen:
            found.refuse(
                check,
                f"no active storage of node '{facts.node}' takes content {content} ({kind} of LXC pods)",
                f"Add {content} to the content of one (pvesm set NAME --content …,{content}), or make one",
            )
            return ""
        name = chosen
    storage = next((s for s in facts.storages if s.name == name), None)
    if storage is None or not storage.is_enabled:
        why = "is disabled" if storage else f"does not exist on node '{facts.node}'"
        found.refuse(
            check, f"storage '{name}' {why}", f"Name another one in {variable}; pvesm status lists them"
        )
    elif not storage.is_active:
        found.refuse(
            check, f"storage '{name}' is not active", "Mount or connect it; pvesm status must say active"
        )
    elif content not in storage.content:
        there = ",".join(sorted(storage.content))
        found.refuse(
            check,
            f"storage '{name}' does not take content {content}, only {there or 'none'}",
            f"Add it (pvesm set {name} --content {','.join(sorted({*storage.content, content}))}), or name "
            f"another storage in {variable}",
        )
    elif storage.free_bytes < min_free_mib * _MIB:
        found.refuse(
            "pve_space",
            f"storage '{name}' has {storage.free_bytes // _MIB} MiB left, {min_free_mib} are wanted",
            f"Free some, name another storage in {variable}, or lower cri_endpoint_pve_min_free_mib",
        )
    return name


def _check_vmids(found: Findings, facts: Facts, vmids: tuple[int, int]) -> None:
    first, last = vmids
    if not 100 <= first <= last <= 999_999_999:
        found.refuse(
            "pve_vmids",
            f"{first} to {last} is no range of container numbers (cri_endpoint_pve_vmid_range)",
            "Give the first and the last number, from 100 to 999999999",
        )
        return
    strangers = [g.vmid for g in facts.guests if first <= g.vmid <= last and TAG_CRI not in g.tags]
    if strangers:
        named = ", ".join(map(str, sorted(strangers)[:5])) + (", …" if len(strangers) > 5 else "")
        found.refuse(
            "pve_vmids",
            f"guests that are no pods have numbers from {first} to {last}: {named}",
            "Give cri_endpoint_pve_vmid_range a range that nothing else uses",
        )


def own_hostname() -> str:
    """Return the host name as Proxmox VE takes it for the node's."""
    return os.uname().nodename.partition(".")[0]
