# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a container to what a task asks: look, plan, apply, wait.

Looking, planning and applying happen under one lock per container, so that two
plays that make the same container end with one that made it and one that finds it
made.  Waiting for an end or for health happens without the lock.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.identity import Identity, identify
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import (
    Intent,
    resources_of,
    restart_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import Observation
from ansible_collections.pvecri.runtime.plugins.module_utils.container.plan import make_plan
from ansible_collections.pvecri.runtime.plugins.module_utils.container.task import Task
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import Desired, Plan, State
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict
from ansible_collections.pvecri.runtime.plugins.module_utils.files import host_trouble


@dataclasses.dataclass(slots=True, kw_only=True)
class Result:
    """What came of a task."""

    plan: Plan
    observation: Observation
    warnings: list[str] = dataclasses.field(default_factory=list)
    #: Answers of what the plan waited for: rc, stdout and stderr, or health.
    answers: Plain = dataclasses.field(default_factory=dict)


class ContainerService:
    """Do what tasks ask."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def ensure(self, task: Task, *, check: bool = False) -> Result:
        """Bring the container to what ``task`` asks; with ``check`` only plan.

        Raises what `plan.make_plan` and the drivers raise, Conflict when another
        process holds the container or a bundle of somebody else has its name, and
        for attached containers JobFailed and JobTimeout.
        """
        try:
            result = self._plan(task) if check else self._ensure(task)
        except OSError as exc:
            foreseen = host_trouble(exc, f"container '{task.name}'")
            if foreseen is None:
                raise
            raise foreseen from exc
        state = result.observation.state
        if state is not None and Problem.MONITOR_LOST in state.problems:
            result.warnings.append(
                f"the output of container '{task.name}' is no longer logged, since its conmon has died; "
                "restart the container to mend that"
            )
        return result

    def _ensure(self, task: Task) -> Result:
        task = self._fetch(task)
        with self.engine.locked(task.name, task.request.stop_timeout_s):
            result = self._plan(task)
            if result.plan.is_changed:
                from ansible_collections.pvecri.runtime.plugins.module_utils.container.apply import (  # noqa: PLC0415
                    apply_plan,
                )

                result.warnings += apply_plan(self.engine, task, result.plan, result.observation)
                result.observation = self.engine.observe(task.name)
        if task.is_attached or task.state is State.HEALTHY:
            from ansible_collections.pvecri.runtime.plugins.module_utils.container import wait  # noqa: PLC0415

            wait.wait_for(self.engine, task, result)
        return result

    def _fetch(self, task: Task) -> Task:
        """Fetch the image before the lock is taken, so that a slow registry holds up nobody else.

        Returns the task with a source that need not be asked again.
        """
        if task.source is None or task.state is State.ABSENT:
            return task
        if not self._identify(task, self.engine.observe(task.name)).must_fetch:
            return task
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import (  # noqa: PLC0415
            fetch_rootfs,
        )
        from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (  # noqa: PLC0415
            ImageSource,
            PullPolicy,
        )

        fetch_rootfs(task.source, self.engine.store, self.engine.paths)
        if not isinstance(task.source, ImageSource):
            return task
        return dataclasses.replace(task, source=dataclasses.replace(task.source, policy=PullPolicy.MISSING))

    def _identify(self, task: Task, observation: Observation) -> Identity:
        if task.bundle is not None:
            return Identity({"bundle": task.bundle.plain()}, must_fetch=False)
        source = t.cast("t.Any", task.source)
        return identify(source, self.engine.store, self.engine.paths, observation)

    def _plan(self, task: Task) -> Result:
        observation = self.engine.observe(task.name)
        if observation.is_taken and task.bundle is None and task.state is not State.ABSENT:
            path = self.engine.bundles.path_of(task.name)
            raise Conflict(
                f"the bundle '{task.name}' was made by another task, not for a container",
                hint=f"Run it with bundle: {path}, or choose another name",
            )
        if task.state is State.HEALTHY:
            self._require_check(task, observation)
        desired = Desired(
            name=task.name,
            state=task.state,
            request=self._request(task, observation),
            has_source=task.has_source,
            rules=task.rules,
            recreate=task.recreate,
            is_attached=task.is_attached,
            rerun=task.rerun,
            signal=task.signal,
        )
        plan = make_plan(
            desired,
            observation.actual(),
            self._can_update,
            lambda request: unit_for(self.engine, task.name, request),
        )
        return Result(plan=plan, observation=observation)

    def _require_check(self, task: Task, observation: Observation) -> None:
        """Raise InvalidSpec before anything is done when it is known that there is no health check."""
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.health import (  # noqa: PLC0415
            require_check,
        )

        asked, image = task.request.health_check, None
        intent = observation.intent
        if task.source is not None:
            rootfs = self._identify(task, observation).rootfs
            if rootfs is None:
                return
            image = rootfs.config.health_check
        elif task.bundle is None and intent is not None:
            recorded, image = intent.health_check
            asked = asked if "health_check" in (task.plain or {}) else recorded
        require_check(asked, image)

    def _request(self, task: Task, observation: Observation) -> Plain | None:
        """Return the request to compare, with what the source is right now."""
        if task.state is State.ABSENT or task.plain is None or not task.has_source:
            return task.plain
        identity = self._identify(task, observation)
        return {**identity.request, **task.plain}

    def _can_update(self, actual: Plain, desired: Plain) -> bool:
        from ansible_collections.pvecri.runtime.plugins.module_utils.container.limits import (  # noqa: PLC0415
            live_changes,
        )

        changes = live_changes(self.engine.runner, resources_of(actual), resources_of(desired))
        return changes is not None


def unit_for(engine: Engine, name: str, request: Plain) -> str | None:
    """Return the text of the unit that a shaped request needs, None without a restart policy."""
    policy = restart_of(request)
    if policy.name == "no":
        return None
    from ansible_collections.pvecri.runtime.plugins.module_utils.container import program, systemd  # noqa: PLC0415
    from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout  # noqa: PLC0415

    return systemd.unit_text(
        name,
        policy,
        command=program.program_command(engine.paths),
        pid_file=Layout(engine.paths, name).conmon_pid_file,
        state_dir=engine.paths.state_dir,
        bundle=os.path.join(engine.paths.bundles, name),
        stop_timeout_s=Intent(request=request).stop_timeout_s,
        environment=program.environment(engine.paths),
    )
