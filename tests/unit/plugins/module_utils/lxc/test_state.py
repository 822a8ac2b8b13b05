# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of an LXC container from the files and processes that there are."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord, Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import read_state
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

_SLEEP = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(1000)")


class Container:
    """The files of one container, and processes that stand for its helpers and for its first one."""

    def __init__(self, top: pathlib.Path) -> None:
        self.layout = LxcLayout(Paths(str(top / "s"), str(top / "r")), "c1")
        layouts.prepare(self.layout.paths)
        os.makedirs(self.layout.crun.monitor_dir)
        self.cgroup = top / "cgroup"
        (self.cgroup / "lxc/7").mkdir(parents=True)
        (self.cgroup / "cgroup.controllers").touch()
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.record = LxcRecord(
            name="c1",
            vmid=7,
            node="n",
            sandbox_id="s",
            bundle=str(top),
            log_path="/log",
            boot_id=procfs.boot_id(),
            created_at=5.0,
            lxc_path="/var/lib/lxc",
            stage=Stage.READY,
        )

    def run(self, who: str) -> int:
        """Start a process that looks like conmon, the holder or nobody in particular."""
        crun = self.layout.crun
        words = {"conmon": "--cuuid=" + crun.socket_id, "holder": crun.monitor_dir}
        child = subprocess.Popen([*_SLEEP, *filter(None, [words.get(who)])])
        self.children[who] = child
        files = {"conmon": crun.conmon_pid_file, "holder": crun.init_pid_file}
        if who in files:
            pathlib.Path(files[who]).write_text(str(child.pid))
        return child.pid

    def end(self, *who: str) -> None:
        """End processes, all unless some are named."""
        for name in who or list(self.children):
            self.children[name].kill()
            self.children[name].wait()

    def answer(self, pid: int, **facts: t.Any) -> None:
        """Write what the holder says."""
        stat = procfs.read_stat(pid)
        start_time = stat.start_time if stat else 1
        pathlib.Path(self.layout.answer).write_text(
            json.dumps({"pid": pid, "start_time": start_time, **facts})
        )

    def state(self, **changes: t.Any) -> ContainerState:
        """Return the state with a record that is changed so."""
        records.save(self.layout, dataclasses.replace(self.record, **changes))
        state = read_state(self.layout, CgroupTree(str(self.cgroup)))
        assert state is not None
        return state


@pytest.fixture
def container(tmp_path: pathlib.Path) -> t.Iterator[Container]:
    made = Container(tmp_path)
    yield made
    made.end()


def _is(state: ContainerState, status: Status, *problems: Problem) -> bool:
    return (state.status, state.problems) == (status, problems)


def test_state_without_a_record_is_none(container: Container) -> None:
    assert read_state(container.layout, CgroupTree()) is None


def test_state_of_one_that_waits(container: Container) -> None:
    holder, conmon = container.run("holder"), container.run("conmon")
    for stage in (Stage.READY, Stage.STARTING, Stage.STOPPING):
        state = container.state(stage=stage)
        assert _is(state, Status.CREATED)
        assert (state.pid, state.conmon_pid, state.started_at) == (holder, conmon, None)
        assert (state.cgroup, state.created_at, state.log_path) == ("/lxc/7", 5.0, "/log")


@pytest.mark.parametrize("who", ["holder", "conmon"])
def test_state_of_one_whose_helper_was_killed_before_the_start(container: Container, who: str) -> None:
    container.run("holder")
    container.run("conmon")
    container.end(who)
    pathlib.Path(container.layout.crun.exit_file).write_text("137")
    state = container.state()
    assert _is(state, Status.CREATED, Problem.MONITOR_LOST)
    assert state.exit_code is None
    assert (state.pid is None) == (who == "holder")


def test_state_of_one_that_learns_what_to_run(container: Container) -> None:
    container.run("conmon")
    holder, first = container.run("holder"), container.run("first")
    container.answer(first)
    state = container.state(stage=Stage.STARTING)
    assert _is(state, Status.CREATED)
    assert state.pid == holder
    container.end("holder")
    state = container.state(stage=Stage.STARTING)
    assert _is(state, Status.RUNNING, Problem.MONITOR_LOST)
    assert (state.pid, state.conmon_pid) == (first, None)


def test_state_of_one_that_runs(container: Container) -> None:
    container.run("holder")
    conmon, first = container.run("conmon"), container.run("first")
    container.answer(first, started_at=9.5)
    # Whatever became of the record: it runs.
    for stage in (Stage.CREATING, Stage.STARTING, Stage.RUNNING, Stage.STOPPING, Stage.DESTROYING):
        state = container.state(stage=stage)
        assert _is(state, Status.RUNNING)
        assert (state.pid, state.conmon_pid, state.started_at) == (first, conmon, 9.5)
        assert state.pid_start_time > 0
        assert state.exit_code is None


@pytest.mark.parametrize("who", ["holder", "conmon"])
def test_state_of_one_that_runs_without_a_helper(container: Container, who: str) -> None:
    for name in ("holder", "conmon", "first"):
        container.run(name)
    container.answer(container.children["first"].pid, started_at=9.5)
    container.end(who)
    # What conmon takes for the exit code is the holder's.
    pathlib.Path(container.layout.crun.exit_file).write_text("137")
    state = container.state(stage=Stage.RUNNING)
    assert _is(state, Status.RUNNING, Problem.MONITOR_LOST)
    assert (state.conmon_pid, state.exit_code) == (None, None)


