# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out the state of a container from files alone; no process is started.

What crun's ``state`` would say follows from its status file, its ``exec.fifo``,
/proc and the freezer (OCI runtime specification 1.2, runtime.md, "State").  To
that come the exit file and OOM mark of conmon, and the record, which knows what
was there before a reboot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout


class Status(enum.StrEnum):
    """The states of the OCI runtime specification, and crun's paused."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Problem(enum.StrEnum):
    """What is wrong with a container beyond its state."""

    #: A create was cut short: there may be parts of a container.
    HALF_CREATED = "half_created"
    #: A delete was cut short, or somebody removed crun's state.
    RUNTIME_STATE_LOST = "runtime_state_lost"
    #: The host was restarted while the container ran.
    HOST_RESTARTED = "host_restarted"
    #: crun's status file cannot be read.
    RUNTIME_STATE_BROKEN = "runtime_state_broken"
    #: conmon died before its container: output is lost, and the exit code will be.
    MONITOR_LOST = "monitor_lost"
    #: conmon goes on although its container is gone.
    MONITOR_LEFT_OVER = "monitor_left_over"
    #: The container ended and nobody saw its exit code.
    EXIT_CODE_UNKNOWN = "exit_code_unknown"
    #: The bundle that the container was made from is gone.
    BUNDLE_MISSING = "bundle_missing"
    #: crun knows the container, but it was not made by this driver.
    NOT_RECORDED = "not_recorded"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """One container at one moment; times are seconds of the epoch."""

    name: str
    status: Status
    #: First process of the container; None unless created, running or paused.
    pid: int | None = None
    #: Start time of ``pid`` in clock ticks after boot.
    pid_start_time: int = 0
    #: None while it lives, and when nobody saw it end.
    exit_code: int | None = None
    oom_killed: bool = False
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    bundle: str | None = None
    log_path: str | None = None
    #: conmon; None when it is gone.
    conmon_pid: int | None = None
    #: Path of the cgroup below its hierarchy's root.
    cgroup: str | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Say whether the container has a process."""
        return self.pid is not None


@dataclasses.dataclass(frozen=True, slots=True)
class _Crun:
    """What crun's state directory says."""

    pid: int
    start_time: int
    created_at: float | None
    bundle: str
    cgroup: str | None
    has_fifo: bool


class _BrokenError(Exception):
    """crun's state directory is there and makes no sense."""


def read_state(layout: Layout, cgroups: CgroupTree) -> ContainerState | None:
    """Return the state of a container, or None when nothing of it is known."""
    record = records.load(layout)
    # conmon first: it outlives its container, and writes the exit file before it ends.  Looked at last it
    # could be gone, as if a container that has just ended ran without it, or had left no exit code.
    conmon = conmon_pid(layout)
    try:
        crun = _read_crun(layout)
    except _BrokenError:
        return _without_runtime(layout, record, conmon, Problem.RUNTIME_STATE_BROKEN)
    if crun is None:
        if record is None:
            return None
        return _without_runtime(layout, record, conmon, None)
    if procfs.is_same_process(crun.pid, crun.start_time):
        return _alive(layout, record, conmon, crun, cgroups)
    return _ended(layout, record, conmon, crun, cgroups)


def _read_crun(layout: Layout) -> _Crun | None:
    directory = layout.runtime_dir
    try:
        with open(os.path.join(directory, "status"), "rb") as stream:
            status = json.load(stream)
        return _Crun(
            int(status["pid"]),
            int(status.get("process-start-time", 0)),
            _time(status.get("created")),
            str(status["bundle"]),
            str(status.get("cgroup-path") or "") or None,
            os.path.exists(os.path.join(directory, "exec.fifo")),
        )
    except FileNotFoundError as exc:
        if os.path.isdir(directory):
            raise _BrokenError from exc
        return None
    except (ValueError, KeyError, TypeError) as exc:
        raise _BrokenError from exc


def _time(text: t.Any) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None


