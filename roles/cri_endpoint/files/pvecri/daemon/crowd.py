# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the same for many objects in threads, and wait for none of them for too long."""

from __future__ import annotations

import collections
import threading
import time
import typing as t

T = t.TypeVar("T")

_WORKERS = 8


class Stuck(Exception):
    """An object that was not done with in time; its thread is left to itself."""


def each(
    items: t.Iterable[T], act: t.Callable[[T], None], *, limit_s: float, workers: int = _WORKERS
) -> list[tuple[T, BaseException]]:
    """Call ``act`` with every item; return the items that it failed for, with the reason.

    An item that takes longer than ``limit_s`` seconds is `Stuck`, and its thread
    replaced.  The threads end with the process.
    """
    crowd = _Crowd(items, act)
    crew = [crowd.worker() for _number in range(min(workers, len(crowd.waiting)))]
    while any(worker.is_at_work for worker in crew):
        with crowd.changed:
            crowd.changed.wait(_next_look(crew, limit_s))
        now = time.monotonic()
        for number, worker in enumerate(crew):
            begun = worker.since
            is_late = worker.is_at_work and begun is not None and now - begun > limit_s
            if is_late and worker.give_up(limit_s):
                crew[number] = crowd.worker()
    return crowd.failures


def _next_look(crew: list[_Worker], limit_s: float) -> float:
    begun = [worker.since for worker in crew if worker.is_at_work and worker.since is not None]
    return max(0.001, min(begun, default=time.monotonic()) + limit_s - time.monotonic())


class _Crowd(t.Generic[T]):
    """The items that are left, and what went wrong."""

    def __init__(self, items: t.Iterable[T], act: t.Callable[[T], None]) -> None:
        self.waiting = collections.deque(items)
        self.act = act
        self.failures: list[tuple[T, BaseException]] = []
        self.changed = threading.Condition()

    def worker(self) -> _Worker:
        """Start a thread that works until nothing is left."""
        return _Worker(self)


class _Worker:
    """One thread; what it does after it was given up counts no more."""

    def __init__(self, crowd: _Crowd[t.Any]) -> None:
        self._crowd = crowd
        self._item: t.Any = None
        self.is_at_work = True
        #: When it began with its item; None between two.
        self.since: float | None = None
        threading.Thread(target=self._work, name="pvecri-recovery", daemon=True).start()

    def _work(self) -> None:
        crowd = self._crowd
        while self.is_at_work:
            with crowd.changed:
                if not crowd.waiting:
                    self.is_at_work = False
                    crowd.changed.notify()
                    return
                self._item = crowd.waiting.popleft()
                self.since = time.monotonic()
            failure: BaseException | None = None
            try:
                crowd.act(self._item)
            except Exception as exc:  # one bad object never blocks the rest
                failure = exc
            with crowd.changed:
                self.since = None
                if failure is not None and self.is_at_work:
                    crowd.failures.append((self._item, failure))

    def give_up(self, limit_s: float) -> bool:
        """Count the item as stuck and let the thread be; return False when it has just finished."""
        with self._crowd.changed:
            if self.since is None:
                return False
            self.is_at_work = False
            self._crowd.failures.append((self._item, Stuck(f"it took longer than {limit_s:g} s")))
            return True