def test_state_of_one_that_has_ended(container: Container) -> None:
    first = container.run("first")
    container.answer(first, started_at=9.5, exit_code=3, exit_source="pidfd", ended_at=11.5)
    container.end()
    pathlib.Path(container.layout.crun.exit_file).write_text("3")
    state = container.state(stage=Stage.RUNNING)
    assert _is(state, Status.STOPPED)
    assert (state.exit_code, state.started_at, state.finished_at) == (3, 9.5, 11.5)
    assert (state.pid, state.oom_killed) == (None, False)
    pathlib.Path(container.layout.crun.oom_file).touch()
    assert container.state(stage=Stage.RUNNING).oom_killed


def test_state_of_one_whose_conmon_still_writes(container: Container) -> None:
    container.run("conmon")
    container.answer(container.run("first"), started_at=9.5)
    container.end("first")
    state = container.state(stage=Stage.RUNNING)
    assert _is(state, Status.STOPPED)
    assert state.exit_code is None
    assert state.conmon_pid is not None


def test_state_of_one_whose_end_only_the_holder_saw(container: Container) -> None:
    container.answer(container.run("first"), started_at=9.5, exit_code=4, exit_source="pidfd", ended_at=10.5)
    container.end()
    state = container.state(stage=Stage.RUNNING)
    assert _is(state, Status.STOPPED)
    assert (state.exit_code, state.finished_at) == (4, 10.5)


def test_state_of_one_whose_end_nobody_saw(container: Container) -> None:
    container.answer(
        container.run("first"), started_at=9.5, exit_code=None, exit_source="unknown", ended_at=2.0
    )
    container.end()
    pathlib.Path(container.layout.crun.exit_file).write_text("255")
    state = container.state(stage=Stage.RUNNING)
    assert _is(state, Status.STOPPED, Problem.EXIT_CODE_UNKNOWN)
    assert state.exit_code is None


def test_state_of_one_that_could_not_be_run(container: Container) -> None:
    container.answer(container.run("first"), stage=10, errno=2)
    container.end()
    pathlib.Path(container.layout.crun.exit_file).write_text("127")
    state = container.state(stage=Stage.STARTING)
    assert _is(state, Status.STOPPED)
    assert (state.exit_code, state.started_at) == (127, None)


def test_state_of_one_of_which_everything_is_gone(container: Container) -> None:
    state = container.state(stage=Stage.RUNNING, started_at=6.0)
    assert _is(state, Status.STOPPED, Problem.RUNTIME_STATE_LOST, Problem.EXIT_CODE_UNKNOWN)
    assert state.started_at == 6.0


def test_state_after_a_restart_of_the_host(container: Container) -> None:
    for stage in (Stage.READY, Stage.RUNNING):
        state = container.state(stage=stage, boot_id="before")
        assert _is(state, Status.STOPPED, Problem.HOST_RESTARTED, Problem.EXIT_CODE_UNKNOWN)


@pytest.mark.parametrize("stage", [Stage.CLAIMED, Stage.CREATING, Stage.INCLUDED])
def test_state_of_one_whose_making_was_cut_short(container: Container, stage: Stage) -> None:
    assert _is(container.state(stage=stage), Status.CREATING, Problem.HALF_CREATED)
    state = container.state(stage=stage, boot_id="before")
    assert Problem.HALF_CREATED in state.problems
    assert state.status is Status.STOPPED


def test_state_of_one_whose_removal_was_cut_short(container: Container) -> None:
    state = container.state(stage=Stage.DESTROYING)
    assert _is(state, Status.STOPPED, Problem.EXIT_CODE_UNKNOWN, Problem.HALF_CREATED)


def test_state_names_a_bundle_that_is_missing(container: Container) -> None:
    container.run("holder")
    container.run("conmon")
    assert _is(container.state(bundle="/none"), Status.CREATED, Problem.BUNDLE_MISSING)


@pytest.mark.parametrize("group", ["lxc/7", "lxc/7/ns"])
def test_state_counts_what_the_kernel_killed(container: Container, group: str) -> None:
    for name in ("holder", "conmon", "first"):
        container.run(name)
    container.answer(container.children["first"].pid, started_at=9.5)
    assert not container.state().oom_killed
    place = container.cgroup / group
    place.mkdir(exist_ok=True)
    (place / "memory.events").write_text("oom 2\noom_kill 1\n")
    assert container.state().oom_killed


def test_state_is_not_deceived_by_another_process_of_the_same_id(container: Container) -> None:
    pid = container.run("first")
    for path in (container.layout.crun.init_pid_file, container.layout.crun.conmon_pid_file):
        pathlib.Path(path).write_text(str(pid))
    pathlib.Path(container.layout.answer).write_text(
        json.dumps({"pid": pid, "start_time": 1, "started_at": 2.0})
    )
    state = container.state(stage=Stage.RUNNING)
    assert state.status is Status.STOPPED
    assert (state.pid, state.conmon_pid) == (None, None)
