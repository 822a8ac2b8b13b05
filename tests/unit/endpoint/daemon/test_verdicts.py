# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recovery makes of each record, as tables."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.daemon import verdicts
from pvecri.daemon.verdicts import Act, SandboxFacts, Verdict
from pvecri.state.records import Phase

NOTHING = Verdict()


def stopped(message: str) -> Verdict:
    return Verdict(Act.STOP, {"phase": Phase.STOPPED, "message": message})


SANDBOXES: dict[str, tuple[dict[str, t.Any], dict[str, t.Any], Verdict]] = {
    "ready": ({}, {}, NOTHING),
    "ready with a pause container": ({}, {"pause_lives": True}, NOTHING),
    "in the making": ({"phase": Phase.CREATING}, {}, Verdict(Act.UNDO)),
    "in the making, after a reboot": ({"phase": Phase.CREATING}, {"is_same_boot": False}, Verdict(Act.UNDO)),
    "host restarted": ({}, {"is_same_boot": False, "lost": ("IPC",)}, stopped("the host was restarted")),
    "namespace lost": (
        {},
        {"lost": ("network", "IPC")},
        stopped("its network and IPC namespace is gone"),
    ),
    "pause container ended": ({}, {"pause_lives": False}, stopped("its pause container ended")),
    "stopped": ({"phase": Phase.STOPPED}, {"lost": ("network",)}, NOTHING),
    "stopped with addresses": ({"phase": Phase.STOPPED}, {"is_attached": True}, Verdict(Act.STOP)),
    "stopped with namespaces": ({"phase": Phase.STOPPED}, {"is_pinned": True}, Verdict(Act.STOP)),
    "damaged": ({"phase": Phase.UNKNOWN}, {"is_same_boot": False}, NOTHING),
    "not looked at last time": (
        {"phase": Phase.UNKNOWN, "message": "slow", "extra": {"phase_before": "ready", "a": 1}},
        {},
        Verdict(Act.NOTHING, {"phase": Phase.READY, "message": "", "extra": {"a": 1}}),
    ),
    "not looked at last time, and gone": (
        {"phase": Phase.UNKNOWN, "message": "slow", "extra": {"phase_before": "ready"}},
        {"lost": ("UTS",)},
        Verdict(Act.STOP, {"phase": Phase.STOPPED, "message": "its UTS namespace is gone", "extra": {}}),
    ),
    "not looked at last time, in the making": (
        {"phase": Phase.UNKNOWN, "extra": {"phase_before": "creating"}},
        {},
        Verdict(Act.UNDO, {"phase": Phase.CREATING, "message": "", "extra": {}}),
    ),
}


@pytest.mark.parametrize("case", SANDBOXES)
def test_judge_sandbox(case: str) -> None:
    fields, facts, expected = SANDBOXES[case]
    assert verdicts.judge_sandbox(records.sandbox(**fields), SandboxFacts(**facts)) == expected


def state(status: Status, *problems: Problem, **fields: t.Any) -> ContainerState:
    is_alive = status in {Status.CREATED, Status.RUNNING, Status.PAUSED}
    values: dict[str, t.Any] = {
        "name": "x",
        "pid": 5 if is_alive else None,
        "conmon_pid": 4 if is_alive else None,
    }
    return ContainerState(status=status, problems=problems, **{**values, **fields})


LIVES = state(Status.RUNNING)
LOST = state(Status.RUNNING, Problem.MONITOR_LOST, conmon_pid=None)
OVER = state(Status.STOPPED, exit_code=3)

