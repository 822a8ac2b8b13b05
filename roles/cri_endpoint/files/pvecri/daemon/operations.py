# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run blocking work for clients that may go away, one operation per object at a time.

An operation belongs to the daemon, not to the client that asked for it: when the
client's deadline passes it goes on to its end, and a repeated call joins it.  The
object's lock is held until the thread has ended, whoever still waits for it.

Threads come from a pool per kind of work, so that a registry that stalls or a CNI
plugin that hangs takes no thread from anything else.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
import typing as t
from concurrent.futures import Future, ThreadPoolExecutor

from ansible_collections.pvecri.runtime.plugins.module_utils.named import Named
from pvecri.errors import TooBusy

T = t.TypeVar("T")

_log = logging.getLogger(__name__)

Guard = t.Callable[[str], t.ContextManager[None]]


class Pool(enum.StrEnum):
    """Kinds of work that must not wait for each other."""

    #: Run, stop and remove sandboxes: CNI plugins.
    SANDBOX = "sandbox"
    #: Create, start, update and remove containers.
    CONTAINER = "container"
    #: Stop containers: up to a grace period each, for every container of a node at once.
    STOP = "stop"
    #: Commands in containers: as long as these please.
    EXEC = "exec"
    #: Pull and remove images.
    IMAGE = "image"
    #: Dump containers and restore pods: minutes, for much memory.
    CHECKPOINT = "checkpoint"
    #: Reading: verbose status, image lists.
    QUERY = "query"
    #: Finish and undo what the last daemon left: CNI plugins, too.
    MEND = "mend"
    #: What the daemon does of its own accord and must not wait for: ends of containers, recovery.
    HOUSE = "house"


#: Threads at most; they are made when needed.
SIZES: t.Final[t.Mapping[Pool, int]] = {
    Pool.SANDBOX: 64,
    Pool.CONTAINER: 64,
    Pool.STOP: 512,
    Pool.EXEC: 512,
    Pool.IMAGE: 64,
    Pool.CHECKPOINT: 8,
    Pool.QUERY: 32,
    Pool.MEND: 32,
    Pool.HOUSE: 64,
}


#: Operations in flight at most, with those that wait for a thread or an object: clients that leave and ask
#: for something else leave theirs behind.
MOST: t.Final = 4000
#: Work that no client asks for: it is never refused.
_OWN: t.Final = frozenset({Pool.MEND, Pool.HOUSE})


class Operations:
    """The operations in flight; used from the event loop alone."""

    def __init__(
        self, guard: Guard | None = None, sizes: t.Mapping[Pool, int] | None = None, *, most: int = MOST
    ) -> None:
        """Set up; ``guard`` holds an object's lock within the thread too, as `Registry.held` does."""
        self._most = most
        self._guard = guard
        self._pools = {
            pool: ThreadPoolExecutor(max_workers=size, thread_name_prefix=f"pvecri-{pool}")
            for pool, size in (sizes or SIZES).items()
        }
        self._in_flight: dict[t.Hashable, asyncio.Task[t.Any]] = {}
        #: One for each object that anybody wants.
        self._locks = Named(asyncio.Lock)
        self._tasks: set[asyncio.Task[t.Any]] = set()
        #: What threads are at, whoever waits for it.
        self._at_work: set[Future[t.Any]] = set()
        self._is_closing = False

    async def run(
        self,
        key: t.Hashable,
        action: t.Callable[[], T],
        *,
        lock: str | None = None,
        pool: Pool = Pool.CONTAINER,
    ) -> T:
        """Call ``action`` in a thread and return its value or raise what it raises.

        Whoever calls with a ``key`` that is in flight gets that one's outcome.  ``lock`` is
        the id of the object that the action works on; those that wait for it get it in
        order and hold no thread meanwhile.  A caller that is cancelled changes nothing.
        Raises TooBusy when too many are in flight.
        """
        task = self._in_flight.get(key)
        if task is None:
            if self._is_closing:
                raise asyncio.CancelledError
            self._refuse_more(len(self._tasks), pool)
            task = asyncio.get_running_loop().create_task(self._perform(action, lock, pool))
            self._in_flight[key] = task
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._over(key, done))
        return t.cast(T, await asyncio.shield(task))

    async def call(self, action: t.Callable[[], T], *, pool: Pool = Pool.QUERY) -> T:
        """Call ``action`` in a thread, without key and lock; it goes on when the caller is cancelled.

        Raises TooBusy when too many are in flight.
        """
        self._refuse_more(len(self._at_work), pool)
        future = self._begin(action, pool)
        future.add_done_callback(_look_at)
        return await asyncio.shield(future)

    def _refuse_more(self, count: int, pool: Pool) -> None:
        if count >= self._most and pool not in _OWN:
            raise TooBusy(f"{count} operations are in flight", hint="Try again")

    def _begin(self, action: t.Callable[..., T], pool: Pool, *arguments: t.Any) -> asyncio.Future[T]:
        is_refused = False

        def work() -> T | None:
            return None if is_refused else action(*arguments)

        try:
            future = t.cast("Future[T]", self._pools[pool].submit(work))
        except RuntimeError as exc:
            # The executor keeps it for the next thread, when whoever asked has long done it again.
            is_refused = True
            raise TooBusy(f"no thread can be started: {exc}", hint="Try again") from exc
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return asyncio.wrap_future(future)

    async def drain(self, timeout_s: float) -> int:
        """Wait for what is in flight, ``timeout_s`` seconds at most; return how much is left.

        Nothing new is begun afterwards.
        """
        self._is_closing = True
        end = time.monotonic() + timeout_s
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s)
        at_work = [asyncio.wrap_future(future) for future in list(self._at_work)]
        for future in at_work:
            future.add_done_callback(_look_at)
        if at_work:
            _done, waited = await asyncio.wait(at_work, timeout=max(0.0, end - time.monotonic()))
            for future in waited:
                # The threads go on, and shall not tell a loop that is closed by then.
                future.cancel()
        return max(len(self._tasks), len(self._at_work))

    def close(self) -> None:
        """Let go of the threads; those at work end with their action, or with the process."""
        self._is_closing = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    async def _perform(self, action: t.Callable[[], T], lock: str | None, pool: Pool) -> T:
        if lock is None:
            return await self._begin(action, pool)
        with self._locks.of(lock) as turn:
            async with turn:
                return await self._begin(self._guarded, pool, action, lock)

    def _guarded(self, action: t.Callable[[], T], lock: str) -> T:
        if self._guard is None:
            return action()
        with self._guard(lock):
            return action()

    def _over(self, key: t.Hashable, task: asyncio.Task[t.Any]) -> None:
        self._tasks.discard(task)
        if self._in_flight.get(key) is task:
            del self._in_flight[key]
        if not task.cancelled() and task.exception() is not None:
            # Looked at, so that asyncio does not complain when nobody waits any more.
            _log.debug("operation %r failed: %s", key, task.exception())


def _look_at(future: asyncio.Future[t.Any]) -> None:
    """Look at an error, so that asyncio does not complain when nobody waits any more."""
    if not future.cancelled() and future.exception() is not None:
        _log.debug("operation failed: %s", future.exception())
