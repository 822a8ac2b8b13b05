# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and stops keep to the client's times, whatever Proxmox VE does.

fakepve starts and stops nothing: where a test is about what it does to processes, the test does that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    TaskFailed,
    TaskTimeout,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.tests.support.fakepve import FakeCluster
from ansible_collections.pvecri.runtime.tests.support.lxc_driver import StandIn, add_guest
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.errors import Locked, Unavailable, Unreached, Untouched
from pvecri.pve import power, stopping
from pvecri.pve.node import PveNode

NAME = "c" * 64
VMID = 900001
START = "/nodes/pve1/lxc/900001/status/start"
SHUTDOWN = "/nodes/pve1/lxc/900001/status/shutdown"


def starts(cluster: FakeCluster) -> int:
    return cluster.requests_seen().count(("POST", START))


# ---- start ------------------------------------------------------------------------------------------------


def test_start_returns_when_the_program_runs_before_the_task_ends(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record).start_secs = 30
    driver.has_begun = lambda _name: starts(cluster) > 0
    power.start(node, driver, record, 20)
    now = driver.record(NAME)
    assert now.stage is Stage.RUNNING
    assert now.started_at is not None
    assert cluster.pve.tasks[now.upids["start"]]["status"] == "running"


def test_start_tells_the_end_of_a_failed_tasks_log(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record).start_error = "startup for container '900001' failed"
    with pytest.raises(
        TaskFailed, match=f"container {NAME} cannot be started: .*startup for container"
    ) as caught:
        power.start(node, driver, record, 20)
    assert caught.value.upid == driver.record(NAME).upids["start"]


def test_start_of_a_program_that_ends_before_its_task_looks_is_a_start(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record).start_error = "startup for container '900001' failed"
    # It is found to have run only when the task was looked at.
    driver.has_begun = lambda _name: any("/tasks/" in path for _method, path in cluster.requests_seen())
    power.start(node, driver, record, 20)
    assert driver.record(NAME).stage is Stage.RUNNING


def test_start_of_a_locked_container_names_the_lock(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record, lock="backup")
    with pytest.raises(Locked, match=r"is locked \(backup\)"):
        power.start(node, driver, record, 20)
    assert driver.record(NAME).stage is Stage.READY


