# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for what a task wants to see: the end of a job, or a service that works."""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import health, logs
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.result import describe, ended
from ansible_collections.pvecri.runtime.plugins.module_utils.container.task import JobFailed, JobTimeout, Task
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import State, Step
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    NotFound,
    WrongState,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.container.service import Result


def wait_for(engine: Engine, task: Task, result: Result) -> None:
    """Wait for what ``task`` wants to see, and add what came of it to ``result.answers``."""
    if task.is_attached:
        _wait_exit(engine, task, result)
    elif task.state is State.HEALTHY:
        _wait_healthy(engine, task, result)


def _wait_exit(engine: Engine, task: Task, result: Result) -> None:
    late: CommandTimeout | None = None
    begun = _begun(result.observation.state)
    if Step.WAIT_EXIT in result.plan.steps:
        try:
            engine.runtime.wait(task.name, task.timeout_s)
        except CommandTimeout as exc:
            late = exc
            _stop(engine, task, begun)
        except NotFound:
            # Removed while it was waited for, as the observation shows.
            pass
    result.observation = engine.observe(task.name)
    state = result.observation.state
    is_other = _begun(state) != begun
    if is_other:
        state = None
    code = state.exit_code if state is not None else None
    streams = logs.read_streams(state.log_path, since=_since(state)) if state and state.log_path else {}
    result.answers = {
        "rc": code,
        "stdout": streams.get("stdout", ""),
        "stderr": streams.get("stderr", ""),
    }
    values = {"container": describe(engine, result.observation), "changed": result.plan.is_changed}
    details = {**result.answers, "values": values}
    if is_other:
        raise JobFailed(
            f"container '{task.name}' was removed or made anew by another task before its end was seen",
            hint="Give jobs that run at the same time names of their own",
            **details,
        ) from late
    if late is not None:
        raise JobTimeout(
            f"container '{task.name}' did not end within {task.timeout_s:g} s and was stopped",
            hint="Raise 'timeout', or look at its output",
            **details,
        ) from late
    if code != 0:
        ended = "ended, and nobody saw its exit code" if code is None else f"ended with exit code {code}"
        killed = ", killed for want of memory" if state is not None and state.oom_killed else ""
        raise JobFailed(f"container '{task.name}' {ended}{killed}", **details)


def _begun(state: ContainerState | None) -> float | None:
    """Return what tells one run of a container from the next one of the same name."""
    return state.created_at if state is not None else None


def _stop(engine: Engine, task: Task, begun: float | None) -> None:
    """Stop the run that has taken too long, unless another task has put an end to it already."""
    with engine.locked(task.name, task.request.stop_timeout_s):
        if _begun(engine.state(task.name)) == begun:
            engine.stop(task.name)


def _since(state: ContainerState) -> datetime.datetime | None:
    """Return when this run of the container began: its log can hold earlier runs."""
    if state.created_at is None:
        return None
    return datetime.datetime.fromtimestamp(state.created_at, datetime.UTC)


def _wait_healthy(engine: Engine, task: Task, result: Result) -> None:
    _bundle, intent = engine.known(task.name)
    check = health.require_check(*intent.health_check)

    def assert_running() -> None:
        state = engine.state(task.name)
        if state is None or state.status is not Status.RUNNING:
            raise _ended(task.name, state)

    def execute(argv: list[str], *, timeout_s: float) -> t.Any:
        try:
            return engine.runtime.exec(task.name, argv, timeout_s=timeout_s, limit_bytes=health.OUTPUT_LIMIT)
        except (NotFound, WrongState):
            # It may have ended a moment ago, which says more.
            assert_running()
            raise

    state = engine.state(task.name)
    begun = state.started_at if state is not None else None
    probe = health.wait_healthy(
        check,
        lambda: health.run_probe(execute, check),
        assert_running,
        name=task.name,
        timeout_s=task.wait_timeout_s,
        age_s=max(time.time() - begun, 0.0) if begun is not None else 0.0,
    )
    result.observation = engine.observe(task.name)
    result.answers = {"health": {"status": "healthy", **probe.plain()}}


def _ended(name: str, state: ContainerState | None) -> WrongState:
    if state is None:
        return WrongState(f"container '{name}' was removed while its health was waited for")
    what = ended(state) if state.status is Status.STOPPED else f"it is {state.status}"
    return WrongState(f"container '{name}' does not run while its health is waited for: {what}")