def _alive(
    layout: Layout, record: records.Record | None, conmon: int | None, crun: _Crun, cgroups: CgroupTree
) -> ContainerState:
    if crun.has_fifo:
        status = Status.CREATED
    elif crun.cgroup is not None and cgroups.is_frozen(crun.cgroup):
        status = Status.PAUSED
    else:
        status = Status.RUNNING
    problems = [Problem.MONITOR_LOST] if conmon is None else []
    if record is not None and not record.is_complete:
        problems.append(Problem.HALF_CREATED)
    return ContainerState(
        status=status,
        pid=crun.pid,
        pid_start_time=crun.start_time,
        oom_killed=_oom_killed(layout, crun, cgroups),
        conmon_pid=conmon,
        **_common(layout, record, crun, problems),
    )


def _ended(
    layout: Layout, record: records.Record | None, conmon: int | None, crun: _Crun, cgroups: CgroupTree
) -> ContainerState:
    exit_code, finished_at = read_exit(layout)
    problems = []
    if exit_code is None and conmon is None:
        problems.append(Problem.EXIT_CODE_UNKNOWN)
    if record is not None and not record.is_complete:
        problems.append(Problem.HALF_CREATED)
    return ContainerState(
        status=Status.STOPPED,
        exit_code=exit_code,
        finished_at=finished_at,
        oom_killed=_oom_killed(layout, crun, cgroups),
        conmon_pid=conmon,
        **_common(layout, record, crun, problems),
    )


def _common(
    layout: Layout, record: records.Record | None, crun: _Crun, problems: list[Problem]
) -> dict[str, t.Any]:
    if record is None:
        problems.append(Problem.NOT_RECORDED)
    if not os.path.isdir(crun.bundle):
        problems.append(Problem.BUNDLE_MISSING)
    return {
        "name": layout.name,
        "created_at": crun.created_at,
        "started_at": None if record is None or crun.has_fifo else record.started_at,
        "bundle": crun.bundle,
        "log_path": record.log_path if record else None,
        "cgroup": crun.cgroup,
        "problems": tuple(problems),
    }


def _without_runtime(
    layout: Layout, record: records.Record | None, conmon: int | None, problem: Problem | None
) -> ContainerState:
    """Tell of a container of which crun has no state, or none that can be read."""
    exit_code, finished_at = read_exit(layout)
    problems = [problem] if problem else []
    status = Status.STOPPED
    if record is None:
        problems.append(Problem.NOT_RECORDED)
    elif record.boot_id != procfs.boot_id():
        if exit_code is None:
            problems += [Problem.HOST_RESTARTED, Problem.EXIT_CODE_UNKNOWN]
    elif not record.is_complete:
        status = Status.CREATING
        problems.append(Problem.HALF_CREATED)
    elif problem is None:
        problems.append(Problem.RUNTIME_STATE_LOST)
    if conmon is not None:
        problems.append(Problem.MONITOR_LEFT_OVER)
    if record is not None and not os.path.isdir(record.bundle):
        problems.append(Problem.BUNDLE_MISSING)
    return ContainerState(
        name=layout.name,
        status=status,
        exit_code=exit_code,
        finished_at=finished_at,
        oom_killed=os.path.exists(layout.oom_file),
        created_at=record.created_at if record else None,
        started_at=record.started_at if record else None,
        bundle=record.bundle if record else None,
        log_path=record.log_path if record else None,
        conmon_pid=conmon,
        problems=tuple(problems),
    )


def _oom_killed(layout: Layout, crun: _Crun, cgroups: CgroupTree) -> bool:
    if os.path.exists(layout.oom_file):
        return True
    # conmon's mark can be late or missing when many die at once: the cgroup counts for itself.
    return crun.cgroup is not None and cgroups.oom_kills(crun.cgroup) > 0


def read_exit(layout: Layout) -> tuple[int | None, float | None]:
    """Return exit code and time of the end from conmon's exit file, which is written whole."""
    with (
        contextlib.suppress(FileNotFoundError, ValueError),
        open(layout.exit_file, encoding="ascii") as stream,
    ):
        return int(stream.read()), os.fstat(stream.fileno()).st_mtime
    return None, None


def conmon_pid(layout: Layout) -> int | None:
    """Return the id of the conmon that watches this container, or None when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        with open(layout.conmon_pid_file, encoding="ascii") as stream:
            pid = int(stream.read())
        stat = procfs.read_stat(pid)
        if stat is None or not stat.is_alive:
            return None
        # After a restart of the host, or long after its end, the id may be another process's.
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            if b"--cuuid=" + layout.socket_id.encode() in stream.read().split(b"\0"):
                return pid
    return None
