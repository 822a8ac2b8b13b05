# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what the work on one or on many containers shares, and find containers in the cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    Conflict,
    MissingPrivilege,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import cluster, lxc_raw
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container, Reading
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG, LxcSpec

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
    from ansible_collections.pvecri.runtime.plugins.module_utils.pve.placement import Ledger


@dataclasses.dataclass(slots=True, kw_only=True)
class Session:
    """One task's work; used by several threads."""

    client: PveClient
    check_mode: bool = False
    #: Runs skopeo; None is the real one.
    runner: Runner | None = None
    #: Name of the node that this runs on, None elsewhere.
    here: str | None = None
    config_dir: str = lxc_raw.CONFIG_DIR
    lock_dir: str = lxc_raw.LOCK_DIR
    log: t.Callable[[str], None] = lambda _text: None
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep

    #: Ids that this run has claimed.
    claimed: set[int] = dataclasses.field(default_factory=set)
    #: Templates that are known to be there, by node and source.
    templates: dict[t.Any, t.Any] = dataclasses.field(default_factory=dict)
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    _view: ClusterView | None = None
    _is_current: bool = False
    _permissions: dict[str, t.Any] | None = None
    _ledger: Ledger | None = None

    def container(self, node: str, vmid: int) -> Container:
        """Return the driver of one container."""
        return Container(self.client, node, vmid, clock=self.clock, sleep=self.sleep)

    def view(self, *, current: bool = False, afresh: bool = False) -> ClusterView:
        """Return the cluster as read once in this run; ``current`` asks each node, too."""
        with self.lock:
            if afresh or self._view is None or (current and not self._is_current):
                self._view = cluster.read_cluster(self.client, current=current)
                self._is_current = current
            return self._view

    def permissions(self) -> t.Mapping[str, t.Any]:
        """Return the user's privileges by path, as read once in this run."""
        with self.lock:
            if self._permissions is None:
                self._permissions = dict(self.client.get("/access/permissions"))
            return self._permissions

    def ledger(self) -> Ledger:
        """Return what was placed in this run, beyond what the cluster's figures show."""
        # Only what makes containers needs it, and the modules' start time counts.
        from ansible_collections.pvecri.runtime.plugins.module_utils.pve import placement  # noqa: PLC0415

        with self.lock:
            if self._ledger is None:
                self._ledger = placement.Ledger()
            return self._ledger

    def has_view(self) -> bool:
        """Say whether the cluster was read already, so that looking into it costs nothing."""
        return self._view is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A container that exists, as far as it was read."""

    container: Container
    actual: Actual


def reading_of(spec: LxcSpec) -> Reading:
    """Return what must be read to compare with ``spec``."""
    wants_ha = spec.ha is not None and spec.ha.managed and bool(spec.ha.settings())
    return Reading(pending=spec.conduct.apply_pending, ha=wants_ha)


def find(session: Session, spec: LxcSpec) -> Found | None:
    """Return the container that ``spec`` names, read; None when it does not exist.

    An id decides; else the host name does, and containers of ours go before
    others.  Raises Conflict for an id that is a virtual machine's, and for a name
    that is not unique.
    """
    if spec.vmid is not None:
        return _by_id(session, spec, spec.vmid)
    return _by_name(session, spec)


def _by_id(session: Session, spec: LxcSpec, vmid: int) -> Found | None:
    if spec.node and spec.pool is None and not session.has_view():
        # Most containers are where they are expected to be: no need to ask for the whole cluster.
        # Of a container that does not exist, a user of one pool is told 403 instead.
        with contextlib.suppress(MissingPrivilege):
            found = _read(session, spec, Guest(vmid=vmid, node=spec.node))
            if found is not None:
                return found
    for current in (False, True):
        view = session.view(afresh=current)
        guest = view.guests.get(vmid)
        if guest is None:
            return None
        if guest.type != "lxc":
            raise Conflict(
                f"the id {vmid} belongs to the virtual machine '{guest.name}' on node '{guest.node}'",
                hint="Name another vmid",
            )
        found = _read(session, spec, guest)
        if found is not None:
            return found
    return None


def _by_name(session: Session, spec: LxcSpec) -> Found | None:
    hostname = spec.hostname or ""
    guest = _only(hostname, session.view().named(hostname))
    found = _read(session, spec, guest) if guest else None
    # The cluster's names are up to 10 s old: neither a hit nor a miss is certain without the nodes.
    if found is None or found.actual.hostname != hostname:
        if not session.view().containers():
            return None
        guest = _only(hostname, session.view(current=True).named(hostname))
        found = _read(session, spec, guest) if guest else None
    return found


def _only(hostname: str, named: t.Sequence[Guest]) -> Guest | None:
    """Return the one container of that name, or the one of them that is ours."""
    ours = [guest for guest in named if TAG in guest.tags]
    chosen = ours if len(ours) == 1 else named
    if len(chosen) > 1:
        where = ", ".join(f"{guest.vmid} on node '{guest.node}'" for guest in chosen)
        raise Conflict(f"several containers are named '{hostname}': {where}", hint="Name the vmid")
    return chosen[0] if chosen else None


def _read(session: Session, spec: LxcSpec, guest: Guest) -> Found | None:
    """Return the container as read from its node; None when that node does not have it."""
    container = session.container(guest.node, guest.vmid)
    try:
        return Found(container, container.read(reading_of(spec), pool=guest.pool))
    except ApiError as exc:
        if exc.is_unreachable or exc.status != 500:
            raise
        # It may have moved or gone, or the node may be in trouble: the list of its guests tells.
        listed = session.client.get(("nodes", guest.node, "lxc"))
        if any(int(entry["vmid"]) == guest.vmid for entry in listed):
            raise
        return None
