# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read how a container ended and write it down."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    CoreError,
    NotFound,
    WrongState,
)
from pvecri.runtimes.protocol import Runtime
from pvecri.state.holds import REMOVING
from pvecri.state.records import MONITOR_LOST, UNKNOWN, ContainerRecord, Phase, reason_of
from pvecri.state.registry import Registry

_log = logging.getLogger(__name__)

#: How long conmon may take to write the exit file of a container that has ended.
_MONITOR_S = 10.0

#: How long an end waits for the start that is under way.
_START_S = 10.0

#: How long the kernel may take to end what was killed.
_KILL_S = 10.0

_MONITOR_LOST_MESSAGE = "conmon, which writes its log, was killed; the container was killed thereupon"

#: Exit code of a process that was killed: 128 and the signal's number.
_KILLED = 128 + signal.SIGKILL


class Exits:
    """Settles the ends of containers; ``reaped`` gives the exit code of a process that the daemon reaped."""

    def __init__(
        self,
        registry: Registry,
        runtime: Runtime,
        *,
        reaped: t.Callable[[int], int | None] = lambda _pid: None,
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._reaped = reaped

    def settle(self, container_id: str) -> ContainerRecord | None:
        """Write the end of a container that has ended, and return its record; None when it is removed.

        One that lives is left as it is, unless its conmon is gone: nobody would write its log
        or take its exit code any more, so it is killed.  Can be called at any time, also twice.
        """
        try:
            record = self._started(self._registry.container(container_id))
            if record.phase is Phase.CREATING or (
                record.phase is Phase.EXITED and record.exit_code is not None
            ):
                return record
            state = self._runtime.state(container_id)
            if state is None and record.awaits_restore:
                return record
            if state is not None and state.is_alive:
                # A removal ends conmon before the container.
                if state.conmon_pid is not None or REMOVING in self._registry.flags(record.id):
                    return record
                return self._end_unwatched(record, state)
            return self._write(record, state)
        except NotFound:
            return None

    def _started(self, record: ContainerRecord) -> ContainerRecord:
        """Return the record when it knows of a start under way: nobody shall see an end before the start."""
        if record.phase is Phase.CREATED:
            with contextlib.suppress(WrongState), self._registry.held(record.id, timeout_s=_START_S):
                pass
            return self._registry.container(record.id)
        return record

    def _write(self, record: ContainerRecord, state: ContainerState | None) -> ContainerRecord:
        if state is not None and state.exit_code is None and state.conmon_pid is not None:
            state = self._after_monitor(record.id) or state
        if record.reason == MONITOR_LOST:
            # Killed by a daemon that did not live to write it; of a guest the code is known nonetheless.
            code = None if state is None else state.exit_code
            return self._exited(record, _KILLED if code is None else code, MONITOR_LOST, record.message)
        if state is None:
            return self._exited(record, None, UNKNOWN, "its runtime does not know the container any more")
        if state.exit_code is None:
            if Problem.HOST_RESTARTED in state.problems:
                return self._exited(
                    record, None, UNKNOWN, "the host was restarted", finished_at=boot_time_ns()
                )
            return self._exited(record, None, UNKNOWN, "nobody saw its exit code")
        reason = reason_of(state.exit_code, oom_killed=state.oom_killed)
        return self._exited(
            record, state.exit_code, reason, "", finished_at=round((state.finished_at or 0) * 1e9)
        )

    def _after_monitor(self, container_id: str) -> ContainerState | None:
        """Give conmon time to write the exit file, end it if it does not, and return the state then."""
        try:
            self._runtime.wait(container_id, _MONITOR_S)
        except CommandTimeout:
            _log.warning("conmon of container %s hangs after its end; it is killed", container_id)
            self._runtime.repair(container_id)
        return self._runtime.state(container_id)

    def _end_unwatched(self, record: ContainerRecord, state: ContainerState) -> ContainerRecord | None:
        """Kill a container whose conmon is gone, and note that."""
        _log.error("conmon of container %s is gone; the container is killed", record.id)
        # Written before it is done: a daemon that dies in between leaves nobody wondering.
        record = self._registry.update_container(
            record.id, reason=MONITOR_LOST, message=_MONITOR_LOST_MESSAGE
        )
        pid = t.cast(int, state.pid)
        try:
            self._runtime.kill(record.id, signal.SIGKILL, everyone=True)
        except CoreError as exc:
            _log.warning("container %s cannot be killed by its runtime: %s", record.id, exc)
        # Whatever the runtime did: without its first process a container is none.
        procfs.send_signal(pid, state.pid_start_time, signal.SIGKILL)
        with procfs.held(pid, state.pid_start_time) as pidfd:
            if pidfd is not None and not procfs.await_end(pidfd, _KILL_S):
                _log.error("process %d of container %s cannot be killed", pid, record.id)
                return record
        code = self._reaped(pid)
        return self._exited(record, _KILLED if code is None else code, MONITOR_LOST, _MONITOR_LOST_MESSAGE)

    def _exited(
        self,
        record: ContainerRecord,
        exit_code: int | None,
        reason: str,
        message: str,
        *,
        finished_at: int = 0,
    ) -> ContainerRecord:
        return self._registry.exited(
            record.id,
            exit_code=exit_code,
            finished_at_ns=finished_at or time.time_ns(),
            reason=reason,
            message=message,
        )


def boot_time_ns() -> int:
    """Return when the host was started, in nanoseconds of the epoch."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
