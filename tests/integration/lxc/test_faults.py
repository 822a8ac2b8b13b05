# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LXC containers whose conmon, holder or maker was killed, and hosts that were restarted."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import signal
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (
    holder,
    launcher,
    layout,
    preparation,
    record,
    removal,
    staging,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.tests.support.lxc_world import Ct, World, bind
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

KILLED: t.Final = {"conmon": 0, "holder": 1}
WHO = pytest.mark.parametrize("who", list(KILLED))


def _kill(ct: Ct, who: str) -> None:
    """Kill conmon or the holder of a container that is prepared or runs."""
    path = ct.layout.crun.conmon_pid_file if who == "conmon" else ct.layout.crun.init_pid_file
    pid = int(pathlib.Path(path).read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not procfs.is_same_process(pid, 0))


@WHO
def test_container_that_waits_without_its_helpers_gets_them_anew(world: World, who: str) -> None:
    volume = world.volume("v", "x")
    ct = world.ct("cat", "/v/f", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    ct.prepare()
    _kill(ct, who)
    eventually(lambda: Problem.MONITOR_LOST in ct.state.problems)
    assert ct.state.status is Status.CREATED
    assert world.driver.repair(ct.name) == (Problem.MONITOR_LOST,)
    state = ct.state
    assert (state.status, state.problems, state.exit_code) == (Status.CREATED, (), None)
    ct.begin()
    world.driver.await_start(ct.name, 30)
    assert ct.wait() == 0
    assert ct.written() == ("x", "")


@WHO
def test_container_that_nobody_waits_for_does_not_run(world: World, who: str) -> None:
    ct = world.ct("sh", "-c", "echo ran").prepare()
    _kill(ct, who)
    assert ct.begin().wait(30) is not None
    with pytest.raises(WrongState):
        world.driver.await_start(ct.name, 30)
    assert "ran" not in "".join(ct.written() if os.path.exists(ct.log) else "")


@WHO
def test_running_container_without_its_helpers_is_told_of(world: World, who: str) -> None:
    ct = world.ct("sleep", "1000")
    pid = ct.start()
    _kill(ct, who)
    state = eventually(lambda: found if (found := ct.state).conmon_pid is None else None)
    assert (state.status, state.pid, state.problems) == (Status.RUNNING, pid, (Problem.MONITOR_LOST,))
    # It runs: whether it shall is not for the driver to say.
    assert world.driver.repair(ct.name) == ()
    assert ct.state.pid == pid
    world.driver.kill(ct.name, "KILL")
    world.driver.wait(ct.name, 30)
    state = eventually(lambda: found if not (found := ct.state).is_alive else None)
    assert state.status is Status.STOPPED
    ct.remove()
    assert world.driver.names() == []


def test_volumes_of_a_start_that_nobody_saw_are_let_go_of(world: World) -> None:
    volume = world.volume("v", "x")
    ct = world.ct("sleep", "1000", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    ct.prepare().begin()
    eventually(lambda: ct.state.status is Status.RUNNING)
    assert syscalls.is_mount_point(ct.guest.mounts)
    assert world.driver.repair(ct.name) == ()
    assert not os.path.exists(ct.guest.mounts)
    assert world.driver.exec(ct.name, ["cat", "/v/f"]).stdout == "x"


def test_end_of_a_container_without_conmon_is_known_from_the_holder(world: World) -> None:
    ct = world.ct("sh", "-c", "read x; exit 9", stdin=True)
    ct.start()
    _kill(ct, "conmon")
    # Without conmon its input has ended.
    state = eventually(lambda: found if (found := ct.state).exit_code is not None else None)
    assert (state.status, state.exit_code) == (Status.STOPPED, 9)


def test_repair_of_a_container_that_has_ended_changes_nothing(world: World) -> None:
    ct = world.ct("true")
    ct.start()
    assert ct.wait() == 0
    assert world.driver.repair(ct.name) == ()
    assert ct.state.problems == ()


STEPS: t.Final = (
    (record, "save"),
    (launcher, "program"),
    (preparation, "write_atomic"),
    (conmon, "launch"),
    (staging, "show_network"),
    (staging, "allow_unprivileged"),
    (staging, "stage"),
    (syscalls, "move_mount"),
    (preparation.include, "text"),
)


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "step"), STEPS, ids=[name for _module, name in STEPS])
def test_prepare_that_was_killed_can_be_made_again_or_cleared_away(
    world: World, module: t.Any, step: str, *, is_done: bool
) -> None:
    volume = world.volume("v", "x")
    ct = world.ct("cat", "/v/f", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    assert os.WIFSIGNALED(_killed_at(ct, module, step, is_done=is_done))
    # What is there already is not made again: then it is not killed, either.
    again = _killed_at(ct, module, step, is_done=is_done)
    assert again in {0, signal.SIGKILL}
    ct.start()
    assert ct.wait() == 0
    assert ct.written() == ("x", "")
    other = world.ct("true", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    _killed_at(other, module, step, is_done=is_done)
    other.remove()
    assert not os.path.exists(other.guest.directory)
    assert not os.path.exists(other.layout.crun.monitor_dir)
    assert f"/{other.vmid}/" not in pathlib.Path("/proc/self/mountinfo").read_text()
    directory = os.fsencode(other.layout.crun.monitor_dir)
    assert procfs.belonging_to(os.fsdecode(directory), os.fsdecode(directory)) == []


def _killed_at(ct: Ct, module: t.Any, step: str, *, is_done: bool) -> int:
    """Prepare a container in a process that kills itself before or after a step; return its wait status."""
    child = os.fork()
    if not child:
        whole = getattr(module, step)

        def cut(*args: t.Any, **options: t.Any) -> t.Any:
            if is_done:
                whole(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, step, cut)
        code = 1
        try:
            ct.prepare()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize(
    "step", ["_await_conmon", "clear_guest", "rootfs.unmount_below", "shutil.rmtree", "records.remove"]
)
def test_removal_that_was_killed_is_completed(world: World, step: str) -> None:
    ct = world.ct("true")
    ct.start()
    ct.wait()
    ct.stop()
    world.machine.remove(ct.vmid)
    child = os.fork()
    if not child:
        holder_of: t.Any = removal
        *path, name = step.split(".")
        for part in path:
            holder_of = getattr(holder_of, part)
        setattr(holder_of, name, lambda *_args, **_options: os.kill(os.getpid(), signal.SIGKILL))
        try:
            world.driver.clear_away(ct.name)
        finally:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert world.driver.names() == [ct.name]
    world.driver.clear_away(ct.name)
    assert world.driver.names() == []
    assert not os.path.exists(ct.guest.directory)


def test_container_of_a_host_that_was_restarted_has_ended(world: World) -> None:
    ct = world.ct("true").prepare()
    world.driver.kill(ct.name, "KILL")
    eventually(lambda: ct.state.conmon_pid is None)
    # What a restart leaves: nothing below /run.
    shutil.rmtree(ct.layout.crun.monitor_dir)
    os.unlink(ct.layout.crun.exit_file)
    world.driver.amend(ct.name, boot_id="another")
    state = ct.state
    assert state.status is Status.STOPPED
    assert state.problems == (Problem.HOST_RESTARTED, Problem.EXIT_CODE_UNKNOWN)


def test_making_that_was_cut_short_is_told_of(world: World) -> None:
    ct = world.ct("true", stage=Stage.CREATING).prepare()
    state = ct.state
    assert (state.status, state.problems) == (Status.CREATING, (Problem.HALF_CREATED,))
    assert world.driver.repair(ct.name) == ()
    world.driver.amend(ct.name, stage=Stage.READY)
    assert ct.state.status is Status.CREATED


def test_vmid_that_is_another_containers_by_now_keeps_its_files(world: World) -> None:
    ct = world.ct("sleep", "1000").prepare()
    other = world.ct("true")
    other.vmid = ct.vmid
    other.record = dataclasses.replace(other.record, vmid=ct.vmid)
    record.save(other.layout, other.record)
    world.driver.clear_away(other.name)
    assert os.path.exists(ct.guest.config)
    # While it runs as well, and when it is left to its new owner.
    ct.begin()
    world.driver.await_start(ct.name, 30)
    for keep_guest in (False, True):
        record.save(other.layout, other.record)
        world.driver.clear_away(other.name, keep_guest=keep_guest)
        assert syscalls.is_mount_point(ct.guest.sysfs)
    assert ct.state.status is Status.RUNNING
    ct.stop()


def test_number_that_was_only_claimed_may_be_a_strangers_who_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "has_monitor", lambda _path, _vmid: True)
    monkeypatch.setattr(removal, "_MONITOR_S", 0.1)
    layout.prepare(world.paths)
    ct = world.ct("true", stage=Stage.CLAIMED)
    record.save(ct.layout, ct.record)
    world.driver.clear_away(ct.name)
    assert world.driver.names() == []
    asked = world.ct("true", stage=Stage.CREATING)
    record.save(asked.layout, asked.record)
    with pytest.raises(WrongState, match="LXC still has container"):
        world.driver.clear_away(asked.name)
    record.remove(asked.layout)


def test_repair_of_what_is_not_known_is_nothing(world: World) -> None:
    assert world.driver.repair("nobody") == ()
    ct = world.ct("true").prepare()
    _kill(ct, "holder")
    os.unlink(ct.layout.config)
    eventually(lambda: Problem.MONITOR_LOST in ct.state.problems)
    with pytest.raises(NotFound):
        world.driver.repair(ct.name)


def test_holder_that_cannot_start_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "PATH", "/none/holder.py")
    ct = world.ct("true")
    with pytest.raises(CommandError, match="holder"):
        ct.prepare()
    assert not os.path.exists(ct.guest.config)
