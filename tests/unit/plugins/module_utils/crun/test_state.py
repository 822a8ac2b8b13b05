# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States that follow from files."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import state as state_module
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
    read_state,
)

P = Problem


def group(tree: CgroupTree, **files: str) -> None:
    directory = pathlib.Path(tree.root, "group")
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)


def known(box: t.Any, tree: CgroupTree) -> ContainerState:
    state = read_state(box.layout, tree)
    assert state is not None
    return state


def test_nothing_known(box: t.Any, tree: CgroupTree) -> None:
    assert read_state(box.layout, tree) is None


def test_created(box: t.Any, tree: CgroupTree) -> None:
    box.record(started_at=5.0)
    box.alive(fifo=True)
    state = known(box, tree)
    assert (state.status, state.pid, state.is_alive) == (Status.CREATED, os.getpid(), True)
    assert state.started_at is None, "of an earlier life"
    assert state.created_at == 1767323045.678901
    assert state.problems == (P.MONITOR_LOST,)


@pytest.mark.parametrize(
    ("freeze", "status"), [("0\n", Status.RUNNING), ("1\n", Status.PAUSED), (None, Status.RUNNING)]
)
def test_running_and_paused(box: t.Any, tree: CgroupTree, freeze: str | None, status: Status) -> None:
    box.record(started_at=5.0)
    box.alive()
    if freeze is not None:
        group(tree, cgroup_freeze=freeze)
    state = known(box, tree)
    assert (state.status, state.started_at, state.cgroup) == (status, 5.0, "/group")


def test_stopped_with_exit_code(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    box.dead()
    box.exit(3)
    state = known(box, tree)
    assert (state.status, state.exit_code, state.pid, state.problems) == (Status.STOPPED, 3, None, ())
    assert state.finished_at == os.stat(box.layout.exit_file).st_mtime


@pytest.mark.parametrize("content", ["", "x"])
def test_stopped_without_exit_code(box: t.Any, tree: CgroupTree, content: str) -> None:
    box.record()
    box.dead()
    if content:
        box.exit(0)
        pathlib.Path(box.layout.exit_file).write_text(content)
    state = known(box, tree)
    assert (state.exit_code, state.problems) == (None, (P.EXIT_CODE_UNKNOWN,))


@pytest.mark.parametrize("is_seen_alive", [True, False])
def test_end_while_it_is_looked_at_is_no_loss(
    box: t.Any, tree: CgroupTree, monkeypatch: pytest.MonkeyPatch, is_seen_alive: bool
) -> None:
    conmon: list[int] = [77]

    def seen(_pid: int, _start_time: int) -> bool:
        if is_seen_alive:
            # The last moment of the container, and of conmon after it.
            conmon.clear()
        return is_seen_alive

    def unwritten(_layout: t.Any) -> tuple[None, None]:
        conmon.clear()
        return None, None

    monkeypatch.setattr(state_module, "conmon_pid", lambda _layout: conmon[0] if conmon else None)
    monkeypatch.setattr(state_module.procfs, "is_same_process", seen)
    monkeypatch.setattr(state_module, "read_exit", unwritten)
    box.record()
    box.alive()
    state = known(box, tree)
    assert (state.is_alive, state.conmon_pid, state.problems) == (is_seen_alive, 77, ())


def test_process_of_the_same_id_is_not_the_container(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    box.dead()
    assert known(box, tree).status is Status.STOPPED


def test_start_time_zero_matches_any(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    box.crun(os.getpid(), 0)
    assert known(box, tree).status is Status.RUNNING


@pytest.mark.parametrize("events", ["oom 3\noom_kill 0\n", "oom_kill 2\n"])
def test_out_of_memory_by_the_group(box: t.Any, tree: CgroupTree, events: str) -> None:
    box.record()
    box.dead()
    group(tree, memory_events=events)
    assert known(box, tree).oom_killed is ("oom_kill 2" in events)


def test_out_of_memory_by_conmon_s_mark(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    box.dead(**{"cgroup-path": ""})
    assert known(box, tree).oom_killed is False
    box.monitor("oom")
    assert known(box, tree).oom_killed is True


def test_record_of_another_boot(box: t.Any, tree: CgroupTree) -> None:
    box.record(boot_id="before", started_at=7.0)
    state = known(box, tree)
    assert (state.status, state.started_at) == (Status.STOPPED, 7.0)
    assert state.problems == (P.HOST_RESTARTED, P.EXIT_CODE_UNKNOWN)
    box.exit(5)
    state = known(box, tree)
    assert (state.exit_code, state.problems) == (5, ())


def test_half_created(box: t.Any, tree: CgroupTree) -> None:
    box.record(is_complete=False)
    state = known(box, tree)
    assert (state.status, state.problems) == (Status.CREATING, (P.HALF_CREATED,))
    box.alive(fifo=True)
    assert P.HALF_CREATED in known(box, tree).problems
    box.dead()
    assert P.HALF_CREATED in known(box, tree).problems


def test_runtime_state_lost(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    assert known(box, tree).problems == (P.RUNTIME_STATE_LOST,)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"pid": 1}', '{"pid": "x", "bundle": "/b"}'])
def test_runtime_state_broken(box: t.Any, tree: CgroupTree, content: str | None) -> None:
    box.record()
    os.makedirs(box.layout.runtime_dir)
    if content is not None:
        pathlib.Path(box.layout.runtime_dir, "status").write_text(content)
    assert known(box, tree).problems == (P.RUNTIME_STATE_BROKEN,)


def test_not_recorded(box: t.Any, tree: CgroupTree) -> None:
    box.alive(created="not a time")
    state = known(box, tree)
    assert (state.created_at, state.log_path) == (None, None)
    assert set(state.problems) == {P.NOT_RECORDED, P.MONITOR_LOST}


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_record_that_cannot_be_read_is_none(box: t.Any, tree: CgroupTree, content: str) -> None:
    box.record()
    pathlib.Path(box.layout.record).write_text(content)
    assert read_state(box.layout, tree) is None


def test_record_with_keys_of_a_later_version(box: t.Any, tree: CgroupTree) -> None:
    box.record()
    path = pathlib.Path(box.layout.record)
    path.write_text(path.read_text().replace("{", '{"later": 1, ', 1))
    assert known(box, tree).problems == (P.RUNTIME_STATE_LOST,)


def test_bundle_missing(box: t.Any, tree: CgroupTree) -> None:
    box.record(bundle="/no/such")
    assert P.BUNDLE_MISSING in known(box, tree).problems
    box.alive(bundle="/no/such")
    assert P.BUNDLE_MISSING in known(box, tree).problems


@pytest.mark.parametrize("is_ours", [True, False])
def test_conmon_is_known_by_its_arguments(box: t.Any, tree: CgroupTree, is_ours: bool) -> None:
    box.record()
    mark = f"--cuuid={box.layout.socket_id}" if is_ours else "--cuuid=other"
    child = subprocess.Popen(["sh", "-c", "read x", "conmon", mark], stdin=subprocess.PIPE)
    try:
        box.monitor("conmon.pid", str(child.pid))
        state = known(box, tree)
        assert state.conmon_pid == (child.pid if is_ours else None)
        assert (P.MONITOR_LEFT_OVER in state.problems) is is_ours
    finally:
        child.communicate()
    assert known(box, tree).conmon_pid is None
