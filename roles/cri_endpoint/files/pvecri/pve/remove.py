# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroy containers of Proxmox VE, and nothing that is not proven to be ours.

One that was destroyed behind our back is gone, which is what was asked for.  What its configuration
includes stays until it is gone: without that file nobody could even stop it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    MissingPrivilege,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, lxc_raw, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from pvecri.errors import Unavailable
from pvecri.pve import at_work, failures, identity, waiting

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: Keys of a record's tasks.
CREATE: t.Final = "create"
DESTROY: t.Final = "destroy"

#: Kinds of tasks that make or remove a container: while one is at work, nothing is to be judged.
_MAKING = frozenset({"vzcreate", "vzdestroy"})

#: How long Proxmox VE may take to see that a container has stopped by itself.
_SETTLE_S = 3.0

_UNTOUCHED = frozenset({Stage.CLAIMED})


class Driver(at_work.Driver, t.Protocol):
    """The part of `LxcDriver` that removing needs."""

    def clear_away(self, name: str, *, keep_guest: bool = False) -> None:
        """End what is left of a container on this host and forget it.

        ``keep_guest`` leaves what its configuration includes.
        """

    def clear_guest(self, vmid: int) -> None:
        """Remove what a configuration included that is gone."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A container as Proxmox VE has it."""

    container: Container
    config: dict[str, t.Any]


#: Takes changes of a record.
Note = t.Callable[..., None]


def _nowhere(**_changes: t.Any) -> None:
    """Write nothing: there is no record."""


def destroy(node: PveNode, driver: Driver, record: LxcRecord) -> None:
    """Remove a container that does not run any more, and everything of it; one that is gone is fine.

    Whatever bears the vmid and is not ours is left alone.  Raises WrongState for a locked or protected
    one and what `failures.named` makes of Proxmox VE's troubles; everything is left to be repeated then.
    """
    note = functools.partial(at_work.note, driver, record.name)
    found = None if record.stage in _UNTOUCHED else destroy_guest(node, record, note)
    driver.clear_away(record.name, keep_guest=found is not None)
    if found is not None and guest(driver.paths, record.vmid).config not in lxc_raw.included(found.config):
        driver.clear_guest(record.vmid)


def destroy_guest(node: PveNode, record: LxcRecord, note: Note = _nowhere) -> Found | None:
    """Remove what Proxmox VE has of a container; return what bears its number and was not touched.

    ``note`` takes changes of the container's record before they are carried out.
    """
    with failures.named(node, f"container {record.name} cannot be removed", vmid=record.vmid):
        join(node, record)
        found = find(node, record.vmid)
        if found is None:
            return None
        if identity.is_ours(found.config, record):
            _destroy(node, note, record, found)
            return None
    _log.error(
        "a container of Proxmox VE is not touched: nothing proves that it is this endpoint's",
        extra={"container": record.name, "vmid": record.vmid, "node": found.container.node},
    )
    return found


def join(node: PveNode, record: LxcRecord) -> None:
    """Wait for the task that makes or removes a container, as a daemon that was killed has left it.

    A configuration in the making bears nobody's mark yet, so it cannot be judged before.
    """
    begun = {record.upids.get(key, "") for key in (CREATE, DESTROY)} - {""}
    found = {upid for upid in at_work.running(node, record.vmid) if tasks.Upid.parse(upid).type in _MAKING}
    for upid in sorted(found | {upid for upid in begun if at_work.is_at_work(node, upid)}):
        # What it left behind is read afresh.
        with contextlib.suppress(TaskFailed):
            waiting.wait_task(node, upid, node.config.task_timeout_s)


def find(node: PveNode, vmid: int) -> Found | None:
    """Return the container of an id, wherever in the cluster it is; None when there is none.

    Raises MissingPrivilege when this node has one that the token may not see: it is not gone then.
    """
    where = _node_of(node, vmid)
    if where is None:
        if os.path.exists(lxc_raw.config_path(vmid, node.raw_dir)):
            raise MissingPrivilege(
                f"container {vmid} is on node '{node.name}', and the token may not see it",
                privilege="VM.Audit",
                path=f"/vms/{vmid}",
                hint="Put it back into its pool, or give the token the endpoint's role there",
            )
        return None
    container = Container(node.client, where, vmid)
    config = node.client.get((*container.path, "config"), current=True)
    with answers.understood(f"the config of container {vmid}"):
        return Found(container, dict(config))


def _node_of(node: PveNode, vmid: int) -> str | None:
    """Return the node of a container; that of this endpoint is asked itself, for the cluster's list lags."""
    try:
        node.client.get(("nodes", node.name, "lxc", vmid, "status", "current"))
    except ApiError as exc:
        if exc.is_unreachable:
            raise
    except MissingPrivilege:
        # So it is said of one that does not exist, too.
        pass
    else:
        return node.name
    listed = node.client.get("/cluster/resources", type="vm")
    with answers.understood("GET /cluster/resources"):
        for entry in listed:
            if entry.get("type") == "lxc" and int(entry["vmid"]) == vmid and entry["node"] != node.name:
                return str(entry["node"])
    return None


def _destroy(node: PveNode, note: Note, record: LxcRecord, found: Found) -> None:
    container, config = found.container, found.config
    if str(config.get("protection") or "0") == "1":
        raise WrongState(
            f"container {record.name} cannot be removed: {record.vmid} is protected in Proxmox VE",
            hint="Take the protection away there",
        )
    _see_stopped(container, record)
    note(stage=Stage.DESTROYING, upids={DESTROY: ""})
    # The cluster keeps no backup jobs, firewall rules and permissions of what is gone.
    parameters: dict[str, t.Any] = {"purge": True, "destroy-unreferenced-disks": True}
    try:
        upid = str(node.client.delete(container.path, **parameters) or "")
        note(upids={DESTROY: upid})
        if not upid:
            raise ApiError(f"DELETE of container {record.vmid} was answered without a task", status=200)
        waiting.wait_task(node, upid, node.config.task_timeout_s)
    except (ApiError, TaskFailed) as exc:
        if isinstance(exc, ApiError) and exc.is_unreachable:
            raise
        if find(node, record.vmid) is not None:
            raise
    _log.info("container of Proxmox VE destroyed", extra={"container": record.name, "vmid": record.vmid})


def _see_stopped(container: Container, record: LxcRecord) -> None:
    """Stop what still runs; one whose processes have ended gets a moment to be seen as stopped."""
    status = container.status()
    if status.get("status") == "stopped":
        return
    if record.stage is not Stage.STARTING and container.wait_status("stopped", _SETTLE_S):
        return
    with contextlib.suppress(WrongState):
        container.shutdown(timeout_s=0, force=True)
    if container.status().get("status") != "stopped":
        raise Unavailable(
            f"container {record.name} cannot be removed: {record.vmid} does not stop",
            hint="Look at its tasks in Proxmox VE",
        )
