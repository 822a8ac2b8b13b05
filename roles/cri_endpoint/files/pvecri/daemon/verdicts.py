# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what a record and the facts say together of an object after a start; pure."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from pvecri.state.records import (
    PHASE_BEFORE,
    RESTORED,
    UNKNOWN,
    ContainerRecord,
    Phase,
    SandboxRecord,
    reason_of,
)


class Act(enum.StrEnum):
    """What is still to be done for an object."""

    NOTHING = "nothing"
    #: Remove it: its client never got an answer.
    UNDO = "undo"
    #: Stop the sandbox (again): what it held outside is to be let go.
    STOP = "stop"
    #: Write its end down, killing it first when nobody watches it.
    SETTLE = "settle"
    #: Undo a restore that was cut short: it can be started again.
    RESET = "reset"
    #: Make anew what waits for its start: nothing of it has run yet.
    REPAIR = "repair"
    #: Bring the start to its end that was cut short.
    RESUME = "resume"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Changes of the record that are right at once, and an act that may take its time."""

    act: Act = Act.NOTHING
    changes: dict[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxFacts:
    """What the host says of a sandbox."""

    #: The host was not restarted since.
    is_same_boot: bool = True
    #: Names of namespaces that the record has and the host has not.
    lost: tuple[str, ...] = ()
    #: The pause container lives; None: there is none.
    pause_lives: bool | None = None
    #: CNI's cache holds addresses of it.
    is_attached: bool = False
    #: A namespace of the record is pinned.
    is_pinned: bool = False


def judge_sandbox(record: SandboxRecord, facts: SandboxFacts) -> Verdict:
    """Return what is to become of a sandbox's record, and what is to be done."""
    before, changes = _before(record)
    if before is Phase.CREATING:
        return Verdict(Act.UNDO, changes)
    if before is Phase.UNKNOWN:
        return Verdict()
    if before is Phase.STOPPED:
        # Cut short in its stop, or stopped while a plugin failed.
        return Verdict(Act.STOP if facts.is_attached or facts.is_pinned else Act.NOTHING, changes)
    problem = _sandbox_problem(facts)
    if problem:
        return Verdict(Act.STOP, {**changes, "phase": Phase.STOPPED, "message": problem})
    return Verdict(Act.NOTHING, changes)


def _sandbox_problem(facts: SandboxFacts) -> str:
    if not facts.is_same_boot:
        return "the host was restarted"
    if facts.lost:
        return f"its {' and '.join(facts.lost)} namespace is gone"
    if facts.pause_lives is False:
        return "its pause container ended"
    return ""


def judge_container(
    record: ContainerRecord,
    state: ContainerState | None,
    started_at_ns: int,
    stage: Stage | None = None,
) -> Verdict:
    """Return what is to become of a container's record, and what is to be done.

    ``started_at_ns`` is when it was started, should the record not know; ``stage`` how far a guest of
    Proxmox VE came.
    """
    before, changes = _before(record)
    act = _unfinished(before, state, stage)
    if act is not None:
        return Verdict(act, changes)
    is_alive = state is not None and state.is_alive
    if before is Phase.CREATED and RESTORED in record.extra and not is_alive:
        # Its start makes it; one whose end was seen has come through its restore.
        is_untouched = state is None or Problem.HALF_CREATED in state.problems
        if is_untouched:
            return Verdict(Act.NOTHING if state is None else Act.RESET, changes)
    if before is Phase.EXITED:
        # A client was told that it has ended.
        return Verdict(Act.SETTLE if is_alive and not changes else Act.NOTHING, changes)
    if before is Phase.UNKNOWN:
        return Verdict()
    if state is None or not is_alive:
        return Verdict(Act.SETTLE, changes)
    if state.status in {Status.RUNNING, Status.PAUSED} and before is Phase.CREATED:
        changes |= {"phase": Phase.RUNNING, "started_at_ns": started_at_ns}
    return Verdict(Act.SETTLE if Problem.MONITOR_LOST in state.problems else Act.NOTHING, changes)


def _unfinished(before: Phase, state: ContainerState | None, stage: Stage | None) -> Act | None:
    """Return what becomes of a container in the making, and of a guest that was not started; else None.

    No process of a guest's own waits for its start, so what does can be made anew; and Proxmox VE goes on
    with a start that it was asked for.
    """
    if before is Phase.CREATING:
        return Act.UNDO
    if before is not Phase.CREATED or state is None or state.status is not Status.CREATED:
        return None
    is_whole = Problem.MONITOR_LOST not in state.problems
    if stage is Stage.STARTING and is_whole:
        return Act.RESUME
    return Act.REPAIR if stage is Stage.READY and not is_whole else None


def _before(record: SandboxRecord | ContainerRecord) -> tuple[Phase, dict[str, t.Any]]:
    """Return the phase that a record had, and the changes that bring it back."""
    if record.phase is not Phase.UNKNOWN or PHASE_BEFORE not in record.extra:
        return record.phase, {}
    extra = dict(record.extra)
    phase = Phase(extra.pop(PHASE_BEFORE))
    return phase, {"phase": phase, "extra": extra, "message": ""}


def undecided(record: SandboxRecord | ContainerRecord, why: str) -> dict[str, t.Any]:
    """Return the changes for an object that could not be looked at."""
    if record.phase is Phase.UNKNOWN:
        return {}
    return {
        "phase": Phase.UNKNOWN,
        "message": why,
        "extra": {**record.extra, PHASE_BEFORE: record.phase.value},
    }


def is_acknowledged(state: ContainerState | None) -> bool:
    """Say whether a client may have been told of a container that crun has this state of."""
    return state is not None and Problem.HALF_CREATED not in state.problems


def adopted_container(
    copy: ContainerRecord, state: ContainerState, started_at_ns: int, now_ns: int
) -> ContainerRecord:
    """Return the record of a container of which only the copy in its bundle is left."""
    if state.is_alive:
        if state.status is Status.CREATED:
            return dataclasses.replace(copy, phase=Phase.CREATED)
        return dataclasses.replace(copy, phase=Phase.RUNNING, started_at_ns=started_at_ns)
    code = state.exit_code
    started = round((state.started_at or 0) * 1e9)
    finished = round((state.finished_at or 0) * 1e9)
    return dataclasses.replace(
        copy,
        phase=Phase.EXITED,
        started_at_ns=started,
        finished_at_ns=finished or now_ns,
        exit_code=code,
        reason=UNKNOWN if code is None else reason_of(code, oom_killed=state.oom_killed),
    )
