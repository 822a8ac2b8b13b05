# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a container with all its traces, whatever state they are in, and repair what was cut short."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs, rotation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    conmon_pid,
    read_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError

#: How long conmon may take to write the exit file of a container that has ended.
_MONITOR_GRACE_S = 2.0

#: How long the kernel may take to end a process that was killed.
KILL_WAIT_S = 10.0

#: Rounds in which processes of a create that was cut short are looked for.
_KILL_ROUNDS = 50

#: Problems that need a container to be cleared away: nothing of it can be used any more.
_HOPELESS = frozenset({Problem.HALF_CREATED, Problem.RUNTIME_STATE_BROKEN})


def clear_away(host: CrunHost, layout: Layout) -> None:
    """Remove all traces of a container but its log; can be repeated, and ends what is still alive."""
    state = read_state(layout, host.cgroups)
    if state is not None and not _HOPELESS.isdisjoint(state.problems):
        _kill_strays(layout, state)
    else:
        _end_monitor(layout, grace_s=0.0 if state is None or state.is_alive else _MONITOR_GRACE_S)
    if os.path.isdir(layout.runtime_dir):
        try:
            host.run(layout.name, argvs.delete_argv(host.programs, host.root, layout.name, force=True))
        except CommandError:
            # A crun whose create has failed clears up by itself, and may have been faster.
            if os.path.isdir(layout.runtime_dir):
                raise
    if state is not None:
        _remove_cgroup(host, state)
    forget(layout)


def _kill_strays(layout: Layout, state: ContainerState) -> None:
    """Kill the processes of a create that was cut short, and those that crun's broken state hides.

    conmon and crun may still be at work, and fork themselves free while we look: only
    when two looks in a row have found nobody there is nobody.
    """
    kill_all(lambda: _strays(layout, state))


def kill_all(look: t.Callable[[], list[procfs.ProcessStat]]) -> None:
    """Kill all processes that ``look`` finds until it finds none twice in a row."""
    in_vain = 0
    for _round in range(_KILL_ROUNDS):
        strays = look()
        in_vain = 0 if strays else in_vain + 1
        if in_vain == 2:
            return
        for stray in strays:
            with procfs.held(stray.pid, stray.start_time) as pidfd:
                if pidfd is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    procfs.await_end(pidfd, KILL_WAIT_S)


def monitors_of(layout: Layout) -> list[procfs.ProcessStat]:
    """Return conmon and the runtime of a container, as their command lines have it, and all below them."""
    found = procfs.belonging_to(layout.monitor_dir, "--bundle=" + layout.monitor_dir, layout.monitor_dir)
    for stat in list(found):
        found += procfs.descendants(stat.pid)
    return found


def _strays(layout: Layout, state: ContainerState) -> list[procfs.ProcessStat]:
    # The first process is among them until it becomes another program.
    found = monitors_of(layout)
    with contextlib.suppress(FileNotFoundError, ValueError), open(layout.init_pid_file, "rb") as stream:
        first = procfs.read_stat(int(stream.read()))
        group = _cgroup(state)
        # The id in the file may long be another's: only a process in the container's cgroup counts.
        if first is not None and first.is_alive and group is not None and group in procfs.cgroups(first.pid):
            found.append(first)
    return [stat for stat in found if stat.is_alive]


def _end_monitor(layout: Layout, *, grace_s: float) -> None:
    """See conmon off: it would write an exit file for a container that is forgotten."""
    pid = conmon_pid(layout)
    if pid is None:
        return
    with procfs.held(pid) as pidfd:
        if pidfd is None or procfs.await_end(pidfd, grace_s):
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        procfs.await_end(pidfd, KILL_WAIT_S)


def _remove_cgroup(host: CrunHost, state: ContainerState) -> None:
    """Remove a cgroup that crun left: it only warns when a dying process still held it."""
    group = _cgroup(state)
    if group is not None:
        with contextlib.suppress(OSError):
            host.cgroups.remove(group, timeout_s=_MONITOR_GRACE_S)


def _cgroup(state: ContainerState) -> str | None:
    """Return the container's cgroup: what crun says, else what it was told to make; never the root."""
    group = state.cgroup
    if group is None and state.bundle is not None:
        try:
            with open(os.path.join(state.bundle, "config.json"), "rb") as stream:
                path = json.load(stream).get("linux", {}).get("cgroupsPath")
        except (OSError, ValueError, AttributeError):
            return None
        # crun's own choice without a path; systemd removes the groups it made by itself.
        group = "/" + state.name if path is None else str(path)
    if group is None or not group.startswith("/"):
        return None
    parts = [part for part in group.split("/") if part not in {"", "."}]
    return "/" + "/".join(parts) if parts and ".." not in parts else None


def forget(layout: Layout) -> None:
    """Remove the files that tell of a container, the record last: until then it is known."""
    record = records.load(layout)
    if record is not None and record.has_rotation:
        rotation.settle(record.log_path, record.log_max_files)
        rotation.release(record.log_path)
    shutil.rmtree(layout.monitor_dir, ignore_errors=True)
    for path in (os.path.dirname(layout.attach_socket), layout.exit_file):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    records.remove(layout)


def repair(host: CrunHost, layout: Layout) -> tuple[Problem, ...]:
    """Mend what can be mended without ending a container that works; return what was mended.

    - A create that was cut short, and a state that cannot be read, are cleared away.
    - A conmon that outlived its container is ended.
    - A container without a runtime state whose process and exit code are known to be
      gone stays on record as stopped.

    A container that runs without conmon is left alone: only a restart helps, and
    that is not ours to decide.
    """
    state = read_state(layout, host.cgroups)
    if state is None:
        return ()
    hopeless = tuple(problem for problem in state.problems if problem in _HOPELESS)
    if hopeless:
        clear_away(host, layout)
        return hopeless
    return repair_monitor(layout, state)


def repair_monitor(layout: Layout, state: ContainerState) -> tuple[Problem, ...]:
    """End a conmon that goes on although its container is gone, and return that."""
    if state.is_alive or state.conmon_pid is None:
        return ()
    with procfs.held(state.conmon_pid) as pidfd:
        if pidfd is None or procfs.await_end(pidfd, _MONITOR_GRACE_S):
            return ()
    _end_monitor(layout, grace_s=0.0)
    return (Problem.MONITOR_LEFT_OVER,)
