# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow a call that takes its time: until its task ends, its client leaves, or its deadline passes."""

from __future__ import annotations

import asyncio
import types
import typing as t

from pvecri.api.methods import Method
from pvecri.rpc.calls import Call
from pvecri.rpc.status import Code


class CallTask:
    """A call with the task that works on it."""

    __slots__ = ("_on_end", "_timer", "call", "method", "started", "task")

    def __init__(
        self,
        call: Call,
        method: Method,
        started: float,
        task: asyncio.Task[t.Any],
        on_end: t.Callable[[CallTask], None],
    ) -> None:
        self.call = call
        self.method = method
        self.started = started
        self.task = task
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call the task off when its call is over or out of time, and tell when it has ended."""
        self.call.on_close = self.task.cancel
        if self.call.deadline is not None:
            self._timer = loop.call_at(
                self.call.deadline, self.end, Code.DEADLINE_EXCEEDED, "the client's deadline has passed"
            )
        self.task.add_done_callback(self._done)

    def end(self, code: Code, text: str) -> None:
        """Answer now, and call the task off."""
        self.call.end(code, text)
        self.task.cancel()

    def _done(self, _task: asyncio.Task[t.Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.call.on_close = None
        self._on_end(self)


async def resumed(work: t.Any, awaited: t.Any) -> t.Any:
    """Go on, in a task, with a coroutine that was stepped before and waits for ``awaited``."""
    # In a coroutine of its own: tasks take no generators, from Python 3.12 on.
    return await _steps(work, awaited)


@types.coroutine
def _steps(work: t.Any, awaited: t.Any) -> t.Generator[t.Any, t.Any, t.Any]:
    while True:
        try:
            sent = yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as exc:
            step, value = work.throw, exc
        else:
            step, value = work.send, sent
        try:
            awaited = step(value)
        except StopIteration as done:
            return done.value
