# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Share pulls: one at a time for the same thing, a few at once, and none that hangs in another's way.

Whoever asks for what is being pulled gets that pull's result, or its error.  Nobody
who goes away ends it.  A pull in which nothing moves does not count among those that
are at work, and one registry can never hold all places.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState

#: Pulls that may wait for their turn.
_WAITING_MAX = 1000
#: So many times the limit of pulls may run in all, hanging ones included.
_RUNNING_FACTOR = 8

_Action = t.Callable[["Job"], str]


class Job:
    """One pull: waiting, at work, hanging or done."""

    def __init__(self, queue: PullQueue, key: t.Hashable, image: str, registry: str, action: _Action) -> None:
        self.key = key
        self.image = image
        self.registry = registry
        self.action = action
        self.future: concurrent.futures.Future[str] = concurrent.futures.Future()
        # From here on no waiter can cancel it.
        self.future.set_running_or_notify_cancel()
        self.is_idle = False
        self._queue = queue

    def set_idle(self, is_idle: bool) -> None:
        """Say that nothing moves, or that something moves again."""
        self._queue.set_idle(self, is_idle)


@dataclasses.dataclass(frozen=True, slots=True)
class QueueState:
    """How many pulls there are, for status and tests."""

    waiting: int
    running: int
    idle: int


class PullQueue:
    """Runs pulls in threads of their own, ``limit`` at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._guard = threading.Lock()
        self._jobs: dict[t.Hashable, Job] = {}
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._is_closed = False

    def submit(
        self, key: t.Hashable, image: str, registry: str, action: _Action
    ) -> concurrent.futures.Future[str]:
        """Return the future of the pull ``key``: of the one that is there, else of a new one.

        Pulls of one ``image`` by several keys come one after the other.

        Raises WrongState when too many wait, or after `close`.
        """
        with self._guard:
            job = self._jobs.get(key)
            if job is not None:
                return job.future
            if self._is_closed:
                raise WrongState("no image is pulled any more: the endpoint stops", hint="Try again")
            if len(self._waiting) >= _WAITING_MAX:
                raise WrongState(f"{_WAITING_MAX} pulls are waiting already", hint="Try again later")
            job = self._jobs[key] = Job(self, key, image, registry, action)
            self._waiting.append(job)
            self._schedule()
        return job.future

    def state(self) -> QueueState:
        """Return how many pulls there are."""
        with self._guard:
            return QueueState(
                len(self._waiting), len(self._running), sum(job.is_idle for job in self._running)
            )

    def set_idle(self, job: Job, is_idle: bool) -> None:
        """Count a running job out of those at work, or in again; called by its own thread."""
        with self._guard:
            job.is_idle = is_idle
            self._schedule()

    def close(self) -> None:
        """Take nothing more, and refuse what waits; what runs is for its runner to end."""
        with self._guard:
            self._is_closed = True
            refused, self._waiting = self._waiting, []
            for job in refused:
                del self._jobs[job.key]
        for job in refused:
            job.future.set_exception(
                WrongState("the pull has not begun: the endpoint stops", hint="Pull it again")
            )

    def _schedule(self) -> None:
        """Start what may start; the guard is held."""
        at_work = sum(not job.is_idle for job in self._running)
        for job in list(self._waiting):
            if at_work >= self.limit or len(self._running) >= self.limit * _RUNNING_FACTOR:
                return
            if any(other.image == job.image for other in self._running):
                continue
            if sum(other.registry == job.registry for other in self._running) >= self.limit:
                continue
            self._waiting.remove(job)
            thread = threading.Thread(
                target=self._work, args=(job,), name=f"pull-{job.registry}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:
                del self._jobs[job.key]
                job.future.set_exception(WrongState(f"the pull cannot begin: {exc}", hint="Try again later"))
                continue
            self._running.append(job)
            at_work += 1

    def _work(self, job: Job) -> None:
        try:
            result, failure = job.action(job), None
        except BaseException as exc:
            # Whatever it is, it belongs to those who wait.
            result, failure = "", exc
        with self._guard:
            self._running.remove(job)
            del self._jobs[job.key]
            self._schedule()
        if failure is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(failure)