def test_start_without_the_node_is_to_be_tried_again(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    cluster.pve.set_node_offline("pve1")
    with pytest.raises(Unreached, match="could not be reached"):
        power.start(node, driver, record, 20)
    assert driver.record(NAME).stage is Stage.READY
    cluster.pve.set_node_offline("pve1", offline=False)
    driver.has_begun = lambda _name: starts(cluster) > 0
    power.start(node, driver, driver.record(NAME), 20)
    assert cluster.pve.ct(VMID).status == "running"


@pytest.mark.parametrize(
    "theirs", [{"tags": ""}, {"description": "restored"}, {"tags": "shop", "description": ""}]
)
def test_start_of_what_took_the_number_is_refused(
    cluster: FakeCluster, driver: StandIn, node: PveNode, theirs: dict[str, str]
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record, **theirs)
    with pytest.raises(WrongState, match="do not say any more that it is this container"):
        power.start(node, driver, record, 20)
    assert starts(cluster) == 0
    assert cluster.pve.ct(VMID).status == "stopped"


def test_start_without_quorum_is_to_be_tried_again(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    cluster.pve.lose_quorum()
    with pytest.raises(Unreached, match="quorum"):
        power.start(node, driver, record, 20)


def test_start_that_is_repeated_joins_its_task(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record).start_secs = 2
    with pytest.raises(TaskTimeout) as caught:
        power.start(node, driver, record, 0.3)
    now = driver.record(NAME)
    assert caught.value.upid == now.upids["start"]
    assert now.upids["start"] in str(caught.value)
    driver.has_begun = lambda _name: cluster.pve.ct(VMID).status == "running"
    power.start(node, driver, now, 20)
    assert starts(cluster) == 1


def test_start_whose_task_a_killed_daemon_did_not_note_is_joined(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID, stage=Stage.STARTING, upids={"start": ""})
    add_guest(cluster, record).start_secs = 0.5
    upid = node.client.post(START)
    cluster.pve.set_node_offline("pve1")
    with pytest.raises(Unreached):
        power.start(node, driver, record, 20)
    # It is known still that there may be one.
    assert driver.record(NAME).stage is Stage.STARTING
    cluster.pve.set_node_offline("pve1", offline=False)
    driver.has_begun = lambda _name: cluster.pve.ct(VMID).status == "running"
    power.start(node, driver, record, 20)
    assert starts(cluster) == 1
    assert cluster.pve.tasks[upid]["status"] == "stopped"


def test_start_whose_answer_is_lost_is_found(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record).start_secs = 0.3
    client = node.client
    real = client.post

    def lossy(path: t.Any, **params: t.Any) -> t.Any:
        real(path, **params)
        raise power.ApiError("the answer is lost", status=596, maybe_done=True)

    client.post = lossy  # type: ignore[method-assign]
    driver.has_begun = lambda _name: cluster.pve.ct(VMID).status == "running"
    power.start(node, driver, record, 20)
    assert driver.record(NAME).stage is Stage.RUNNING


def test_start_whose_answer_is_lost_for_good_may_have_begun(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    cluster.pve.fail("POST", START, 596, "broken pipe")
    with pytest.raises(Unavailable) as caught:
        power.start(node, driver, record, 20)
    assert not isinstance(caught.value, Untouched)
    assert driver.record(NAME).stage is Stage.STARTING


def test_start_whose_first_process_does_not_ask_says_where_to_look(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_LAUNCH_S", 0.1)
    record = driver.remember(NAME, VMID)
    add_guest(cluster, record)
    with pytest.raises(CommandError, match=f"pve-container@{VMID}"):
        power.start(node, driver, record, 20)


# ---- stop -------------------------------------------------------------------------------------------------


def obeys(cluster: FakeCluster, pid: int) -> None:
    """Have the fake's shutdown do to a process what LXC does."""

    async def powerdown(ct: t.Any, timeout: float, force: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            for _look in range(round(timeout * 100)):
                os.kill(pid, 0)
                await asyncio.sleep(0.01)
            if force:
                os.kill(pid, signal.SIGKILL)
        ct.status, ct.pid = "stopped", None

    cluster.pve._ct_powerdown = powerdown


def running(cluster: FakeCluster, driver: StandIn, **options: t.Any) -> tuple[t.Any, t.Any]:
    """Return record and guest of a container that runs."""
    record = driver.remember(NAME, VMID, stage=Stage.RUNNING)
    guest = add_guest(cluster, record)
    guest.status = "running"
    obeys(cluster, driver.run(NAME, **options))
    return record, guest


def test_stop_is_a_shutdown_of_proxmox(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record, _guest = running(cluster, driver)
    assert stopping.stop(node, driver, record, "SIGTERM", 20) == 7
    assert driver.told(NAME) == 1
    task = cluster.pve.tasks[driver.record(NAME).upids["stop"]]
    assert task["type"] == "vzshutdown"
    assert driver.record(NAME).stage is Stage.STOPPING


@pytest.mark.parametrize("trouble", ["offline", "refused", "locked"])
def test_stop_without_proxmox_is_by_the_signal(
    cluster: FakeCluster, driver: StandIn, node: PveNode, trouble: str
) -> None:
    record, guest = running(cluster, driver)
    if trouble == "offline":
        cluster.pve.set_node_offline("pve1")
    elif trouble == "refused":
        cluster.pve.fail("POST", SHUTDOWN, 500, "cluster not ready - no quorum?")
    else:
        guest.lock = "backup"
    begun = time.monotonic()
    assert stopping.stop(node, driver, record, "SIGTERM", 60) == 7
    # Told at once, and told once.
    assert time.monotonic() - begun < 30
    assert driver.told(NAME) == 1


def test_stop_of_a_distributions_init_is_told_by_lxc(
    cluster: FakeCluster,
    driver: StandIn,
    node: PveNode,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> None:
    record, _guest = running(cluster, driver)
    state = driver.state(NAME)
    assert state is not None
    included = pathlib.Path(layout.guest(driver.paths, VMID).config)
    included.parent.mkdir(parents=True)
    included.write_text("lxc.init.uid = 0\n")
    program, told = tmp_path / "lxc-stop", tmp_path / "argv"
    program.write_text(f'#!/bin/sh\necho "$@" > {told}\nkill -TERM {state.pid}\n')
    program.chmod(0o755)
    monkeypatch.setattr(stopping, "LXC_STOP", str(program))
    cluster.pve.set_node_offline("pve1")
    assert stopping.stop(node, driver, record, "SIGTERM", 60) == 7
    assert told.read_text().split() == [
        f"--lxcpath={record.lxc_path}",
        f"--name={VMID}",
        "--nowait",
        "--nokill",
    ]
    assert driver.told(NAME) == 1


def test_stop_with_a_signal_of_the_image_needs_no_lxc(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _guest = running(cluster, driver)
    included = pathlib.Path(layout.guest(driver.paths, VMID).config)
    included.parent.mkdir(parents=True)
    included.write_text("lxc.signal.halt = 15\n")
    monkeypatch.setattr(stopping, "LXC_STOP", "/nowhere/lxc-stop")
    cluster.pve.set_node_offline("pve1")
    assert stopping.stop(node, driver, record, "SIGTERM", 60) == 7


def test_stop_goes_on_without_lxc_stop(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _guest = running(cluster, driver)
    included = pathlib.Path(layout.guest(driver.paths, VMID).config)
    included.parent.mkdir(parents=True)
    included.write_text("")
    monkeypatch.setattr(stopping, "LXC_STOP", "/nowhere/lxc-stop")
    cluster.pve.set_node_offline("pve1")
    assert stopping.stop(node, driver, record, "SIGTERM", 60) == 7


def test_stop_tells_the_process_when_proxmox_hangs(
    cluster: FakeCluster, driver: StandIn, node: PveNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_ASK_S", 0.1)
    record, _guest = running(cluster, driver)
    released = threading.Event()

    def hangs(*_args: t.Any, **_params: t.Any) -> str:
        released.wait(30)
        return ""

    monkeypatch.setattr(node.client, "post", hangs)
    try:
        assert stopping.stop(node, driver, record, "SIGTERM", 60) == 7
        assert driver.told(NAME) == 1
    finally:
        released.set()


def test_stop_kills_who_does_not_heed_the_signal(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record, _guest = running(cluster, driver, ends=False)
    assert stopping.stop(node, driver, record, "SIGTERM", 0.5) == 137
    assert driver.told(NAME) == 1


def test_stop_without_time_kills_and_asks_nobody(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record, _guest = running(cluster, driver)
    cluster.forget_requests()
    assert stopping.stop(node, driver, record, "SIGTERM", 0) == 137
    assert cluster.requests_seen() == []
    assert driver.record(NAME).stage is Stage.STOPPING


def test_second_stop_hastens_the_first(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record, _guest = running(cluster, driver, ends=False)
    codes: list[int | None] = []
    first = threading.Thread(target=lambda: codes.append(stopping.stop(node, driver, record, "SIGTERM", 300)))
    first.start()
    eventually(lambda: driver.record(NAME).upids.get("stop"), what="the first stop's task")
    assert stopping.stop(node, driver, driver.record(NAME), "SIGTERM", 0.2) == 137
    first.join(30)
    assert codes == [137]
    # The second waited for the first one's task and began none.
    assert cluster.requests_seen().count(("POST", SHUTDOWN)) == 1


def test_stop_of_one_that_waits_for_its_start_ends_who_waits(
    cluster: FakeCluster, driver: StandIn, node: PveNode
) -> None:
    record = driver.remember(NAME, VMID)
    driver.run(NAME, status=Status.CREATED)
    cluster.forget_requests()
    assert stopping.stop(node, driver, record, "SIGTERM", 10) == 137
    assert cluster.requests_seen() == []


def test_stop_of_what_has_ended_does_nothing(cluster: FakeCluster, driver: StandIn, node: PveNode) -> None:
    record, _guest = running(cluster, driver)
    driver.kill(NAME)
    cluster.forget_requests()
    assert stopping.stop(node, driver, record, "SIGTERM", 10) == 137
    assert cluster.requests_seen() == []
