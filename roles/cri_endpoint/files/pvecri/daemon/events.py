# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell subscribers what becomes of sandboxes and containers, in order, each thing once.

All subscribers read one short log at their own pace.  One that falls out of it, because
it does not read, is ended, whether or not its stream takes anything, and nobody waits for
it.  What all have taken is not kept, but for a while after a start: what recovery finds out of
the time when nobody looked is for those who lost their stream then.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
import time
import typing as t

from pvecri.errors import TooBusy, TooSlow, Unavailable
from pvecri.state import events
from pvecri.state.events import Event
from pvecri.state.records import SandboxRecord
from pvecri.state.registry import Change, Registry
from pvecri.state.views import SandboxView

#: Events that a subscriber may be behind.
KEPT: t.Final = 2048

#: Subscribers at once: kubelet has one, people have some.
SUBSCRIBERS: t.Final = 64

#: How long after the start events are kept for subscribers to come.
REMEMBERED_S: t.Final = 60.0


class _Follower:
    """One subscriber: which event it takes next."""

    __slots__ = ("position", "ready", "task")

    def __init__(self, position: int, task: asyncio.Task[t.Any] | None) -> None:
        self.position = position
        self.ready = asyncio.Event()
        self.task = task


class Events:
    """The log and its subscribers; used from the event loop but where it says so."""

    def __init__(
        self,
        registry: Registry,
        *,
        kept: int = KEPT,
        subscribers: int = SUBSCRIBERS,
        remembered_s: float = REMEMBERED_S,
    ) -> None:
        self._registry = registry
        self._subscribers_max = subscribers
        self._remembered_s = remembered_s
        #: The latest events; `_next` is the number of the one to come.
        self._log: collections.deque[Event] = collections.deque(maxlen=kept)
        self._next = 0
        self._guard = threading.Lock()
        self._last_ns = 0
        self._followers: frozenset[_Follower] = frozenset()
        self._is_remembering = True
        self._is_waking = False
        self._is_over = False

    def start(self) -> None:
        """Hear of changes from now on: before recovery looks for any."""
        self._loop = asyncio.get_running_loop()
        self._registry.listen(self._heard)

    def settle_down(self) -> None:
        """Count the time for which events are kept without subscribers from now on."""
        self._loop.call_later(self._remembered_s, self._forget)

    def close(self) -> None:
        """End all subscribers; they are to come again when there is an endpoint."""
        self._is_over = True
        self._wake()

    @property
    def subscribers(self) -> int:
        """How many follow the events."""
        return len(self._followers)

    async def follow(self) -> t.AsyncGenerator[bytes, None]:
        """Yield answers from now on; from the daemon's start on while that is not long ago.

        Raises TooBusy when there are too many subscribers, TooSlow in the calling task when
        it does not take them, wherever it waits, and Unavailable when the daemon ends.
        """
        if len(self._followers) >= self._subscribers_max:
            raise TooBusy(
                f"{self._subscribers_max} clients follow the events already", hint="End one of them"
            )
        with self._guard:
            position = self._next - (len(self._log) if self._is_remembering else 0)
            follower = _Follower(position, asyncio.current_task())
            self._followers |= {follower}
        try:
            while not self._is_over:
                follower.ready.clear()
                event = self._take(follower)
                if event is None:
                    await follower.ready.wait()
                else:
                    yield event.answer
        finally:
            self._leave(follower)
        raise Unavailable("the endpoint is stopping", hint="Subscribe again")

    def _take(self, follower: _Follower) -> Event | None:
        with self._guard:
            index = follower.position - self._first
            if index < 0:
                raise self._too_slow()
            if index == len(self._log):
                return None
            follower.position += 1
            event = self._log[index]
            if index == 0:
                self._tidy()
            return event

    @property
    def _first(self) -> int:
        """Number of the oldest event that is kept."""
        return self._next - len(self._log)

    def _too_slow(self) -> TooSlow:
        return TooSlow(
            f"the client is more than {self._log.maxlen} events behind",
            hint="List everything and subscribe again",
        )

    def _leave(self, follower: _Follower) -> None:
        with self._guard:
            self._followers -= {follower}
            self._tidy()

    def _forget(self) -> None:
        with self._guard:
            self._is_remembering = False
            self._tidy()

    def _tidy(self) -> None:
        """Let go of what nobody is to hear any more: an event may tell of a pod with many containers."""
        if self._is_remembering:
            return
        wanted = min((follower.position for follower in self._followers), default=self._next)
        while self._first < wanted:
            self._log.popleft()

    # ---- in whatever thread something changes -------------------------------------------------------------

    def _heard(self, change: Change) -> None:
        """Keep what a change means; the registry's lock is held, so that changes come in order."""
        if not self._followers and not self._is_remembering:
            return
        found = events.kinds(change.old, change.new)
        record = change.new or change.old
        if not found or record is None:
            return
        sandbox_id = record.id if isinstance(record, SandboxRecord) else record.sandbox_id
        sandbox, containers = self._registry.pod_views(sandbox_id)
        if change.new is None and isinstance(record, SandboxRecord):
            # kubelet knows by its status which pod is gone.
            sandbox = SandboxView(record)
        with self._guard:
            for kind in found:
                # Even when the clock was set back: kubelet takes nothing that is older than what it has.
                self._last_ns = max(time.time_ns(), self._last_ns + 1)
                self._log.append(Event(kind, record.id, self._last_ns, sandbox, containers))
            self._next += len(found)
            if self._is_waking or not self._followers:
                return
            self._is_waking = True
        with contextlib.suppress(RuntimeError):
            # The loop may be closed: the daemon is at its end.
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._guard:
            self._is_waking = False
            first = self._first
        for follower in self._followers:
            if follower.position < first and follower.task is not None:
                follower.task.cancel(self._too_slow())
            follower.ready.set()
