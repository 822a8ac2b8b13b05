# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop containers of Proxmox VE, and keep to a client's times whatever Proxmox VE does.

It is asked for a shutdown, by which LXC sends the image's stop signal; where it cannot (API down,
quorum lost, container locked) the signal is sent from here.  Either way the process is killed from here
when its time is up: a second stop with less time hastens the first, although Proxmox VE would let it wait.
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandTimeout, CoreError
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import guest
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from pvecri.pve.at_work import FIRST_LOOK_S, GROWTH, LONGEST_LOOK_S, Driver, api_path, look, note

if t.TYPE_CHECKING:
    from pvecri.pve.node import PveNode

_log = logging.getLogger(__name__)

#: Key of a record's task.
STOP: t.Final = "stop"

#: How long Proxmox VE may take to answer that it stops a container; then the signal is sent from here.
_ASK_S = 2.0

#: How long the kernel may take to end what was killed, and conmon to write that down.
_KILL_S = 10.0
_MONITOR_S = 10.0

#: Key of what is included: the signal that LXC sends for a shutdown.
_HALT_KEY = "lxc.signal.halt"

#: Program that sends it.
LXC_STOP: t.Final = "/usr/bin/lxc-stop"


def stop(node: PveNode, driver: Driver, record: LxcRecord, number: int | str, timeout_s: float) -> int | None:
    """End a container and return its exit code: its stop signal first, SIGKILL after ``timeout_s`` seconds.

    One that never ran is made unable to; one that has ended is left as it is.  None: the exit code is
    unknown.  Raises CommandTimeout when the kernel does not end it.
    """
    value = signal_number(number)
    state = driver.state(record.name)
    if state is not None and state.status is Status.CREATED:
        # What waits for the first process goes, and a start that comes later ends by itself.
        note(driver, record.name, stage=Stage.STOPPING)
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
                note(driver, record.name, stage=Stage.STOPPING)
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
            self._tell()
        return procfs.await_end(self._init, end - time.monotonic())

    def _tell(self) -> None:
        """Send the signal from here; one that has ended while its task failed hears nothing."""
        record = self._record
        if not _has_own_signal(guest(self._driver.paths, record.vmid).config):
            # A distribution's own init: LXC knows which signal that one takes for a shutdown.
            argv = [LXC_STOP, f"--lxcpath={record.lxc_path}", f"--name={record.vmid}", "--nowait", "--nokill"]
            try:
                SubprocessRunner().run(argv, timeout_s=_KILL_S)
                return
            except (CoreError, OSError) as exc:
                _log.warning("LXC cannot tell a container to stop", extra={"error": str(exc)})
        _signal(self._init, self._number)

    def _ask(self, timeout_s: float) -> None:
        """Have Proxmox VE shut the container down, unless it takes too long to say that it does."""
        note(self._driver, self._record.name, stage=Stage.STOPPING, upids={STOP: ""})
        threading.Thread(
            target=self._request, args=(math.ceil(timeout_s),), name="pvecri-stop", daemon=True
        ).start()
        self._answer.wait(min(_ASK_S, timeout_s / 2))

    def _request(self, timeout_s: int) -> None:
        path = api_path(self._node, self._record, "shutdown")
        try:
            upid = self._node.client.post(path, timeout=timeout_s, forceStop=True)
        except (CoreError, OSError) as exc:
            _log.warning(
                "Proxmox VE cannot stop a container; its process is told",
                extra={"container": self._record.name, "vmid": self._record.vmid, "error": str(exc)},
            )
        else:
            self._upid = str(upid or "")
            note(self._driver, self._record.name, upids={STOP: self._upid})
        finally:
            self._answer.set()

    def _by_proxmox(self, end: float) -> bool:
        """Wait for the container's end while the task runs; False when it failed before."""
        pause_s = FIRST_LOOK_S
        while (left_s := end - time.monotonic()) > 0:
            if procfs.await_end(self._init, min(pause_s, left_s)):
                return True
            pause_s = min(pause_s * GROWTH, LONGEST_LOOK_S)
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


def _has_own_signal(included: str) -> bool:
    """Say whether the image, rather than LXC, chose the signal: then the configuration names it."""
    try:
        with open(included, encoding="utf-8", errors="surrogateescape") as stream:
            return any(line.partition("=")[0].strip() == _HALT_KEY for line in stream)
    except OSError:
        return True
