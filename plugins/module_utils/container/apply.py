# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan, step by step, in its order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import limits, program
from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.intent import (
    KEY,
    Intent,
    image_part,
    resources_of,
    restart_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import Observation
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import without_defaults
from ansible_collections.pvecri.runtime.plugins.module_utils.container.result import ended
from ansible_collections.pvecri.runtime.plugins.module_utils.container.supervised import has_succeeded
from ansible_collections.pvecri.runtime.plugins.module_utils.container.task import Task
from ansible_collections.pvecri.runtime.plugins.module_utils.container.terms import (
    WAITING,
    Effect,
    Plan,
    State,
    Step,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_temporaries
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Mount, MountKind, to_plain

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager, Staged


def apply_plan(engine: Engine, task: Task, plan: Plan, observation: Observation) -> list[str]:
    """Carry out ``plan`` and return what the user should be told."""
    application = _Application(engine, task, plan, observation)
    if plan.request is not None:
        # Before anything is ended for a network that there is not.
        network = Intent(request=plan.request).network
        engine.network.require(network)
        engine.network.namespace(task.name, network)
    if Step.WRITE_UNIT in plan.steps:
        engine.units.require_place(task.name)
    try:
        for step in plan.steps:
            if step not in WAITING:
                application.do(step)
    finally:
        application.close()
    return application.warnings


class _Application:
    """One plan being carried out."""

    def __init__(self, engine: Engine, task: Task, plan: Plan, observation: Observation) -> None:
        self.engine = engine
        self.task = task
        self.plan = plan
        self.observation = observation
        self.name = task.name
        self.warnings: list[str] = []
        self.staged: Staged | None = None
        self.manager: BundleManager = engine.wrappers if task.bundle is not None else engine.bundles
        self.has_unit = observation.unit is not None
        self.has_new_files = False

    def do(self, step: Step) -> None:
        """Carry out one step."""
        verbs: dict[Step, t.Callable[[], None]] = {
            Step.STAGE: self._stage,
            Step.STOP: self._stop,
            Step.DELETE: lambda: self.engine.delete(self.name),
            Step.NETWORK_DOWN: lambda: self.engine.network.down(self.name),
            Step.COMMIT: self._commit,
            Step.MARK: self._mark,
            Step.LIVE_UPDATE: self._live_update,
            Step.RECORD: self._record,
            Step.WRITE_UNIT: self._write_unit,
            Step.REMOVE_UNIT: self._remove_unit,
            Step.CREATE: self._create,
            Step.START: self._start,
            Step.RESUME: lambda: self.engine.runtime.resume(self.name),
            Step.PAUSE: lambda: self.engine.runtime.pause(self.name),
            Step.SIGNAL: lambda: self.engine.runtime.kill(self.name, self.task.signal or ""),
            Step.REMOVE: self._remove,
        }
        verbs[step]()

    def close(self) -> None:
        """Let go of what was made and not used."""
        if self.staged is not None:
            self.manager.discard(self.staged)
        if self.has_new_files and self.manager.load(self.name) is None:
            self.engine.network.forget(self.name)

    # ---- bundle ------------------------------------------------------------------------------------------

    def _stage(self) -> None:
        task, engine = self.task, self.engine
        request = t.cast("Plain", self.plan.request)
        intent = Intent(request=request, was_stopped=task.state is State.STOPPED)
        network = intent.network
        namespace = engine.network.namespace(self.name, network)
        self.has_new_files = not self.observation.has_files
        files = engine.network.files(self.name, network)
        if task.bundle is not None:
            self.staged = engine.wrappers.stage_wrapper(
                self.name,
                task.bundle,
                network_namespace=namespace,
                mounts=files,
                extra={KEY: self._with_annotations(intent).plain()},
            )
            return
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import (  # noqa: PLC0415
            fetch_rootfs,
        )

        source = t.cast("t.Any", task.source)
        rootfs = fetch_rootfs(source, engine.store, engine.paths)
        intent = dataclasses.replace(intent, image=image_part(rootfs.config))
        spec = task.request.spec
        taken = {mount.destination for mount in spec.mounts}
        mounts = tuple(
            Mount(kind=MountKind.BIND, destination=destination, source=path)
            for destination, path in files.items()
            if destination not in taken
        )
        namespaces = spec.namespaces
        if namespace == "host":
            namespaces, namespace = dataclasses.replace(namespaces, network="host"), None
        self.staged = engine.bundles.stage(
            dataclasses.replace(spec, mounts=spec.mounts + mounts, namespaces=namespaces),
            source,
            network_namespace=namespace,
            extra={KEY: intent.plain()},
        )
        self.warnings += self.staged.warnings

    def _with_annotations(self, intent: Intent) -> Intent:
        """Take the stop signal that a given bundle names (OCI image specification, conversion.md)."""
        given = t.cast("t.Any", self.task.bundle)
        signal = (given.config.get("annotations") or {}).get("org.opencontainers.image.stopSignal")
        return dataclasses.replace(intent, image={"stop_signal": signal} if signal else {})

    def _commit(self) -> None:
        staged, self.staged = t.cast("Staged", self.staged), None
        self.manager.commit(staged)
        other = self.engine.bundles if self.manager is self.engine.wrappers else self.engine.wrappers
        self._remove_from(other)

    def _remove(self) -> None:
        engine = self.engine
        engine.network.forget(self.name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(program.failure_path(engine.paths, self.name))
        remove_temporaries(Layout(engine.paths, self.name).record)
        log = Layout(engine.paths, self.name).default_log
        for path in _log_files(log):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for manager in (engine.wrappers, engine.bundles):
            self._remove_from(manager)

    def _remove_from(self, manager: BundleManager) -> None:
        bundle = manager.load(self.name)
        if bundle is None:
            return
        is_ours = bundle.record is None or Intent.load(bundle.record.extra) is not None
        if is_ours:
            manager.remove(self.name)

    # ---- changes of what exists --------------------------------------------------------------------------

    def _mark(self) -> None:
        wanted = (self.plan.request or {}).get("resources", {})
        _bundle, intent = self.engine.known(self.name)
        if wanted not in intent.pending:
            self.engine.save(self.name, pending=[*intent.pending, wanted])

    def _live_update(self) -> None:
        engine = self.engine
        bundle, intent = engine.known(self.name)
        new = resources_of((self.plan.request or {}).get("resources", {}))
        changes: Plain = {}
        # After an update that was cut short the kernel has the values of any of these requests.
        for old in (*intent.pending, intent.request.get("resources", {})):
            delta = limits.live_changes(engine.runner, resources_of(old), new)
            changes = limits.merge(changes, delta or {})
        engine.manager_of(bundle).update(bundle, config=limits.configured(engine.runner, bundle.config, new))
        state = engine.state(self.name)
        if changes and state is not None and state.is_alive:
            engine.runtime.update(self.name, changes)

    def _record(self) -> None:
        engine = self.engine
        bundle, intent = engine.known(self.name)
        request = t.cast("Plain", self.plan.request)
        changed = dataclasses.replace(intent, request=request, pending=[])
        if self.plan.effect >= Effect.RESTART:
            changed = dataclasses.replace(changed, was_stopped=self.task.state is State.STOPPED)
        record = t.cast("t.Any", bundle.record)
        config = None
        asked = dict(record.request)
        old, new = intent.request.get("labels", {}), request.get("labels", {})
        if old != new:
            annotations = {k: v for k, v in (bundle.config.get("annotations") or {}).items() if k not in old}
            config = {**bundle.config, "annotations": {**annotations, **_restored(intent, old), **new}}
            asked["labels"] = [list(pair) for pair in new.items()]
        if "resources" in request or "resources" in asked:
            asked["resources"] = to_plain(resources_of(request.get("resources", {})))
        engine.manager_of(bundle).update(
            bundle, config=config, request=asked, extra={**record.extra, KEY: changed.plain()}
        )

    # ---- life --------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        engine = self.engine
        # Before anything ends: whoever looks after a crash knows that it was meant to.
        with contextlib.suppress(NotFound, WrongState):
            self._note_stop()
        if self.has_unit:
            intent = self.observation.intent or Intent(request={})
            engine.units.stop(self.name, intent.stop_timeout_s)
            if self.task.state is State.STOPPED and intent.restart.name == "unless-stopped":
                engine.units.enable(self.name, False)
        engine.stop(self.name)

    def _note_stop(self) -> None:
        _bundle, intent = self.engine.known(self.name)
        request = dict(intent.request)
        if self.task.stop_timeout_s is not None:
            request["stop_timeout"] = self.task.stop_timeout_s
        if self.task.stop_signal is not None:
            request["stop_signal"] = self.task.request.spec.stop_signal
        is_meant = self.task.state is State.STOPPED
        self.engine.save(
            self.name, request=without_defaults(request), was_stopped=intent.was_stopped or is_meant
        )

    def _create(self) -> None:
        if self.has_unit and Step.START in self.plan.steps:
            # The unit does it, so that what runs belongs to it.
            return
        self._restore_secrets()
        self.engine.create(self.name)

    def _start(self) -> None:
        engine = self.engine
        engine.save(self.name, was_stopped=False)
        if not self.has_unit:
            engine.start(self.name)
            return
        self._restore_secrets()
        try:
            engine.units.start(self.name)
        except CommandError as exc:
            if not has_succeeded(engine, self.name):
                raise self._start_failure(exc) from exc
        _bundle, intent = engine.known(self.name)
        engine.units.enable(self.name, intent.restart.name in {"always", "unless-stopped"})

    def _start_failure(self, error: CommandError) -> CommandError:
        """Return what systemctl does not tell: why the container does not run."""
        reason = program.last_failure(self.engine.paths, self.name)
        state = self.engine.state(self.name)
        if reason is None and state is not None and not state.is_alive:
            reason = ended(state)
        if reason is None:
            return error
        return CommandError(
            f"the unit of container '{self.name}' could not start it: {reason}",
            argv=error.argv,
            rc=error.rc,
            stdout=error.stdout,
            stderr=error.stderr,
        )

    def _restore_secrets(self) -> None:
        bundle, _intent = self.engine.known(self.name)
        lost = Observation(name=self.name, bundle=bundle).lost_secrets
        if lost and self.task.source is not None:
            self.engine.bundles.repair(self.name, self.task.request.spec)

    def _write_unit(self) -> None:
        text = t.cast("str", self.plan.differences.after()["systemd_unit"])
        program.install(self.engine.paths)
        self.engine.units.write(self.name, text)
        self.has_unit = True
        policy = restart_of(self.plan.request or (self.observation.intent or Intent(request={})).request)
        if policy.name == "on-failure":
            self.engine.units.enable(self.name, False)

    def _remove_unit(self) -> None:
        self.engine.units.remove(self.name)
        self.has_unit = False


def _log_files(log: str) -> list[str]:
    """Return the files of a log: older ones, conmon's next one, and the second name of the one being written.

    Exactly these, since the name of another container may begin with that of this log.
    """
    folder, name = os.path.split(log)
    ours = re.compile(rf"{re.escape(name)}(?:\.[0-9]+|\.tmp)?|\.{re.escape(name)}\.held")
    with contextlib.suppress(FileNotFoundError):
        return [os.path.join(folder, entry) for entry in os.listdir(folder) if ours.fullmatch(entry)]
    return []


def _restored(intent: Intent, gone: t.Mapping[str, str]) -> dict[str, str]:
    """Return the labels of the image that labels of the request had hidden."""
    return {key: value for key, value in intent.image.get("labels", {}).items() if key in gone}
