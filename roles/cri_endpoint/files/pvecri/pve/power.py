# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start and stop containers of Proxmox VE, and keep to a client's times whatever Proxmox VE does.

A start is over when the container's first process says so, which is before the task ends.  A stop is
asked of Proxmox VE, which sends the image's stop signal; where it cannot (API down, quorum lost,
container locked) the signal is sent from here.  Either way the process is killed from here when its
time is up: a second stop with less time hastens the first, although Proxmox VE would let it wait.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandError,
    CommandTimeout,
    CoreError,
    TaskFailed,
    TaskTimeout,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from pvecri.errors import Untouched
from pvecri.pve import failures

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: Keys of a record's tasks.
START: t.Final = "start"
STOP: t.Final = "stop"

#: How often a task is looked at while something else is awaited.
_FIRST_LOOK_S = 0.05
_LONGEST_LOOK_S = 1.0
_GROWTH = 1.5

#: How long the first process may take to ask for what to run, once the task has ended.
_LAUNCH_S = 5.0

#: How long Proxmox VE may take to answer that it stops a container; then the signal is sent from here.
_ASK_S = 2.0

#: How long the kernel may take to end what was killed, and conmon to write that down.
_KILL_S = 10.0
_MONITOR_S = 10.0

#: How long the end of a start's task is waited for, for its warnings.
_FOLLOW_S = 300.0


class Driver(t.Protocol):
    """What is asked of a container within this host: the part of `LxcDriver` that is used here."""

    @property
    def paths(self) -> Paths:
        """Where its files are."""

    def amend(self, name: str, **changes: t.Any) -> LxcRecord:
        """Change fields of a container's record and return it."""

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container from files alone."""

    def await_start(self, name: str, timeout_s: float) -> int:
        """Wait until its first process runs, and return that; raises CommandTimeout, and why it does not."""

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for its end and return the exit code."""


# ---- starting ---------------------------------------------------------------------------------------------


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
        # It waits as before for whoever starts it.
        _note(driver, record.name, stage=Stage.READY)
        raise
    # It runs: a disk that is too full to note since when is no reason to say that it does not.
    with contextlib.suppress(OSError):
        driver.amend(record.name, stage=Stage.RUNNING, started_at=time.time())
    if upid:
        threading.Thread(target=_follow, args=(node, record, upid), name="pvecri-task", daemon=True).start()


def _begin(node: PveNode, driver: Driver, record: LxcRecord) -> str:
    """Ask Proxmox VE to start a container and return the task; empty when it started without one."""
    begun = record.upids.get(START, "")
    with failures.named(node, _cannot(record, "started"), vmid=record.vmid):
        if record.stage is Stage.STARTING and begun and is_at_work(node, begun):
            return begun
        driver.amend(record.name, stage=Stage.STARTING, upids={START: ""})
        try:
            upid = str(node.client.post(_path(node, record, "start")) or "")
        except ApiError as exc:
            # It may have been started, by us or by somebody else: what is, counts.
            found = _under_way(node, record, exc)
            if found is None:
                raise
            upid = found
        driver.amend(record.name, upids={START: upid})
    return upid


def _under_way(node: PveNode, record: LxcRecord, exc: ApiError) -> str | None:
    """Return the task that starts a container although the request failed; None: there is none."""
    if exc.is_unreachable and not exc.maybe_done:
        return None
    with contextlib.suppress(CoreError):
        for task in running(node, record.vmid):
            if tasks.Upid.parse(task).type == "vzstart":
                return task
        if node.container(record.vmid).status().get("status") == "running":
            return ""
    return None


def _await(node: PveNode, driver: Driver, record: LxcRecord, upid: str, end: float) -> None:
    """Wait for the first process, and for a task that fails before."""
    pause_s = _FIRST_LOOK_S
    while not _has_begun(driver, record.name, min(pause_s, end - time.monotonic())):
        pause_s = min(pause_s * _GROWTH, _LONGEST_LOOK_S)
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
        hint="A repeated call joins it; pve.start_timeout_s says how long is waited",
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


# ---- stopping ---------------------------------------------------------------------------------------------


def stop(node: PveNode, driver: Driver, record: LxcRecord, number: int | str, timeout_s: float) -> int | None:
    """End a container and return its exit code: its stop signal first, SIGKILL after ``timeout_s`` seconds.

    One that never ran is made unable to; one that has ended is left as it is.  None: the exit code is
    unknown.  Raises CommandTimeout when the kernel does not end it.
    """
    value = signal_number(number)
    state = driver.state(record.name)
    if state is not None and state.status is Status.CREATED:
        # What waits for the first process goes, and a start that comes later ends by itself.
        _note(driver, record.name, stage=Stage.STOPPING)
        if state.pid is not None:
            procfs.send_signal(state.pid, state.pid_start_time, signal.SIGKILL)
        return _exit_code(driver, record.name)
    if state is None or state.pid is None:
        return None if state is None else state.exit_code
    end = time.monotonic() + timeout_s
    with procfs.held(state.pid, state.pid_start_time) as init:
        if init is not None:
            may_act = value != signal.SIGKILL and timeout_s > 0
            if not (may_act and _Stopping(node, driver, record, init, value).ends_by(end, timeout_s)):
                _note(driver, record.name, stage=Stage.STOPPING)
                _signal(init, signal.SIGKILL)
            if not procfs.await_end(init, _KILL_S):
                raise CommandTimeout(
                    f"container {record.name} cannot be killed",
                    hint=f"Its process {state.pid} hangs in the kernel",
                )
    return _exit_code(driver, record.name)


