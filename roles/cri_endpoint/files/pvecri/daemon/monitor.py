# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See containers end, without ever asking in turns.

conmon renames an exit file into its place for each that ends (inotify(7)).  That
conmon itself is killed, or hangs after its container's end, shows in the pidfds of
both, which the event loop watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import resource
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.exits import ExitWatcher
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.containers.exits import Exits
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.registry import Change, Registry

_log = logging.getLogger(__name__)

#: Calls a function in a thread.
Call = t.Callable[[t.Callable[[], t.Any]], t.Awaitable[t.Any]]

_ALIVE = frozenset({Phase.CREATED, Phase.RUNNING})

#: How long conmon may take for the exit file before its container is looked at.
_GRACE_S = 2.0

#: When something is tried again that failed for a reason that may pass.
_RETRY_S = 5.0

_NOFILE = 65536


class Watched(t.Protocol):
    """What the monitor asks of the runtimes."""

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container, or None when nothing of it is known."""

    def watch_exits(self) -> ExitWatcher:
        """Return a watcher that names containers as they end."""


@dataclasses.dataclass(slots=True)
class _Watch:
    """The descriptors by which one object is watched."""

    object_id: str
    handles: list[int] = dataclasses.field(default_factory=list)


class Monitor:
    """Watches everything in the registry that lives; used from the event loop but where it says so."""

    def __init__(self, registry: Registry, runtimes: Watched, exits: Exits, call: Call) -> None:
        self._registry = registry
        self._runtimes = runtimes
        self._exits = exits
        self._call = call
        self._watches: dict[str, _Watch] = {}
        #: Objects that are looked at now, and whether they must be looked at again after that.
        self._looked_at: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._watcher: ExitWatcher | None = None

    def start(self) -> None:
        """Watch what lives now and what will; what has ended meanwhile is settled at once."""
        self._loop = asyncio.get_running_loop()
        # Before anything is looked at: what ends from here on is told.
        self._watcher = self._runtimes.watch_exits()
        self._loop.add_reader(self._watcher.fileno(), self._read_exits)
        self._registry.listen(self._heard)
        self._look_at_all()

    def stop(self) -> None:
        """Let go of everything."""
        self._is_over = True
        if self._watcher is None:
            return
        self._loop.remove_reader(self._watcher.fileno())
        self._watcher.close()
        for object_id in list(self._watches):
            self._unwatch(object_id)
        for task in self._tasks:
            task.cancel()

    def _look_at_all(self) -> None:
        for sandbox in self._registry.sandboxes():
            if _is_watched(sandbox):
                self._watch(sandbox.id)
        for container in self._registry.containers():
            if _is_watched(container):
                self._watch(container.id)

    # ---- what tells of ends -------------------------------------------------------------------------------

    def _heard(self, change: Change) -> None:
        """Follow a change of the registry, in whatever thread it was made."""
        was, is_now = _is_watched(change.old), _is_watched(change.new)
        record = change.new or change.old
        if was == is_now or record is None or self._is_over:
            return
        with contextlib.suppress(RuntimeError):
            # The loop may be closed: the daemon is at its end.
            self._loop.call_soon_threadsafe(self._watch if is_now else self._unwatch, record.id)

    def _read_exits(self) -> None:
        names = self._watcher.read() if self._watcher else []
        if names is None:
            _log.warning("more containers ended at once than the kernel counts; all are looked at")
            self._look_at_all()
            for object_id in list(self._watches):
                self._look(object_id)
            return
        for name in names:
            self._look(name)

    def _ended(self, handle: int, object_id: str, grace_s: float) -> None:
        """Act upon the end of the process of a pidfd."""
        watch = self._watches.get(object_id)
        self._loop.remove_reader(handle)
        os.close(handle)
        if watch is not None and handle in watch.handles:
            watch.handles.remove(handle)
        self._loop.call_later(grace_s, self._look_again, object_id)

    def _look_again(self, object_id: str) -> None:
        # Usually the exit file has told already, and nothing is watched any more.
        if object_id in self._watches:
            self._look(object_id)

    # ---- watching -----------------------------------------------------------------------------------------

    def _watch(self, object_id: str) -> None:
        if object_id not in self._watches and not self._is_over:
            self._watches[object_id] = _Watch(object_id)
            self._spawn(self._begin(object_id))

    def _unwatch(self, object_id: str) -> None:
        watch = self._watches.pop(object_id, None)
        for handle in watch.handles if watch else ():
            self._loop.remove_reader(handle)
            os.close(handle)

    async def _begin(self, object_id: str) -> None:
        """Open pidfds of an object's conmon and first process; look at it when one is gone already."""
        try:
            conmon, first = await self._call(lambda: self._open(object_id))
        except (CoreError, OSError) as exc:
            _log.error("%s cannot be watched yet: %s", object_id, exc)
            self._loop.call_later(_RETRY_S, self._begin_again, object_id)
            return
        watch = self._watches.get(object_id)
        for handle, grace_s in ((conmon, 0.0), (first, _GRACE_S)):
            if handle is None:
                continue
            if watch is None or self._is_over:
                os.close(handle)
                continue
            watch.handles.append(handle)
            self._loop.add_reader(handle, self._ended, handle, object_id, grace_s)
        if conmon is None or first is None:
            self._look_again(object_id)

    def _begin_again(self, object_id: str) -> None:
        watch = self._watches.get(object_id)
        if watch is not None and not watch.handles and not self._is_over:
            self._spawn(self._begin(object_id))

    def _open(self, object_id: str) -> tuple[int | None, int | None]:
        state = self._runtimes.state(object_id)
        if state is None:
            return None, None
        conmon = _pidfd(state.conmon_pid, 0)
        try:
            return conmon, _pidfd(state.pid, state.pid_start_time)
        except OSError:
            if conmon is not None:
                os.close(conmon)
            raise

    def _look(self, object_id: str) -> None:
        """Have an object's end settled in a thread, one look at a time."""
        if object_id in self._looked_at:
            self._looked_at[object_id] = True
        elif not self._is_over:
            self._looked_at[object_id] = False
            self._spawn(self._settle(object_id))

    async def _settle(self, object_id: str) -> None:
        is_done = True
        try:
            is_done = await self._call(lambda: self._settle_one(object_id))
        finally:
            if self._looked_at.pop(object_id, False):
                self._look(object_id)
            elif not is_done:
                self._loop.call_later(_RETRY_S, self._look_again, object_id)

    def _settle_one(self, object_id: str) -> bool:
        """Settle what has ended; return False when that has to be tried again."""
        try:
            if self._exits.settle(object_id) is None:
                self._settle_sandbox(object_id)
        except (CoreError, OSError) as exc:
            _log.error("the end of %s cannot be written down yet: %s", object_id, exc)
            return False
        except Exception:  # one bad object never keeps the others from being watched
            _log.exception("the end of %s cannot be written down", object_id)
        return True

    def _settle_sandbox(self, object_id: str) -> None:
        """A pod whose shared PID namespace has ended has no processes any more."""

        def decide(record: SandboxRecord) -> dict[str, t.Any] | None:
            if not _is_watched(record) or self._registry.flags(object_id):
                return None
            return {"phase": Phase.STOPPED, "message": "its pause container ended"}

        with contextlib.suppress(CoreError):
            state = self._runtimes.state(object_id)
            if state is None or not state.is_alive:
                self._registry.change_sandbox(object_id, decide)

    def _spawn(self, work: t.Coroutine[t.Any, t.Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_watched(record: SandboxRecord | ContainerRecord | None) -> bool:
    if isinstance(record, SandboxRecord):
        return record.phase is Phase.READY and record.has_pause
    return record is not None and record.phase in _ALIVE and not record.awaits_restore


def _pidfd(pid: int | None, start_time: int) -> int | None:
    if pid is None:
        return None
    with procfs.held(pid, start_time) as handle:
        return None if handle is None else os.dup(handle)


def allow_many_files() -> tuple[int, int]:
    """Raise the soft limit of open files as far as is sensible and allowed; return the limits from before.

    Two pidfds a container are more than the usual 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NOFILE if hard == resource.RLIM_INFINITY else min(hard, _NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft, hard
