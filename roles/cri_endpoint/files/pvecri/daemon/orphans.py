# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what exists without a record, and say what it is.

Only a lost or damaged database, a power cut or a stranger leaves such things.  With a
copy of its record an object is adopted.  Without one no client was ever told of it,
and it is cleared away.  Whatever can be neither proved is kept and reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError
from pvecri.context import Context
from pvecri.daemon.verdicts import adopted_container, is_acknowledged
from pvecri.state import spare
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord, is_id

_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class Orphans:
    """What was found without a record."""

    #: Ids of objects that have a record again.
    adopted: list[str] = dataclasses.field(default_factory=list)
    #: What is to be cleared away: a name for the log, the id, and how.
    cleared: list[tuple[str, str, t.Callable[[], object]]] = dataclasses.field(default_factory=list)
    #: What nobody knows what it is: kept.
    kept: list[str] = dataclasses.field(default_factory=list)


class OrphanSearch:
    """Compares the registry with the disk and with the runtimes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found = Orphans()

    def run(self) -> Orphans:
        """Adopt what can be; return the rest.  Sandboxes first, since containers belong to them."""
        known = {record.id for record in self._context.registry.sandboxes()}
        for sandbox_id in sorted(self._sandbox_ids() - known):
            self._one(f"sandbox {sandbox_id}", self._sandbox, sandbox_id)
        context = self._context
        known = {record.id for record in context.registry.containers()}
        sandboxes = {record.id for record in context.registry.sandboxes()}
        bundles = set(context.bundles.names())
        # A pause container and its bundle bear the name of their sandbox.
        for name in sorted(bundles - known - sandboxes):
            self._one(f"bundle {name}", self._bundle, name)
        for name in sorted(set(context.runtimes.names()) - known - sandboxes - bundles):
            self._one(f"container {name}", self._runtime, name)
        return self._found

    def _one(self, what: str, act: t.Callable[[str], None], name: str) -> None:
        try:
            act(name)
        except (CoreError, OSError, ValueError) as exc:
            self._keep(f"{what}: {exc}")
        except Exception as exc:  # one bad object never keeps the daemon from its start
            _log.exception("%s cannot be looked at", what)
            self._keep(f"{what}: {type(exc).__name__}: {exc}")

    def _keep(self, what: str) -> None:
        _log.error("kept, though no record tells of it: %s", what)
        self._found.kept.append(what)

    # ---- sandboxes ----------------------------------------------------------------------------------------

    def _sandbox_ids(self) -> set[str]:
        paths = self._context.paths
        found = set()
        for directory in (paths.state_dir, paths.run_dir):
            with contextlib.suppress(FileNotFoundError):
                found.update(os.listdir(os.path.join(directory, "sandboxes")))
        for name in self._context.cni.attached():
            if not is_id(name):
                self._keep(f"CNI attachment of '{name}'")
            found.add(name)
        return {name for name in found if is_id(name)}

    def _sandbox(self, sandbox_id: str) -> None:
        registry = self._context.registry
        try:
            record = spare.load_sandbox(self._context.paths, sandbox_id)
        except (ValueError, OSError) as exc:
            # It was ready once, so a client may ask for it, and remove it.
            message = f"its record is lost and the copy cannot be read: {exc}"
            registry.adopt_sandbox(_without_copy(sandbox_id, Phase.UNKNOWN, message))
            self._keep(f"sandbox {sandbox_id}: {message}")
            return
        if record is None:
            # Recovery removes what stays in the making, with all that belongs to it.
            registry.adopt_sandbox(_without_copy(sandbox_id, Phase.CREATING, "found without a record"))
            return
        registry.adopt_sandbox(record)
        self._found.adopted.append(sandbox_id)

    # ---- containers ---------------------------------------------------------------------------------------

    def _bundle(self, name: str) -> None:
        context = self._context
        bundle = context.bundles.load(name)
        if bundle is None:
            return
        state = context.runtimes.state(name)
        copy = spare.load_container(bundle.record) if bundle.record is not None else None
        if copy is None:
            self._keep(f"bundle {name}: {'; '.join(bundle.problems) or 'it has no copy of a record'}")
            return
        if state is None or not is_acknowledged(state):
            self._clear(f"container {name}, whose create was cut short", name)
            return
        self._adopt(copy, state)

    def _adopt(self, copy: ContainerRecord, state: ContainerState) -> None:
        record = adopted_container(copy, state, self._started_at(copy.id, state), time.time_ns())
        try:
            self._context.registry.adopt_container(record)
        except Conflict as exc:
            self._keep(f"container {copy.id}: {exc}")
            return
        self._found.adopted.append(copy.id)

    def _started_at(self, container_id: str, state: ContainerState) -> int:
        return started_at_ns(Layout(self._context.paths, container_id), state)

    def _runtime(self, name: str) -> None:
        state = self._context.runtimes.state(name)
        if state is not None and Problem.HALF_CREATED in state.problems:
            self._clear(f"container {name}, whose create was cut short", name)
        elif state is not None:
            self._keep(f"container {name} ({state.status}) without a bundle")

    def _clear(self, what: str, name: str) -> None:
        def act() -> None:
            self._context.runtimes.delete(name, force=True)
            self._context.bundles.remove(name)

        self._found.cleared.append((what, name, act))


def started_at_ns(layout: Layout, state: ContainerState) -> int:
    """Return when a container was started: as its record says, else when crun took its fifo away."""
    if state.started_at:
        return round(state.started_at * 1e9)
    with contextlib.suppress(FileNotFoundError):
        return os.stat(layout.runtime_dir).st_mtime_ns
    return time.time_ns()


def _without_copy(sandbox_id: str, phase: Phase, message: str) -> SandboxRecord:
    """Return a record of a sandbox of which nothing but the id is known."""
    return SandboxRecord(
        id=sandbox_id,
        name=sandbox_id,
        config=b"",
        created_at_ns=time.time_ns(),
        phase=phase,
        message=message,
    )