class _Stopping:
    """One stop: who sends the signal, and whether it was sent."""

    def __init__(self, node: PveNode, driver: Driver, record: LxcRecord, init: int, number: int) -> None:
        self._node = node
        self._driver = driver
        self._record = record
        self._init = init
        self._number = number
        self._upid = ""
        self._answer = threading.Event()

    def ends_by(self, end: float, timeout_s: float) -> bool:
        """Ask the container to end; say whether it has when its time is up."""
        begun = self._record.upids.get(STOP, "")
        is_begun = self._record.stage is Stage.STOPPING and begun and self._still_runs(begun)
        if is_begun:
            self._upid = begun
        else:
            self._ask(timeout_s)
        is_sent = self._by_proxmox(end) if self._upid else False
        if not is_sent:
            # A container may have ended while its task failed: then there is nobody to tell.
            _signal(self._init, self._number)
        return procfs.await_end(self._init, end - time.monotonic())

    def _ask(self, timeout_s: float) -> None:
        """Have Proxmox VE shut the container down, unless it takes too long to say that it does."""
        _note(self._driver, self._record.name, stage=Stage.STOPPING, upids={STOP: ""})
        threading.Thread(
            target=self._request, args=(math.ceil(timeout_s),), name="pvecri-stop", daemon=True
        ).start()
        self._answer.wait(min(_ASK_S, timeout_s / 2))

    def _request(self, timeout_s: int) -> None:
        path = _path(self._node, self._record, "shutdown")
        try:
            upid = self._node.client.post(path, timeout=timeout_s, forceStop=True)
        except (CoreError, OSError) as exc:
            _log.warning(
                "Proxmox VE cannot stop a container; its process is told",
                extra={"container": self._record.name, "vmid": self._record.vmid, "error": str(exc)},
            )
        else:
            self._upid = str(upid or "")
            _note(self._driver, self._record.name, upids={STOP: self._upid})
        finally:
            self._answer.set()

    def _by_proxmox(self, end: float) -> bool:
        """Wait for the container's end while the task runs; False when it failed before."""
        pause_s = _FIRST_LOOK_S
        while (left_s := end - time.monotonic()) > 0:
            if procfs.await_end(self._init, min(pause_s, left_s)):
                return True
            pause_s = min(pause_s * _GROWTH, _LONGEST_LOOK_S)
            if not self._still_runs(self._upid):
                return procfs.await_end(self._init, 0)
        return True

    def _still_runs(self, upid: str) -> bool:
        """Say whether the task is at work; one that nobody tells of is not counted on."""
        problem = "nobody tells of the task"
        try:
            found = look(self._node, upid)
        except (CoreError, OSError) as exc:
            found, problem = None, str(exc)
        if found is None:
            _log.warning(
                "Proxmox VE's stop of a container failed; its process is told",
                extra={"container": self._record.name, "vmid": self._record.vmid, "error": problem},
            )
        return found is True


def _exit_code(driver: Driver, name: str) -> int | None:
    try:
        return driver.wait(name, _MONITOR_S)
    except CommandTimeout:
        # Only conmon hangs: the exit code will not be known, and `repair` ends it.
        return None


def _signal(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _note(driver: Driver, name: str, **changes: t.Any) -> None:
    """Write into the journal what can be done without it: a full disk keeps nobody from stopping."""
    with contextlib.suppress(OSError, CoreError):
        driver.amend(name, **changes)


# ---- tasks ------------------------------------------------------------------------------------------------


def look(node: PveNode, upid: str) -> bool | None:
    """Say whether a task is at work; None: nobody tells now.  Raises TaskFailed when it has ended badly."""
    try:
        tasks.wait_task(node.client, upid, 0.0, loss_timeout_s=0.0)
    except TaskTimeout:
        return True
    except ApiError as exc:
        if not exc.is_unreachable:
            raise
        return None
    return False


def is_at_work(node: PveNode, upid: str) -> bool:
    """Say whether a task is known to be at work."""
    with contextlib.suppress(TaskFailed, ApiError):
        return look(node, upid) is True
    return False


def running(node: PveNode, vmid: int) -> list[str]:
    """Return the tasks that work on a container; raises when they cannot be listed."""
    listed = node.client.get(("nodes", node.name, "tasks"), source="active", vmid=vmid)
    return [str(task["upid"]) for task in listed if not task.get("endtime") and not task.get("status")]


def _path(node: PveNode, record: LxcRecord, verb: str) -> tuple[str | int, ...]:
    return ("nodes", node.name, "lxc", record.vmid, "status", verb)


def _cannot(record: LxcRecord, done: str) -> str:
    return f"container {record.name} cannot be {done}"
