# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear away what is this endpoint's at Proxmox VE, and of which no client was ever told."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from pvecri.pve import identity, remove
from pvecri.pve.follow import Driver
from pvecri.pve.sightings import Sights, View
from pvecri.state.records import Phase
from pvecri.state.registry import Registry

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)


class Orphans:
    """Looks for containers and files without a record; used by one thread at a time."""

    def __init__(self, registry: Registry, node: PveNode, driver: Driver, sights: Sights) -> None:
        self._registry = registry
        self._node = node
        self._driver = driver
        self._sights = sights
        #: Numbers that were told of.
        self._told: set[int] = set()
        #: Why those cannot be removed, as it was told.
        self._failed: dict[int, str] = {}
        #: How many were found.
        self.count = 0

    def files(self) -> set[int]:
        """Return the numbers of which there are files that containers include."""
        with contextlib.suppress(FileNotFoundError):
            return {int(name) for name in os.listdir(layouts.guests(self._driver.paths)) if name.isdigit()}
        return set()

    def clear(self, view: View, files: set[int]) -> None:
        """Remove containers of this endpoint that have no record, and files that nobody includes any more.

        ``files`` were there before the view was taken.
        """
        first, last = self._node.vmid_range
        known = self._known()
        for vmid, found in view.guests.items():
            is_marked = set(identity.TAGS) <= set(found.tags)
            if is_marked and vmid not in known and first <= vmid <= last:
                self._container(vmid)
        for vmid in files & view.sightings.keys():
            # Kept for one that was not ours any more, and is gone now.
            if view.sightings[vmid] is None and vmid not in self._known():
                with contextlib.suppress(OSError):
                    self._driver.clear_guest(vmid)
        self._told &= view.guests.keys()
        self._failed = {vmid: why for vmid, why in self._failed.items() if vmid in view.guests}

    def _known(self) -> set[int]:
        return {record.vmid for record in records.everyone(self._driver.paths)}

    def _container(self, vmid: int) -> None:
        try:
            whose = identity.identity_of(self._sights.config(vmid) or {})
            # A clone of one of ours is somebody's on purpose.
            if whose is not None and whose.endpoint == self._node.endpoint_id and whose.vmid in {0, vmid}:
                self._orphan(whose.container, vmid)
        except (CoreError, OSError) as exc:
            facts = {"vmid": vmid, "error": str(exc)}
            if self._failed.get(vmid) != str(exc):
                _log.warning("container of Proxmox VE without a record not removed", extra=facts)
            self._failed[vmid] = str(exc)

    def _orphan(self, name: str, vmid: int) -> None:
        facts = {"container": name, "vmid": vmid}
        is_new = vmid not in self._told
        self._told.add(vmid)
        self.count += is_new
        if self._is_kept(name):
            if is_new:
                _log.error("kept: the record of a container of Proxmox VE is lost", extra=facts)
            return
        with self._registry.held(name, timeout_s=0.0):
            if vmid in self._known() or self._is_kept(name):
                return
            if is_new:
                _log.warning("a container of Proxmox VE without a record is removed", extra=facts)
            if remove.destroy_guest(self._node, _stand_in(self._node, name, vmid)) is None:
                self._driver.clear_guest(vmid)

    def _is_kept(self, name: str) -> bool:
        """Say whether a container without a record that can be read may be one that a client knows of.

        One whose record tells of another number was made twice: the answer of its first request was lost.
        """
        if not self._driver.knows(name):
            return self._is_live(name)
        return records.load(LxcLayout(self._driver.paths, name)) is None

    def _is_live(self, name: str) -> bool:
        """Say whether a client knows of a container that has not ended."""
        try:
            return self._registry.container(name).phase in {Phase.CREATED, Phase.RUNNING}
        except NotFound:
            return False


def _stand_in(node: PveNode, name: str, vmid: int) -> LxcRecord:
    """Return what a record would say."""
    return LxcRecord(
        name=name,
        vmid=vmid,
        node=node.name,
        sandbox_id="",
        bundle="",
        log_path="",
        boot_id=procfs.boot_id(),
        created_at=time.time(),
        lxc_path=node.lxc_path,
        stage=Stage.STARTING,
        endpoint=node.endpoint_id,
    )
