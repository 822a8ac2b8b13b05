# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start containers of Proxmox VE, as soon as their program runs.

A start is over when the container's first process says so, which is before the task ends.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandError,
    CommandTimeout,
    CoreError,
    TaskFailed,
    TaskTimeout,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from pvecri.errors import Untouched
from pvecri.pve import failures
from pvecri.pve.at_work import (
    FIRST_LOOK_S,
    GROWTH,
    LONGEST_LOOK_S,
    Driver,
    api_path,
    is_at_work,
    look,
    note,
    refuse_strangers,
    running,
)

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: Key of a record's task.
START: t.Final = "start"

#: How long the first process may take to ask for what to run, once the task has ended.
_LAUNCH_S = 5.0

#: How long the end of a start's task is waited for, for its warnings.
_FOLLOW_S = 300.0


def start(node: PveNode, driver: Driver, record: LxcRecord, timeout_s: float) -> None:
    """Let a created container run; returns when its program does.

    A start that is under way is joined.  Raises what the first process says, what `failures.named`
    makes of Proxmox VE's troubles, and TaskTimeout with the task that goes on.  After Untouched it can be
    started as before.
    """
    end = time.monotonic() + timeout_s
    state = driver.state(record.name)
    if state is not None and state.status is Status.RUNNING:
        driver.amend(record.name, stage=Stage.RUNNING)
        return
    try:
        upid = _begin(node, driver, record)
        _await(node, driver, record, upid, end)
    except Untouched:
        # It waits as before for whoever starts it, or for a start that a killed daemon has begun.
        note(driver, record.name, stage=record.stage)
        raise
    # It runs: a disk that is too full to note since when is no reason to say that it does not.
    with contextlib.suppress(OSError):
        driver.amend(record.name, stage=Stage.RUNNING, started_at=time.time())
    if upid:
        threading.Thread(target=_follow, args=(node, record, upid), name="pvecri-task", daemon=True).start()


def _begin(node: PveNode, driver: Driver, record: LxcRecord) -> str:
    """Ask Proxmox VE to start a container and return the task; empty when it started without one."""
    with failures.named(node, _cannot(record, "started"), vmid=record.vmid):
        begun = _begun(node, record) if record.stage is Stage.STARTING else None
        if begun is not None:
            return begun
        refuse_strangers(node, record)
        driver.amend(record.name, stage=Stage.STARTING, upids={START: ""})
        try:
            upid = str(node.client.post(api_path(node, record, "start")) or "")
        except ApiError as exc:
            # It may have been started, by us or by somebody else: what is, counts.
            found = _under_way(node, record, exc)
            if found is None:
                raise
            upid = found
        driver.amend(record.name, upids={START: upid})
    return upid


def _begun(node: PveNode, record: LxcRecord) -> str | None:
    """Return the task of a start that is under way; None: there is none."""
    upid = record.upids.get(START, "")
    if upid and is_at_work(node, upid):
        return upid
    # A daemon that was killed after it asked may not have noted the answer.
    return _listed(node, record)


def _listed(node: PveNode, record: LxcRecord) -> str | None:
    """Return a container's start among the node's tasks; None: none is at work."""
    listed = running(node, record.vmid)
    return next((task for task in listed if tasks.Upid.parse(task).type == "vzstart"), None)


def _under_way(node: PveNode, record: LxcRecord, exc: ApiError) -> str | None:
    """Return the task that starts a container although the request failed; None: there is none."""
    if exc.is_unreachable and not exc.maybe_done:
        return None
    with contextlib.suppress(CoreError):
        found = _listed(node, record)
        if found is not None:
            return found
        if node.container(record.vmid).status().get("status") == "running":
            return ""
    return None


def _await(node: PveNode, driver: Driver, record: LxcRecord, upid: str, end: float) -> None:
    """Wait for the first process, and for a task that fails before."""
    pause_s = FIRST_LOOK_S
    while not _has_begun(driver, record.name, min(pause_s, end - time.monotonic())):
        pause_s = min(pause_s * GROWTH, LONGEST_LOOK_S)
        if time.monotonic() >= end:
            raise _too_late(record, upid)
        with failures.named(node, _cannot(record, "started"), vmid=record.vmid):
            try:
                has_ended = bool(upid) and look(node, upid) is False
            except TaskFailed:
                # The program may have come to its end before the task looked.
                if _has_begun(driver, record.name, 0.0):
                    return
                raise
        if has_ended and not _has_begun(driver, record.name, min(_LAUNCH_S, end - time.monotonic())):
            raise CommandError(
                f"{_cannot(record, 'started')}: Proxmox VE has started it ({upid}), and its first process "
                f"has not asked for its program within {_LAUNCH_S:g} s",
                hint=f"Look at the node's journal of pve-container@{record.vmid}.service",
            )
        if has_ended:
            return


def _has_begun(driver: Driver, name: str, timeout_s: float) -> bool:
    try:
        driver.await_start(name, max(timeout_s, 0.0))
    except CommandTimeout:
        return False
    return True


def _too_late(record: LxcRecord, upid: str) -> CommandTimeout:
    if not upid:
        return CommandTimeout(f"{_cannot(record, 'started')}: its first process does not come up")
    return TaskTimeout(
        f"{_cannot(record, 'started')}: its first process has not come up in time; {upid} goes on",
        upid=upid,
        hint="Look at that task; pve.start_timeout_s says how long is waited",
    )


def _follow(node: PveNode, record: LxcRecord, upid: str) -> None:
    """Log how the task of a start ended that came to its goal long before."""
    facts = {"container": record.name, "vmid": record.vmid, "task": upid}
    try:
        done = tasks.wait_task(node.client, upid, _FOLLOW_S)
    except TaskFailed as exc:
        _log.warning("Proxmox VE's task failed", extra={**facts, "error": failures.log_tail(exc) or str(exc)})
    except (CoreError, OSError) as exc:
        _log.debug("the end of a task was not seen", extra={**facts, "error": str(exc)})
    else:
        for warning in done.warnings:
            _log.warning("Proxmox VE warns", extra={**facts, "warning": warning})


def _cannot(record: LxcRecord, done: str) -> str:
    return f"container {record.name} cannot be {done}"