CONTAINERS: dict[str, tuple[dict[str, t.Any], ContainerState | None, Verdict]] = {
    "running": ({"phase": Phase.RUNNING}, LIVES, NOTHING),
    "paused": ({"phase": Phase.RUNNING}, state(Status.PAUSED), NOTHING),
    "created": ({"phase": Phase.CREATED}, state(Status.CREATED), NOTHING),
    "started and not noted": (
        {"phase": Phase.CREATED},
        LIVES,
        Verdict(Act.NOTHING, {"phase": Phase.RUNNING, "started_at_ns": 77}),
    ),
    "in the making, nothing there": ({"phase": Phase.CREATING}, None, Verdict(Act.UNDO)),
    "in the making, half there": (
        {"phase": Phase.CREATING},
        state(Status.CREATING, Problem.HALF_CREATED),
        Verdict(Act.UNDO),
    ),
    "in the making, all there": ({"phase": Phase.CREATING}, state(Status.CREATED), Verdict(Act.UNDO)),
    "ended meanwhile": ({"phase": Phase.RUNNING}, OVER, Verdict(Act.SETTLE)),
    "started and ended meanwhile": ({"phase": Phase.CREATED}, OVER, Verdict(Act.SETTLE)),
    "gone from crun": ({"phase": Phase.RUNNING}, None, Verdict(Act.SETTLE)),
    "conmon killed": ({"phase": Phase.RUNNING}, LOST, Verdict(Act.SETTLE)),
    "conmon killed before the start was noted": (
        {"phase": Phase.CREATED},
        LOST,
        Verdict(Act.SETTLE, {"phase": Phase.RUNNING, "started_at_ns": 77}),
    ),
    "awaits its restore": ({"phase": Phase.CREATED, "extra": {"restored": {}}}, None, NOTHING),
    "its restore was cut short": (
        {"phase": Phase.CREATED, "extra": {"restored": {}}},
        state(Status.CREATING, Problem.HALF_CREATED),
        Verdict(Act.RESET),
    ),
    "restored and not noted": (
        {"phase": Phase.CREATED, "extra": {"restored": {}}},
        LIVES,
        Verdict(Act.NOTHING, {"phase": Phase.RUNNING, "started_at_ns": 77}),
    ),
    "restored and ended meanwhile": (
        {"phase": Phase.CREATED, "extra": {"restored": {}}},
        OVER,
        Verdict(Act.SETTLE),
    ),
    "exited": ({"phase": Phase.EXITED, "exit_code": 0}, OVER, NOTHING),
    "exited and removed from crun": ({"phase": Phase.EXITED, "exit_code": 0}, None, NOTHING),
    "told as exited, but alive": ({"phase": Phase.EXITED}, LIVES, Verdict(Act.SETTLE)),
    "damaged": ({"phase": Phase.UNKNOWN}, LIVES, NOTHING),
    "not looked at last time": (
        {"phase": Phase.UNKNOWN, "extra": {"phase_before": "running"}},
        LIVES,
        Verdict(Act.NOTHING, {"phase": Phase.RUNNING, "message": "", "extra": {}}),
    ),
    "not looked at last time, ended": (
        {"phase": Phase.UNKNOWN, "extra": {"phase_before": "running"}},
        OVER,
        Verdict(Act.SETTLE, {"phase": Phase.RUNNING, "message": "", "extra": {}}),
    ),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_judge_container(case: str) -> None:
    fields, found, expected = CONTAINERS[case]
    assert verdicts.judge_container(records.container("s", **fields), found, 77) == expected


WAITS = state(Status.CREATED)
HOLDER_GONE = state(Status.CREATED, Problem.MONITOR_LOST, pid=None)
CONMON_GONE = state(Status.CREATED, Problem.MONITOR_LOST, conmon_pid=None)
REBOOTED = state(Status.STOPPED, Problem.HOST_RESTARTED, Problem.EXIT_CODE_UNKNOWN)

GUESTS: dict[str, tuple[Phase, Stage, ContainerState | None, Verdict]] = {
    "claimed": (Phase.CREATING, Stage.CLAIMED, None, Verdict(Act.UNDO)),
    "being created": (Phase.CREATING, Stage.CREATING, state(Status.CREATING), Verdict(Act.UNDO)),
    "included": (Phase.CREATING, Stage.INCLUDED, state(Status.CREATING), Verdict(Act.UNDO)),
    "ready, never told": (Phase.CREATING, Stage.READY, WAITS, Verdict(Act.UNDO)),
    "waits": (Phase.CREATED, Stage.READY, WAITS, NOTHING),
    "waits without holder": (Phase.CREATED, Stage.READY, HOLDER_GONE, Verdict(Act.REPAIR)),
    "waits without conmon": (Phase.CREATED, Stage.READY, CONMON_GONE, Verdict(Act.REPAIR)),
    "waits after a reboot": (Phase.CREATED, Stage.READY, REBOOTED, Verdict(Act.SETTLE)),
    "start cut short": (Phase.CREATED, Stage.STARTING, WAITS, Verdict(Act.RESUME)),
    "start without holder": (Phase.CREATED, Stage.STARTING, HOLDER_GONE, Verdict(Act.SETTLE)),
    "start came through": (
        Phase.CREATED,
        Stage.STARTING,
        LIVES,
        Verdict(Act.NOTHING, {"phase": Phase.RUNNING, "started_at_ns": 77}),
    ),
    "start came through and it ended": (Phase.CREATED, Stage.STARTING, OVER, Verdict(Act.SETTLE)),
    "stopped before its start": (Phase.CREATED, Stage.STOPPING, OVER, Verdict(Act.SETTLE)),
    "runs": (Phase.RUNNING, Stage.RUNNING, LIVES, NOTHING),
    "runs unwatched": (Phase.RUNNING, Stage.RUNNING, LOST, Verdict(Act.SETTLE)),
    "stop cut short": (Phase.RUNNING, Stage.STOPPING, LIVES, NOTHING),
    "ended": (Phase.RUNNING, Stage.RUNNING, OVER, Verdict(Act.SETTLE)),
    "ran before a reboot": (Phase.RUNNING, Stage.RUNNING, REBOOTED, Verdict(Act.SETTLE)),
    "over": (Phase.EXITED, Stage.RUNNING, OVER, NOTHING),
    "removal cut short": (Phase.EXITED, Stage.DESTROYING, OVER, NOTHING),
}


@pytest.mark.parametrize("case", GUESTS)
def test_judge_guest_of_proxmox(case: str) -> None:
    phase, stage, found, expected = GUESTS[case]
    assert verdicts.judge_container(records.container("s", phase=phase), found, 77, stage) == expected


def test_undecided_comes_back_to_what_it_was() -> None:
    record = records.container("s", phase=Phase.RUNNING, extra={"a": 1})
    unknown = dataclasses.replace(record, **verdicts.undecided(record, "slow disk"))
    assert (unknown.phase, unknown.message) == (Phase.UNKNOWN, "slow disk")
    assert verdicts.undecided(unknown, "still slow") == {}
    changes = verdicts.judge_container(unknown, LIVES, 0).changes
    assert dataclasses.replace(unknown, **changes) == record


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, False),
        (state(Status.CREATING, Problem.HALF_CREATED), False),
        (state(Status.CREATED), True),
        (state(Status.STOPPED, Problem.HOST_RESTARTED), True),
    ],
)
def test_is_acknowledged(found: ContainerState | None, expected: bool) -> None:
    assert verdicts.is_acknowledged(found) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (state(Status.CREATED), {"phase": Phase.CREATED, "started_at_ns": 0}),
        (LIVES, {"phase": Phase.RUNNING, "started_at_ns": 77}),
        (
            state(Status.STOPPED, exit_code=3, started_at=1.5, finished_at=2.5),
            {
                "phase": Phase.EXITED,
                "started_at_ns": 1_500_000_000,
                "finished_at_ns": 2_500_000_000,
                "exit_code": 3,
                "reason": "Error",
            },
        ),
        (state(Status.STOPPED, exit_code=137, oom_killed=True), {"exit_code": 137, "reason": "OOMKilled"}),
        (
            state(Status.STOPPED, Problem.HOST_RESTARTED),
            {"phase": Phase.EXITED, "finished_at_ns": 99, "exit_code": None, "reason": "Unknown"},
        ),
    ],
)
def test_adopted_container(found: ContainerState, expected: dict[str, t.Any]) -> None:
    copy = records.container("s", phase=Phase.CREATING)
    adopted = verdicts.adopted_container(copy, found, 77, 99)
    assert {name: getattr(adopted, name) for name in expected} == expected
    assert adopted.id == copy.id
