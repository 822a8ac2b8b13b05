# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out the state of an LXC container from files alone; neither a process nor a request is made.

What there is to go by: the record, the holder's answer and process, conmon's process and its exit
file, and the container's first process.  Proxmox VE may be down.
"""

from __future__ import annotations

import contextlib
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
    conmon_pid,
    read_exit,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.handover import Answer, read_answer
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage, load

#: Stages in which a container without an answer may yet be started, or is just being started.
_STARTABLE = frozenset({Stage.READY, Stage.STARTING})


def read_state(layout: LxcLayout, cgroups: CgroupTree) -> ContainerState | None:
    """Return the state of a container, or None when there is no record of it."""
    record = load(layout)
    if record is None:
        return None
    # These two first: they outlive the container, and end once they have told of its end.  Looked at last
    # they could be gone, as if a container that has just ended ran without them, or had left no exit code.
    conmon = conmon_pid(layout.crun)
    holder = holder_pid(layout.crun)
    answer = read_answer(layout.answer)
    if answer is not None and procfs.is_same_process(answer.pid, answer.start_time):
        return _alive(layout, record, answer, conmon, holder, cgroups)
    if answer is None and record.boot_id == procfs.boot_id():
        if not record.is_whole and record.stage is not Stage.DESTROYING:
            return _state(layout, record, Status.CREATING, (Problem.HALF_CREATED,), pid=holder, conmon=conmon)
        if holder is not None or record.stage in _STARTABLE:
            return _created(layout, record, conmon, holder)
    return _ended(layout, record, answer, conmon)


def holder_pid(layout: Layout) -> int | None:
    """Return the process that holds the place of the first one under conmon, or None when it is gone."""
    with contextlib.suppress(OSError, ValueError):
        with open(layout.init_pid_file, encoding="ascii") as stream:
            pid = int(stream.read())
        # Long after its end the id may be another process's: this one has the container on its command line.
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().split(b"\0")
        stat = procfs.read_stat(pid)
        if stat is not None and stat.is_alive and os.fsencode(layout.monitor_dir) in words:
            return pid
    return None


def _created(layout: LxcLayout, record: LxcRecord, conmon: int | None, holder: int | None) -> ContainerState:
    """Tell of a container that can be started, as long as somebody waits for its first process.

    The holder is what there is of it: as with crun, its end is the container's.
    """
    problems = () if conmon is not None and holder is not None else (Problem.MONITOR_LOST,)
    return _state(layout, record, Status.CREATED, problems, pid=holder, conmon=conmon)


def _alive(  # noqa: PLR0917 - what was read, in the order in which it counts
    layout: LxcLayout,
    record: LxcRecord,
    answer: Answer,
    conmon: int | None,
    holder: int | None,
    cgroups: CgroupTree,
) -> ContainerState:
    is_watched = conmon is not None and holder is not None
    if answer.started_at is None and is_watched:
        # It is just learning what to run.
        return _state(layout, record, Status.CREATED, (), pid=holder, conmon=conmon)
    return _state(
        layout,
        record,
        Status.RUNNING,
        () if is_watched else (Problem.MONITOR_LOST,),
        pid=answer.pid,
        start_time=answer.start_time,
        started_at=answer.started_at,
        # Without the holder nobody waits for its end, and without conmon nobody reads what it writes.
        conmon=conmon if holder is not None else None,
        oom_killed=_oom_killed(layout, record, cgroups),
    )


def _ended(layout: LxcLayout, record: LxcRecord, answer: Answer | None, conmon: int | None) -> ContainerState:
    exit_code, finished_at = read_exit(layout.crun)
    if exit_code is not None:
        # The holder tells before it ends: what was read before may be older than what conmon has written.
        answer = read_answer(layout.answer)
    if answer is not None and (answer.started_at is not None or exit_code is None):
        # The holder's word counts: it knows before conmon does, conmon cannot write that nobody knows, and
        # where the holder was killed what conmon wrote is the holder's own end.
        exit_code = answer.exit_code
    problems = []
    if exit_code is None and conmon is None:
        if record.boot_id != procfs.boot_id():
            problems.append(Problem.HOST_RESTARTED)
        elif answer is None and record.is_whole:
            problems.append(Problem.RUNTIME_STATE_LOST)
        problems.append(Problem.EXIT_CODE_UNKNOWN)
    if not record.is_whole:
        problems.append(Problem.HALF_CREATED)
    ended_at = None if answer is None else answer.ended_at
    return _state(
        layout,
        record,
        Status.STOPPED,
        tuple(problems),
        conmon=conmon,
        exit_code=exit_code,
        finished_at=ended_at or finished_at,
        started_at=None if answer is None else answer.started_at,
        oom_killed=os.path.exists(layout.crun.oom_file),
    )


def _state(
    layout: LxcLayout,
    record: LxcRecord,
    status: Status,
    problems: tuple[Problem, ...],
    *,
    pid: int | None = None,
    start_time: int = 0,
    conmon: int | None,
    exit_code: int | None = None,
    finished_at: float | None = None,
    started_at: float | None = None,
    oom_killed: bool = False,
) -> ContainerState:
    if not os.path.isdir(record.bundle):
        problems = (*problems, Problem.BUNDLE_MISSING)
    return ContainerState(
        name=layout.name,
        status=status,
        pid=pid,
        pid_start_time=start_time,
        exit_code=exit_code,
        oom_killed=oom_killed,
        created_at=record.created_at,
        started_at=started_at or record.started_at,
        finished_at=finished_at,
        bundle=record.bundle,
        log_path=record.log_path,
        conmon_pid=conmon,
        cgroup=resources.group(record.vmid),
        problems=problems,
    )


def _oom_killed(layout: LxcLayout, record: LxcRecord, cgroups: CgroupTree) -> bool:
    if os.path.exists(layout.crun.oom_file):
        return True
    # v1 does not count in the outer group what the inner one's processes were killed for.
    group = resources.group(record.vmid)
    return any(cgroups.oom_kills(place) > 0 for place in (group, group + resources.INNER))
