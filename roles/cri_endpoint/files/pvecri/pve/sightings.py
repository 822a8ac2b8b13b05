# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See what Proxmox VE has of containers, with one request for all that did not change."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest, guest_of
from pvecri.pve.findings import Sighting

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """All that a look has found."""

    #: The node's containers that the token may see.
    guests: dict[int, Guest]
    #: Those that were asked for; None: there is none.  Of one that is missing here nothing can be said.
    sightings: dict[int, Sighting | None]


class Sights:
    """Looks at containers; remembers configurations, which are read anew when their file has changed."""

    def __init__(self, node: PveNode) -> None:
        self._node = node
        self._kept: dict[int, tuple[str, dict[str, t.Any]]] = {}

    def look(self, vmids: t.Collection[int]) -> View:
        """Return the node's containers, and what becomes of those with these numbers.

        Raises ApiError and what else asking Proxmox VE raises.
        """
        node = self._node
        listed = node.client.get(("nodes", node.name, "lxc"))
        with answers.understood("GET /nodes/…/lxc"):
            guests = {guest.vmid: guest for guest in (guest_of(entry, node=node.name) for entry in listed)}
        sightings: dict[int, Sighting | None] = {}
        missing = []
        for vmid in vmids:
            if vmid not in guests:
                missing.append(vmid)
            elif (config := self.config(vmid)) is not None:
                lock = guests[vmid].lock or str(config.get("lock") or "")
                sightings[vmid] = Sighting(node.name, guests[vmid].status, lock, config)
        sightings.update(self._elsewhere(missing))
        self._kept = {vmid: kept for vmid, kept in self._kept.items() if vmid in guests}
        return View(guests, sightings)

    def config(self, vmid: int) -> dict[str, t.Any] | None:
        """Return the configuration of a container of this node; None when it went meanwhile."""
        stamp = self._stamp(vmid)
        kept = self._kept.get(vmid)
        if kept is not None and stamp and kept[0] == stamp:
            return kept[1]
        try:
            answer = self._node.client.get(("nodes", self._node.name, "lxc", vmid, "config"), current=True)
        except ApiError as exc:
            if exc.is_unreachable:
                raise
            return None
        with answers.understood(f"the config of container {vmid}"):
            config = dict(answer)
        self._kept[vmid] = (stamp, config)
        return config

    def _stamp(self, vmid: int) -> str:
        """Return what changes with a container's file; empty when it cannot be read."""
        try:
            with open(lxc_raw.config_path(vmid, self._node.raw_dir), "rb") as stream:
                return hashlib.sha256(stream.read()).hexdigest()
        except OSError:
            return ""

    def _elsewhere(self, vmids: list[int]) -> dict[int, Sighting | None]:
        """Return where containers are that this node does not list.

        The cluster's files say it at once, and whatever the token may see; one whose file is here is hidden.
        """
        hidden = {vmid for vmid in vmids if self._stamp(vmid)}
        found: dict[int, Sighting | None] = {vmid: None for vmid in vmids if vmid not in hidden}
        if not found:
            return {}
        by_file = self._by_file(found)
        if by_file is not None:
            return by_file
        listed = self._node.client.get("/cluster/resources", type="vm")
        with answers.understood("GET /cluster/resources"):
            for guest in (guest_of(entry) for entry in listed if entry.get("type") == "lxc"):
                if guest.vmid in found:
                    found[guest.vmid] = Sighting(guest.node, guest.status, guest.lock or "", {})
        # One of this node came after it was asked for its own.
        here = self._node.name
        return {vmid: seen for vmid, seen in found.items() if seen is None or seen.node != here}

    def _by_file(self, vmids: t.Iterable[int]) -> dict[int, Sighting | None] | None:
        directory = os.path.join(self._node.config_dir, "nodes")
        try:
            names = os.listdir(directory)
        except OSError:
            return None
        found: dict[int, Sighting | None] = {}
        for vmid in vmids:
            places = [n for n in names if os.path.exists(lxc_raw.config_path(vmid, f"{directory}/{n}/lxc"))]
            if self._node.name not in places:
                found[vmid] = Sighting(places[0], "unknown", "", {}) if places else None
        return found
