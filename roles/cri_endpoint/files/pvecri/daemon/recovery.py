# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out after a start what became of everything, and finish what was cut short.

`Recovery.survey` reads: records, crun's state, exit files, pinned namespaces, CNI's
cache.  It starts no process, takes a fraction of a second for a hundred pods, and
requests are let in when it is done.  What has to be undone or finished (`Mend`) comes
after, each under its object's lock, so that a client that asks for the same object
waits for that one only.

- Containers that run go on; those that ended meanwhile get their exit code.
- An object that was still in the making is removed: its client never got an answer.
- A sandbox that lost its namespaces is stopped: that frees its addresses by CNI's cache.
- After a restart of the host all sandboxes are stopped and all containers have ended.
- What has no record is adopted, cleared away or kept (`orphans`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import leftovers, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState, Problem
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import Stage
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.containers.exits import Exits
from pvecri.context import Context
from pvecri.daemon import verdicts
from pvecri.daemon.crowd import each
from pvecri.daemon.operations import Operations, Pool
from pvecri.daemon.orphans import OrphanSearch, started_at_ns
from pvecri.daemon.verdicts import Act, SandboxFacts
from pvecri.errors import Unavailable
from pvecri.metrics.counts import Recovered
from pvecri.state import spare
from pvecri.state.records import PHASE_BEFORE, ContainerRecord, Phase, SandboxRecord

_log = logging.getLogger(__name__)

#: How long one object may keep recovery; it is UNKNOWN then, and the others go on.
OBJECT_LIMIT_S: t.Final = 5.0

#: Pauses between attempts to mend something.
_RETRY_S: t.Final = (1.0, 10.0, 60.0)


class Sandboxes(t.Protocol):
    """What recovery asks of the sandbox service."""

    def stop(self, sandbox_id: str) -> None:
        """Stop a sandbox, whatever is left of it."""

    def remove(self, sandbox_id: str) -> None:
        """Remove a sandbox, whatever is left of it."""


class Containers(t.Protocol):
    """What recovery asks of the container service."""

    def start(self, container_id: str) -> None:
        """Start a container, or join the start that is under way."""

    def remove(self, container_id: str) -> None:
        """Remove a container, whatever is left of it."""


class Guests(t.Protocol):
    """What recovery asks about containers that are guests of Proxmox VE."""

    def stage(self, name: str) -> Stage | None:
        """Return how far a container came; None: it is no guest."""

    def look(self) -> None:
        """Compare what is known with what Proxmox VE has; raises Unavailable when that does not answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mend:
    """Something to finish or to undo."""

    object_id: str
    what: str
    act: t.Callable[[], object]
    #: Done at every start, whatever there is.
    is_upkeep: bool = False


class Recovery:
    """Looks through everything once, before the first request."""

    def __init__(
        self,
        context: Context,
        sandboxes: Sandboxes,
        containers: Containers,
        exits: Exits,
        *,
        guests: Guests | None = None,
        limit_s: float = OBJECT_LIMIT_S,
    ) -> None:
        self._context = context
        self._guests = guests
        self._registry = context.registry
        self._sandboxes = sandboxes
        self._containers = containers
        self._exits = exits
        self._limit_s = limit_s
        self._mends: list[Mend] = []
        self._is_same_boot = True
        #: What the survey found, by the names of metrics; none before it is done.
        self.found: Recovered | None = None

    # ---- reading ------------------------------------------------------------------------------------------

    def survey(self) -> list[Mend]:
        """Bring the registry in line with the host and return what is to be mended; starts no process."""
        begun = time.monotonic()
        boot = procfs.boot_id()
        self._is_same_boot = self._registry.boot_id in {"", boot}
        orphans = OrphanSearch(self._context).run()
        self._mends = [Mend(name, what, act) for what, name, act in orphans.cleared]
        attached = self._context.cni.attached()
        self._each(self._registry.sandboxes(), lambda record: self._sandbox(record, record.id in attached))
        self._each(self._registry.containers(), self._container)
        to_mend = len(self._mends)
        self._mends.append(
            Mend("bundles", "bundles in the making", self._context.bundles.sweep, is_upkeep=True)
        )
        if self._guests is not None:
            # It need not answer now: what files say is enough to let requests in.
            self._mends.append(Mend("guests", "what Proxmox VE has", self._guests.look, is_upkeep=True))
        # Looked for now: later there are those of this daemon's clients, too.
        commands = self._commands()
        self._mends.append(
            Mend(
                "commands",
                "commands of the last daemon",
                lambda: leftovers.end_commands(commands),
                is_upkeep=True,
            )
        )
        # Last: a survey that is cut short begins anew.
        self._registry.boot_id = boot
        found = Recovered(
            seconds=round(time.monotonic() - begun, 3),
            objects={
                "sandboxes": len(self._registry.sandboxes()),
                "containers": len(self._registry.containers()),
                "adopted": len(orphans.adopted),
                "kept": len(orphans.kept),
            },
            mends={"waiting": to_mend, "done": 0, "failed": 0},
        )
        self.found = found
        facts = {"to_mend": to_mend, "after_reboot": not self._is_same_boot, "seconds": found.seconds}
        _log.info("recovered", extra={**found.objects, **facts})
        return self._mends

    def _each(self, records: list[R], act: t.Callable[[R], None]) -> None:
        for record, problem in each(records, act, limit_s=self._limit_s):
            _log.error("%s cannot be looked at and is UNKNOWN: %s", record.id, problem)
            changes = verdicts.undecided(record, f"it could not be looked at: {problem}")
            with contextlib.suppress(CoreError, OSError):
                self._update(record, changes)

    def _update(self, record: SandboxRecord | ContainerRecord, changes: dict[str, t.Any]) -> None:
        """Change a record that is still as it was judged: a look that was given up may end late."""

        def decide(now: SandboxRecord | ContainerRecord) -> dict[str, t.Any] | None:
            return changes if now == record else None

        if isinstance(record, SandboxRecord):
            self._registry.change_sandbox(record.id, decide)
        else:
            self._registry.change_container(record.id, decide)

    # ---- sandboxes ----------------------------------------------------------------------------------------

    def _sandbox(self, record: SandboxRecord, is_attached: bool) -> None:
        if _is_damaged(record):
            record = self._restored_sandbox(record)
        verdict = verdicts.judge_sandbox(record, self._sandbox_facts(record, is_attached))
        self._update(record, verdict.changes)
        if verdict.act is Act.UNDO:
            self._mend(record.id, "sandbox in the making", lambda: self._sandboxes.remove(record.id))
        elif verdict.act is Act.STOP:
            self._mend(record.id, "sandbox to stop", lambda: self._sandboxes.stop(record.id))

    def _sandbox_facts(self, record: SandboxRecord, is_attached: bool) -> SandboxFacts:
        paths = {
            kind: path
            for kind, path in (
                ("network", record.netns),
                ("IPC", record.ipcns),
                ("UTS", record.utsns),
                ("user", record.userns),
            )
            if path
        }
        lost = tuple(kind for kind, path in paths.items() if not netns.is_pinned(path))
        pause_lives = None
        if record.has_pause and record.phase is not Phase.STOPPED:
            state = self._context.runtimes.state(record.id)
            pause_lives = state is not None and state.is_alive
        return SandboxFacts(
            is_same_boot=self._is_same_boot,
            lost=lost,
            pause_lives=pause_lives,
            is_attached=is_attached,
            is_pinned=len(lost) < len(paths),
        )

    def _restored_sandbox(self, record: SandboxRecord) -> SandboxRecord:
        """Return a record that the database could not give, from its copy where there is one."""
        copy = None
        with contextlib.suppress(ValueError):
            copy = spare.load_sandbox(self._context.paths, record.id)
        if copy is None:
            return record
        _log.warning("the record of sandbox %s was restored from its copy", record.id)
        return self._registry.update_sandbox(record.id, **_fields(copy), phase=copy.phase)

    # ---- containers ---------------------------------------------------------------------------------------

    def _container(self, record: ContainerRecord) -> None:
        state = self._context.runtimes.state(record.id)
        started = 0 if state is None else started_at_ns(Layout(self._context.paths, record.id), state)
        if _is_damaged(record) and state is not None:
            record = self._restored_container(record, state, started)
        verdict = verdicts.judge_container(record, state, started, self._stage(record))
        self._update(record, verdict.changes)
        if verdict.act is Act.UNDO:
            self._mend(record.id, "container in the making", lambda: self._containers.remove(record.id))
        elif verdict.act is Act.RESET:
            self._mend(
                record.id,
                "restore of container",
                lambda: self._context.runtimes.delete(record.id, force=True),
            )
        elif verdict.act is Act.REPAIR:
            self._mend(record.id, "container to prepare", lambda: self._repair(record.id))
        elif verdict.act is Act.RESUME:
            self._mend(record.id, "start of container", lambda: self._resume(record.id))
        elif verdict.act is Act.SETTLE:
            is_quick = state is None or (not state.is_alive and state.conmon_pid is None)
            if is_quick or (state is not None and state.exit_code is not None):
                self._exits.settle(record.id)
            else:
                self._mend(record.id, "container to end", lambda: self._end_container(record.id))

    def _stage(self, record: ContainerRecord) -> Stage | None:
        """Return how far a guest of Proxmox VE came; None: it is none, or its pod is over."""
        if self._guests is None:
            return None
        with contextlib.suppress(NotFound):
            if self._registry.sandbox(record.sandbox_id).phase is Phase.READY:
                return self._guests.stage(record.id)
        return None

    def _restored_container(
        self, record: ContainerRecord, state: ContainerState, started: int
    ) -> ContainerRecord:
        """Return a record that the database could not give, from its bundle where that has a copy."""
        bundle = self._context.bundles.load(record.id)
        copy = None
        with contextlib.suppress(ValueError):
            copy = spare.load_container(bundle.record) if bundle and bundle.record else None
        if copy is None:
            return record
        _log.warning("the record of container %s was restored from its bundle", record.id)
        whole = verdicts.adopted_container(copy, state, started, time.time_ns())
        return self._registry.update_container(record.id, **_fields(whole), phase=whole.phase)

    def _end_container(self, container_id: str) -> None:
        record = self._exits.settle(container_id)
        state = self._context.runtimes.state(container_id)
        if record is not None and record.phase is Phase.EXITED and state is not None and state.is_alive:
            self._context.runtimes.stop(container_id, signal.SIGKILL)

    def _repair(self, container_id: str) -> None:
        """Make what waits for a container's start anew; one for which that cannot be has ended."""
        self._context.runtimes.repair(container_id)
        state = self._context.runtimes.state(container_id)
        if state is None or Problem.MONITOR_LOST in state.problems:
            self._end_container(container_id)

    def _resume(self, container_id: str) -> None:
        """Start a container that a client wanted to be started, unless somebody was faster."""
        if self._registry.container(container_id).phase is Phase.CREATED:
            self._containers.start(container_id)

    # ---- mending ------------------------------------------------------------------------------------------

    def _mend(self, object_id: str, what: str, act: t.Callable[[], object]) -> None:
        self._mends.append(Mend(object_id, what, act))

    def _commands(self) -> list[str]:
        """Return the files of commands in containers whose client went with the last daemon."""
        return leftovers.left_commands(self._context.paths)

    async def mend(self, operations: Operations, mends: t.Iterable[Mend]) -> None:
        """Finish and undo what the survey found, each under its object's lock, all at once."""
        await asyncio.gather(*(self._mend_one(operations, mend) for mend in mends))

    async def _mend_one(self, operations: Operations, mend: Mend) -> None:
        is_done = await self._is_mended(operations, mend)
        if self.found is not None and not mend.is_upkeep:
            self.found.mends["waiting"] -= 1
            self.found.mends["done" if is_done else "failed"] += 1

    async def _is_mended(self, operations: Operations, mend: Mend) -> bool:
        pauses, told = iter(_RETRY_S), ""
        while True:
            pause = next(pauses, None)
            try:
                await operations.run(
                    ("mend", mend.object_id, mend.what), mend.act, lock=mend.object_id, pool=Pool.MEND
                )
            except NotFound:
                # A client has removed it meanwhile.
                return True
            except (CoreError, OSError) as exc:
                # Proxmox VE may be away for days, and every reason is told once.
                level = logging.DEBUG if str(exc) == told else logging.WARNING
                _log.log(level, "%s %s cannot be mended: %s", mend.what, mend.object_id, exc)
                told = str(exc)
                if isinstance(exc, Unavailable):
                    # Proxmox VE will be back: until then nobody else would do it.
                    pause = pause or _RETRY_S[-1]
            except Exception:  # one bad object never keeps the others from being mended
                _log.exception("%s %s cannot be mended", mend.what, mend.object_id)
                return False
            else:
                return True
            if pause is None:
                break
            await asyncio.sleep(pause)
        _log.error("%s %s stays as it is until the next start", mend.what, mend.object_id)
        return False


R = t.TypeVar("R", SandboxRecord, ContainerRecord)


def _is_damaged(record: SandboxRecord | ContainerRecord) -> bool:
    return record.phase is Phase.UNKNOWN and PHASE_BEFORE not in record.extra


def _fields(record: SandboxRecord | ContainerRecord) -> dict[str, t.Any]:
    return {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in {"id", "name", "phase"}
    }
