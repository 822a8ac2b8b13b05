# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for crun, conmon and containers: processes that sleep, files that tell of ends."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.exits import ExitWatcher
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, CommandTimeout


def sleeper() -> subprocess.Popen[bytes]:
    """Start a process that does nothing."""
    return subprocess.Popen(["sleep", "1000"])


@dataclasses.dataclass(slots=True)
class Pretended:
    """One container: its processes, and what is known of its end."""

    conmon: subprocess.Popen[bytes] | None
    first: subprocess.Popen[bytes] | None
    exit_code: int | None = None
    oom_killed: bool = False
    problems: tuple[Problem, ...] = ()


class FakeCrun:
    """Has the part of CrunRuntime's interface by which ends are seen."""

    def __init__(self, top: pathlib.Path) -> None:
        self.exits = top / "exits"
        self.exits.mkdir()
        self.containers: dict[str, Pretended] = {}
        self.asked: list[str] = []
        self.killed: list[str] = []
        self.repaired: list[str] = []
        #: What `wait` finds: an exit code, or None for a conmon that hangs.
        self.waits: dict[str, int | None] = {}
        self.cannot_kill = False

    def add(self, name: str) -> Pretended:
        """Run a container."""
        made = self.containers[name] = Pretended(sleeper(), sleeper())
        return made

    def end(self, name: str, code: int = 0) -> None:
        """End a container as conmon does: its process, the exit file, then conmon."""
        container = self.containers[name]
        _kill(container.first)
        container.first = None
        container.exit_code = code
        self.write_exit(name, code)
        _kill(container.conmon)
        container.conmon = None

    def write_exit(self, name: str, code: int) -> None:
        """Put an exit file into its place."""
        temporary = self.exits.parent / f"tmp.{name}"
        temporary.write_text(str(code))
        os.rename(temporary, self.exits / name)

    def kill_conmon(self, name: str) -> None:
        """Kill a conmon alone."""
        _kill(self.containers[name].conmon)
        self.containers[name].conmon = None

    def kill_first(self, name: str) -> None:
        """Kill a container alone; conmon does not tell."""
        _kill(self.containers[name].first)
        self.containers[name].first = None

    def close(self) -> None:
        """End everything."""
        for container in self.containers.values():
            _kill(container.conmon)
            _kill(container.first)

    # ---- the interface ------------------------------------------------------------------------------------

    def state(self, name: str) -> ContainerState | None:
        """Return a container's state."""
        self.asked.append(name)
        container = self.containers.get(name)
        if container is None:
            return None
        first = container.first
        stat = procfs.read_stat(first.pid) if first is not None else None
        is_alive = stat is not None and stat.is_alive
        return ContainerState(
            name=name,
            status=Status.RUNNING if is_alive else Status.STOPPED,
            pid=first.pid if first is not None and is_alive else None,
            pid_start_time=stat.start_time if stat is not None and is_alive else 0,
            exit_code=container.exit_code,
            finished_at=1_000_000.5 if container.exit_code is not None else None,
            oom_killed=container.oom_killed,
            conmon_pid=container.conmon.pid if container.conmon is not None else None,
            problems=container.problems,
        )

    def watch_exits(self) -> ExitWatcher:
        """Return a watcher of the exit files."""
        return ExitWatcher(str(self.exits))

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for conmon."""
        code = self.waits.get(name)
        if code is None:
            raise CommandTimeout(f"conmon of {name} hangs for {timeout_s} s")
        self.containers[name].exit_code = code
        self.containers[name].conmon = None
        return code

    def kill(self, name: str, number: int, *, everyone: bool = False) -> None:
        """Kill a container."""
        assert (number, everyone) == (signal.SIGKILL, True)
        if self.cannot_kill:
            raise CommandError("crun is broken")
        self.killed.append(name)
        self.kill_first(name)

    def repair(self, name: str) -> tuple[Problem, ...]:
        """End a conmon that was left over."""
        self.repaired.append(name)
        self.kill_conmon(name)
        return (Problem.MONITOR_LEFT_OVER,)


def _kill(child: subprocess.Popen[bytes] | None) -> None:
    if child is not None:
        child.kill()
        child.wait()


def crun_of(fake: FakeCrun) -> t.Any:
    """Return the stand-in as what it stands in for."""
    return fake
